//! What is recorded. Texts are whatever clients send: they are cut and cleaned before they are kept.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use meridian_model::{StoreId, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::text::{self, bound, bound_some};

/// Names a flow: a UUID of version 7, made from the time the flow began, so that later flows sort higher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FlowId(Uuid);

/// A text that names no flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not the id of a flow: it must be a UUID, like 019470a1-8f6e-7c3a-9d58-1f2b3c4d5e6f")]
pub struct InvalidFlowId;

impl FlowId {
    /// A new id of a flow that begins at `at`.
    #[must_use]
    pub fn new(at: Timestamp) -> Self {
        let random = u128::from(rand::random::<u64>() >> 2);
        Self(Uuid::from_u128(Self::first_at(at).0.as_u128() | random))
    }

    /// When the flow began, to the microsecond.
    #[must_use]
    pub fn began(self) -> Timestamp {
        let (id, mask) = (self.0.as_u128(), 0xfff_u128);
        let (millis, part) = (id >> 80, (id >> 64) & mask);
        let micros = millis * 1000 + (part * 1000).div_ceil(4096);
        Timestamp(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    /// The lowest id of the flows that begin at `at`; what is before 1970 counts as 1970, and what an id has no room for as
    /// the last time that it has.
    #[must_use]
    pub fn first_at(at: Timestamp) -> Self {
        let micros = u64::try_from(at.0).unwrap_or(0);
        let millis = u128::from(micros / 1000).min(0xffff_ffff_ffff);
        // The 12 bits behind the version are the part of the millisecond (RFC 9562, section 6.2, method 3).
        let part = u128::from((micros % 1000) * 4096 / 1000);
        Self(Uuid::from_u128(
            (millis << 80) | (7 << 76) | (part << 64) | (0b10 << 62),
        ))
    }
}

impl fmt::Display for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for FlowId {
    type Err = InvalidFlowId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Other ways of writing a UUID would be other names of the same flow.
        let id = Uuid::parse_str(text).ok().filter(|_| text.len() == 36);
        id.map(Self).ok_or(InvalidFlowId)
    }
}

impl TryFrom<String> for FlowId {
    type Error = InvalidFlowId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<FlowId> for String {
    fn from(id: FlowId) -> Self {
        id.to_string()
    }
}

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $number:literal $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum $name { $($(#[$of])* $variant),+ }

        impl $name {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The number it is kept by.
            #[must_use]
            pub fn number(self) -> i64 {
                match self { $(Self::$variant => $number),+ }
            }

            /// The one kept by a number.
            #[must_use]
            pub fn of_number(number: i64) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }

            /// The one of a name.
            #[must_use]
            pub fn of_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.name() == name)
            }

            /// Its name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

numbered! {
    /// What a flow is the record of.
    FlowKind {
        /// Somebody showed who they are.
        Authentication = 0 "authentication",
        /// A question was decided.
        Decision = 1 "decision",
    }
}

numbered! {
    /// How a flow stands.
    FlowStatus {
        /// It goes on.
        Pending = 0 "pending",
        /// It did what it was to do; of a decision: there was an answer, whichever.
        Success = 1 "success",
        /// It did not.
        Failure = 2 "failure",
        /// Nobody said how it ended.
        Expired = 3 "expired",
    }
}

numbered! {
    /// How a step went.
    StepStatus {
        /// It did what it was to do.
        Success = 0 "success",
        /// It did not.
        Failure = 1 "failure",
        /// There was no need of it.
        Skipped = 2 "skipped",
    }
}

/// One login, connection or decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// Its name.
    pub id: FlowId,
    /// The store (realm) it is of.
    pub store: StoreId,
    /// What it is the record of.
    pub kind: FlowKind,
    /// How it stands.
    pub status: FlowStatus,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// How long it took, in microseconds.
    pub duration_micros: Option<u64>,
    /// The client by which it came.
    pub client_id: Option<String>,
    /// By what it showed who it is: `preshared`, `oidc`, ….
    pub grant_type: Option<String>,
    /// Who it turned out to be.
    pub user_id: Option<String>,
    /// The client's address.
    pub ip: Option<IpAddr>,
    /// What the client calls itself.
    pub user_agent: Option<String>,
    /// Of a decision, what was asked and answered.
    pub asked: Option<Box<Asked>>,
}

/// What was asked, and how it was decided.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The call: `Check`, `BatchCheck`, ….
    pub operation: String,
    /// The object, or the type of a listing.
    pub object: String,
    /// The relation.
    pub relation: String,
    /// The user, or the type of a listing.
    pub subject: String,
    /// Whether it was allowed, where that is the answer.
    pub allowed: Option<bool>,
    /// The store's position that the answer holds at: `epoch.revision`.
    pub revision: Option<String>,
    /// The authorization model that it was made under.
    pub model: Option<String>,
    /// The node that decided.
    pub served_by: String,
    /// As JSON, of a Check why it was decided so, where that is kept; of the others what else they came to.
    pub explanation: Option<String>,
}

/// One step of a flow. The steps of a flow are in the order of their times, which are all different.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The flow.
    pub flow: FlowId,
    /// When it was over; with the flow's, its name.
    pub at: Timestamp,
    /// What was done.
    pub name: String,
    /// How it went.
    pub status: StepStatus,
    /// How long it took, in microseconds.
    pub duration_micros: u64,
    /// By which code it failed.
    pub error_code: Option<String>,
    /// And in words.
    pub error_message: Option<String>,
}

