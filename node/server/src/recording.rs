//! What the API tells the flow recorder: how decisions were made, and who showed who they are.
//!
//! A decision is told of once, when it is over; while nothing is recorded, a request costs one atomic load. Of a request's
//! headers only `User-Agent`, and behind a trusted proxy `X-Forwarded-For`, are looked at: no token, key or context is kept.

mod asked;
mod client;
mod late;
mod steps;

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ::http::{Extensions, HeaderMap, header};
use meridian_flow::{Asked, Flow, FlowKind, FlowRecorder, FlowStatus, Recorded};
use meridian_model::{Position, StoreId, Timestamp};

use crate::api::Rejection;
use crate::authn::Caller;
use crate::calls::ServedBy;
use crate::telemetry::request::{Authenticated, Stages};
pub use client::{InvalidNetwork, Network};
pub(crate) use late::Late;
pub(crate) use steps::Steps;

/// How the API of a node is recorded.
pub struct Recording {
    recorder: FlowRecorder,
    /// By what callers show who they are.
    grant: &'static str,
    trusted: Vec<Network>,
    /// Who was recorded of late.
    late: Late,
}

/// A decision under way that will be recorded.
pub(crate) struct Deciding {
    store: StoreId,
    asked: Asked,
    pub(crate) stages: Arc<Stages>,
}

/// What a decision came to.
pub(crate) struct Decided<'a> {
    pub(crate) started: Instant,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) extensions: &'a Extensions,
    /// The answer's message, or why there is none.
    pub(crate) result: Result<&'a dyn Any, &'a Rejection>,
    pub(crate) position: Option<Position>,
    pub(crate) model: String,
    pub(crate) served_by: &'a ServedBy,
}

impl Recording {
    /// Of nothing.
    pub fn off() -> Self {
        Self::new(FlowRecorder::disabled(), "none", Vec::new(), Duration::ZERO)
    }

    /// By `recorder`, of callers who show who they are by `grant`. The same caller is recorded once in each `interval`.
    pub fn new(
        recorder: FlowRecorder,
        grant: &'static str,
        trusted: Vec<Network>,
        interval: Duration,
    ) -> Self {
        Self {
            recorder,
            grant,
            trusted,
            late: Late::new(interval),
        }
    }

    /// Whether anything is recorded.
    pub(crate) fn is_on(&self) -> bool {
        self.recorder.is_on()
    }

    /// Begins the record of a decision, if it is one and is to be recorded.
    pub(crate) fn begin(
        &self,
        operation: &'static str,
        store: &str,
        request: &dyn Any,
    ) -> Option<Deciding> {
        if !self.is_on() {
            return None;
        }
        let store = store.parse().ok()?;
        if !self.recorder.samples(store) {
            return None;
        }
        Some(Deciding {
            store,
            asked: asked::of(operation, request)?,
            stages: Arc::default(),
        })
    }

    /// Records a decision that is over.
    pub(crate) fn decided(&self, deciding: Deciding, decided: &Decided<'_>) {
        let Deciding {
            store,
            asked,
            stages,
        } = deciding;
        let (took, now) = (decided.started.elapsed(), SystemTime::now());
        let authenticated = decided.extensions.get::<Authenticated>();
        let before = authenticated.map_or(Duration::ZERO, |done| done.took);
        let whole = took + before;
        let at = timestamp(now - whole);
        let (allowed, details) = match decided.result {
            Ok(body) => asked::answer(body),
            Err(_) => (None, None),
        };
        let asked = Asked {
            allowed,
            explanation: details,
            revision: decided.position.map(|position| position.to_string()),
            model: Some(decided.model.clone()),
            served_by: decided.served_by.as_str().to_owned(),
            ..asked
        };
        let flow = Flow {
            status: match decided.result {
                Ok(_) => FlowStatus::Success,
                Err(_) => FlowStatus::Failure,
            },
            completed_at: Some(timestamp(now)),
            duration_micros: Some(micros(whole)),
            asked: Some(Box::new(asked)),
            ..self.flow(
                (store, FlowKind::Decision, at),
                decided.headers,
                decided.extensions,
            )
        };
        let mut steps = Steps::of(&flow);
        if let Some(done) = authenticated {
            steps.add("authenticate", done.took, done.took);
        }
        let mut rest = took;
        for noted in stages.take() {
            let end = noted.began.saturating_duration_since(decided.started) + noted.took;
            rest = rest.saturating_sub(noted.took);
            steps.add(noted.name, before + end, noted.took);
        }
        if decided.served_by.is_kept() {
            steps.skip("evaluate");
        } else if decided.result.is_ok() && !steps.has_decided() {
            steps.add("evaluate", whole, rest);
        }
        if let Err(rejection) = decided.result {
            steps.fail(rejection.code(), rejection.message());
        }
        self.recorder.record_flow(Recorded {
            flow,
            steps: steps.into_all(),
        });
    }

