//! A decision from its beginning to its end, whichever it is.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ::http::{Extensions, HeaderMap};
use meridian_flow::{Asked, Flow, FlowKind, FlowStatus, Recorded};
use meridian_model::{Code, Position};

use super::asked::{self, Finding, Noting, Question, kept_message};
use super::{Recording, Steps, after, micros, timestamp};
use crate::api::Rejection;
use crate::calls::ServedBy;
use crate::explanations::Why;
use crate::telemetry::request::{Authenticated, Stages};

/// A decision under way that will be recorded. Dropped before it is over, it was given up by its client, which is recorded
/// too.
pub(crate) struct Deciding {
    recording: Arc<Recording>,
    /// `None` once it is over.
    open: Option<Open>,
    pub(crate) stages: Arc<Stages>,
    /// Where the call is to leave what it is decided by.
    pub(crate) why: Why,
}

struct Open {
    flow: Flow,
    question: Question,
    started: Instant,
    /// How long it took to find out who asks.
    authenticated: Option<Duration>,
    here: ServedBy,
}

/// What a decision came to.
pub(crate) struct Decided<'a> {
    pub(crate) came: Came<'a>,
    /// Since it began, without finding out who asks.
    pub(crate) took: Duration,
    pub(crate) position: Option<Position>,
    /// Empty where none was found.
    pub(crate) model: String,
    /// Where that was not this node.
    pub(crate) served_by: Option<&'a ServedBy>,
}

impl<'a> Decided<'a> {
    /// One that there is no answer of.
    pub(crate) fn refused(rejection: &'a Rejection, took: Duration) -> Self {
        Self {
            came: Came::Refused(rejection),
            took,
            position: rejection.position(),
            model: String::new(),
            served_by: rejection.served_by(),
        }
    }
}

/// How a decision ends.
pub(crate) enum Came<'a> {
    /// With an answer's message.
    Answered(&'a dyn Any),
    /// With none, and why.
    Refused(&'a Rejection),
    /// Nobody waited for it any more, or it broke down.
    Dropped,
}

impl Recording {
    /// Begins the record of a decision, if it is one and is to be recorded.
    pub(crate) fn begin(
        self: &Arc<Self>,
        (operation, store, request): (&'static str, &str, &dyn Any),
        (headers, extensions): (&HeaderMap, &Extensions),
        started: Instant,
        here: &ServedBy,
    ) -> Option<Deciding> {
        if !self.is_on() {
            return None;
        }
        let store = store.parse().ok()?;
        if !self.recorder().samples(store) {
            return None;
        }
        let question = asked::of(operation, request)?;
        let authenticated = extensions.get::<Authenticated>().map(|done| done.took);
        let at = timestamp(SystemTime::now() - authenticated.unwrap_or_default());
        Some(Deciding {
            recording: Arc::clone(self),
            open: Some(Open {
                flow: self.flow((store, FlowKind::Decision, at), headers, extensions),
                question,
                started,
                authenticated,
                here: here.clone(),
            }),
            stages: Arc::default(),
            why: self.why(request),
        })
    }
}

impl Deciding {
    /// Notes what a streamed call found.
    pub(crate) fn found(&mut self, finding: &impl Finding) {
        if let Some(open) = &mut self.open {
            finding.note(&mut Noting(&mut open.question));
        }
    }

    /// Records a decision that is over.
    pub(crate) fn over(mut self, decided: &Decided<'_>) {
        self.end(decided);
    }

    fn end(&mut self, decided: &Decided<'_>) {
        let Some(open) = self.open.take() else { return };
        let is_answered = matches!(decided.came, Came::Answered(_));
        let recorded = open.recorded(decided, &self.stages);
        match std::mem::take(&mut self.why) {
            why if why.is_wanted() && is_answered => self.recording.explain(recorded, why),
            _ => self.recording.guard.keep(recorded),
        }
    }
}

impl Drop for Deciding {
    fn drop(&mut self) {
        if let Some(open) = &self.open {
            let took = open.started.elapsed();
            self.end(&Decided {
                came: Came::Dropped,
                took,
                position: None,
                model: String::new(),
                served_by: None,
            });
        }
    }
}

impl Open {
    fn recorded(mut self, decided: &Decided<'_>, stages: &Stages) -> Recorded {
        if let Came::Answered(body) = decided.came {
            self.question.answer(body);
        }
        let served_by = decided.served_by.unwrap_or(&self.here);
        let whole = decided.took + self.authenticated.unwrap_or_default();
        let asked = Asked {
            revision: decided.position.map(|position| position.to_string()),
            model: Some(decided.model.clone()),
            served_by: served_by.as_str().to_owned(),
            ..self.question.into_asked()
        };
        let flow = Flow {
            status: match decided.came {
                Came::Answered(_) => FlowStatus::Success,
                Came::Refused(_) | Came::Dropped => FlowStatus::Failure,
            },
            completed_at: Some(after(self.flow.started_at, whole)),
            duration_micros: Some(micros(whole)),
            asked: Some(Box::new(asked)),
            ..self.flow
        };
        let mut steps = Steps::of(&flow);
        if let Some(took) = self.authenticated {
            steps.add("authenticate", took, took);
        }
        let (before, mut rest) = (self.authenticated.unwrap_or_default(), decided.took);
        for noted in stages.take() {
            let end = noted.began.saturating_duration_since(self.started) + noted.took;
            rest = rest.saturating_sub(noted.took);
            steps.add(noted.name, before + end, noted.took);
        }
        if served_by.is_kept() {
            steps.skip("evaluate");
        } else if decided.came.was_evaluated() && !steps.has_decided() {
            steps.add("evaluate", whole, rest);
        }
        match decided.came {
            Came::Answered(_) => {}
            Came::Refused(rejection) => steps.fail(rejection.code(), kept_message(rejection)),
            Came::Dropped if std::thread::panicking() => {
                steps.fail(Code::Internal.name(), "the call broke down");
            }
            Came::Dropped => steps.fail(Code::Cancelled.name(), "the client gave the call up"),
        }
        let steps = steps.into_all();
        Recorded { flow, steps }
    }
}

impl Came<'_> {
    /// Whether it came as far as being evaluated, to an end or not.
    fn was_evaluated(&self) -> bool {
        match self {
            Self::Answered(_) | Self::Dropped => true,
            Self::Refused(rejection) => rejection.code() == Code::DeadlineExceeded.name(),
        }
    }
}
