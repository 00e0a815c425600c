//! Writes to one store, several in one transaction.
//!
//! Each Write has the store's next revision, so Writes to one store go one after the other. Were each a transaction of its
//! own, the next would wait until the disk is sure of the one before. So those that come while one is under way wait for
//! it together, and then go together: one transaction, a revision for each.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use meridian_model::change::ChangeSet;
use meridian_model::ids::StoreId;
use meridian_model::ports::{Committed, DatastoreError, Result};
use meridian_model::tuple::TupleKey;
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::tuples::{self, Wanted};
use super::{SqlDatastore, commit, committed, write};

/// Tuples of one transaction, unless one Write alone has more: what waits behind it should not wait long.
const TUPLES: usize = 1_000;

/// A caller waits so much longer than there is time: what the database was found to lack is said rather than that time is up.
const GRACE: Duration = Duration::from_millis(20);

/// The Writes that wait, by store; a store is there while one of its is under way.
pub(super) type Waiting = Arc<Mutex<HashMap<StoreId, Vec<Waiter>>>>;

/// A Write that waits for its turn.
pub(super) struct Waiter {
    wanted: Wanted,
    deadline: Instant,
    done: oneshot::Sender<Result<Option<Committed>>>,
}

/// Writes as soon as the store's other Writes of this node are done, together with others that wait as well.
///
/// # Errors
/// [`DatastoreError`].
pub(super) async fn write_tuples(
    datastore: &SqlDatastore,
    store: StoreId,
    wanted: Wanted,
    deadline: Instant,
) -> Result<Option<Committed>> {
    let (done, outcome) = oneshot::channel();
    let waiter = Waiter {
        wanted,
        deadline,
        done,
    };
    if let Some(turn) = Turn::take(&datastore.waiting, store, waiter) {
        // A task, since who began it may give up while others wait for it.
        tokio::spawn(turn.run(datastore.clone()));
    }
    match timeout_at((deadline + GRACE).into(), outcome).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(gone)) => Err(DatastoreError::Unavailable(Arc::new(gone))),
        Err(_) => Err(DatastoreError::DeadlineExceeded),
    }
}

/// The right to write to a store. Those who wait when it is dropped learn that nobody writes for them.
struct Turn {
    waiting: Waiting,
    store: StoreId,
    is_over: bool,
}

impl Turn {
    /// Adds a Write to those that wait, and gives the turn if nobody has it.
    fn take(waiting: &Waiting, store: StoreId, waiter: Waiter) -> Option<Self> {
        let mut stores = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = !stores.contains_key(&store);
        stores.entry(store).or_default().push(waiter);
        is_free.then(|| Self {
            waiting: Arc::clone(waiting),
            store,
            is_over: false,
        })
    }

    async fn run(mut self, datastore: SqlDatastore) {
        while let Some(group) = self.next() {
            datastore.write_group(self.store, group).await;
        }
    }

    /// Those who go next; when nobody waits, the turn is over.
    fn next(&mut self) -> Option<Vec<Waiter>> {
        let mut stores = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = stores.get_mut(&self.store)?;
        waiting.retain(|waiter| !waiter.done.is_closed());
        if waiting.is_empty() {
            stores.remove(&self.store);
            self.is_over = true;
            return None;
        }
        let mut tuples = 0_usize;
        let fits = |waiter: &&Waiter| {
            let fits = tuples < TUPLES;
            tuples += waiter.wanted.deletes.len() + waiter.wanted.writes.len();
            fits
        };
        let count = waiting.iter().take_while(fits).count();
        let rest = waiting.split_off(count);
        Some(mem::replace(waiting, rest))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.is_over {
            let mut stores = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            stores.remove(&self.store);
        }
    }
}

impl SqlDatastore {
    async fn write_group(&self, store: StoreId, group: Vec<Waiter>) {
        let together = if group.len() > 1 && are_apart(&group) {
            self.write_together(store, &group).await
        } else {
            Ok(None)
        };
        let outcomes = match together {
            Ok(Some(sets)) => sets.iter().map(|set| Ok(Some(committed(set)))).collect(),
            Ok(None) => Vec::new(),
            Err(error) => vec![Err(error); group.len()],
        };
        let mut outcomes = outcomes.into_iter();
        for waiter in group {
            let outcome = match outcomes.next() {
                Some(outcome) => outcome,
                None => self.write_alone(store, &waiter).await,
            };
            // Nobody listens who gave up meanwhile.
            drop(waiter.done.send(outcome));
        }
    }

    /// All in one transaction; `None` when they cannot be, and nothing is changed.
    async fn write_together(
        &self,
        store: StoreId,
        group: &[Waiter],
    ) -> Result<Option<Vec<ChangeSet>>> {
        let deadlines = group.iter().map(|waiter| waiter.deadline);
        let deadline = deadlines.max().unwrap_or_else(Instant::now);
        let mut tx = self.writing(deadline).await?;
        let last = write::next_revisions(&mut tx, store, group.len() as u64).await?;
        let wanted: Vec<_> = group.iter().map(|waiter| &waiter.wanted).collect();
        let Some(sets) = tuples::write_each(&mut tx, last, &wanted).await? else {
            return Ok(None);
        };
        tx.commit().await?;
        self.changed(sets.iter().map(|set| set.changes.len()).sum());
        Ok(Some(sets))
    }

    async fn write_alone(&self, store: StoreId, waiter: &Waiter) -> Result<Option<Committed>> {
        let (mut tx, revision) = self.revising(store, waiter.deadline).await?;
        let written = tuples::write(&mut tx, revision, &waiter.wanted).await?;
        if written.changes.is_empty() {
            return Ok(None);
        }
        let committed = commit(tx, &written).await?;
        self.changed(written.changes.len());
        Ok(Some(committed))
    }
}

/// Whether no two name the same tuple.
fn are_apart(group: &[Waiter]) -> bool {
    let mut keys: HashSet<&TupleKey> = HashSet::new();
    group.iter().all(|Waiter { wanted, .. }| {
        let writes = wanted.writes.iter().map(|tuple| &tuple.key);
        let mut all = wanted.deletes.iter().chain(writes);
        all.all(|key| keys.insert(key))
    })
}
