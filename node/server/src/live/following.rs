//! What changes: an edge is told before it shows them; a node with a database reads them there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use meridian_engine::View;
use meridian_live_channel::ports::Undecided;
use meridian_live_channel::{Hub, Touched};
use meridian_model::change::{Change, ChangeSet};
use meridian_model::ports::Datastore;
use meridian_model::{ModelId, Position, StoreId};
use meridian_sync::edge;
use meridian_sync::tier;
use meridian_sync::views::Observer;
use tokio_util::sync::CancellationToken;

use crate::outage::Outage;

/// How often a database is asked how far its stores have come, while somebody has subscribed in one.
const PERIOD: Duration = Duration::from_millis(50);
/// How long it may take to answer.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Stores, up to which each is asked for by itself; with more, all there are.
const FEW: usize = 8;
/// Revisions that are read to know what they touched; when there are more, anything may have been.
const MAX_READ: u64 = 64;

/// Tells the hub what revisions of a database touched.
pub struct Following {
    datastore: Arc<dyn Datastore>,
    hub: Arc<Hub>,
    /// Whether a store that is not here may be about to come.
    lags: bool,
    /// Up to where, of every store that was ever subscribed in.
    upto: DashMap<StoreId, Position>,
    outage: Outage,
}

impl Following {
    /// Tells `hub` of what is in `datastore`, which `lags` where another node writes it.
    pub fn new(datastore: Arc<dyn Datastore>, hub: Arc<Hub>, lags: bool) -> Self {
        Self {
            datastore,
            hub,
            lags,
            upto: DashMap::new(),
            outage: Outage::new(),
        }
    }

    /// Follows a store from where it stands now. Returns up to where changes were told, or need not be.
    ///
    /// # Errors
    /// [`Undecided::NoStore`], or [`Undecided::Unreachable`] when the database does not say.
    pub async fn follow(&self, store: StoreId, timeout: Duration) -> Result<Position, Undecided> {
        if let Some(upto) = self.upto.get(&store) {
            return Ok(*upto);
        }
        let deadline = Instant::now() + timeout;
        loop {
            let record = self.datastore.store(store, deadline).await;
            let record = record.map_err(|_| Undecided::Unreachable)?;
            if let Some(record) = record.filter(|record| record.deleted_at.is_none()) {
                return Ok(*self.upto.entry(store).or_insert(record.position));
            }
            if !self.lags || Instant::now() + PERIOD >= deadline {
                return Err(Undecided::NoStore);
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
            let used = self.hub.stores();
            if used.is_empty() {
                continue;
            }
            match self.catch_up(&used).await {
                Ok(()) => {
                    if let Some(away) = self.outage.worked() {
                        tracing::info!(?away, "the live channel reads changes again");
                    }
                }
                Err(error) => {
                    if self.outage.failed() {
                        let error = &*error as &dyn std::error::Error;
                        tracing::warn!(
                            error,
                            "the live channel cannot read what changed; what was allowed goes on"
                        );
                    }
                }
            }
        }
    }

    async fn catch_up(
        &self,
        used: &[StoreId],
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let deadline = Instant::now() + TIMEOUT;
        let positions = self.positions(used, deadline).await?;
        for store in used {
            let Some(from) = self.upto.get(store).map(|upto| *upto) else {
                continue;
            };
            match positions.get(store).copied() {
                Some(to) if to == from => {}
                Some(to) => {
                    let touched = self.read(*store, from, to, deadline).await;
                    // First: whoever subscribes between the two is not told, and must not rest on what was before.
                    self.upto.insert(*store, to);
                    self.hub
                        .touched(*store, to, touched.unwrap_or(Touched::All));
                }
                // It is not here any longer: nobody may see anything of it.
                None => {
                    self.upto.remove(store);
                    self.hub.dropped(*store, from);
                    self.hub.forget(*store);
                }
            }
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

    /// What was touched behind `from` up to `to`; `None` where it cannot be told.
    async fn read(
        &self,
        store: StoreId,
        from: Position,
        to: Position,
        deadline: Instant,
    ) -> Option<Touched> {
        let behind = to.revision.0.checked_sub(from.revision.0)?;
        if from.epoch != to.epoch || behind > MAX_READ {
            return None;
        }
        let limit = u32::try_from(behind).ok()?;
        let read = self
            .datastore
            .change_sets(store, from.revision, limit, deadline);
        let sets = read.await.ok()?;
        (sets.last()?.position() == to).then(|| touched(&sets))
    }
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

/// Tells the hub what an edge is about to show, after `next`, who is told the same.
pub struct Watching {
    /// Who else is told.
    pub next: Arc<dyn Observer>,
    /// Who is told what was touched.
    pub hub: Arc<Hub>,
    /// What was told of last: the model in use, and the position.
    last: DashMap<StoreId, (Option<ModelId>, Position)>,
}

impl Watching {
    /// Tells `next`, then `hub`.
    pub fn new(next: Arc<dyn Observer>, hub: Arc<Hub>) -> Self {
        Self {
            next,
            hub,
            last: DashMap::new(),
        }
    }

    /// Up to where a store's changes were told.
    pub fn told(&self, store: StoreId) -> Option<Position> {
        self.last.get(&store).map(|last| last.1)
    }
}

impl Observer for Watching {
    fn publish(&self, store: StoreId, view: &View, touched: &edge::Touched) {
        self.next.publish(store, view, touched);
        let model = view.model(None).map(|model| model.stored.id);
        // First: whoever subscribes between the two is not told, and must not rest on what was before.
        let before = self.last.insert(store, (model, view.position()));
        let is_same_model = before.is_some_and(|(before, _)| before == model);
        let touched = match touched {
            edge::Touched::Sets(sets) if is_same_model => Touched::Sets(sets.clone()),
            edge::Touched::Sets(_) | edge::Touched::All => Touched::All,
        };
        self.hub.touched(store, view.position(), touched);
    }

    fn drop_store(&self, store: StoreId) {
        self.next.drop_store(store);
        if let Some((_, (_, last))) = self.last.remove(&store) {
            self.hub.dropped(store, last);
        }
    }
}
