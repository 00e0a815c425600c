//! What may go wrong with a datastore.

use std::sync::Arc;
use std::time::Duration;

use crate::ids::{Revision, StoreId};
use crate::tuple::TupleKey;

/// Why a datastore did not do what it was asked. Nothing is half done: a failed call changed nothing, except that after
/// [`DatastoreError::Unavailable`] or [`DatastoreError::DeadlineExceeded`] a commit may have happened unseen.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DatastoreError {
    /// The store does not exist or was deleted.
    #[error("store '{0}' does not exist")]
    UnknownStore(StoreId),
    /// A tuple to be written is there already.
    #[error("cannot write a tuple which already exists: user: '{}', relation: '{}', object: '{}'", .0.subject, .0.relation, .0.object)]
    TupleExists(TupleKey),
    /// A tuple to be deleted is not there.
    #[error("cannot delete a tuple which does not exist: user: '{}', relation: '{}', object: '{}'", .0.subject, .0.relation, .0.object)]
    TupleMissing(TupleKey),
    /// A tuple to be written is there already with another condition, so the write cannot be ignored.
    #[error("transactional write failed due to conflict: attempted to write a tuple which already exists with a different condition: user: '{}', relation: '{}', object: '{}'", .0.subject, .0.relation, .0.object)]
    ConditionDiffers(TupleKey),
    /// The history asked for has been trimmed; what is left starts at `oldest`.
    #[error("changes before revision {oldest} are no longer kept")]
    Trimmed {
        /// The first revision that can still be read.
        oldest: Revision,
    },
    /// Another writer was quicker; the call may be repeated.
    #[error("another writer changed the same rows")]
    Conflict,
    /// Every connection of the pool was taken until the acquire timeout was over.
    #[error("all {max} database connections were in use for {waited:?}")]
    Exhausted {
        /// The pool's size.
        max: u32,
        /// How long the call waited.
        waited: Duration,
    },
    /// The caller's deadline passed first.
    #[error("the deadline passed while waiting for the database")]
    DeadlineExceeded,
    /// The database cannot be reached or refused.
    #[error("the database is unavailable")]
    Unavailable(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The database holds something this program did not write.
    #[error("the database holds an unreadable {what}")]
    Corrupt {
        /// What could not be read.
        what: String,
        /// Why.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
}
