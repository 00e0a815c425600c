//! Flows as the wire has them.

use meridian_flow::ports::{Activity, FlowStats};
use meridian_flow::{Asked, Flow, FlowStatus, Session, Step};
use meridian_proto::google;
use meridian_proto::meridian::v1 as wire;

fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

pub(crate) fn flow(flow: Flow) -> wire::Flow {
    wire::Flow {
        id: flow.id.to_string(),
        store_id: flow.store.to_string(),
        kind: flow.kind.name().to_owned(),
        status: flow.status.name().to_owned(),
        started_at_micros: flow.started_at.0,
        completed_at_micros: flow.completed_at.map(|at| at.0),
        duration_ms: flow.duration_micros.map(millis),
        client_id: flow.client_id.unwrap_or_default(),
        grant_type: flow.grant_type.unwrap_or_default(),
        user_id: flow.user_id.unwrap_or_default(),
        ip: flow.ip.map(|ip| ip.to_string()).unwrap_or_default(),
        user_agent: flow.user_agent.unwrap_or_default(),
        decision: flow.asked.map(|asked| without_reasons(decision(*asked))),
    }
}

/// Of a Check, why it was decided so is told where that is asked for, and not with each flow.
fn without_reasons(mut decision: wire::Decision) -> wire::Decision {
    if decision.operation == "Check" {
        decision.explanation_kept = !decision.details.is_empty();
        decision.details.clear();
    }
    decision
}

/// A decision with all that is kept of it.
pub(super) fn decision(asked: Asked) -> wire::Decision {
    wire::Decision {
        operation: asked.operation,
        object: asked.object,
        relation: asked.relation,
        user: asked.subject,
        allowed: asked.allowed,
        revision: asked.revision.unwrap_or_default(),
        authorization_model_id: asked.model.unwrap_or_default(),
        served_by: asked.served_by,
        details: asked.explanation.unwrap_or_default(),
        explanation_kept: false,
    }
}

pub(crate) fn steps(steps: Vec<Step>) -> Vec<wire::FlowStep> {
    let steps = (1..).zip(steps);
    let steps = steps.map(|(order, step)| wire::FlowStep {
        order,
        name: step.name,
        status: step.status.name().to_owned(),
        duration_ms: millis(step.duration_micros),
        error_code: step.error_code.unwrap_or_default(),
        error_message: step.error_message.unwrap_or_default(),
        at_micros: step.at.0,
    });
    steps.collect()
}

pub(super) fn session(session: Session) -> wire::LiveSession {
    wire::LiveSession {
        id: session.id,
        node: session.node,
        user_id: session.user,
        connected_at_micros: session.connected_at.0,
        ended_at_micros: session.ended_at.map(|at| at.0),
        close_code: session.close_code.map(u32::from),
    }
}

pub(super) fn stats(stats: FlowStats) -> wire::GetFlowStatsResponse {
    use wire::get_flow_stats_response::{Count, Error};
    let counts = stats.counts.iter();
    let errors = stats.errors.into_iter();
    wire::GetFlowStatsResponse {
        total: counts.clone().map(|count| count.flows).sum(),
        counts: counts
            .map(|count| Count {
                kind: count.kind.name().to_owned(),
                status: count.status.name().to_owned(),
                flows: count.flows,
                average_ms: count.average_micros / 1000.0,
                longest_ms: millis(count.longest_micros),
            })
            .collect(),
        errors: errors.map(|(code, steps)| Error { code, steps }).collect(),
        since_micros: stats.since.map(|since| since.0),
    }
}

/// By day, of all statuses together.
pub(super) fn days(found: &Activity) -> wire::GetDailyActivityResponse {
    let mut days: Vec<wire::get_daily_activity_response::Day> = Vec::new();
    for of in &found.days {
        let seconds = of.day * 86_400;
        let date = google::Timestamp { seconds, nanos: 0 }.to_string();
        let date = date.split('T').next().unwrap_or_default();
        if days.last().is_none_or(|day| day.date != date) {
            days.push(wire::get_daily_activity_response::Day {
                date: date.to_owned(),
                ..Default::default()
            });
        }
        let Some(day) = days.last_mut() else { continue };
        day.total += of.flows;
        match of.status {
            FlowStatus::Success => day.succeeded += of.flows,
            FlowStatus::Failure => day.failed += of.flows,
            FlowStatus::Pending | FlowStatus::Expired => {}
        }
    }
    wire::GetDailyActivityResponse {
        days,
        since_micros: found.since.map(|since| since.0),
    }
}