    /// Records that a caller showed who it is, unless it was recorded of late.
    pub(crate) fn authenticated(&self, store: &str, headers: &HeaderMap, extensions: &Extensions) {
        let Some(done) = extensions.get::<Authenticated>() else {
            return;
        };
        let result = Ok(done.took);
        self.shown(store, headers, extensions, timestamp(done.since), result);
    }

    /// Records that somebody was not let in, where the request's path tells of which store.
    pub(crate) fn not_admitted(
        &self,
        path: &str,
        headers: &HeaderMap,
        extensions: &Extensions,
        error: (&str, &str),
    ) {
        let mut parts = path.split('/').skip(1);
        if let (Some("stores"), Some(store)) = (parts.next(), parts.next()) {
            let now = timestamp(SystemTime::now());
            self.shown(store, headers, extensions, now, Err(error));
        }
    }

    fn shown(
        &self,
        store: &str,
        headers: &HeaderMap,
        extensions: &Extensions,
        at: Timestamp,
        result: Result<Duration, (&str, &str)>,
    ) {
        let Ok(store) = store.parse() else { return };
        if !self.recorder.records(store) {
            return;
        }
        let begun = self.flow((store, FlowKind::Authentication, at), headers, extensions);
        let shown = match result {
            Ok(_) => headers.get(header::AUTHORIZATION),
            // Whoever guesses shows something else each time.
            Err(_) => None,
        };
        let who = (store, begun.ip, shown, result.err().map(|(code, _)| code));
        if self.late.was(&who) {
            return;
        }
        let took = result.unwrap_or_default();
        let flow = Flow {
            status: match result {
                Ok(_) => FlowStatus::Success,
                Err(_) => FlowStatus::Failure,
            },
            completed_at: Some(Timestamp(at.0.saturating_add_unsigned(micros(took)))),
            duration_micros: Some(micros(took)),
            grant_type: Some(self.grant.to_owned()),
            ..begun
        };
        let mut steps = Steps::of(&flow);
        steps.add("authenticate", took, took);
        if let Err((code, message)) = result {
            steps.fail(code, message);
        }
        self.recorder.record_flow(Recorded {
            flow,
            steps: steps.into_all(),
        });
    }

    fn flow(
        &self,
        (store, kind, at): (StoreId, FlowKind, Timestamp),
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Flow {
        let caller = extensions.get::<Arc<Caller>>();
        let agent = headers.get(header::USER_AGENT);
        let agent = agent.map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned());
        Flow {
            client_id: caller.and_then(|caller| caller.client_id.clone()),
            user_id: caller.and_then(|caller| caller.subject.clone()),
            ip: client::address(extensions, headers, &self.trusted),
            user_agent: agent,
            ..Flow::begun(store, kind, at)
        }
    }
}

/// A time as flows have it.
pub(crate) fn timestamp(time: SystemTime) -> Timestamp {
    let time = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(time.as_micros()).unwrap_or(i64::MAX))
}

pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
