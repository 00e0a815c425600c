//! From what a datastore says to what a client sees.

use std::cell::Cell;

use meridian_model::ports::DatastoreError;
use meridian_model::{ApiError, Code};

use crate::limits::Limits;
use crate::outage::Outage;

/// A process has one database.
static DATABASE: Outage = Outage::new();

tokio::task_local! {
    /// Whether the read replica failed in the call that it is asked for.
    static REPLICA_FAILED: Cell<bool>;
}

/// What OpenFGA appends to both failures of a Write.
const WRITE_FAILED: &str =
    "tuple to be written already existed or the tuple to be deleted did not exist";

/// Runs a call on a read replica; also says whether that failed. Its outages are told where calls are routed to it, and are
/// none of the database's.
pub(crate) async fn of_replica<T>(call: impl Future<Output = T>) -> (T, bool) {
    let watched = async {
        let done = call.await;
        (done, REPLICA_FAILED.with(Cell::get))
    };
    REPLICA_FAILED.scope(Cell::new(false), watched).await
}

/// Whether this is a call on a read replica, which has failed then.
fn replica_failed() -> bool {
    REPLICA_FAILED.try_with(|failed| failed.set(true)).is_ok()
}

/// Whether this is a call on a read replica that has failed in it.
pub(crate) fn has_replica_failed() -> bool {
    REPLICA_FAILED.try_with(Cell::get).unwrap_or(false)
}

/// Lets conditions pass that a tuple brings itself, where the node was told to.
pub(super) fn inline_expressions_allowed(limits: &Limits) -> Result<(), ApiError> {
    if limits.inline_expressions {
        return Ok(());
    }
    Err(ApiError::validation(
        "$expression requires the \"inline_expressions\" experimental feature flag",
    ))
}

/// The client's side of a datastore's error. What is the operator's business is logged here, once, and hidden.
pub(crate) fn from_datastore(error: DatastoreError) -> ApiError {
    let message = error.to_string();
    let of_replica = is_failure(&error) && replica_failed();
    let code = match error {
        DatastoreError::UnknownStore(_) => return store_not_found(),
        DatastoreError::TupleExists(_) | DatastoreError::TupleMissing(_) => {
            return write_failed(&message);
        }
        DatastoreError::Trimmed { .. } => Code::InvalidContinuationToken,
        DatastoreError::Conflict | DatastoreError::ConditionDiffers(_) => Code::Aborted,
        DatastoreError::Exhausted { .. } => Code::ResourceExhausted,
        DatastoreError::DeadlineExceeded => return crate::api::deadline_exceeded(),
        DatastoreError::Unavailable(source) => {
            if !of_replica {
                database_failed(&*source);
            }
            Code::Unavailable
        }
        DatastoreError::Corrupt { what, source } => {
            tracing::error!(
                what,
                error = &*source as &dyn std::error::Error,
                "the database holds something unreadable"
            );
            return ApiError::new(Code::Internal, "Internal Server Error");
        }
    };
    ApiError::new(code, message)
}

/// Whether an error says something about the datastore, and not about what was asked of it.
fn is_failure(error: &DatastoreError) -> bool {
    matches!(
        error,
        DatastoreError::Conflict
            | DatastoreError::Exhausted { .. }
            | DatastoreError::DeadlineExceeded
            | DatastoreError::Unavailable(_)
            | DatastoreError::Corrupt { .. }
    )
}

fn database_failed(error: &(dyn std::error::Error + 'static)) {
    if DATABASE.failed() {
        tracing::warn!(error, "the database is away");
    } else {
        tracing::debug!(error, "the database is still away");
    }
}

/// Notes that the database did what it was asked.
pub(crate) fn database_worked() {
    if REPLICA_FAILED.try_with(|_| ()).is_err()
        && let Some(away) = DATABASE.worked()
    {
        tracing::info!(?away, "the database is back");
    }
}

/// The store does not exist.
pub(crate) fn store_not_found() -> ApiError {
    ApiError::new(Code::StoreIdNotFound, "Store ID not found")
}

/// A Write met a tuple that exists, or a delete one that does not.
pub(crate) fn write_failed(what: &str) -> ApiError {
    ApiError::new(
        Code::WriteFailedDueToInvalidInput,
        format!("{what}: {WRITE_FAILED}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::captured::Log;

    #[test]
    fn a_write_over_another_condition_is_a_conflict_in_openfgas_words() {
        let key = meridian_model::TupleKey::parse("doc:1", "owner", "user:anne").unwrap();
        let conflict = from_datastore(DatastoreError::ConditionDiffers(key));
        assert_eq!(
            (conflict.code.name(), conflict.code.http_status()),
            ("Aborted", 409)
        );
        assert_eq!(
            conflict.message,
            "transactional write failed due to conflict: attempted to write a tuple which already exists with a different condition: user: 'user:anne', relation: 'owner', object: 'doc:1'"
        );
    }

    #[test]
    fn an_outage_of_the_database_is_logged_when_it_begins_and_when_it_ends() {
        let log = Log::default();
        let _logging = log.start(tracing::Level::INFO);
        for _ in 0..3 {
            let why = std::sync::Arc::new(std::io::Error::other("no route to host"));
            let away = from_datastore(DatastoreError::Unavailable(why));
            assert_eq!(away.code, Code::Unavailable);
        }
        for _ in 0..3 {
            database_worked();
        }
        let lines = log.lines();
        let [away, back] = &*lines else {
            panic!("{lines:#?}");
        };
        assert!(
            away.contains("the database is away") && away.contains("no route to host"),
            "{away}"
        );
        assert!(back.contains("the database is back away="), "{back}");
    }
}
