//! Which of several nodes is asked, and what is done when one fails.
//!
//! A node that cannot be reached, or says that it is unavailable, is passed over while another answers; now and then one
//! call finds out whether it is back. The hazard: what a caller brings must not decide that for all others. So a caller
//! whose time is up says nothing about the node, and its call is not made a second time. A node that hangs is told by
//! pings of this node's own, which break the connection.
//!
//! Whoever asked is told which of `upstream` failed and how to go on; addresses and what the connection says are logged.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tonic::{Code, Response, Status};

use super::Client;
use crate::outage::Outage;
use crate::telemetry::request::asking;

/// What the message begins and ends with when no node above can answer.
const NOBODY: &str = "no node above can answer: ";
const TRY_AGAIN: &str = "; try again";
/// What a node's name for one above it begins with.
const SETTING: &str = "upstream[";

/// How long a node that failed is passed over before it is tried again, if another is there.
const PASS_OVER: Duration = Duration::from_secs(1);

/// Several nodes that can do the same, in the order in which they are asked.
pub(super) struct Line(pub(super) Vec<Peer>);

/// A node.
pub(super) struct Peer {
    /// The setting it comes from, for whoever asks.
    setting: String,
    /// Its URL.
    pub(super) address: String,
    /// Both, for logs and operators.
    pub(super) name: String,
    pub(super) client: Client,
    health: Health,
}

/// What may be done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// The call changes nothing: another node may be asked.
    Safe,
    /// Only if it never left this node.
    Unsent,
}

/// Why a node did not do what it was asked.
pub(super) enum Failure {
    /// What the node, or the connection to it, says.
    Said(Status),
    /// The node is well but lacks what this call needs; another may have it.
    Lacks(Status),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Said(status)
    }
}

impl Line {
    /// Makes a call at the first node that can answer it.
    ///
    /// # Errors
    /// What the answering node refused, `DEADLINE_EXCEEDED`, or why each node cannot answer.
    pub(super) async fn call<T, E, F>(
        &self,
        deadline: Instant,
        repeat: Repeat,
        call: impl Fn(Client) -> F,
    ) -> Result<T, Status>
    where
        E: Into<Failure>,
        F: Future<Output = Result<Response<T>, E>>,
    {
        let answered = self.begin(deadline, repeat, call).await;
        answered.map(|(answer, _)| answer)
    }

    /// The same of a call whose answer comes in parts, and the node that it comes from.
    pub(super) async fn begin<T, E, F>(
        &self,
        deadline: Instant,
        repeat: Repeat,
        call: impl Fn(Client) -> F,
    ) -> Result<(T, &Peer), Status>
    where
        E: Into<Failure>,
        F: Future<Output = Result<Response<T>, E>>,
    {
        let mut failed = Vec::new();
        for peer in self.in_turn() {
            let left = deadline.saturating_duration_since(Instant::now());
            let call = asking(&peer.setting, call(peer.client.clone()));
            let Ok(outcome) = tokio::time::timeout(left, call).await else {
                return Err(peer.too_late());
            };
            let failure = match outcome.map_err(Into::into) {
                Ok(response) => {
                    peer.answered();
                    return Ok((response.into_inner(), peer));
                }
                Err(failure) => failure,
            };
            let (status, unsent) = match failure {
                Failure::Said(status) if has_source::<tonic::TimeoutExpired>(&status) => {
                    return Err(peer.too_late());
                }
                Failure::Said(status) if is_away(&status) => {
                    let unsent = is_unsent(&status);
                    peer.failed(&status);
                    (status, unsent)
                }
                Failure::Said(status) => return Err(peer.named(status)),
                Failure::Lacks(status) => {
                    peer.answered();
                    (status, false)
                }
            };
            failed.push((peer, status));
            if repeat == Repeat::Unsent && !unsent {
                break;
            }
        }
        Err(Status::new(outcome(&failed), self.nobody(&failed)))
    }

    /// Where all that were asked say the same, it is said once; else by whom.
    fn nobody(&self, failed: &[(&Peer, Status)]) -> String {
        if self.0.is_empty() {
            return "there is no node above: no upstream is configured".to_owned();
        }
        let said: Option<BTreeSet<_>> = failed.iter().map(|(_, status)| said(status)).collect();
        let reasons = match said.as_ref().and_then(|said| said.first()) {
            Some(one) if said.iter().all(|said| said.len() == 1) && !one.contains(SETTING) => {
                (*one).to_owned()
            }
            _ => {
                let by_whom = failed
                    .iter()
                    .map(|(peer, status)| format!("{} {}", peer.setting, told(status)));
                by_whom.collect::<Vec<_>>().join("; ")
            }
        };
        let remedy = match outcome(failed) {
            Code::FailedPrecondition => "",
            _ => TRY_AGAIN,
        };
        format!("{NOBODY}{reasons}{remedy}")
    }

