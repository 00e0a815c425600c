//! What a node needs from the outside, as traits beside the types they speak of. Adapters live in other crates; only
//! `node/server` names them.

mod error;
mod measured;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::authorization_model::AuthorizationModel;
use crate::change::{ChangeSet, StoreInfo, StoredModel, Tiers};
use crate::ids::{Epoch, ModelId, Position, Revision, StoreId, Timestamp};
use crate::tuple::{Object, Subject, Tuple, TupleKey};
pub use error::DatastoreError;
pub use measured::{Connections, Measured, Sizes};

/// A result of the datastore.
pub type Result<T> = std::result::Result<T, DatastoreError>;

/// A committed revision: where it stands and the writer's database time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Its place in the store's history.
    pub position: Position,
    /// The database time of the commit.
    pub at: Timestamp,
}

/// What [`Datastore::apply`] did with change sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// What was not in yet was next and is in now.
    Applied,
    /// All was in already.
    Skipped,
    /// It is of an older epoch than the store's; nothing was done.
    Fenced {
        /// The store's position.
        have: Position,
    },
    /// Revisions between the store's and this one are missing; nothing was done.
    Gap {
        /// The store's position; [`Revision::ZERO`] when the store is unknown here.
        have: Position,
    },
    /// It is of a newer epoch: the store must be taken over anew from a snapshot; nothing was done.
    NewEpoch {
        /// The store's position.
        have: Position,
    },
}

/// One page of a listing. `next` is where the following page begins; `None` when nothing was left.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T, C> {
    /// The page's rows.
    pub items: Vec<T>,
    /// Cursor of the last row, if there are more.
    pub next: Option<C>,
}

/// A store as listed: metadata and where its history stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreRecord {
    /// Metadata.
    pub info: StoreInfo,
    /// Last committed (central) or applied (elsewhere) revision.
    pub position: Position,
    /// When the store was deleted; deleted stores are not listed, read or written, but their deletion is replicated.
    pub deleted_at: Option<Timestamp>,
}

/// Which tuples a Read returns. All fields that are given must match.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TupleFilter {
    /// The object's type. Always given when `object_id` is.
    pub object_type: Option<String>,
    /// The object's id.
    pub object_id: Option<String>,
    /// The relation.
    pub relation: Option<String>,
    /// The subject, exactly.
    pub subject: Option<Subject>,
}

/// Place of one change in the order of a store's changelog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangeCursor {
    /// The revision.
    pub revision: Revision,
    /// Place within the revision, from 0.
    pub ordinal: u32,
}

/// One row of ReadChanges.
#[derive(Debug, Clone, PartialEq)]
pub struct TupleChange {
    /// Its place; also the cursor of a page that ends with it.
    pub cursor: ChangeCursor,
    /// The tuple; a deleted one has no condition.
    pub tuple: Tuple,
    /// Whether it was deleted rather than written.
    pub deleted: bool,
}

/// What a Write does about tuples that are already as it would have them. By default it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteOptions {
    /// Passes over a tuple to be written that is there with the same condition.
    pub ignore_duplicate: bool,
    /// Passes over a tuple to be deleted that is not there.
    pub ignore_missing: bool,
}

/// Part of a store that an evaluation or a listing must read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Read {
    /// What decides a direct relation of `user`: the tuples of `object#relation` whose subject is `user`, its type's
    /// wildcard, or any userset. Never the other direct users, of whom there may be millions.
    Direct {
        /// The object.
        object: Object,
        /// The relation.
        relation: Box<str>,
        /// The user. One for all reads of a question.
        user: Arc<Subject>,
    },
    /// The concrete objects that `object#relation` names (a tupleset).
    Parents {
        /// The object.
        object: Object,
        /// The tupleset relation.
        relation: Box<str>,
    },
    /// Every tuple of `object#relation`.
    Members {
        /// The object.
        object: Object,
        /// The relation.
        relation: Box<str>,
    },
    /// Every tuple by which exactly `subject` has the relation to an object of the type.
    Objects {
        /// The object, typed wildcard or userset.
        subject: Subject,
        /// The objects' type.
        object_type: Box<str>,
        /// The relation.
        relation: Box<str>,
    },
}

/// What a snapshot holds of a store beside its tuples.
#[derive(Debug, Clone, PartialEq)]
pub struct StoreHead {
    /// Metadata.
    pub info: StoreInfo,
    /// The revision everything in the snapshot is at.
    pub position: Position,
    /// Every model, oldest first.
    pub models: Vec<StoredModel>,
    /// The tier assignment in force.
    pub tiers: Tiers,
    /// When the store was deleted, if it was.
    pub deleted_at: Option<Timestamp>,
}

/// A consistent read-only view of one store: everything read through it is of one revision.
#[async_trait]
pub trait Snapshot: Send {
    /// The revision it is of.
    fn position(&self) -> Position;

    /// Another deadline for what is read from now on.
    fn extend(&mut self, deadline: Instant);

