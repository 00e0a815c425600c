//! Writes to one store, several in one transaction.
//!
//! Each Write has the store's next revision, so Writes to one store go one after the other. Were each a transaction of its
//! own, the next would wait until the disk is sure of the one before. So those that come while one is under way wait for
//! it together, and then go together: one transaction, a revision for each.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use meridian_model::ids::StoreId;
use meridian_model::ports::{Committed, DatastoreError, Result};
use meridian_model::tuple::TupleKey;
use tokio::sync::oneshot;
use tokio::time::timeout_at;
use tracing::{Instrument, Span};

use super::tuples::{self, Together, Wanted};
use super::{SqlDatastore, commit, committed, write};
use crate::watched::{Watcher, watched_by_all, watcher};

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
    /// Of the request that it is for.
    watcher: Option<Arc<dyn Watcher>>,
    span: Span,
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
        watcher: watcher(),
        span: Span::current(),
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

impl Waiter {
    /// Those whose request it is are told of what `work` does for it.
    async fn watching<F: Future>(&self, work: F) -> F::Output {
        let work = watched_by_all(self.watcher.clone().into_iter().collect(), work);
        work.instrument(self.span.clone()).await
    }

    fn tell(self, outcome: Result<Option<Committed>>) {
        // Nobody listens who gave up meanwhile.
        drop(self.done.send(outcome));
    }

    fn keys(&self) -> impl Iterator<Item = &TupleKey> {
        let writes = self.wanted.writes.iter().map(|tuple| &tuple.key);
        self.wanted.deletes.iter().chain(writes)
    }
}

impl SqlDatastore {
    /// Writes for all of a group; those who name a tuple that one before them names go behind it.
    async fn write_group(&self, store: StoreId, mut group: Vec<Waiter>) {
        while !group.is_empty() {
            let (first, behind) = apart(group);
            self.write_apart(store, first).await;
            group = behind;
        }
    }

    /// Writes for those who name each tuple once: together, but for those who would not change all that they name.
    async fn write_apart(&self, store: StoreId, mut group: Vec<Waiter>) {
        let mut alone = Vec::new();
        while group.len() > 1 {
            match self.write_together(store, &group).await {
                Ok(Together::Written(sets)) => {
                    for (waiter, set) in group.into_iter().zip(&sets) {
                        waiter.tell(Ok(Some(committed(set))));
                    }
                    group = Vec::new();
                }
                Ok(Together::Unchanged(numbers)) => {
                    let (others, rest) = (0..).zip(group).partition(|(at, _)| numbers.contains(at));
                    let waiters = |numbered: Vec<(usize, Waiter)>| {
                        numbered.into_iter().map(|(_, waiter)| waiter)
                    };
                    alone.extend(waiters(others));
                    group = waiters(rest).collect();
                }
                Err(error) => {
                    for waiter in mem::take(&mut group) {
                        waiter.tell(Err(error.clone()));
                    }
                }
            }
        }
        for waiter in alone.into_iter().chain(group) {
            if !waiter.done.is_closed() {
                let outcome = waiter.watching(self.write_alone(store, &waiter)).await;
                waiter.tell(outcome);
            }
        }
    }

    /// All in one transaction, or none.
    async fn write_together(&self, store: StoreId, group: &[Waiter]) -> Result<Together> {
        let deadlines = group.iter().map(|waiter| waiter.deadline);
        let deadline = deadlines.max().unwrap_or_else(Instant::now);
        let watchers = group.iter().filter_map(|waiter| waiter.watcher.clone());
        let span = group
            .first()
            .map_or_else(Span::none, |first| first.span.clone());
        let work = async {
            let mut tx = self.writing(deadline).await?;
            let last = write::next_revisions(&mut tx, store, group.len() as u64).await?;
            let wanted: Vec<_> = group.iter().map(|waiter| &waiter.wanted).collect();
            let together = tuples::write_each(&mut tx, last, &wanted).await?;
            if let Together::Written(sets) = &together {
                tx.commit().await?;
                self.changed(sets.iter().map(|set| set.changes.len()).sum());
            }
            Ok(together)
        };
        watched_by_all(watchers.collect(), work)
            .instrument(span)
            .await
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

/// Those that name no tuple of one before them, and the others.
fn apart(group: Vec<Waiter>) -> (Vec<Waiter>, Vec<Waiter>) {
    let mut named: HashSet<TupleKey> = HashSet::new();
    group.into_iter().partition(|waiter| {
        let is_apart = waiter.keys().all(|key| !named.contains(key));
        named.extend(waiter.keys().cloned());
        is_apart
    })
}
