//! What changes: an edge is told before it shows them; a node with a database reads them there.

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

    /// Follows a store from where it stands now.
    ///
    /// # Errors
    /// [`Undecided::NoStore`], or [`Undecided::Unreachable`] when the database does not say.
    pub async fn follow(&self, store: StoreId, timeout: Duration) -> Result<(), Undecided> {
        if self.upto.contains_key(&store) {
            return Ok(());
        }
        let deadline = Instant::now() + timeout;
        loop {
            let record = self.datastore.store(store, deadline).await;
            let record = record.map_err(|_| Undecided::Unreachable)?;
            if let Some(record) = record.filter(|record| record.deleted_at.is_none()) {
                self.upto.entry(store).or_insert(record.position);
                return Ok(());
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
        let positions = self.datastore.positions(deadline).await?;
        for store in used {
            let Some(from) = self.upto.get(store).map(|upto| *upto) else {
                continue;
            };
            let to = positions
                .iter()
                .find(|(id, _)| id == store)
                .map(|(_, to)| *to);
            match to {
                Some(to) if to == from => {}
                Some(to) => {
                    let touched = self.read(*store, from, to, deadline).await;
                    self.hub
                        .touched(*store, to, touched.unwrap_or(Touched::All));
                    self.upto.insert(*store, to);
                }
                // Deleted: nobody may see anything of it.
                None => {
                    let after = Position::new(from.epoch.0, from.revision.0.saturating_add(1));
                    self.hub.touched(*store, after, Touched::All);
                    self.upto.remove(store);
                }
            }
        }
        Ok(())
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
}

impl Observer for Watching {
    fn publish(&self, store: StoreId, view: &View, touched: &edge::Touched) {
        self.next.publish(store, view, touched);
        let model = view.model(None).map(|model| model.stored.id);
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
            // A store that is there again, in another epoch too, is later than this.
            let after = Position::new(last.epoch.0, last.revision.0.saturating_add(1));
            self.hub.touched(store, after, Touched::All);
        }
    }
}
