//! What the API tells the flow recorder: how decisions were made, and who showed who they are.
//!
//! A decision is told of once, when it is over, or when it is explained where that is asked for; while nothing is recorded, a
//! request costs one atomic load. Of a request's headers only `User-Agent`, and behind a trusted proxy `X-Forwarded-For`, are looked at: no token, key or context is kept.

mod asked;
mod deciding;
mod guard;
mod late;
mod steps;
mod stores;

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ::http::{Extensions, HeaderMap, header};
use meridian_flow::{Flow, FlowKind, FlowRecorder, MAX_EXPLANATION_BYTES, Recorded};
use meridian_model::{Code, StoreId, Timestamp};
use meridian_proto::openfga::v1;
use metrics::{counter, describe_counter};

use crate::authn::Caller;
use crate::explanations::{Explained, Explainer, Size, Why};
use crate::limits::Limits;
use crate::proxies::Proxies;
use crate::telemetry::request::Authenticated;
pub(crate) use asked::PRIVATE;
pub use asked::{Finding, Noting};
pub(crate) use deciding::{Came, Decided, Deciding};
pub(crate) use guard::Guard;
pub(crate) use steps::Steps;

/// How large a kept explanation may be.
const KEPT: Size = Size {
    parts: 50,
    bytes: MAX_EXPLANATION_BYTES,
};
const EXPLANATIONS: &str = "meridian_flow_explanations_total";

/// How the API of a node is recorded.
pub struct Recording {
    guard: Arc<Guard>,
    /// By what callers show who they are.
    grant: &'static str,
    proxies: Proxies,
    /// The share of recorded checks whose explanation is kept.
    explained: f64,
    explainer: Explainer,
}

impl Recording {
    /// Of nothing.
    pub(crate) fn off() -> Self {
        let guard = Guard::new(FlowRecorder::disabled(), None, Duration::ZERO);
        Self::new(Arc::new(guard), "none", Proxies::default())
    }

    /// Through `guard`, of callers who show who they are by `grant`.
    pub(crate) fn new(guard: Arc<Guard>, grant: &'static str, proxies: Proxies) -> Self {
        Self {
            guard,
            grant,
            proxies,
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
        self.recorder().is_on()
    }

    /// What a call for a store was answered tells whether there is such a store: it has a model, or it is not found.
    pub(crate) fn told_of(&self, store: StoreId, has_model: bool, code: Option<&str>) {
        if has_model {
            self.guard.note(store);
        } else if code == Some(Code::StoreIdNotFound.name()) {
            self.guard.forget(store);
        }
    }

    fn recorder(&self) -> &FlowRecorder {
        self.guard.recorder()
    }

    /// Records that a caller showed who it is, unless it was recorded of late.
    pub(crate) fn authenticated(
        &self,
        store: StoreId,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) {
        let Some(done) = extensions.get::<Authenticated>() else {
            return;
        };
        if self.recorder().records(store) {
            let address = self.proxies.client_of(extensions, headers);
            let shown = headers.get(header::AUTHORIZATION);
            let began = timestamp(done.since);
            let flow = || self.login((store, began), headers, extensions);
            self.guard
                .admitted((store, address), &shown, done.took, flow);
        }
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
        let (Some("stores"), Some(store)) = (parts.next(), parts.next()) else {
            return;
        };
        let Ok(store) = store.parse() else { return };
        if self.recorder().records(store) {
            let now = timestamp(SystemTime::now());
            let flow = self.login((store, now), headers, extensions);
            self.guard.refused(flow, Duration::ZERO, error);
        }
    }

    fn login(
        &self,
        (store, at): (StoreId, Timestamp),
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Flow {
        Flow {
            grant_type: Some(self.grant.to_owned()),
            ..self.flow((store, FlowKind::Authentication, at), headers, extensions)
        }
    }

    /// Records a decision with its explanation, as soon as that is there; without it, where there is none.
    fn explain(&self, mut recorded: Recorded, why: Why) {
        let guard = Arc::clone(&self.guard);
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
            guard.keep(recorded);
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

fn after(at: Timestamp, time: Duration) -> Timestamp {
    Timestamp(at.0.saturating_add_unsigned(micros(time)))
}

pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
