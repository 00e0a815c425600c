//! The regional node's applier: from the full topic into its own datastore, each revision once and in order.
//!
//! A gap is repaired from upstream: by its change sets, or by a snapshot when it no longer keeps them or a newer reign
//! began. While a store cannot be repaired the others go on, but no heartbeat is passed on: it would vouch for what is
//! missing.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use meridian_model::change::ChangeSet;
use meridian_model::ids::{Epoch, Position, StoreId};
use meridian_model::ports::{Applied, Datastore, DatastoreError};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::envelope::{Heartbeat, Record};
use crate::freshness::Freshness;
use crate::kafka::broadcast::Event;
use crate::kafka::group::GroupConsumer;
use crate::retry::Patience;
use crate::upstream::{Upstream, UpstreamError};

/// Times and sizes.
#[derive(Debug, Clone)]
pub struct RegionalSettings {
    /// How long one call to the datastore or upstream may take.
    pub deadline: Duration,
    /// How many change sets are asked for at a time.
    pub page: u32,
    /// After so long without a heartbeat upstream is asked instead.
    pub silence: Duration,
    /// Pauses after failures.
    pub patience: Patience,
}

impl Default for RegionalSettings {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            page: 500,
            silence: Duration::from_secs(3),
            patience: Patience::default(),
        }
    }
}

