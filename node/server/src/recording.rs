//! What the API tells the flow recorder: how decisions were made, and who showed who they are.
//!
//! A decision is told of once, when it is over, or when it is explained where that is asked for; while nothing is recorded, a
//! request costs one atomic load. Of a request's headers only `User-Agent`, and behind a trusted proxy `X-Forwarded-For`,
//! are looked at: no token, key or context is kept.

mod asked;
mod late;
mod steps;

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ::http::{Extensions, HeaderMap, header};
use meridian_flow::{
    Asked, Flow, FlowKind, FlowRecorder, FlowStatus, MAX_EXPLANATION_BYTES, Recorded,
};
use meridian_model::{Position, StoreId, Timestamp};
use meridian_proto::openfga::v1;
use metrics::{counter, describe_counter};

use crate::api::Rejection;
use crate::authn::Caller;
use crate::calls::ServedBy;
use crate::explanations::{Explained, Explainer, Size, Why};
use crate::limits::Limits;
use crate::proxies::Proxies;
use crate::telemetry::request::{Authenticated, Stages};
pub(crate) use late::Late;
pub(crate) use steps::Steps;

/// How large a kept explanation may be.
const KEPT: Size = Size {
    parts: 50,
    bytes: MAX_EXPLANATION_BYTES,
};
const EXPLANATIONS: &str = "meridian_flow_explanations_total";

/// How the API of a node is recorded.
pub struct Recording {
    recorder: FlowRecorder,
    /// By what callers show who they are.
    grant: &'static str,
    proxies: Proxies,
    /// Who was recorded of late.
    late: Late,
    /// The share of recorded checks whose explanation is kept.
    explained: f64,
    explainer: Explainer,
}

/// A decision under way that will be recorded.
pub(crate) struct Deciding {
    store: StoreId,
    asked: Asked,
    pub(crate) stages: Arc<Stages>,
    /// Where it leaves what it was decided by, if its explanation is to be kept.
    pub(crate) why: Why,
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
        Self::new(
            FlowRecorder::disabled(),
            "none",
            Proxies::default(),
            Duration::ZERO,
        )
    }

    /// By `recorder`, of callers who show who they are by `grant`. The same caller is recorded once in each `interval`.
    pub fn new(
        recorder: FlowRecorder,
        grant: &'static str,
        proxies: Proxies,
        interval: Duration,
    ) -> Self {
        Self {
            recorder,
            grant,
            proxies,
            late: Late::new(interval),
            explained: 0.0,
            explainer: Explainer::new(Limits::default(), KEPT),
        }
    }

    /// The same, with the explanations of a share of all recorded checks, made by a node's limits: 0 for none, 1 for all.
    #[must_use]
    pub fn explaining(self, share: f64, limits: Limits) -> Self {
        describe_counter!(
            EXPLANATIONS,
            "Recorded checks whose explanation was to be kept, by what became of it"
        );
        Self {
            explained: share,
            explainer: Explainer::new(limits, KEPT),
            ..self
        }
    }

    /// Waits until the decisions that are being explained are recorded, though no longer than `limit`.
    pub(crate) async fn finished(&self, limit: Duration) {
        self.explainer.finished(limit).await;
    }

    /// Where a call is to leave what it is decided by: only a check does.
    fn why(&self, request: &dyn Any) -> Why {
        if self.explained > 0.0
            && request.is::<v1::CheckRequest>()
            && (self.explained >= 1.0 || rand::random::<f64>() < self.explained)
        {
            Why::wanted()
        } else {
            Why::default()
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
            why: self.why(request),
        })
    }

    /// Records a decision that is over.
    pub(crate) fn decided(&self, deciding: Deciding, decided: &Decided<'_>) {
        let Deciding {
            store,
            asked,
            stages,
            why,
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
        let recorded = Recorded {
            flow,
            steps: steps.into_all(),
        };
        if why.is_wanted() && decided.result.is_ok() {
            self.explain(recorded, why);
        } else {
            self.recorder.record_flow(recorded);
        }
    }

    /// Records a decision with its explanation, as soon as that is there; without it, where there is none.
    fn explain(&self, mut recorded: Recorded, why: Why) {
        let recorder = self.recorder.clone();
        self.explainer.later(why, move |explained| {
            let (result, text) = match explained {
                Explained::Because(of) => ("kept", Some(of.to_json())),
                Explained::TooLarge => ("too_large", None),
                Explained::Busy => ("busy", None),
                Explained::NotHere => ("not_here", None),
            };
            counter!(EXPLANATIONS, "result" => result).increment(1);
            if let Some(asked) = &mut recorded.flow.asked {
                asked.explanation = text;
            }
            recorder.record_flow(recorded);
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
            ip: self.proxies.client_of(extensions, headers),
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
