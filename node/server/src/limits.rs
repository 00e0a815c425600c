//! How much one request may ask for. OpenFGA's defaults, so that what its server takes, this one takes.

use std::time::{Duration, Instant};

use serde::Deserialize;

/// The limits of a node's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Longest an API call may take when its caller sets no shorter deadline.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// Longest a request's body may take to arrive, counted from its head.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    /// Connections of one port that are open at a time; others wait to be accepted.
    pub connections: usize,
    /// Requests of one HTTP/2 connection that are open at a time.
    pub streams_per_connection: u32,
    /// Largest request message in bytes, on gRPC and HTTP alike.
    pub request_bytes: usize,
    /// Writes and deletes of one Write together.
    pub tuples_per_write: usize,
    /// Contextual tuples of one Check.
    pub contextual_tuples: usize,
    /// Bytes of one tuple's condition context, as protobuf.
    pub condition_context_bytes: usize,
    /// Types of one authorization model.
    pub types_per_model: usize,
    /// Bytes of one authorization model on the wire.
    pub model_bytes: usize,
    /// Rows of a page when the caller names no size.
    pub default_page_size: u32,
    /// Rows of a page of ReadChanges at most.
    pub read_changes_page_size: u32,
    /// How old a change must be before ReadChanges shows it.
    #[serde(with = "humantime_serde")]
    pub changelog_horizon: Duration,
    /// Steps through usersets and parents of one Check or ListUsers, those within a recursion by unions alone not counted.
    pub resolve_node_limit: u32,
    /// What the evaluation of one condition may cost, in cel-go's units.
    pub condition_evaluation_cost: u64,
    /// Sets and tuples of them, together, that one Check may read from the datastore before it is refused as too complex.
    pub check_reads: usize,
    /// Evaluation work (sets visited, members walked, what conditions take) of one round that is done on the connection's own thread; a longer
    /// one moves to a blocking thread.
    pub check_inline_work: u64,
    /// Evaluation work of one round before the Check is refused as too complex.
    pub check_work: u64,
    /// Checks of one BatchCheck.
    pub checks_per_batch: usize,
    /// Checks of one streamed batch.
    pub checks_per_streamed_batch: usize,
    /// Objects of one listing; 0 for all there are.
    pub list_objects_results: usize,
    /// Longest a listing of objects may take before what it found is answered; zero for as long as the call may.
    #[serde(with = "humantime_serde")]
    pub list_objects_deadline: Duration,
    /// As [`Limits::list_objects_results`], of users.
    pub list_users_results: usize,
    /// As [`Limits::list_objects_deadline`], of users.
    #[serde(with = "humantime_serde")]
    pub list_users_deadline: Duration,
    /// Long evaluations that run at a time, one blocking thread each; those of one store have half of them.
    pub concurrent_long_checks: usize,
    /// Whether models and tuples may use conditions that a tuple brings itself (`$expression`). Set by
    /// `experimentals`.
    #[serde(skip)]
    pub inline_expressions: bool,
}

/// Levels of objects and lists in a `context`, itself the first. Decoders of protobuf take 100 messages in each other; an
/// object in an object is three more, and between nodes a request stands in others itself.
pub const MAX_CONTEXT_DEPTH: usize = 30;
/// Largest page a caller may ask for. Fixed, as it is part of the API's contract.
pub const MAX_PAGE_SIZE: i32 = 100;

/// Assertions of one model.
pub const MAX_ASSERTIONS: usize = 100;
/// Bytes of one model's assertions on the wire.
pub const MAX_ASSERTIONS_BYTES: usize = 64_000;
/// Contextual tuples of one assertion.
pub const MAX_ASSERTION_TUPLES: usize = 20;

/// Longest continuation token in bytes.
pub const MAX_TOKEN_LEN: usize = 5120;

/// When a call has to answer with what it has, so that its caller, who waits until `deadline`, still listens: at that moment
/// the call itself ends with an error. To make the answer and send it there are 50 ms, of a short time a tenth.
pub fn in_time(deadline: Instant) -> Instant {
    const TO_ANSWER: Duration = Duration::from_millis(50);
    let left = deadline.saturating_duration_since(Instant::now());
    deadline
        .checked_sub(TO_ANSWER.min(left / 10))
        .unwrap_or(deadline)
}

/// What a listing may take.
#[derive(Debug, Clone, Copy)]
pub struct ListLimits {
    /// Objects or users at most; 0 for all there are.
    pub results: usize,
    deadline: Duration,
}

impl ListLimits {
    /// When the listing has to answer with what it has; its caller waits until `deadline`.
    pub fn deadline_of(&self, deadline: Instant) -> Instant {
        let latest = in_time(deadline);
        match self.deadline {
            Duration::ZERO => latest,
            own => latest.min(Instant::now() + own),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(3),
            body_timeout: Duration::from_secs(3),
            connections: 10_000,
            streams_per_connection: 1024,
            request_bytes: 616_448,
            tuples_per_write: 100,
            contextual_tuples: 100,
            condition_context_bytes: 32 * 1024,
            types_per_model: 100,
            model_bytes: 262_144,
            default_page_size: 50,
            read_changes_page_size: 100,
            changelog_horizon: Duration::ZERO,
            resolve_node_limit: 25,
            condition_evaluation_cost: 100,
            check_reads: 100_000,
            check_inline_work: 10_000,
            check_work: 20_000_000,
            checks_per_batch: 50,
            checks_per_streamed_batch: 1000,
            list_objects_results: 1000,
            list_objects_deadline: Duration::from_secs(3),
            list_users_results: 1000,
            list_users_deadline: Duration::from_secs(3),
            concurrent_long_checks: 4,
            inline_expressions: false,
        }
    }
}

impl Limits {
    /// What a listing of objects may take.
    pub fn list_objects(&self) -> ListLimits {
        ListLimits {
            results: self.list_objects_results,
            deadline: self.list_objects_deadline,
        }
    }

    /// What a listing of users may take.
    pub fn list_users(&self) -> ListLimits {
        ListLimits {
            results: self.list_users_results,
            deadline: self.list_users_deadline,
        }
    }

    /// The bounds of an evaluation of so much work.
    pub fn evaluation(&self, work: u64) -> meridian_engine::Limits {
        meridian_engine::Limits {
            depth: self.resolve_node_limit,
            work,
            condition_cost: self.condition_evaluation_cost,
        }
    }
}
