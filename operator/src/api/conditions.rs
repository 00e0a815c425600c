//! Conditions: what they are called, and how they change.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// All is as the spec says.
pub const READY: &str = "Ready";
/// The spec makes sense.
pub const ACCEPTED: &str = "Accepted";
/// What the spec names is there.
pub const REFERENCES_RESOLVED: &str = "ReferencesResolved";
/// Every database has the schema of the image.
pub const MIGRATED: &str = "Migrated";
/// Central and regional nodes reach their databases.
pub const DATASTORE_REACHABLE: &str = "DatastoreReachable";
/// All central pods run as the spec says and are ready.
pub const CENTRAL_AVAILABLE: &str = "CentralAvailable";
/// The regional nodes reach central.
pub const CENTRAL_REACHABLE: &str = "CentralReachable";
/// The same as for central's pods for those of all regions.
pub const REGIONS_AVAILABLE: &str = "RegionsAvailable";
/// The same for pods that serve the live channel and nothing else; said only where there are to be some.
pub const LIVE_AVAILABLE: &str = "LiveAvailable";
/// The nodes reach Kafka.
pub const KAFKA_REACHABLE: &str = "KafkaReachable";
/// Central has the spec's model and tiers in force, and every regional node has the model.
pub const MODEL_ACTIVE: &str = "ModelActive";
/// The store was deleted everywhere; said only while it is not yet, of an AuthzStore that is being deleted.
pub const STORE_DELETED: &str = "StoreDeleted";
/// The pods of an EdgeRegion run as the spec says and are ready.
pub const AVAILABLE: &str = "Available";
/// The edges reach their parent region.
pub const PARENT_REACHABLE: &str = "ParentReachable";
/// Every edge has the model of each store it subscribes to.
pub const SYNCED: &str = "Synced";

/// The reason why a model is not active that is not the latest, since somebody else wrote one.
pub const SUPERSEDED: &str = "Superseded";

/// The reason of what cannot be said, since something else is in the way.
pub const BLOCKED: &str = "Blocked";

/// True, False or not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It holds.
    True,
    /// It does not.
    False,
    /// It cannot be said.
    Unknown,
}

impl State {
    fn text(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// What is found about one condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether it holds.
    pub state: State,
    /// Why, in one CamelCase word.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// Whether somebody must mend something; otherwise it comes by itself.
    pub fault: bool,
}

impl Finding {
    /// It holds.
    pub fn yes(reason: &str, message: impl Into<String>) -> Self {
        Self::new(State::True, reason, message, false)
    }

    /// Not yet: work is under way.
    pub fn not_yet(reason: &str, message: impl Into<String>) -> Self {
        Self::new(State::False, reason, message, false)
    }

    /// It does not, and will not by itself.
    pub fn fault(reason: &str, message: impl Into<String>) -> Self {
        Self::new(State::False, reason, message, true)
    }

    /// It cannot be said.
    pub fn unknown(reason: &str, message: impl Into<String>) -> Self {
        Self::new(State::Unknown, reason, message, false)
    }

    /// It cannot be said, since another condition is in the way.
    #[must_use]
    pub fn blocked(by: &str, why: &str) -> Self {
        Self::unknown(BLOCKED, format!("{by}: {why}"))
    }

    fn new(state: State, reason: &str, message: impl Into<String>, fault: bool) -> Self {
        let mut message = message.into();
        truncate(&mut message, MAX_MESSAGE);
        Self {
            state,
            reason: reason.to_owned(),
            message,
            fault,
        }
    }
}

/// Longest message of a condition, in bytes; the schema allows 32768.
const MAX_MESSAGE: usize = 2048;

fn truncate(text: &mut String, most: usize) {
    if text.len() > most {
        let end = (0..=most).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
}

/// The findings of one reconcile, in the order in which a reader should look at them.
pub type Findings = Vec<(&'static str, Finding)>;

/// The summary: the first finding that is False, else the first that is Unknown, else that all is well.
#[must_use]
pub fn summary(findings: &[(&'static str, Finding)]) -> Finding {
    let first = |state| findings.iter().find(|(_, finding)| finding.state == state);
    match first(State::False).or_else(|| first(State::Unknown)) {
        Some((kind, finding)) => Finding {
            message: format!("{kind}: {}", finding.message),
            ..finding.clone()
        },
        None => Finding::yes("AllGood", "everything is as the spec says"),
    }
}

/// Conditions as the status shows them. `lastTransitionTime` is kept where the state is as it was before.
#[must_use]
pub fn conditions(
    before: &[Condition],
    findings: &[(&'static str, Finding)],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    findings
        .iter()
        .map(|(kind, finding)| {
            let same = before
                .iter()
                .find(|old| old.type_ == *kind && old.status == finding.state.text());
            Condition {
                type_: (*kind).to_owned(),
                status: finding.state.text().to_owned(),
                reason: finding.reason.clone(),
                message: finding.message.clone(),
                observed_generation: generation,
                last_transition_time: same
                    .map_or(Time(seconds(now)), |old| old.last_transition_time.clone()),
            }
        })
        .collect()
}

/// Kubernetes keeps whole seconds.
fn seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
