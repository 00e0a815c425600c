//! What an edge has recorded, on its way to the nodes that keep it: between its inner types and the wire.
//!
//! Anything may have written to the topic. Decoding checks everything and names the field that is wrong.

use std::str::FromStr;

use meridian_flow::{Asked, Completion, Flow, FlowId, Recorded, Row, Session, Step};
use meridian_flow::{FlowKind, FlowStatus, StepStatus};
use meridian_model::Timestamp;
use meridian_proto::meridian::v1 as wire;
use prost::Message as _;
use wire::flow_event::Kind;

use super::told;

/// No duration is longer than a thousand years, in microseconds: whoever says so is wrong.
const LONGEST_MICROS: u64 = 1_000 * 366 * 86_400 * 1_000_000;

/// Why an event cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// Not a protobuf message of this kind.
    #[error("not a meridian.v1.FlowEvent")]
    Malformed(#[source] prost::DecodeError),
    /// A newer edge sent it.
    #[error("an event of a kind that this version does not know")]
    Unknown,
    /// A field holds what it cannot hold, or nothing.
    #[error("field '{0}' is missing or holds what it cannot")]
    Invalid(&'static str),
}

impl Unreadable {
    /// What it is called in metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::Invalid(_) => "unreadable",
            Self::Unknown => "unknown",
        }
    }
}

/// The key and the value of an event's record.
pub(crate) fn write(row: &Row) -> (String, Vec<u8>) {
    let kind = match row {
        Row::Start(flow) => Kind::Started(to_flow(flow)),
        Row::Step(step) => Kind::Step(wire::RecordedStep {
            flow_id: step.flow.to_string(),
            ..to_step(step)
        }),
        Row::Complete(end) => Kind::End(wire::RecordedEnd {
            flow_id: end.flow.to_string(),
            status: end.status.name().to_owned(),
            at_micros: end.at.0,
            duration_micros: end.duration_micros,
            user_id: end.user_id.clone(),
        }),
        Row::Whole(whole) => Kind::Whole(wire::RecordedFlow {
            steps: whole.steps.iter().map(to_step).collect(),
            ..to_flow(&whole.flow)
        }),
        Row::Session(session) => Kind::Session(wire::RecordedSession {
            store_id: session.store.to_string(),
            flow_id: session.flow.map(|flow| flow.to_string()),
            session: Some(told::session(Session::clone(session))),
        }),
    };
    let key = match row {
        Row::Session(session) => session.flow.map_or(session.id.clone(), Into::into),
        row => row.flow().map(Into::into).unwrap_or_default(),
    };
    (key, wire::FlowEvent { kind: Some(kind) }.encode_to_vec())
}

/// The event of a record's value, its texts cut to what is kept.
///
/// # Errors
/// [`Unreadable`].
pub(crate) fn read(value: &[u8]) -> Result<Row, Unreadable> {
    let event = wire::FlowEvent::decode(value).map_err(Unreadable::Malformed)?;
    let mut row = match event.kind.ok_or(Unreadable::Unknown)? {
        Kind::Started(flow) => Row::Start(Box::new(from_flow(flow)?)),
        Kind::Whole(mut whole) => {
            let steps = std::mem::take(&mut whole.steps);
            let flow = from_flow(whole)?;
            let steps = steps.into_iter().map(|step| from_step(flow.id, step));
            let steps = steps.collect::<Result<Vec<_>, Unreadable>>()?;
            Row::Whole(Box::new(Recorded { flow, steps }))
        }
        Kind::Step(step) => {
            let flow = parsed("step.flow_id", &step.flow_id)?;
            Row::Step(Box::new(from_step(flow, step)?))
        }
        Kind::End(end) => Row::Complete(Box::new(Completion {
            flow: parsed("end.flow_id", &end.flow_id)?,
            status: known("end.status", FlowStatus::of_name(&end.status))?,
            at: Timestamp(end.at_micros),
            duration_micros: duration("end.duration_micros", end.duration_micros)?,
            user_id: end.user_id,
        })),
        Kind::Session(session) => Row::Session(Box::new(from_session(session)?)),
    };
    row.bound();
    Ok(row)
}