/// Why something was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The own datastore failed: nothing can be applied until it works again.
    #[error("the datastore failed")]
    Datastore(#[from] DatastoreError),
    /// A store cannot be repaired for now.
    #[error("store '{store}' cannot be repaired from upstream")]
    Upstream {
        /// The store.
        store: StoreId,
        /// Why.
        #[source]
        source: UpstreamError,
    },
    /// Upstream does not say where the stores stand.
    #[error("upstream does not say where the stores stand")]
    Positions(#[source] UpstreamError),
}

/// Applies change sets to a datastore, repairing from upstream what is missing.
pub struct Applier {
    datastore: Arc<dyn Datastore>,
    upstream: Arc<dyn Upstream>,
    settings: RegionalSettings,
    /// Goes on its heartbeats: another number whenever the copy changed without a row in the outbox.
    generation: AtomicU64,
}

impl Applier {
    /// Applies to the node's own `datastore`, asking `upstream` for what is missing.
    pub fn new(
        datastore: Arc<dyn Datastore>,
        upstream: Arc<dyn Upstream>,
        settings: RegionalSettings,
    ) -> Self {
        // A new process does not know what the one before it did last.
        let generation = AtomicU64::new(RandomState::new().hash_one(0_u8));
        Self {
            datastore,
            upstream,
            settings,
            generation,
        }
    }

    /// Applies a change set, and first whatever is missing before it. One that is in already, or of an older epoch, does
    /// nothing.
    ///
    /// # Errors
    /// [`ApplyError`]; what was applied until then stays.
    pub async fn take(&self, set: &ChangeSet) -> Result<(), ApplyError> {
        match self.datastore.apply(set, self.deadline()).await? {
            Applied::Applied | Applied::Skipped => Ok(()),
            Applied::Fenced { have } => {
                tracing::warn!(store = %set.store, position = %set.position(), %have, "refused a change set of an older epoch");
                Ok(())
            }
            Applied::Gap { have } => {
                tracing::info!(store = %set.store, position = %set.position(), %have, "changes are missing; asking upstream");
                self.repair(set.store, have, set.position()).await
            }
            Applied::NewEpoch { have } => {
                tracing::warn!(store = %set.store, position = %set.position(), %have, "a newer epoch began; taking the store over anew");
                self.replace(set.store, set.position()).await
            }
        }
    }

    /// Brings every store to where upstream has it.
    ///
    /// # Errors
    /// [`ApplyError`]; the first store that failed, after all were tried. A failing datastore ends it at once.
    pub async fn catch_up(&self) -> Result<Option<(Heartbeat, Duration)>, ApplyError> {
        let standing = self
            .upstream
            .positions(self.deadline())
            .await
            .map_err(ApplyError::Positions)?;
        let ours: std::collections::BTreeMap<_, _> = self
            .datastore
            .positions(self.deadline())
            .await?
            .into_iter()
            .collect();
        let mut first = None;
        for (store, there) in standing.stores {
            let have = ours.get(&store).copied().unwrap_or_default();
            let result = if there <= have {
                Ok(())
            } else if there.epoch == have.epoch || have == Position::default() {
                self.repair(store, have, there).await
            } else {
                self.replace(store, there).await
            };
            match result {
                Err(error @ ApplyError::Datastore(_)) => return Err(error),
                Err(error) => drop(first.get_or_insert(error)),
                Ok(()) => {}
            }
        }
        first.map_or(Ok(standing.heartbeat), Err)
    }

    /// Applies upstream's change sets from behind `have` until `target` is in.
    async fn repair(
        &self,
        store: StoreId,
        mut have: Position,
        target: Position,
    ) -> Result<(), ApplyError> {
        while have < target {
            let changes = match self
                .upstream
                .changes(store, have, self.settings.page, self.deadline())
                .await
            {
                Ok(changes) => changes,
                Err(UpstreamError::Trimmed) => return self.replace(store, target).await,
                Err(source) => return Err(ApplyError::Upstream { store, source }),
            };
            let before = have;
            for set in &changes.change_sets {
                match self.datastore.apply(set, self.deadline()).await? {
                    Applied::Applied | Applied::Skipped => have = have.max(set.position()),
                    Applied::Fenced { .. } | Applied::Gap { .. } | Applied::NewEpoch { .. } => {
                        return self.replace(store, target).await;
                    }
                }
            }
            if have == before {
                // It answered, but not with what follows: of another epoch, or not that far itself.
                return self.replace(store, target).await;
            }
        }
        Ok(())
    }

    async fn replace(&self, store: StoreId, min: Position) -> Result<(), ApplyError> {
        match self.upstream.snapshot(store, min, self.deadline()).await {
            Ok((head, tuples)) => {
                tracing::info!(%store, position = %head.position, tuples = tuples.len(), "took the store over from a snapshot");
                let replaced = self.datastore.replace(&head, tuples, self.deadline()).await;
                // Even when it failed: a commit may have happened unseen.
                self.generation.fetch_add(1, Ordering::Relaxed);
                Ok(replaced?)
            }
            Err(source) => Err(ApplyError::Upstream { store, source }),
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.settings.deadline
    }
}

/// The applier's task, and what it tells others.
pub struct Regional {
    /// Applies.
    pub applier: Applier,
    /// Told after each applied change set: wakes the edge relay.
    pub applied: Arc<Notify>,
    /// Told the heartbeat that everything before has been applied: what the edge relay passes on.
    pub heartbeat: watch::Sender<Option<Heartbeat>>,
    /// Told how fresh this node is. Its monotonic clock counts from `start`.
    pub freshness: watch::Sender<Freshness>,
    /// The start of this node's monotonic clock.
    pub start: Instant,
}

/// What the task has seen.
struct Seen {
    epoch: Epoch,
    broken: BTreeSet<StoreId>,
    /// Upstream must be compared with, for what was missed without a trace.
    compare: bool,
    failures: u32,
    /// No comparison before then.
    not_before: Duration,
}

impl Regional {
    /// Applies what the consumer brings until `stop`. Whatever fails is logged and tried again.
    pub async fn run(self, mut consumer: GroupConsumer, stop: CancellationToken) {
        let mut seen = Seen {
            epoch: Epoch(0),
            broken: BTreeSet::new(),
            compare: true,
            failures: 0,
            not_before: Duration::ZERO,
        };
        let mut poll = tokio::time::interval(self.applier.settings.silence / 3);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                event = consumer.next() => {
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = self.work_in(event, &mut seen) => consumer.done(),
                    }
                }
                _ = poll.tick() => tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.look_up(&mut seen) => {}
                },
            }
        }
    }

    async fn work_in(&self, event: Event, seen: &mut Seen) {
        match event {
            Event::Reset { partitions } => {
                seen.compare = true;
                self.freshness
                    .send_modify(|freshness| freshness.assign(partitions));
            }
            Event::Garbage => seen.compare = true,
            Event::Record { partition, record } => match *record {
                Record::ChangeSet(set) => {
                    self.note_epoch(set.epoch, seen);
                    self.apply(&set, seen).await;
                }
                Record::Announced { .. } => seen.compare = true,
                Record::Heartbeat(beat) => {
                    self.note_epoch(beat.epoch, seen);
                    if seen.broken.is_empty() && !seen.compare {
                        let now = self.start.elapsed();
                        self.freshness
                            .send_modify(|freshness| freshness.beat(partition, beat, now));
                        self.pass_on();
                    }
                }
            },
        }
    }

    fn pass_on(&self) {
        let generation = self.applier.generation.load(Ordering::Relaxed);
        let applied = self.freshness.borrow().heartbeat();
        self.heartbeat
            .send_replace(applied.map(|(beat, _)| Heartbeat { generation, ..beat }));
    }

    /// A newer reign concerns every store, also those of which no record comes.
    fn note_epoch(&self, epoch: Epoch, seen: &mut Seen) {
        if epoch > seen.epoch {
            seen.compare |= seen.epoch != Epoch(0);
            seen.epoch = epoch;
        }
    }

    /// Applies one change set, waiting out a datastore that fails.
    async fn apply(&self, set: &ChangeSet, seen: &mut Seen) {
        let mut failures = 0_u32;
        loop {
            match self.applier.take(set).await {
                Ok(()) => {
                    seen.broken.remove(&set.store);
                    self.applied.notify_one();
                    return;
                }
                Err(ApplyError::Datastore(error)) => {
                    failures = failures.saturating_add(1);
                    let pause = self
                        .applier
                        .settings
                        .patience
                        .pause(failures, u64::from(failures) * 389);
                    tracing::warn!(store = %set.store, position = %set.position(), error = &error as &dyn std::error::Error, failures, ?pause, "cannot apply a change set");
                    tokio::time::sleep(pause).await;
                }
                Err(error) => {
                    tracing::warn!(position = %set.position(), error = &error as &dyn std::error::Error, "set aside until upstream answers");
                    seen.broken.insert(set.store);
                    return;
                }
            }
        }
    }

    /// Compares with upstream when something may have been missed, a store is broken, or the broker is silent.
    async fn look_up(&self, seen: &mut Seen) {
        let now = self.start.elapsed();
        let silent = self
            .freshness
            .borrow()
            .silence(now)
            .is_none_or(|silence| silence > self.applier.settings.silence);
        if now < seen.not_before || !(seen.compare || silent || !seen.broken.is_empty()) {
            return;
        }
        match self.applier.catch_up().await {
            Ok(heartbeat) => {
                (seen.compare, seen.failures) = (false, 0);
                seen.broken.clear();
                self.applied.notify_one();
                if let Some((beat, age)) = heartbeat {
                    self.note_epoch(beat.epoch, seen);
                    self.freshness
                        .send_modify(|freshness| freshness.upstream(beat, age, now));
                    self.pass_on();
                }
            }
            Err(error) => {
                seen.failures = seen.failures.saturating_add(1);
                let pause = self
                    .applier
                    .settings
                    .patience
                    .pause(seen.failures, u64::from(seen.failures) * 389);
                seen.not_before = self.start.elapsed() + pause;
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    failures = seen.failures,
                    ?pause,
                    "cannot compare with upstream"
                );
            }
        }
    }
}
