//! Which stores there are. Whoever is let in, or is not, names what store it likes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use meridian_model::StoreId;

use crate::calls::Calls;
use crate::lookup::{self, Found};

/// How many are known to exist.
const KNOWN: u64 = 100_000;
/// How long a store is known for without being looked for again.
const KNOWN_FOR: Duration = Duration::from_secs(60 * 60);
/// How many were looked for a moment ago, and how long what came of it holds.
const LOOKED_FOR: u64 = 10_000;
const LOOKED_FOR_AGE: Duration = Duration::from_secs(5);
/// How long looking for one may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often, and how many at first, are looked for.
const LOOKS: (Duration, u32) = (Duration::from_millis(100), 50);
/// The same, for those who were let in.
const LOOKS_ADMITTED: (Duration, u32) = (Duration::from_millis(10), 500);

/// For whom a store is looked for. Who was not let in takes nothing from those who were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// Somebody who was let in.
    Admitted,
    /// Anybody.
    Anyone,
}

/// Where stores are looked for.
#[async_trait]
pub(super) trait Looks: Send + Sync {
    /// What there is of a store.
    async fn look(&self, store: StoreId) -> Found;
}

pub(super) struct Stores {
    known: moka::sync::Cache<StoreId, ()>,
    /// What came of the last looks, and looks under way, which all who ask for the same store share.
    looked_for: moka::future::Cache<StoreId, Found>,
    looks: [Rate; 2],
    /// Where they are looked for; without it those that are not known are none.
    place: Option<Arc<dyn Looks>>,
}

impl Stores {
    pub(super) fn new(place: Option<Arc<dyn Looks>>) -> Self {
        let known = moka::sync::Cache::builder()
            .max_capacity(KNOWN)
            .time_to_live(KNOWN_FOR)
            .build();
        let looked_for = moka::future::Cache::builder()
            .max_capacity(LOOKED_FOR)
            .time_to_live(LOOKED_FOR_AGE)
            .build();
        Self {
            known,
            looked_for,
            looks: [LOOKS_ADMITTED, LOOKS].map(Rate::new),
            place,
        }
    }

    /// Whether it is known that there is such a store.
    pub(super) fn knows(&self, store: StoreId) -> bool {
        self.known.contains_key(&store)
    }

    /// There is such a store.
    pub(super) fn note(&self, store: StoreId) {
        if !self.knows(store) {
            self.known.insert(store, ());
        }
    }

    /// There is no such store any more.
    pub(super) fn forget(&self, store: StoreId) {
        self.known.invalidate(&store);
    }

    /// Whether there is such a store, looked for if need be; where too many are looked for, nobody can say.
    pub(super) async fn find(&self, store: StoreId, whose: For) -> Found {
        if self.knows(store) {
            return Found::There;
        }
        let Some(place) = &self.place else {
            return Found::Missing;
        };
        let [admitted, anyone] = &self.looks;
        let rate = match whose {
            For::Admitted => admitted,
            For::Anyone => anyone,
        };
        let look = async {
            if !rate.take(Instant::now()) {
                return None;
            }
            Some(place.look(store).await)
        };
        let found = self.looked_for.optionally_get_with(store, look).await;
        let found = found.unwrap_or(Found::Unknown);
        if found == Found::There {
            self.note(store);
        }
        found
    }
}

/// By the calls of a node, which asks those above where it has no database.
pub(super) struct ByCalls(pub(super) Arc<dyn Calls>);

#[async_trait]
impl Looks for ByCalls {
    async fn look(&self, store: StoreId) -> Found {
        lookup::look(&*self.0, store, TIMEOUT).await
    }
}

/// So many at once, and then one in each interval.
pub(super) struct Rate {
    each: Duration,
    burst: u32,
    /// When all that was taken will have been made up for.
    due: Mutex<Option<Instant>>,
}

impl Rate {
    pub(super) fn new((each, burst): (Duration, u32)) -> Self {
        Self {
            each,
            burst,
            due: Mutex::new(None),
        }
    }

    /// Takes one, if there is one.
    pub(super) fn take(&self, now: Instant) -> bool {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let next = due.map_or(now, |due| due.max(now)) + self.each;
        let is_there = next.duration_since(now) <= self.each * self.burst;
        if is_there {
            *due = Some(next);
        }
        is_there
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    /// Every store is there; each look takes a permit.
    struct All {
        looked: AtomicUsize,
        permits: Semaphore,
    }

    #[async_trait]
    impl Looks for All {
        async fn look(&self, _: StoreId) -> Found {
            self.looked.fetch_add(1, Ordering::SeqCst);
            self.permits.acquire().await.unwrap().forget();
            Found::There
        }
    }

    fn stores(permits: usize) -> (Arc<All>, Arc<Stores>) {
        let all = Arc::new(All {
            looked: AtomicUsize::new(0),
            permits: Semaphore::new(permits),
        });
        let place = Arc::clone(&all) as Arc<dyn Looks>;
        (all, Arc::new(Stores::new(Some(place))))
    }

    fn store(number: usize) -> StoreId {
        format!("{number:026}").parse().unwrap()
    }

    #[tokio::test]
    async fn who_looks_for_the_same_store_at_the_same_time_shares_the_look() {
        let (all, stores) = stores(0);
        let finding = || {
            let stores = Arc::clone(&stores);
            tokio::spawn(async move { stores.find(store(1), For::Anyone).await })
        };
        let asked: Vec<_> = (0..100).map(|_| finding()).collect();
        all.permits.add_permits(100);
        for found in join_all(asked).await {
            assert_eq!(found.unwrap(), Found::There);
        }
        assert_eq!(all.looked.load(Ordering::SeqCst), 1);
        stores.find(store(1), For::Anyone).await;
        assert_eq!(all.looked.load(Ordering::SeqCst), 1, "and it is known now");
    }

    #[tokio::test]
    async fn who_was_not_let_in_takes_no_looks_from_who_was() {
        let (all, stores) = stores(10_000);
        let mut found = Vec::new();
        for number in 0..1000 {
            found.push(stores.find(store(number), For::Anyone).await);
        }
        let unknown = found.iter().filter(|found| **found == Found::Unknown);
        assert!(unknown.count() > 500, "they are bounded: {found:?}");
        assert!(all.looked.load(Ordering::SeqCst) < 500);
        let admitted = stores.find(store(5000), For::Admitted).await;
        assert_eq!(admitted, Found::There);
    }

    #[test]
    fn a_rate_has_a_burst_and_then_one_in_each_interval() {
        let second = Duration::from_secs(1);
        let rate = Rate::new((second, 3));
        let start = Instant::now();
        let taken = |at: Instant, times: u32| (0..times).filter(|_| rate.take(at)).count();
        assert_eq!(taken(start, 10), 3);
        assert_eq!(taken(start + second, 10), 1);
        assert_eq!(taken(start + 3 * second, 10), 2);
        assert_eq!(taken(start + 100 * second, 10), 3);
    }
}