    /// One round of an evaluation: all reads in one query of each kind. The answer has the tuples of each read, in the
    /// order of `reads`; it is `None` when they would be more than `limit` in all, of which no more than `limit` + 1 were
    /// loaded.
    async fn read(&mut self, reads: &[Read], limit: u32) -> Result<Option<Vec<Vec<Tuple>>>>;

    /// The tuples of an object type in key order, from behind `after`, at most `limit`.
    async fn tuples_of_type(
        &mut self,
        object_type: &str,
        after: Option<&TupleKey>,
        limit: u32,
    ) -> Result<Vec<Tuple>>;

    /// All tuples in key order, from behind `after`, at most `limit`.
    async fn tuples(&mut self, after: Option<&TupleKey>, limit: u32) -> Result<Vec<Tuple>>;

    /// What the store has beside tuples.
    async fn head(&mut self) -> Result<StoreHead>;

    /// The id of the latest model; `None` when the store has none or was deleted.
    async fn latest_model(&mut self) -> Result<Option<ModelId>>;

    /// A model by id.
    async fn model(&mut self, id: ModelId) -> Result<Option<Arc<AuthorizationModel>>>;
}

/// A store on its way in from a snapshot. Nothing of it is seen before it is finished, and nothing is left of one that is
/// dropped.
#[async_trait]
pub trait Replacement: Send {
    /// Adds tuples; those of one key may be added again.
    async fn add(&mut self, tuples: Vec<Tuple>) -> Result<()>;

    /// Shows the store in place of what was here.
    ///
    /// # Errors
    /// [`DatastoreError::Conflict`] when the store has come as far by another way meanwhile.
    async fn finish(self: Box<Self>) -> Result<()>;
}

/// What the rows of one [`Datastore::outbox`] weigh at most but for the last of them ([`ChangeSet::weight`]).
pub const OUTBOX_BYTES: usize = 16 * 1024 * 1024;

/// A row of the outbox: a revision that is committed and not yet published.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxRow {
    /// Grows with commit order over all stores; what [`Datastore::outbox_delete`] takes.
    pub sequence: u64,
    /// The whole change set.
    pub change_set: ChangeSet,
    /// The tiers in force at that revision (after it), by which the edge relay thins it out.
    pub tiers: Tiers,
}

