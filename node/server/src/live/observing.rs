//! What the flow recorder is told of the live channel: each connection as a login and a session, each subscription's check as a
//! decision.
//!
//! A session refers to the flow that it began with, so that flow is stored first; that is waited for aside, never by the
//! connection, which goes on whether or not anything is recorded.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use meridian_flow::{
    Asked, Flow, FlowId, FlowKind, FlowStatus, Recorded, Session, StartFlow, StepStatus,
};
use meridian_live_channel::ports::{
    Connection, Decided, Identity, Observer, Origin, Question, Shown, Undecided,
};
use meridian_model::{StoreId, Timestamp};

use crate::recording::{Guard, PRIVATE, Steps, micros, timestamp};

/// The name of a check that decides a subscription, among operations.
const SUBSCRIBE: &str = "Subscribe";
const AUTHENTICATE: &str = "authenticate";

/// Tells the recorder.
pub struct Observing {
    guard: Arc<Guard>,
    grant: &'static str,
    node: Arc<str>,
}

impl Observing {
    /// At `node`, through `guard`, of clients that show who they are by `grant`.
    pub(crate) fn new(guard: Arc<Guard>, grant: &'static str, node: &str) -> Self {
        Self {
            guard,
            grant,
            node: node.into(),
        }
    }
}

impl Observer for Observing {
    fn connected(&self, shown: Shown, session: &str, identity: &Identity) -> Arc<dyn Connection> {
        let connected = Arc::new(Connected {
            guard: Arc::clone(&self.guard),
            node: Arc::clone(&self.node),
            id: session.into(),
            store: shown.store,
            user: identity.user.as_str().into(),
            client: identity.client.as_deref().map(Box::from),
            origin: shown.origin,
            at: timestamp(SystemTime::now()),
            state: Mutex::default(),
        });
        if self.guard.recorder().records(shown.store) {
            let began = (timestamp(shown.at), shown.took);
            tokio::spawn(Arc::clone(&connected).begin(self.grant, began));
        }
        connected
    }

    fn refused(&self, shown: Shown, code: u16, why: &str) {
        if self.guard.recorder().records(shown.store) {
            let flow = Flow {
                grant_type: Some(self.grant.to_owned()),
                ip: shown.origin.address,
                user_agent: shown.origin.agent,
                ..Flow::begun(shown.store, FlowKind::Authentication, timestamp(shown.at))
            };
            self.guard
                .refused(flow, shown.took, (&code.to_string(), why));
        }
    }
}

/// A connection.
struct Connected {
    guard: Arc<Guard>,
    node: Arc<str>,
    id: Box<str>,
    store: StoreId,
    user: Box<str>,
    client: Option<Box<str>>,
    origin: Origin,
    at: Timestamp,
    state: Mutex<State>,
}

/// What is known of a connection by and by.
#[derive(Clone, Copy, Default)]
struct State {
    /// Whether it is recorded: its store was found.
    is_kept: bool,
    /// The flow that it began with, once that is stored.
    flow: Option<FlowId>,
    /// When it ended, and by which code.
    ended: Option<(Timestamp, u16)>,
}

impl Connected {
    /// Has the flow stored, and the session with it; the session alone where the flow is not, and neither of a store that does
    /// not exist.
    async fn begin(self: Arc<Self>, grant: &'static str, (at, took): (Timestamp, Duration)) {
        if !self.guard.lets_in(self.store).await {
            return;
        }
        let recorder = self.guard.recorder();
        let start = StartFlow {
            client_id: self.client.as_deref().map(str::to_owned),
            grant_type: Some(grant.to_owned()),
            ip: self.origin.address,
            user_agent: self.origin.agent.clone(),
        };
        if let Ok(flow) = recorder.start_at(self.store, start, at).await {
            self.now(|state| state.flow = Some(flow));
            let user = Some(&*self.user);
            recorder.record_step(flow, AUTHENTICATE, StepStatus::Success, took, None);
            recorder.complete_flow(flow, FlowStatus::Success, took, user);
        }
        // Where it has ended meanwhile, this tells of the end too.
        let state = self.now(|state| state.is_kept = true);
        recorder.record_session(self.session(state));
    }

    /// Changes what is known, and tells it then.
    fn now(&self, change: impl FnOnce(&mut State)) -> State {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        *state
    }

    fn session(&self, state: State) -> Session {
        Session {
            id: self.id.to_string(),
            store: self.store,
            flow: state.flow,
            node: self.node.to_string(),
            user: self.user.to_string(),
            connected_at: self.at,
            ended_at: state.ended.map(|(at, _)| at),
            close_code: state.ended.map(|(_, code)| code),
        }
    }
}

impl Connection for Connected {
    fn decided(
        &self,
        question: &Question,
        result: &Result<Decided, Undecided>,
        at: SystemTime,
        took: Duration,
    ) {
        if !self.guard.recorder().samples(self.store) {
            return;
        }
        let at = timestamp(at);
        let decided = result.as_ref().ok();
        let served_by = decided.map_or(&*self.node, |decided| &decided.served_by);
        let asked = Asked {
            operation: SUBSCRIBE.to_owned(),
            object: question.object.to_string(),
            relation: question.relation.to_string(),
            subject: question.user.to_string(),
            allowed: decided.map(|decided| decided.allowed),
            // What somebody else decides holds at no position of the store.
            revision: decided
                .filter(|decided| decided.model.is_some())
                .map(|decided| decided.position.to_string()),
            model: decided.and_then(|decided| Some(decided.model?.to_string())),
            served_by: served_by.to_owned(),
            explanation: None,
        };
        let flow = Flow {
            status: match result {
                Ok(_) => FlowStatus::Success,
                Err(_) => FlowStatus::Failure,
            },
            completed_at: Some(Timestamp(at.0.saturating_add_unsigned(micros(took)))),
            duration_micros: Some(micros(took)),
            client_id: self.client.as_deref().map(str::to_owned),
            user_id: Some(self.user.to_string()),
            ip: self.origin.address,
            user_agent: self.origin.agent.clone(),
            asked: Some(Box::new(asked)),
            ..Flow::begun(self.store, FlowKind::Decision, at)
        };
        let mut steps = Steps::of(&flow);
        let is_own = *served_by == *self.node;
        steps.add(if is_own { "evaluate" } else { "upstream" }, took, took);
        if let Err(why) = result {
            let code = match why {
                Undecided::Unreachable => "unavailable",
                Undecided::Expired => "invalid_token",
                Undecided::Invalid(_) => "validation_error",
                Undecided::NoStore => "store_id_not_found",
            };
            // What a rule or a condition says may show what is not kept.
            let told = match why {
                Undecided::Invalid(_) => PRIVATE.to_owned(),
                why => why.to_string(),
            };
            steps.fail(code, &told);
        }
        self.guard.keep(Recorded {
            flow,
            steps: steps.into_all(),
        });
    }

    fn ended(&self, code: u16) {
        let at = timestamp(SystemTime::now());
        let state = self.now(|state| state.ended = Some((at, code)));
        if state.is_kept {
            self.guard.recorder().record_session(self.session(state));
        }
    }
}