/// A flow without its steps.
pub(crate) fn to_flow(flow: &Flow) -> wire::RecordedFlow {
    wire::RecordedFlow {
        id: flow.id.to_string(),
        store_id: flow.store.to_string(),
        kind: flow.kind.name().to_owned(),
        status: flow.status.name().to_owned(),
        started_at_micros: flow.started_at.0,
        completed_at_micros: flow.completed_at.map(|at| at.0),
        duration_micros: flow.duration_micros,
        client_id: flow.client_id.clone(),
        grant_type: flow.grant_type.clone(),
        user_id: flow.user_id.clone(),
        ip: flow.ip.map(|ip| ip.to_string()),
        user_agent: flow.user_agent.clone(),
        decision: flow.asked.as_deref().cloned().map(told::decision),
        steps: Vec::new(),
    }
}

fn to_step(step: &Step) -> wire::RecordedStep {
    wire::RecordedStep {
        flow_id: String::new(),
        at_micros: step.at.0,
        name: step.name.clone(),
        status: step.status.name().to_owned(),
        duration_micros: step.duration_micros,
        error_code: step.error_code.clone(),
        error_message: step.error_message.clone(),
    }
}

/// A flow from its wire form, without its steps.
///
/// # Errors
/// [`Unreadable::Invalid`].
pub(crate) fn from_flow(flow: wire::RecordedFlow) -> Result<Flow, Unreadable> {
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    let ip = flow.ip.map(|ip| parsed("flow.ip", &ip)).transpose()?;
    let took = flow.duration_micros;
    let took = took.map(|micros| duration("flow.duration_micros", micros));
    Ok(Flow {
        id: parsed("flow.id", &flow.id)?,
        store: parsed("flow.store_id", &flow.store_id)?,
        kind: known("flow.kind", FlowKind::of_name(&flow.kind))?,
        status: known("flow.status", FlowStatus::of_name(&flow.status))?,
        started_at: Timestamp(flow.started_at_micros),
        completed_at: flow.completed_at_micros.map(Timestamp),
        duration_micros: took.transpose()?,
        client_id: flow.client_id,
        grant_type: flow.grant_type,
        user_id: flow.user_id,
        ip,
        user_agent: flow.user_agent,
        asked: flow.decision.map(|decision| {
            Box::new(Asked {
                operation: decision.operation,
                object: decision.object,
                relation: decision.relation,
                subject: decision.user,
                allowed: decision.allowed,
                revision: some(decision.revision),
                model: some(decision.authorization_model_id),
                served_by: decision.served_by,
                explanation: some(decision.details),
            })
        }),
    })
}

fn from_step(flow: FlowId, step: wire::RecordedStep) -> Result<Step, Unreadable> {
    Ok(Step {
        flow,
        at: Timestamp(step.at_micros),
        name: step.name,
        status: known("step.status", StepStatus::of_name(&step.status))?,
        duration_micros: duration("step.duration_micros", step.duration_micros)?,
        error_code: step.error_code,
        error_message: step.error_message,
    })
}

fn from_session(of: wire::RecordedSession) -> Result<Session, Unreadable> {
    let session = known("session.session", of.session)?;
    let flow = of.flow_id.map(|flow| parsed("session.flow_id", &flow));
    let code = session.close_code.map(u16::try_from).transpose();
    Ok(Session {
        id: known("session.id", Some(session.id).filter(|id| !id.is_empty()))?,
        store: parsed("session.store_id", &of.store_id)?,
        flow: flow.transpose()?,
        node: session.node,
        user: session.user_id,
        connected_at: Timestamp(session.connected_at_micros),
        ended_at: session.ended_at_micros.map(Timestamp),
        close_code: code.map_err(|_| Unreadable::Invalid("session.close_code"))?,
    })
}

fn duration(field: &'static str, micros: u64) -> Result<u64, Unreadable> {
    known(
        field,
        Some(micros).filter(|micros| *micros <= LONGEST_MICROS),
    )
}

fn parsed<T: FromStr>(field: &'static str, text: &str) -> Result<T, Unreadable> {
    text.parse().map_err(|_| Unreadable::Invalid(field))
}