/// The end of a flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// The flow.
    pub flow: FlowId,
    /// How it ended.
    pub status: FlowStatus,
    /// When.
    pub at: Timestamp,
    /// How long it took, in microseconds.
    pub duration_micros: u64,
    /// Who it turned out to be.
    pub user_id: Option<String>,
}

/// A flow that is over, with its steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// The flow.
    pub flow: Flow,
    /// Its steps, in order.
    pub steps: Vec<Step>,
}

impl Flow {
    /// A flow that begins at `at`.
    #[must_use]
    pub fn begun(store: StoreId, kind: FlowKind, at: Timestamp) -> Self {
        Self {
            id: FlowId::new(at),
            store,
            kind,
            status: FlowStatus::Pending,
            started_at: at,
            completed_at: None,
            duration_micros: None,
            client_id: None,
            grant_type: None,
            user_id: None,
            ip: None,
            user_agent: None,
            asked: None,
        }
    }

    pub(crate) fn bound(&mut self) {
        bound_some(&mut self.client_id, text::NAME);
        bound_some(&mut self.grant_type, text::CODE);
        bound_some(&mut self.user_id, text::NAME);
        bound_some(&mut self.user_agent, text::NAME);
        let Some(asked) = self.asked.as_deref_mut() else {
            return;
        };
        bound(&mut asked.operation, text::CODE);
        bound(&mut asked.object, text::NAME);
        bound(&mut asked.relation, text::CODE);
        bound(&mut asked.subject, text::NAME);
        bound_some(&mut asked.revision, text::CODE);
        bound_some(&mut asked.model, text::CODE);
        bound(&mut asked.served_by, text::NAME);
        let fits = |text: &String| text.len() <= text::MAX_EXPLANATION_BYTES;
        asked.explanation = asked.explanation.take().filter(fits);
        if let Some(explanation) = &mut asked.explanation {
            explanation.shrink_to_fit();
        }
    }

    /// How many bytes it takes in memory, once it is bounded.
    pub(crate) fn bytes(&self) -> usize {
        let own = [
            &self.client_id,
            &self.grant_type,
            &self.user_id,
            &self.user_agent,
        ];
        let asked = self.asked.as_deref().map_or(0, Asked::bytes);
        size_of::<Self>() + own.into_iter().map(some).sum::<usize>() + asked
    }
}

impl Asked {
    fn bytes(&self) -> usize {
        let texts = [
            &self.operation,
            &self.object,
            &self.relation,
            &self.subject,
            &self.served_by,
        ];
        let others = [&self.revision, &self.model, &self.explanation];
        size_of::<Self>()
            + texts.into_iter().map(String::len).sum::<usize>()
            + others.into_iter().map(some).sum::<usize>()
    }
}

impl Step {
    pub(crate) fn bound(&mut self) {
        bound(&mut self.name, text::CODE);
        bound_some(&mut self.error_code, text::CODE);
        bound_some(&mut self.error_message, text::MESSAGE);
    }

    /// How many bytes it takes in memory, once it is bounded.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.name.len() + some(&self.error_code) + some(&self.error_message)
    }
}

impl Completion {
    pub(crate) fn bound(&mut self) {
        bound_some(&mut self.user_id, text::NAME);
    }

    /// How many bytes it takes in memory, once it is bounded.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + some(&self.user_id)
    }
}

impl Recorded {
    pub(crate) fn bound(&mut self) {
        self.flow.bound();
        self.steps.iter_mut().for_each(Step::bound);
        self.steps.shrink_to_fit();
    }

    /// How many bytes it takes in memory, once it is bounded.
    pub(crate) fn bytes(&self) -> usize {
        self.flow.bytes() + self.steps.iter().map(Step::bytes).sum::<usize>()
    }
}

fn some(text: &Option<String>) -> usize {
    text.as_ref().map_or(0, String::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_of_version_7_and_in_the_order_of_time() {
        let at = Timestamp(1_764_000_000_123_456);
        let id = FlowId::new(at);
        assert_eq!(id.0.get_version_num(), 7);
        assert_eq!(id.0.get_variant(), uuid::Variant::RFC4122);
        assert!(FlowId::first_at(at) <= id);
        assert!(id < FlowId::first_at(Timestamp(at.0 + 1)));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(FlowId::first_at(Timestamp(-5)) < id);
        assert!(FlowId::first_at(Timestamp(i64::MAX)) > id);
        for micros in 0..1000 {
            let at = Timestamp(at.0 + micros);
            assert_eq!(FlowId::new(at).began(), at);
        }
        for bad in ["", "no", "019470a18f6e7c3a9d581f2b3c4d5e6f"] {
            assert_eq!(bad.parse::<FlowId>(), Err(InvalidFlowId), "{bad}");
        }
    }
}
