//! Where flows are kept, as traits. Every call has a deadline.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use meridian_model::{StoreId, Timestamp};

use crate::flow::{Completion, Flow, FlowId, FlowKind, FlowStatus, Recorded, Step};
use crate::recorder::{Overrides, OverridesChange};
use crate::session::Session;
use crate::settings::NotStored;

/// Microseconds of a day.
pub const DAY: i64 = 86_400_000_000;
/// How many error codes figures tell.
const ERRORS: usize = 10;

/// Why something was not done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RepositoryError {
    /// Nothing is wrong with what was asked: the same may work later.
    #[error("the flows' database cannot be used now")]
    Unavailable(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// Something of what was to be written can never be. Nothing of it was.
    #[error("the flows' database refuses what was to be written")]
    Rejected(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The deadline passed; it may have been done all the same.
    #[error("the flows' database did not answer in time")]
    DeadlineExceeded,
}

/// What a repository returns.
pub type Result<T> = std::result::Result<T, RepositoryError>;

/// One thing to be written.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// A flow begins.
    Start(Box<Flow>),
    /// A step was taken.
    Step(Box<Step>),
    /// A flow is over.
    Complete(Box<Completion>),
    /// A flow that is over, whole.
    Whole(Box<Recorded>),
    /// A connection begins or is over.
    Session(Box<Session>),
}

impl Row {
    /// What it is called in metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Start(_) => "start",
            Self::Step(_) => "step",
            Self::Complete(_) => "complete",
            Self::Whole(_) => "flow",
            Self::Session(_) => "session",
        }
    }

    /// The flow it is of. A session is of none: it may only refer to one.
    #[must_use]
    pub fn flow(&self) -> Option<FlowId> {
        match self {
            Self::Start(flow) => Some(flow.id),
            Self::Step(step) => Some(step.flow),
            Self::Complete(completion) => Some(completion.flow),
            Self::Whole(whole) => Some(whole.flow.id),
            Self::Session(_) => None,
        }
    }

    /// Cuts its texts to what is kept of them, puts a space in place of each control character, and gives the memory back
    /// that they do not need.
    pub fn bound(&mut self) {
        match self {
            Self::Start(flow) => flow.bound(),
            Self::Step(step) => step.bound(),
            Self::Complete(end) => end.bound(),
            Self::Whole(whole) => whole.bound(),
            Self::Session(session) => session.bound(),
        }
    }

    /// The flow that must be there for it to say something.
    pub(crate) fn needs(&self) -> Option<FlowId> {
        match self {
            Self::Step(step) => Some(step.flow),
            Self::Complete(completion) => Some(completion.flow),
            Self::Start(_) | Self::Whole(_) | Self::Session(_) => None,
        }
    }

    /// How many bytes it takes in memory, once it is bounded.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Start(flow) => flow.bytes(),
            Self::Step(step) => step.bytes(),
            Self::Complete(end) => end.bytes(),
            Self::Whole(whole) => whole.bytes(),
            Self::Session(session) => session.bytes(),
        }
    }
}

/// Where the writer's rows go.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Writes all of `rows`, or none. Of one flow they are in order. What is there already stays as it is, so that the same
    /// may be written again. A step or an end of a flow that is not there is passed over: such flows are returned, where they
    /// are known. A session gains what it lacks, its end; a flow of it that is not there is left out.
    ///
    /// # Errors
    /// [`RepositoryError`].
    async fn write(&self, rows: &[Row], deadline: Instant) -> Result<Vec<FlowId>>;
}

/// Has the beginnings of flows stored where a [`Sink`] would be too slow: somebody waits.
#[async_trait]
pub trait Starter: Send + Sync {
    /// Returns once the flow is stored. While that cannot be it goes on trying: who asks gives up.
    ///
    /// # Errors
    /// Why it will not be.
    async fn start(&self, flow: Flow) -> std::result::Result<(), NotStored>;
}

/// Which flows of a store. What is `None` does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlowFilter {
    /// Begun at this time or later.
    pub from: Option<Timestamp>,
    /// Begun before this time.
    pub to: Option<Timestamp>,
    /// Of this client.
    pub client_id: Option<String>,
    /// Of this user: who called, or who was asked about.
    pub user: Option<String>,
    /// Standing so.
    pub status: Option<FlowStatus>,
    /// Of this kind.
    pub kind: Option<FlowKind>,
    /// With a step of this name; with `error_code`, one that failed so.
    pub step: Option<String>,
    /// With a step that failed by this code.
    pub error_code: Option<String>,
}