fn known<T>(field: &'static str, value: Option<T>) -> Result<T, Unreadable> {
    value.ok_or(Unreadable::Invalid(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> meridian_model::StoreId {
        "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap()
    }

    fn every_kind() -> Vec<Row> {
        let begun = Flow {
            ip: Some("2001:db8::1".parse().unwrap()),
            user_agent: Some("curl/8".to_owned()),
            ..Flow::begun(store(), FlowKind::Authentication, Timestamp(17))
        };
        let step = Step {
            flow: begun.id,
            at: Timestamp(18),
            name: "connect".to_owned(),
            status: StepStatus::Failure,
            duration_micros: 1,
            error_code: Some("expired".to_owned()),
            error_message: None,
        };
        let decision = Flow {
            status: FlowStatus::Success,
            completed_at: Some(Timestamp(30)),
            duration_micros: Some(13),
            asked: Some(Box::new(Asked {
                operation: "Check".to_owned(),
                allowed: Some(false),
                served_by: "edge/one".to_owned(),
                ..Asked::default()
            })),
            ..Flow::begun(store(), FlowKind::Decision, Timestamp(17))
        };
        let steps = vec![Step {
            flow: decision.id,
            ..step.clone()
        }];
        let end = Completion {
            flow: begun.id,
            status: FlowStatus::Failure,
            at: Timestamp(19),
            duration_micros: 2,
            user_id: Some("anne".to_owned()),
        };
        let session = Session {
            id: "one".to_owned(),
            store: store(),
            flow: Some(begun.id),
            node: "edge/one".to_owned(),
            user: "anne".to_owned(),
            connected_at: Timestamp(20),
            ended_at: Some(Timestamp(21)),
            close_code: Some(1001),
        };
        vec![
            Row::Start(Box::new(begun)),
            Row::Step(Box::new(step)),
            Row::Complete(Box::new(end)),
            Row::Whole(Box::new(Recorded {
                flow: decision,
                steps,
            })),
            Row::Session(Box::new(session)),
        ]
    }

    #[test]
    fn every_event_comes_back_as_it_went_in_the_order_of_its_flow() {
        let rows = every_kind();
        let mut keys = Vec::new();
        for row in &rows {
            let (key, value) = write(row);
            assert_eq!(&read(&value).unwrap(), row);
            keys.push(key);
        }
        let (login, decision) = (keys[0].clone(), keys[3].clone());
        assert_eq!(
            keys,
            [&login, &login, &login, &decision, &login].map(Clone::clone)
        );
    }

    #[test]
    fn what_cannot_be_read_is_told_apart_from_what_is_newer() {
        let reason = |value: &[u8]| read(value).unwrap_err().reason();
        assert_eq!(reason(b"no"), "unreadable");
        // A field of another number.
        assert_eq!(reason(&[0xfa, 0x01, 0x00]), "unknown");
        let (_, mut value) = write(&every_kind()[0]);
        let at = value
            .windows(7)
            .position(|part| part == b"pending")
            .unwrap();
        value[at] = b'q';
        let error = read(&value).unwrap_err();
        assert_eq!(
            error.to_string(),
            "field 'flow.status' is missing or holds what it cannot"
        );
    }

    #[test]
    fn no_duration_is_longer_than_there_is_sense_in() {
        let fields = [
            "",
            "step.duration_micros",
            "end.duration_micros",
            "flow.duration_micros",
        ];
        for (number, field) in fields.iter().enumerate().skip(1) {
            for (micros, is_read) in [(LONGEST_MICROS, true), (LONGEST_MICROS + 1, false)] {
                let mut row = every_kind().remove(number);
                match &mut row {
                    Row::Step(step) => step.duration_micros = micros,
                    Row::Complete(end) => end.duration_micros = micros,
                    Row::Whole(whole) => whole.flow.duration_micros = Some(micros),
                    _ => panic!("it has no duration"),
                }
                match read(&write(&row).1) {
                    Ok(read) => assert!(is_read && read == row, "{field}"),
                    Err(error) => assert!(!is_read && error.to_string().contains(field), "{error}"),
                }
            }
        }
    }

    #[test]
    fn texts_of_others_are_cut() {
        let Row::Start(mut flow) = every_kind().remove(0) else {
            panic!("a flow's beginning");
        };
        flow.user_agent = Some("x".repeat(10_000));
        let (_, value) = write(&Row::Start(flow));
        let Row::Start(read) = read(&value).unwrap() else {
            panic!("a flow's beginning");
        };
        assert_eq!(read.user_agent.map(|agent| agent.len()), Some(512));
    }
}
