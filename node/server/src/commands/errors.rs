//! From what a datastore says to what a client sees.

use meridian_model::ports::DatastoreError;
use meridian_model::{ApiError, Code};

/// What OpenFGA appends to both failures of a Write.
const WRITE_FAILED: &str =
    "tuple to be written already existed or the tuple to be deleted did not exist";

/// The client's side of a datastore's error. What is the operator's business is logged here, once, and hidden.
pub(crate) fn from_datastore(error: DatastoreError) -> ApiError {
    let message = error.to_string();
    let code = match error {
        DatastoreError::UnknownStore(_) => return store_not_found(),
        DatastoreError::TupleExists(_) | DatastoreError::TupleMissing(_) => {
            return write_failed(&message);
        }
        DatastoreError::Trimmed { .. } => Code::InvalidContinuationToken,
        DatastoreError::Conflict => Code::Aborted,
        DatastoreError::Exhausted { .. } => Code::ResourceExhausted,
        DatastoreError::DeadlineExceeded => return crate::api::deadline_exceeded(),
        DatastoreError::Unavailable(source) => {
            tracing::warn!(
                error = &*source as &dyn std::error::Error,
                "the database is unavailable"
            );
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