impl FlowFilter {
    /// All that began at `from` or later, and before `to`.
    #[must_use]
    pub fn between(from: Timestamp, to: Timestamp) -> Self {
        Self {
            from: Some(from),
            to: Some(to),
            ..Self::default()
        }
    }

    /// Whether it wants every flow of its time.
    #[must_use]
    pub fn is_of_time_alone(&self) -> bool {
        let of_time = Self {
            from: self.from,
            to: self.to,
            ..Self::default()
        };
        *self == of_time
    }
}

/// Some of a store's flows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FlowPage {
    /// Latest first.
    pub flows: Vec<Flow>,
    /// What comes next is before this flow; `None` where nothing is left.
    pub next: Option<FlowId>,
}

impl FlowPage {
    /// Of what was found, which is one more than the page holds if there is another page.
    pub(crate) fn of(mut found: Vec<Flow>, limit: usize) -> Self {
        let has_more = found.len() > limit;
        found.truncate(limit);
        Self {
            next: found.last().filter(|_| has_more).map(|flow| flow.id),
            flows: found,
        }
    }
}

/// How many flows there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// So many were counted, [`MOST_COUNTED`] at most.
    pub flows: u64,
    /// Whether there may be more.
    pub more: bool,
}

/// Nobody counts further.
pub const MOST_COUNTED: u64 = 10_000;

/// A store's flows in figures.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FlowStats {
    /// Set where time was not enough for all flows: then the figures are of those that began from this time on.
    pub since: Option<Timestamp>,
    /// Of each kind and status that there are.
    pub counts: Vec<FlowCount>,
    /// The codes by which most steps failed, most frequent first; at most 10.
    pub errors: Vec<(String, u64)>,
}

/// The errors of figures, of all codes and how many steps failed by each.
pub(crate) fn most_frequent<T: Into<String>>(
    errors: impl IntoIterator<Item = (T, u64)>,
) -> Vec<(String, u64)> {
    let errors = errors.into_iter();
    let mut errors: Vec<_> = errors.map(|(code, steps)| (code.into(), steps)).collect();
    errors.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    errors.truncate(ERRORS);
    errors
}

/// The flows of one kind and status.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowCount {
    /// What they are records of.
    pub kind: FlowKind,
    /// How they stand.
    pub status: FlowStatus,
    /// How many.
    pub flows: u64,
    /// How long those that are over took on average, in microseconds.
    pub average_micros: f64,
    /// And the longest.
    pub longest_micros: u64,
}

/// A store's flows by day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Activity {
    /// As in [`FlowStats::since`].
    pub since: Option<Timestamp>,
    /// Earliest first.
    pub days: Vec<DayActivity>,
}

/// The flows of one status that began on one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayActivity {
    /// Days since 1970-01-01, UTC.
    pub day: i64,
    /// How they stand.
    pub status: FlowStatus,
    /// How many.
    pub flows: u64,
}

/// Flows.
#[async_trait]
pub trait FlowRepository: Sink {
    /// Keeps a flow; one that is there already stays.
    ///
    /// # Errors
    /// [`RepositoryError`].
    async fn create_flow(&self, flow: Flow, deadline: Instant) -> Result<()> {
        let row = Row::Start(Box::new(flow));
        self.write(&[row], deadline).await.map(drop)
    }

    /// Ends a flow that is pending or has expired.
    ///
    /// # Errors
    /// [`RepositoryError`].
    async fn update_flow_status(&self, end: Completion, deadline: Instant) -> Result<()> {
        let row = Row::Complete(Box::new(end));
        self.write(&[row], deadline).await.map(drop)
    }

    /// A store's flows, latest first: at most `limit` of those before `before`. One call looks at a bounded part of them, so
    /// that a page may have few flows or none, and another one behind it.
    ///
    /// # Errors
    /// [`RepositoryError`].
    async fn get_flows(
        &self,
        store: StoreId,
        filter: &FlowFilter,
        before: Option<FlowId>,
        limit: u32,
        deadline: Instant,
    ) -> Result<FlowPage>;

    /// One flow of a store; none that only a newer version knows to read, which is also left out of pages and figures.
    ///
    /// # Errors
    /// [`RepositoryError`].
    async fn get_flow_by_id(
        &self,
        store: StoreId,
        id: FlowId,
        deadline: Instant,
    ) -> Result<Option<Flow>>;

    /// How many flows of a store there are, as far as one call counts.
    ///
    /// # Errors
    /// [`RepositoryError`].
    async fn count_flows(
        &self,
        store: StoreId,
        filter: &FlowFilter,
        deadline: Instant,
    ) -> Result<Counted>;

