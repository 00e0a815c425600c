//! What comes next for a watcher: from the feed, or from the change log where the feed does not reach. The change log is read by the
//! way: however long the database takes, the watcher is heard, and its token and the node may end.

use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use meridian_model::Position;
use meridian_model::change::ChangeSet;
use meridian_model::ports::{DatastoreError, StoreRecord};

use super::{End, Session};
use crate::following::{PERIOD, TIMEOUT, is_next};
use crate::watch::feed::Behind;
use crate::watch::frames::{Changed, Reason, Told};

/// Change sets that are read from the change log at once.
const PAGE: u32 = 64;
/// How long after a read that failed the database is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// Something that is being read.
pub(super) type Reading<'a> = BoxFuture<'a, Read>;

/// What was read.
pub(super) enum Read {
    /// What comes next in the change log.
    Changes(Result<Vec<ChangeSet>, DatastoreError>),
    /// The store, since what comes next cannot be told.
    Store(Reason, Result<Option<StoreRecord>, DatastoreError>),
}

impl Session<'_> {
    /// Sends what comes next, or has it read; whether there may be more.
    pub(super) async fn next_changes(&mut self) -> Result<bool, End> {
        if self.reading.is_some() {
            return Ok(false);
        }
        match self.seat.behind(self.had) {
            Behind::Nothing => self.is_live = true,
            Behind::Sets(sets) => {
                self.is_live = true;
                for set in &sets {
                    self.change(set).await?;
                }
                return Ok(true);
            }
            Behind::More { made_room: true } if self.is_live => return Err(self.left_behind()),
            _ if self.retry.is_some_and(|at| Instant::now() < at) => {}
            Behind::More { .. } => self.read_changes(),
            Behind::NewEpoch => self.read_store(Reason::NewEpoch),
        }
        Ok(false)
    }

    fn read_changes(&mut self) {
        self.is_live = false;
        let (watch, store, after) = (self.watch, self.asked.store, self.had.revision);
        self.reading = Some(Box::pin(async move {
            // Those who come back all at once must not take all connections. Never closed, so that this only waits.
            let _turn = watch.reads.acquire().await;
            let (datastore, deadline) = (watch.following.datastore(), Instant::now() + TIMEOUT);
            Read::Changes(datastore.change_sets(store, after, PAGE, deadline).await)
        }));
    }

    /// Has the store read, to go on from where it stands now.
    fn read_store(&mut self, reason: Reason) {
        let (watch, store) = (self.watch, self.asked.store);
        self.reading = Some(Box::pin(async move {
            let _turn = watch.reads.acquire().await;
            let (datastore, deadline) = (watch.following.datastore(), Instant::now() + TIMEOUT);
            Read::Store(reason, datastore.store(store, deadline).await)
        }));
    }

    /// Sends what was read.
    pub(super) async fn has_read(&mut self, read: Read) -> Result<(), End> {
        let is_newer = |set: &ChangeSet| set.epoch > self.had.epoch;
        match read {
            // The store was replaced, and the feed does not know yet.
            Read::Changes(Ok(sets)) if sets.last().is_some_and(is_newer) => {
                self.read_store(Reason::NewEpoch);
            }
            Read::Changes(Ok(sets)) if is_next(&sets, self.had) => {
                self.retry = None;
                for set in &sets {
                    self.change(set).await?;
                }
            }
            Read::Changes(Ok(_) | Err(DatastoreError::Trimmed { .. })) => {
                self.read_store(Reason::Trimmed);
            }
            Read::Store(reason, Ok(Some(record))) => {
                self.retry = None;
                self.reset(reason, record.position).await?;
                // A replaced store may be read again before the feed knows of its epoch.
                if matches!(self.seat.behind(self.had), Behind::NewEpoch) {
                    self.retry = Some(Instant::now() + PERIOD);
                }
            }
            Read::Store(_, Ok(None)) => return Err(End::NoStore),
            Read::Changes(Err(error)) | Read::Store(_, Err(error)) => {
                let error: &dyn std::error::Error = &error;
                tracing::debug!(error, store = %self.asked.store, "the change log cannot be read for a watcher; trying again");
                self.retry = Some(Instant::now() + RETRY);
            }
        }
        Ok(())
    }

    async fn change(&mut self, set: &ChangeSet) -> Result<(), End> {
        let position = Position {
            revision: set.revision,
            ..self.had
        };
        let changed = Changed::of(set, position.epoch, &self.asked.filter);
        let is_last = changed.as_ref().is_some_and(Changed::is_last);
        if let Some(changed) = changed {
            self.send(&Told::Change(Box::new(changed))).await?;
            self.watch.meters.changes.increment(1);
            (self.told, self.told_at) = (position, Instant::now());
        }
        self.had = position;
        if is_last {
            return Err(End::NoStore);
        }
        Ok(())
    }

    /// Has the watcher go on from where the store stands, since what came before cannot be told.
    pub(super) async fn reset(&mut self, reason: Reason, head: Position) -> Result<(), End> {
        self.watch.meters.reset(reason);
        self.is_live = false;
        (self.had, self.told, self.told_at) = (head, head, Instant::now());
        let position = head.to_string();
        self.send(&Told::Reset { reason, position }).await
    }
}
