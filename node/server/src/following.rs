//! What changes in a node's database, read there once for all who want to know: the live channel, what permissions rest on; those
//! who watch, the changes themselves.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use futures::StreamExt as _;
use meridian_live_channel::{Hub, Touched};
use meridian_model::change::{Change, ChangeSet};
use meridian_model::ports::Datastore;
use meridian_model::{Position, StoreId};
use meridian_sync::tier;
use moka::future::Cache;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::outage::Outage;
use crate::watch::feed::Feeds;

/// How often a database is asked how far its stores have come, while somebody wants to know of one.
pub(crate) const PERIOD: Duration = Duration::from_millis(50);
/// How long it may take to answer.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(3);
/// The longest pause between two looks for a store that may be about to come; the first is [`PERIOD`], each other twice the one before.
const LONGEST: Duration = Duration::from_millis(400);
/// How long it is remembered that a store is not here.
const ABSENT: Duration = Duration::from_secs(1);
/// Stores of which that is remembered at most.
const ABSENTEES: u64 = 10_000;
/// Revisions that are read to know what they touched; when there are more, anything may have been.
const MAX_READ: u64 = 64;
/// Revisions that are read at once for those who want all of them.
const PAGE: u64 = 256;
/// Stores whose changes are read at a time: the rest of the node needs the database too.
const ADVANCED: usize = 4;
/// Stores whose long stretches are read at a time.
const FILLED: usize = 2;

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
    /// Stores that are not here. Who asks for one while another looks for it waits for what that one finds.
    absent: Cache<StoreId, ()>,
    /// Stores whose feeds are given a long stretch, and up to where they are to be: until then nothing else is put there.
    filling: DashMap<StoreId, Position>,
    fills: Semaphore,
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
            absent: Cache::builder()
                .max_capacity(ABSENTEES)
                .time_to_live(ABSENT)
                .build(),
            filling: DashMap::new(),
            fills: Semaphore::new(FILLED),
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
        let looking = self
            .absent
            .try_get_with(store, self.look_for(store, timeout));
        match tokio::time::timeout(timeout, looking).await {
            Ok(Ok(())) => Err(NotFollowed::NoStore),
            Ok(Err(found)) => *found,
            Err(_) => Err(NotFollowed::Unreachable),
        }
    }

    /// Looks for a store, and follows it if it is here. Only that it is not is kept: that is `Ok`.
    async fn look_for(
        &self,
        store: StoreId,
        timeout: Duration,
    ) -> Result<(), Result<Position, NotFollowed>> {
        let deadline = Instant::now() + timeout;
        let mut pause = PERIOD;
        loop {
            let record = self.datastore.store(store, deadline).await;
            let record = record.map_err(|_| Err(NotFollowed::Unreachable))?;
            if let Some(record) = record.filter(|record| record.deleted_at.is_none()) {
                return Err(Ok(*self.upto.entry(store).or_insert(record.position)));
            }
            if !self.lags || Instant::now() + pause >= deadline {
                return Ok(());
            }
            tokio::time::sleep(pause).await;
            pause = LONGEST.min(2 * pause);
        }
    }

    /// Follows until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut period = tokio::time::interval(PERIOD);
        period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // With it end those who fill feeds.
        let mut fills = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = period.tick() => {}
            }
            while fills.try_join_next().is_some() {}
            let used = self.used();
            if used.is_empty() {
                continue;
            }
            match self.catch_up(&used).await {
                Ok(long) => {
                    for stretch in long {
                        fills.spawn(Arc::clone(&self).fill(stretch));
                    }
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

    /// Tells of what is new in these stores. What is too long for that is given back: permissions do not wait for those who want
    /// all there was.
    async fn catch_up(
        &self,
        used: &[StoreId],
    ) -> Result<Vec<Stretch>, Box<dyn std::error::Error + Send + Sync>> {
        let deadline = Instant::now() + TIMEOUT;
        let positions = self.datastore.positions_of(used, deadline).await?;
        let positions: HashMap<_, _> = positions.into_iter().collect();
        let mut stretches = Vec::new();
        for store in used {
            let Some(from) = self.upto.get(store).map(|upto| *upto) else {
                continue;
            };
            match positions.get(store).copied() {
                None => self.gone(*store, from),
                Some(to) if to != from => stretches.push(Stretch {
                    store: *store,
                    from,
                    to,
                }),
                Some(_) => {}
            }
        }
        let advancing = stretches
            .into_iter()
            .map(|stretch| self.advance(stretch, deadline));
        let advanced = futures::stream::iter(advancing).buffer_unordered(ADVANCED);
        let long: Vec<Option<Stretch>> = advanced.collect().await;
        Ok(long.into_iter().flatten().collect())
    }

    /// A store is not here any longer: nobody may see anything of it.
    fn gone(&self, store: StoreId, from: Position) {
        self.upto.remove(&store);
        if let Some(hub) = &self.hub {
            hub.dropped(store, from);
            hub.forget(store);
        }
        let after = Position::new(from.epoch.0, from.revision.0.saturating_add(1));
        if !self.is_filled_up_to(store, after) {
            self.feeds.jump(store, after);
        }
    }

    /// Tells of a stretch; gives it back where it is too long to be read for the live channel, and somebody watches.
    async fn advance(&self, stretch: Stretch, deadline: Instant) -> Option<Stretch> {
        let (store, to) = (stretch.store, stretch.to);
        // First: whoever comes between the two is not told, and must not rest on what was before.
        self.upto.insert(store, to);
        let sets = self.read(&stretch, deadline).await;
        if let Some(hub) = &self.hub {
            hub.touched(store, to, sets.as_deref().map_or(Touched::All, touched));
        }
        if self.is_filled_up_to(store, to) {
            return None;
        }
        match sets {
            Some(sets) => self.feeds.push(store, sets),
            None if stretch.revisions() > MAX_READ && self.is_kept(&stretch) => {
                self.filling.insert(store, to);
                return Some(stretch);
            }
            None => self.feeds.jump(store, to),
        }
        None
    }

    /// Whether a store's feed is being filled; it is then up to here.
    fn is_filled_up_to(&self, store: StoreId, to: Position) -> bool {
        let filling = self.filling.get_mut(&store);
        filling.map(|mut upto| *upto = to).is_some()
    }

    /// Whether a feed would keep all of a stretch, and somebody wants it.
    fn is_kept(&self, stretch: &Stretch) -> bool {
        let keeps = u64::try_from(self.feeds.changes()).unwrap_or(u64::MAX);
        stretch.from.epoch == stretch.to.epoch
            && stretch.revisions() <= keeps
            && self.feeds.has(stretch.store)
    }

    /// Gives a long stretch to those who watch, and what comes meanwhile.
    async fn fill(self: Arc<Self>, mut stretch: Stretch) {
        let store = stretch.store;
        loop {
            // Taken anew each time: a store that is written to without end leaves others their turn.
            let Ok(_turn) = self.fills.acquire().await else {
                return;
            };
            self.fill_in(&stretch, Instant::now() + TIMEOUT).await;
            let upto = stretch.to;
            let is_done = |_: &StoreId, wanted: &Position| *wanted == upto;
            if self.filling.remove_if(&store, is_done).is_some() {
                return;
            }
            let Some(wanted) = self.filling.get(&store).map(|wanted| *wanted) else {
                return;
            };
            (stretch.from, stretch.to) = (upto, wanted);
        }
    }

    /// Gives a stretch to those who watch. What cannot be read now they read themselves.
    async fn fill_in(&self, stretch: &Stretch, deadline: Instant) {
        let Stretch { store, to, .. } = *stretch;
        let mut after = stretch.from;
        if !self.is_kept(stretch) {
            return self.feeds.jump(store, to);
        }
        while after < to {
            let left = to.revision.0.saturating_sub(after.revision.0);
            let limit = u32::try_from(left.min(PAGE)).unwrap_or(u32::MAX);
            let read = self
                .datastore
                .change_sets(store, after.revision, limit, deadline);
            let sets = read.await.unwrap_or_default();
            match sets.last().map(|set| set.revision) {
                Some(last) if is_next(&sets, after) => {
                    after.revision = last;
                    self.feeds.push(store, sets);
                }
                _ => return self.feeds.jump(store, to),
            }
        }
    }

    /// A stretch's change sets; `None` where they cannot be told, or are too many.
    async fn read(&self, stretch: &Stretch, deadline: Instant) -> Option<Vec<ChangeSet>> {
        let Stretch { store, from, to } = *stretch;
        let behind = stretch.revisions();
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

impl Stretch {
    /// How many revisions it is.
    fn revisions(&self) -> u64 {
        self.to.revision.0.saturating_sub(self.from.revision.0)
    }
}

/// Whether change sets go on behind `after`. Those of a later epoch do not: what stood between is another.
pub(crate) fn is_next(sets: &[ChangeSet], after: Position) -> bool {
    let is_next = |first: &ChangeSet| first.revision == after.revision.next();
    sets.first().is_some_and(is_next) && sets.last().is_some_and(|last| last.epoch <= after.epoch)
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