    /// Deletes at most `limit` of a store's flows that began before `older_than`, oldest first, with their steps; how many.
    ///
    /// # Errors
    /// [`RepositoryError`].
    async fn purge_old_flows(
        &self,
        store: StoreId,
        older_than: Timestamp,
        limit: u32,
        deadline: Instant,
    ) -> Result<u64>;

    /// Whether a store has flows that began before `older_than`.
    ///
    /// # Errors
    /// [`RepositoryError`].
    async fn has_older(
        &self,
        store: StoreId,
        older_than: Timestamp,
        deadline: Instant,
    ) -> Result<bool>;

    /// A store's flows that began from `from` until before `to`, in figures: of the latest, where they are too many.
    ///
    /// # Errors
    /// [`RepositoryError`].
    async fn get_stats(
        &self,
        store: StoreId,
        from: Timestamp,
        to: Timestamp,
        deadline: Instant,
    ) -> Result<FlowStats>;

    /// The same by day.
    ///
    /// # Errors
    /// [`RepositoryError`].
    async fn get_daily_activity(
        &self,
        store: StoreId,
        from: Timestamp,
        to: Timestamp,
        deadline: Instant,
    ) -> Result<Activity>;

    /// Has at most `limit` flows of all stores expire that began before `older_than` and are pending; how many.
    ///
    /// # Errors
    /// [`RepositoryError`].
    async fn expire_flows(
        &self,
        older_than: Timestamp,
        limit: u32,
        deadline: Instant,
    ) -> Result<u64>;

    /// The first store behind `after` that has flows or sessions.
    ///
    /// # Errors
    /// [`RepositoryError`].
    async fn next_store(
        &self,
        after: Option<StoreId>,
        deadline: Instant,
    ) -> Result<Option<StoreId>>;

    /// What is set of each store.
    ///
    /// # Errors
    /// [`RepositoryError`].
    async fn get_overrides(&self, deadline: Instant) -> Result<Vec<(StoreId, Overrides)>>;

    /// What is set of one store; nothing where it is as all others.
    ///
    /// # Errors
    /// [`RepositoryError`].
    async fn get_overrides_of(&self, store: StoreId, deadline: Instant) -> Result<Overrides>;

    /// Changes what is set of a store, at once: two who change different settings both have their way.
    ///
    /// # Errors
    /// [`RepositoryError`].
    async fn change_overrides(
        &self,
        store: StoreId,
        change: &OverridesChange,
        deadline: Instant,
    ) -> Result<()>;

    /// Has nothing set of a store.
    ///
    /// # Errors
    /// [`RepositoryError`].
    async fn delete_overrides(&self, store: StoreId, deadline: Instant) -> Result<()>;
}

/// The steps of flows.
#[async_trait]
pub trait FlowStepRepository: Sink {
    /// Keeps a step of a flow that is there.
    ///
    /// # Errors
    /// [`RepositoryError`].
    async fn create_step(&self, step: Step, deadline: Instant) -> Result<()> {
        let row = Row::Step(Box::new(step));
        self.write(&[row], deadline).await.map(drop)
    }

    /// A flow's steps, in order.
    ///
    /// # Errors
    /// [`RepositoryError`].
    async fn get_steps_for_flow(&self, flow: FlowId, deadline: Instant) -> Result<Vec<Step>>;
}

/// Connections of the live channel.
#[async_trait]
pub trait SessionRepository: Sink {
    /// The connection that began by a flow of a store; of more than one the latest.
    ///
    /// # Errors
    /// [`RepositoryError`].
    async fn get_session_of_flow(
        &self,
        store: StoreId,
        flow: FlowId,
        deadline: Instant,
    ) -> Result<Option<Session>>;

    /// Deletes at most `limit` of a store's sessions that ended before `older_than`, or where no end came began before it,
    /// oldest first; how many.
    ///
    /// # Errors
    /// [`RepositoryError`].
    async fn purge_old_sessions(
        &self,
        store: StoreId,
        older_than: Timestamp,
        limit: u32,
        deadline: Instant,
    ) -> Result<u64>;
}

/// Knows the stores.
#[async_trait]
pub trait Stores: Send + Sync {
    /// Whether a store was deleted, for certain: `false` where that is not known.
    async fn is_deleted(&self, store: StoreId, deadline: Instant) -> bool;
}

/// All of it.
pub trait Repository: FlowRepository + FlowStepRepository + SessionRepository {}

impl<T: FlowRepository + FlowStepRepository + SessionRepository> Repository for T {}
