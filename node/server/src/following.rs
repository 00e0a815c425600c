//! What changes in a node's database, read there once for all who want to know: the live channel, what permissions rest on; those
//! who watch, the changes themselves.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use meridian_live_channel::{Hub, Touched};
use meridian_model::change::{Change, ChangeSet};
use meridian_model::ports::Datastore;
use meridian_model::{Position, Revision, StoreId};
use meridian_sync::tier;
use tokio_util::sync::CancellationToken;

use crate::outage::Outage;
use crate::watch::feed::Feeds;

/// How often a database is asked how far its stores have come, while somebody wants to know of one.
pub(crate) const PERIOD: Duration = Duration::from_millis(50);
/// How long it may take to answer.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(3);
/// Stores, up to which each is asked for by itself; with more, all there are.
const FEW: usize = 8;
/// Revisions that are read to know what they touched; when there are more, anything may have been.
const MAX_READ: u64 = 64;
/// Revisions that are read at once for those who want all of them.
const PAGE: u32 = 256;

/// Reads what changes.
pub struct Following {
    datastore: Arc<dyn Datastore>,
    /// The live channel, where its permissions are decided by this store.
    hub: Option<Arc<Hub>>,
    feeds: Arc<Feeds>,
    /// Whether a store that is not here may be about to come.
    lags: bool,
    /// Up to where, of every store that anybody ever wanted to know of.
    upto: DashMap<StoreId, Position>,
    outage: Outage,
}

/// Why a store cannot be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotFollowed {
    /// There is none.
    #[error("there is no such store")]
    NoStore,
    /// The database does not say.
    #[error("the database cannot be reached; try again")]
    Unreachable,
}

/// Revisions behind the first position, up to the second.
struct Stretch {
    store: StoreId,
    from: Position,
    to: Position,
}

impl Following {
    /// Tells `hub` and `feeds` of what is in `datastore`, which `lags` where another node writes it.
    pub fn new(
        datastore: Arc<dyn Datastore>,
        hub: Option<Arc<Hub>>,
        feeds: Arc<Feeds>,
        lags: bool,
    ) -> Self {
        Self {
            datastore,
            hub,
            feeds,
            lags,
            upto: DashMap::new(),
            outage: Outage::new(),
        }
    }

    /// The database.
    pub fn datastore(&self) -> &Arc<dyn Datastore> {
        &self.datastore
    }

    /// Those who want the changes themselves.
    pub fn feeds(&self) -> &Arc<Feeds> {
        &self.feeds
    }

    /// Whether another node may be further.
    pub fn lags(&self) -> bool {
        self.lags
    }

    /// Follows a store from where it stands now. Returns up to where changes were told, or need not be.
    ///
    /// # Errors
    /// [`NotFollowed`].
    pub async fn follow(&self, store: StoreId, timeout: Duration) -> Result<Position, NotFollowed> {
        if let Some(upto) = self.upto.get(&store) {
            return Ok(*upto);
        }
        let deadline = Instant::now() + timeout;
        loop {
            let record = self.datastore.store(store, deadline).await;
            let record = record.map_err(|_| NotFollowed::Unreachable)?;
            if let Some(record) = record.filter(|record| record.deleted_at.is_none()) {
                return Ok(*self.upto.entry(store).or_insert(record.position));
            }
            if !self.lags || Instant::now() + PERIOD >= deadline {
                return Err(NotFollowed::NoStore);
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Follows until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut period = tokio::time::interval(PERIOD);
        period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = period.tick() => {}
            }
            let used = self.used();
            if used.is_empty() {
                continue;
            }
            match self.catch_up(&used).await {
                Ok(()) => {
                    if let Some(away) = self.outage.worked() {
                        tracing::info!(?away, "what changed can be read again");
                    }
                }
                Err(error) => {
                    if self.outage.failed() {
                        let error = &*error as &dyn std::error::Error;
                        tracing::warn!(
                            error,
                            "what changed cannot be read: those who watch wait, and what the live channel allowed goes on"
                        );
                    }
                }
            }
        }
    }

    /// The stores that anybody wants to know of.
    fn used(&self) -> Vec<StoreId> {
        let mut used = self.feeds.stores();
        let live = self.hub.as_ref().map(|hub| hub.stores());
        used.extend(live.unwrap_or_default());
        used.sort_unstable();
        used.dedup();
        used
    }