/// The one port to all that a node keeps: memory, SQLite, PostgreSQL, MySQL and MariaDB.
///
/// Every call has a deadline, which bounds the wait for a connection too. Each writing call is one transaction and one
/// revision, numbered under the store's row lock.
#[async_trait]
pub trait Datastore: Measured + Send + Sync + 'static {
    /// Brings the schema to this program's version. Idempotent.
    async fn migrate(&self) -> Result<()>;

    /// The writer's reign. Set on first migration; grows when history may have been rewritten.
    async fn epoch(&self, deadline: Instant) -> Result<Epoch>;

    /// The database's clock.
    async fn now(&self, deadline: Instant) -> Result<Timestamp>;

    // Writes, at central.

    /// Creates a store: its revision 1.
    async fn create_store(&self, id: StoreId, name: &str, deadline: Instant)
    -> Result<StoreRecord>;

    /// Deletes a store: its last revision. `Ok(None)` when there is no such store (or no more).
    async fn delete_store(&self, id: StoreId, deadline: Instant) -> Result<Option<Committed>>;

    /// Adds a model, which becomes the latest. `id` must sort behind every earlier model's.
    async fn write_model(
        &self,
        store: StoreId,
        id: ModelId,
        model: &AuthorizationModel,
        deadline: Instant,
    ) -> Result<Committed>;

    /// Deletes, then writes, all or nothing. Timestamps of `writes` are ignored: the commit's is stored. `Ok(None)` when
    /// nothing was left to do: that is no revision.
    async fn write_tuples(
        &self,
        store: StoreId,
        deletes: &[TupleKey],
        writes: &[Tuple],
        options: WriteOptions,
        deadline: Instant,
    ) -> Result<Option<Committed>>;

    /// Assigns every type's tier.
    async fn assign_tiers(
        &self,
        store: StoreId,
        tiers: &Tiers,
        deadline: Instant,
    ) -> Result<Committed>;

    /// Keeps the assertions of a model, as the text that says them, in place of those there were. They are no part of any
    /// revision, and so at central alone.
    ///
    /// # Errors
    /// [`DatastoreError::UnknownStore`]. Whether there is such a model is for the caller to know.
    async fn write_assertions(
        &self,
        store: StoreId,
        model: ModelId,
        text: &str,
        deadline: Instant,
    ) -> Result<()>;

    // Replication, everywhere else.

    /// Applies change sets of one store, each the next of the one before: all, behind those that are in already, if the first
    /// of them is the store's next (compare and set, in one transaction with their data and their outbox rows).
    async fn apply(&self, change_sets: &[ChangeSet], deadline: Instant) -> Result<Applied>;

    /// Begins to take a store over from a snapshot, replacing whatever is here, history included, in one transaction
    /// however much it is. Compare and set: `None` when the store stands at the head's position or a later one. The outbox
    /// gets no rows, so [`Self::generation`] grows with it: what is downstream sees a gap (or a newer epoch) and refills.
    ///
    /// `step` bounds each step of it (a statement or a chunk), not the whole.
    async fn replace(
        &self,
        head: &StoreHead,
        step: Duration,
    ) -> Result<Option<Box<dyn Replacement>>>;

    /// Another number than before when the copy changed without rows in the outbox: a store was replaced, or this is
    /// another database.
    async fn generation(&self, deadline: Instant) -> Result<u64>;

    // Reads.

    /// A store by id; `None` for unknown ones. Deleted stores are returned, with `deleted_at`.
    async fn store(&self, id: StoreId, deadline: Instant) -> Result<Option<StoreRecord>>;

    /// Stores that exist, by id, from behind `after`; with `name`, only those so named.
    async fn stores(
        &self,
        name: Option<&str>,
        after: Option<StoreId>,
        limit: u32,
        deadline: Instant,
    ) -> Result<Page<StoreRecord, StoreId>>;

    /// Every store's position, deleted ones included: what replication compares.
    async fn positions(&self, deadline: Instant) -> Result<Vec<(StoreId, Position)>>;

    /// The positions of these stores, deleted ones included, in any order; of those that are unknown there is none.
    async fn positions_of(
        &self,
        stores: &[StoreId],
        deadline: Instant,
    ) -> Result<Vec<(StoreId, Position)>>;

    /// A model by id.
    async fn model(
        &self,
        store: StoreId,
        id: ModelId,
        deadline: Instant,
    ) -> Result<Option<Arc<AuthorizationModel>>>;

    /// The id of the latest model; `None` when the store has none, does not exist or was deleted.
    async fn latest_model(&self, store: StoreId, deadline: Instant) -> Result<Option<ModelId>>;

    /// The assertions that were last written of a model; `None` when none were, or the store was deleted.
    async fn read_assertions(
        &self,
        store: StoreId,
        model: ModelId,
        deadline: Instant,
    ) -> Result<Option<String>>;

    /// Models, newest first, from before `before`.
    async fn models(
        &self,
        store: StoreId,
        before: Option<ModelId>,
        limit: u32,
        deadline: Instant,
    ) -> Result<Page<StoredModel, ModelId>>;

    /// Tuples by filter, in key order, from behind `after`.
    async fn tuples(
        &self,
        store: StoreId,
        filter: &TupleFilter,
        after: Option<&TupleKey>,
        limit: u32,
        deadline: Instant,
    ) -> Result<Page<Tuple, TupleKey>>;

    /// Tuple changes in commit order, from behind `after`; with `object_type`, only those of its objects; with `since`,
    /// only those committed at or after it.
    async fn tuple_changes(
        &self,
        store: StoreId,
        object_type: Option<&str>,
        since: Option<Timestamp>,
        after: Option<ChangeCursor>,
        limit: u32,
        deadline: Instant,
    ) -> Result<Vec<TupleChange>>;

    /// The oldest revision that the changelog holds, and when it was committed: from there on it is whole. `None` when it
    /// holds nothing of the store.
    async fn oldest_change(
        &self,
        store: StoreId,
        deadline: Instant,
    ) -> Result<Option<(Revision, Timestamp)>>;

    /// Whole change sets from behind `after`, in order, at most `limit`.
    ///
    /// # Errors
    /// [`DatastoreError::Trimmed`] when the one after `after` is no longer kept.
    async fn change_sets(
        &self,
        store: StoreId,
        after: Revision,
        limit: u32,
        deadline: Instant,
    ) -> Result<Vec<ChangeSet>>;

    /// The tiers in force at the store's revision.
    async fn tiers(&self, store: StoreId, deadline: Instant) -> Result<Tiers>;

    /// A consistent view of a store. The deadline bounds everything read through it, until another is set. `None` when the store is unknown.
    async fn snapshot(
        &self,
        store: StoreId,
        deadline: Instant,
    ) -> Result<Option<Box<dyn Snapshot>>>;

    /// As [`Self::snapshot`], for reading a store through from end to end: held long, so only a share of the connections
    /// is ever given to such, and the rest always finds some.
    ///
    /// # Errors
    /// [`DatastoreError::Exhausted`] when the share stays taken.
    async fn bulk_snapshot(
        &self,
        store: StoreId,
        deadline: Instant,
    ) -> Result<Option<Box<dyn Snapshot>>>;

    // The relay.

    /// The oldest rows of the outbox, in commit order of each store: `limit` of them, or fewer where they weigh
    /// [`OUTBOX_BYTES`] already.
    async fn outbox(&self, limit: u32, deadline: Instant) -> Result<Vec<OutboxRow>>;

    /// Forgets published rows.
    async fn outbox_delete(&self, sequences: &[u64], deadline: Instant) -> Result<()>;

    /// Takes or extends a named lease until `ttl` from now on the database's clock; `false` while another holds it.
    async fn acquire_lease(
        &self,
        name: &str,
        holder: &str,
        ttl: Duration,
        deadline: Instant,
    ) -> Result<bool>;

    /// Forgets changes of a store up to and including `upto` from the changelog.
    async fn trim_changes(&self, store: StoreId, upto: Revision, deadline: Instant) -> Result<()>;
}
