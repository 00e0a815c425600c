//! Which stores there are. Whoever is let in, or is not, names what store it likes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use meridian_model::StoreId;
use meridian_proto::openfga::v1;

use crate::calls::{Calls, Context};

/// How many are known to exist.
const KNOWN: u64 = 100_000;
/// How long a store is known for without being looked for again.
const KNOWN_FOR: Duration = Duration::from_secs(60 * 60);
/// How long looking for one may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often, and how many at first, are looked for.
const LOOKS: (Duration, u32) = (Duration::from_millis(100), 50);

pub(super) struct Stores {
    known: moka::sync::Cache<StoreId, ()>,
    looks: Rate,
    /// Where they are looked for; without it those that are not known are none.
    calls: Option<Arc<dyn Calls>>,
}

impl Stores {
    pub(super) fn new(calls: Option<Arc<dyn Calls>>) -> Self {
        let known = moka::sync::Cache::builder()
            .max_capacity(KNOWN)
            .time_to_live(KNOWN_FOR)
            .build();
        Self {
            known,
            looks: Rate::new(LOOKS),
            calls,
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

    /// Whether one more may be looked for now.
    pub(super) fn may_look(&self) -> bool {
        self.calls.is_some() && self.looks.take(Instant::now())
    }

    /// Looks for a store. One that cannot be looked for now counts as none.
    pub(super) async fn find(&self, store: StoreId) -> bool {
        let Some(calls) = &self.calls else {
            return false;
        };
        let deadline = Instant::now() + TIMEOUT;
        let cx = Context::own(deadline);
        let request = v1::GetStoreRequest {
            store_id: store.to_string(),
        };
        let found = calls.get_store(&cx, request);
        let found = tokio::time::timeout_at(deadline.into(), found).await;
        let is_there = matches!(found, Ok(Ok(_)));
        if is_there {
            self.note(store);
        }
        is_there
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
    use super::*;

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
