//! What readers see: for each store the view of this moment, and how fresh it is.
//!
//! Publishing swaps one pointer, so a reader has either the whole old revision or the whole new one, and never waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use meridian_engine::View;
use meridian_model::ids::{Position, StoreId, Timestamp};
use tokio::sync::{Notify, watch};

use crate::edge::{Publish, Touched};
use crate::freshness::Freshness;

/// Told of every publication before readers see it: what keeps answers ends the touched ones here.
pub trait Observer: Send + Sync + 'static {
    /// A store has a new view.
    fn publish(&self, store: StoreId, view: &View, touched: &Touched);

    /// Nothing of a store is held any longer.
    fn drop_store(&self, store: StoreId);
}

/// The views of a node.
pub struct Views {
    stores: DashMap<StoreId, Entry>,
    freshness: ArcSwap<Freshness>,
    fresh: watch::Sender<bool>,
    /// Positions that upstream has shown to readers, and that they waited for in vain.
    missed: Mutex<BTreeMap<StoreId, Position>>,
    misses: Notify,
    start: Instant,
    observer: Option<Arc<dyn Observer>>,
}

struct Entry {
    shown: Arc<ArcSwap<Shown>>,
    position: watch::Sender<Position>,
}

/// A store as readers see it.
#[derive(Clone)]
pub struct Shown {
    /// The view.
    pub view: View,
    /// While the store lags: the heartbeats from before it did. Later ones prove nothing of this store.
    lagging: Option<Arc<Freshness>>,
}

impl Shown {
    /// What readers see of a store after `before`. `freshness` is the node's at this moment.
    pub fn new(
        view: View,
        lagging: bool,
        before: Option<&Self>,
        freshness: &Arc<Freshness>,
    ) -> Self {
        let lagging = lagging.then(|| match before {
            Some(before) => Arc::clone(before.lagging.as_ref().unwrap_or(freshness)),
            // What was received until now says nothing of a store that was not held.
            None => Arc::default(),
        });
        Self { view, lagging }
    }

    /// How old it is on a node of that freshness; `None` when nothing proves any age.
    pub fn age(&self, freshness: &Freshness, wall: Timestamp, now: Duration) -> Option<Duration> {
        self.lagging.as_deref().unwrap_or(freshness).age(wall, now)
    }
}

impl Views {
    /// No store. `start` is where the node's monotonic clock begins.
    pub fn new(start: Instant, observer: Option<Arc<dyn Observer>>) -> Self {
        Self {
            stores: DashMap::new(),
            freshness: ArcSwap::default(),
            fresh: watch::Sender::new(false),
            missed: Mutex::default(),
            misses: Notify::new(),
            start,
            observer,
        }
    }

    /// A store's view; `None` when nothing of it is held.
    pub fn get(&self, store: StoreId) -> Option<Arc<Shown>> {
        Some(self.stores.get(&store)?.shown.load_full())
    }

    /// Every store held, with its position.
    pub fn positions(&self) -> Vec<(StoreId, Position)> {
        self.stores
            .iter()
            .map(|entry| (*entry.key(), entry.shown.load().view.position()))
            .collect()
    }

    /// How old what is shown of a store is, by the wall clock `wall`; `None` when nothing proves any age.
    pub fn age(&self, shown: &Shown, wall: Timestamp) -> Option<Duration> {
        shown.age(&self.freshness.load(), wall, self.start.elapsed())
    }

    /// How fresh the node is.
    pub fn freshness(&self) -> Arc<Freshness> {
        self.freshness.load_full()
    }

    /// Waits until the age of what is held is known for the first time: every store and every Critical type is then in.
    pub async fn fresh(&self) {
        // The sender is `self.fresh`, so the wait cannot fail.
        let _ = self.fresh.subscribe().wait_for(|fresh| *fresh).await;
    }

    /// Waits until a store's view is at `min` or later; `false` when it is not by `deadline`, or is not held.
    pub async fn reached(&self, store: StoreId, min: Position, deadline: Instant) -> bool {
        let Some(mut position) = self
            .stores
            .get(&store)
            .map(|entry| entry.position.subscribe())
        else {
            return false;
        };
        let waited =
            tokio::time::timeout_at(deadline.into(), position.wait_for(|at| *at >= min)).await;
        matches!(waited, Ok(Ok(_)))
    }

    /// Says that a store is at `position` upstream, and that a reader waited for that in vain: nothing else may tell whoever
    /// keeps the views, while the topic is silent.
    pub fn miss(&self, store: StoreId, position: Position) {
        let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = missed.entry(store).or_default();
        *latest = (*latest).max(position);
        drop(missed);
        self.misses.notify_one();
    }

    /// The next of what was missed. Nothing is lost when the wait is given up.
    pub(crate) async fn missed(&self) -> (StoreId, Position) {
        loop {
            let first = self
                .missed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_first();
            match first {
                Some(missed) => return missed,
                None => self.misses.notified().await,
            }
        }
    }

    pub(crate) fn publish(&self, publish: Publish) {
        let Publish {
            store,
            view,
            touched,
            lagging,
        } = publish;
        if let Some(observer) = &self.observer {
            observer.publish(store, &view, &touched);
        }
        let position = view.position();
        let before = self.get(store);
        let freshness = self.freshness.load();
        let shown = Arc::new(Shown::new(view, lagging, before.as_deref(), &freshness));
        let entry = self.stores.entry(store).or_insert_with(|| Entry {
            shown: Arc::new(ArcSwap::new(Arc::clone(&shown))),
            position: watch::Sender::new(position),
        });
        entry.shown.store(shown);
        entry.position.send_replace(position);
    }

    pub(crate) fn drop_store(&self, store: StoreId) {
        self.stores.remove(&store);
        if let Some(observer) = &self.observer {
            observer.drop_store(store);
        }
    }

    pub(crate) fn set_freshness(&self, freshness: &Freshness) {
        self.freshness.store(Arc::new(freshness.clone()));
        self.fresh.send_if_modified(|fresh| {
            !std::mem::replace(fresh, freshness.heartbeat().is_some()) && *fresh
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, OnceLock, Weak};

    use super::*;

    /// Notes what readers see while it is told of a publication.
    #[derive(Default)]
    struct Watching {
        views: OnceLock<Weak<Views>>,
        seen: Mutex<Vec<(Position, Option<Position>)>>,
    }

    impl Observer for Watching {
        fn publish(&self, store: StoreId, view: &View, _: &Touched) {
            let views = self.views.get().and_then(Weak::upgrade).unwrap();
            let shown = views.get(store).map(|shown| shown.view.position());
            self.seen.lock().unwrap().push((view.position(), shown));
        }

        fn drop_store(&self, _: StoreId) {}
    }

    #[test]
    fn touched_answers_end_before_readers_see_the_view_that_touched_them() {
        let watching = Arc::new(Watching::default());
        let observer: Arc<dyn Observer> = watching.clone();
        let views = Arc::new(Views::new(Instant::now(), Some(observer)));
        watching.views.set(Arc::downgrade(&views)).unwrap();
        let store = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        let (first, second) = (Position::new(1, 1), Position::new(1, 2));
        for position in [first, second] {
            views.publish(Publish {
                store,
                view: View::new(position),
                touched: Touched::All,
                lagging: false,
            });
        }
        let seen = watching.seen.lock().unwrap();
        assert_eq!(*seen, [(first, None), (second, Some(first))]);
    }
}