    /// Those that are up or due to be tried, then the others.
    fn in_turn(&self) -> impl Iterator<Item = &Peer> {
        let mut passed_over = Vec::new();
        let mut all = self.0.iter();
        std::iter::from_fn(move || {
            for peer in all.by_ref() {
                if peer.health.admits() {
                    return Some(peer);
                }
                passed_over.push(peer);
            }
            (!passed_over.is_empty()).then(|| passed_over.remove(0))
        })
    }
}

impl Peer {
    /// The node at `address`, which `setting` names.
    pub(super) fn new(setting: &str, address: &str, client: Client) -> Self {
        Self {
            setting: setting.to_owned(),
            address: address.to_owned(),
            name: format!("{setting} {address}"),
            client,
            health: Health::default(),
        }
    }

    fn failed(&self, status: &Status) {
        let error = reason(status);
        if self.health.failed() {
            tracing::warn!(upstream = self.name, error, "a node above is away");
        } else {
            tracing::debug!(upstream = self.name, error, "a node above is still away");
        }
    }

    fn answered(&self) {
        if let Some(away) = self.health.outage.worked() {
            tracing::info!(upstream = self.name, ?away, "a node above is back");
        }
    }

    /// Why a later part of its answer did not come. A node that is away is noted; another may have what is left.
    pub(super) fn broke_off(&self, status: Status) -> Status {
        if !is_away(&status) {
            return self.named(status);
        }
        self.failed(&status);
        let told = told(&status);
        Status::unavailable(format!("{NOBODY}{} {told}{TRY_AGAIN}", self.setting))
    }

    fn too_late(&self) -> Status {
        Status::deadline_exceeded(format!(
            "{} did not answer within the request's time",
            self.setting
        ))
    }

    /// What went wrong in the node is told with its name; what the node says about the request is passed on as it is.
    fn named(&self, status: Status) -> Status {
        match status.code() {
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::OutOfRange => status,
            code => Status::new(code, format!("{} {}", self.setting, told(&status))),
        }
    }
}

/// Whether a node answers, and when one that does not is tried again.
#[derive(Debug, Default)]
struct Health {
    outage: Outage,
    next_try: Mutex<Option<Instant>>,
}

impl Health {
    /// Whether a call may go there. While the node is away only one does in each [`PASS_OVER`].
    fn admits(&self) -> bool {
        if !self.outage.is_on() {
            return true;
        }
        let now = Instant::now();
        let mut next_try = self.next_try();
        let due = next_try.is_none_or(|due| due <= now);
        if due {
            *next_try = Some(now + PASS_OVER);
        }
        due
    }

    /// Notes a failure; whether it is the first.
    fn failed(&self) -> bool {
        *self.next_try() = Some(Instant::now() + PASS_OVER);
        self.outage.failed()
    }

    fn next_try(&self) -> MutexGuard<'_, Option<Instant>> {
        self.next_try.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What it comes to that all of these failed: what is so for good only where all of them say so.
fn outcome(failed: &[(&Peer, Status)]) -> Code {
    let is_for_good = |(_, status): &(&Peer, Status)| status.code() == Code::FailedPrecondition;
    match failed.last() {
        Some(_) if failed.iter().all(is_for_good) => Code::FailedPrecondition,
        Some((_, status)) if status.code() == Code::ResourceExhausted => Code::ResourceExhausted,
        _ => Code::Unavailable,
    }
}

/// Whether a failure says that the node cannot be reached or cannot work, or that there is no node but something else.
fn is_away(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Unimplemented => true,
        // Of this node's token; what the caller is let in by is no node's.
        Code::Unauthenticated => true,
        Code::Cancelled => is_by_connection(status),
        _ => is_unsent(status),
    }
}

/// Whether the connection failed: what has a source was not sent by the node.
fn is_by_connection(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

/// Whether the request certainly never left this node, or was not looked at.
fn is_unsent(status: &Status) -> bool {
    status.code() == Code::Unauthenticated || has_source::<tonic::ConnectError>(status)
}

fn has_source<E: std::error::Error + 'static>(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<E>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// What a node says, without what it says around the words of those above it; nothing where it does not speak as one.
fn said(status: &Status) -> Option<&str> {
    let speaks = !matches!(
        status.code(),
        Code::Unknown | Code::Internal | Code::Unimplemented
    );
    let message = status.message();
    let message = message.strip_suffix(TRY_AGAIN).unwrap_or(message);
    (speaks && !is_by_connection(status)).then(|| message.strip_prefix(NOBODY).unwrap_or(message))
}

/// A failure as whoever asked is told it: which node cannot be reached, or does not speak as a node, or what it says.
pub(super) fn told(status: &Status) -> String {
    match said(status) {
        Some(said) => format!("says: {}", said.replace(SETTING, "its upstream[")),
        None if is_by_connection(status) => "cannot be reached".to_owned(),
        None => "does not answer as a node of this version does: it must be the address of a node's listen.nodes"
            .to_owned(),
    }
}

/// Why a node did not answer: what it said, or what is at the bottom of the connection's failure.
pub(super) fn why(status: &Status) -> String {
    let mut source = std::error::Error::source(status);
    let mut text = status.message().to_owned();
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    text
}

/// A failure's message with its causes, for the log.
fn reason(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