    async fn catch_up(
        &self,
        used: &[StoreId],
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let deadline = Instant::now() + TIMEOUT;
        let positions = self.positions(used, deadline).await?;
        let mut long = Vec::new();
        for store in used {
            let Some(from) = self.upto.get(store).map(|upto| *upto) else {
                continue;
            };
            let Some(to) = positions.get(store).copied() else {
                // It is not here any longer: nobody may see anything of it.
                self.upto.remove(store);
                if let Some(hub) = &self.hub {
                    hub.dropped(*store, from);
                    hub.forget(*store);
                }
                let after = Position::new(from.epoch.0, from.revision.0.saturating_add(1));
                self.feeds.jump(*store, after);
                continue;
            };
            if to != from {
                let stretch = Stretch {
                    store: *store,
                    from,
                    to,
                };
                // First: whoever comes between the two is not told, and must not rest on what was before.
                self.upto.insert(*store, to);
                long.extend(self.advance(stretch, deadline).await);
            }
        }
        // Permissions do not wait for those who want all there was.
        for stretch in long {
            self.fill(&stretch, Instant::now() + TIMEOUT).await;
        }
        Ok(())
    }

    /// Where stores stand. A few are asked for by name, whatever else there is.
    async fn positions(
        &self,
        used: &[StoreId],
        deadline: Instant,
    ) -> meridian_model::ports::Result<HashMap<StoreId, Position>> {
        if used.len() > FEW {
            let all = self.datastore.positions(deadline).await?;
            return Ok(all.into_iter().collect());
        }
        let asked = used
            .iter()
            .map(|store| self.datastore.store(*store, deadline));
        let found = futures::future::try_join_all(asked).await?;
        let found = found.into_iter().flatten();
        Ok(found
            .map(|record| (record.info.id, record.position))
            .collect())
    }

    /// Tells of a stretch; gives it back where it is too long to be read for the live channel, and somebody watches.
    async fn advance(&self, stretch: Stretch, deadline: Instant) -> Option<Stretch> {
        let Stretch { store, from, to } = stretch;
        match self.read(&stretch, deadline).await {
            Some(sets) => {
                self.touched(store, to, touched(&sets));
                self.feeds.push(store, sets);
                None
            }
            None => {
                self.touched(store, to, Touched::All);
                let behind = to.revision.0.saturating_sub(from.revision.0);
                let keeps = u64::try_from(self.feeds.changes()).unwrap_or(u64::MAX);
                if from.epoch == to.epoch && behind > MAX_READ && behind <= keeps {
                    return Some(stretch);
                }
                self.feeds.jump(store, to);
                None
            }
        }
    }

    fn touched(&self, store: StoreId, upto: Position, touched: Touched) {
        if let Some(hub) = &self.hub {
            hub.touched(store, upto, touched);
        }
    }

    /// Gives a long stretch to those who watch. What cannot be read now they read themselves.
    async fn fill(&self, stretch: &Stretch, deadline: Instant) {
        let Stretch { store, from, to } = *stretch;
        let mut after = from.revision;
        while after < to.revision && self.feeds.has(store) {
            let read = self.datastore.change_sets(store, after, PAGE, deadline);
            let sets = read.await.unwrap_or_default();
            match sets.last().map(|set| set.revision) {
                Some(last) if is_next(&sets, after) => {
                    after = last;
                    self.feeds.push(store, sets);
                }
                _ => return self.feeds.jump(store, to),
            }
        }
    }

    /// A stretch's change sets; `None` where they cannot be told, or are too many.
    async fn read(&self, stretch: &Stretch, deadline: Instant) -> Option<Vec<ChangeSet>> {
        let Stretch { store, from, to } = *stretch;
        let behind = to.revision.0.checked_sub(from.revision.0)?;
        if from.epoch != to.epoch || behind > MAX_READ {
            return None;
        }
        let limit = u32::try_from(behind).ok()?;
        let read = self
            .datastore
            .change_sets(store, from.revision, limit, deadline);
        let sets = read.await.ok()?;
        (sets.last()?.position() == to).then_some(sets)
    }
}

/// Whether change sets go on behind `after`.
pub(crate) fn is_next(sets: &[ChangeSet], after: Revision) -> bool {
    sets.first()
        .is_some_and(|first| first.revision == after.next())
}

/// What change sets touched. A model decides anew of everything.
fn touched(sets: &[ChangeSet]) -> Touched {
    let of_all = |change: &Change| matches!(change, Change::ModelWritten(_) | Change::StoreDeleted);
    if sets.iter().flat_map(|set| &set.changes).any(of_all) {
        return Touched::All;
    }
    Touched::Sets(
        sets.iter()
            .map(|set| (set.position(), tier::touched(set)))
            .collect(),
    )
}
