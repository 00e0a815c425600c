//! What an edge is about to show, told to the live channel before it does.

use std::sync::Arc;

use dashmap::DashMap;
use meridian_engine::View;
use meridian_live_channel::{Hub, Touched};
use meridian_model::{ModelId, Position, StoreId};
use meridian_sync::edge;
use meridian_sync::views::Observer;

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
