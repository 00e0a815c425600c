//! Which stores are being repaired, how far each must come, and when to try again. Time is an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use meridian_model::ids::{Position, StoreId};

use super::applier::ApplyError;
use crate::retry::Patience;

struct Repair {
    target: Position,
    running: bool,
    failures: u32,
    due: Duration,
    last: Option<ApplyError>,
}

/// The stores that lack something.
pub(super) struct Repairs {
    stores: BTreeMap<StoreId, Repair>,
    patience: Patience,
}

impl Repairs {
    pub(super) fn new(patience: Patience) -> Self {
        Self {
            stores: BTreeMap::new(),
            patience,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.stores.is_empty()
    }

    /// If the store is being repaired, it must come as far as `target`; whether it is.
    pub(super) fn raise(&mut self, store: StoreId, target: Position) -> bool {
        let Some(repair) = self.stores.get_mut(&store) else {
            return false;
        };
        repair.target = repair.target.max(target);
        true
    }

    /// The store must come as far as `target`.
    pub(super) fn need(&mut self, store: StoreId, target: Position, now: Duration) {
        if !self.raise(store, target) {
            self.stores.insert(
                store,
                Repair {
                    target,
                    running: false,
                    failures: 0,
                    due: now,
                    last: None,
                },
            );
        }
    }

    /// The repairs to be started now so that no more than `at_once` run; those that wait longest come first.
    pub(super) fn start(&mut self, now: Duration, at_once: usize) -> Vec<(StoreId, Position)> {
        let running = self.stores.values().filter(|repair| repair.running).count();
        let mut due: Vec<_> = self
            .stores
            .iter_mut()
            .filter(|(_, repair)| !repair.running && repair.due <= now)
            .collect();
        due.sort_by_key(|(_, repair)| repair.due);
        due.into_iter()
            .take(at_once.saturating_sub(running))
            .map(|(store, repair)| {
                repair.running = true;
                (*store, repair.target)
            })
            .collect()
    }

    /// A repair came as far as `reached`.
    pub(super) fn reached(&mut self, store: StoreId, reached: Position, now: Duration) {
        let Some(repair) = self.stores.get_mut(&store) else {
            return;
        };
        if repair.failures > 0 {
            tracing::info!(%store, position = %reached, failures = repair.failures, "the store can be repaired again");
        }
        if reached >= repair.target {
            self.stores.remove(&store);
            return;
        }
        // More came meanwhile.
        (repair.running, repair.failures, repair.last) = (false, 0, None);
        repair.due = now + self.patience.pause(1, 0);
    }

    /// A repair failed: tried again after a pause that grows. Told when it fails in another way than before.
    pub(super) fn failed(&mut self, store: StoreId, error: ApplyError, now: Duration) {
        let Some(repair) = self.stores.get_mut(&store) else {
            return;
        };
        repair.running = false;
        repair.failures = repair.failures.saturating_add(1);
        let pause = self
            .patience
            .pause(repair.failures, u64::from(repair.failures) * 389);
        repair.due = now + pause;
        if repair
            .last
            .as_ref()
            .is_none_or(|last| !last.is_like(&error))
        {
            tracing::warn!(%store, target = %repair.target, error = &error as &dyn std::error::Error, "the store lacks changes and cannot be repaired for now; others go on");
        }
        repair.last = Some(error);
    }

    /// None of the repairs runs any more, however they ended.
    pub(super) fn none_runs(&mut self) {
        for repair in self.stores.values_mut() {
            repair.running = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meridian_model::ports::DatastoreError;

    fn store(number: u32) -> StoreId {
        format!("01ARZ3NDEKTSV4RRFF{number:08}").parse().unwrap()
    }

    #[test]
    fn a_store_that_fails_waits_and_leaves_its_place_to_others() {
        let mut repairs = Repairs::new(Patience::default());
        let (target, now) = (Position::new(1, 9), Duration::from_secs(1));
        for number in 1..=3 {
            repairs.need(store(number), target, now);
        }
        assert_eq!(
            repairs.start(now, 2),
            [(store(1), target), (store(2), target)]
        );
        assert!(repairs.start(now, 2).is_empty());

        repairs.failed(store(1), DatastoreError::Conflict.into(), now);
        assert_eq!(repairs.start(now, 2), [(store(3), target)]);
        repairs.reached(store(2), target, now);
        assert!(repairs.start(now, 2).is_empty());
        let later = now + Patience::default().first_pause;
        assert_eq!(repairs.start(later, 2), [(store(1), target)]);
        repairs.reached(store(1), target, later);
        repairs.reached(store(3), target, later);
        assert!(repairs.is_empty());
    }

    #[test]
    fn what_comes_during_a_repair_is_repaired_too() {
        let mut repairs = Repairs::new(Patience::default());
        let now = Duration::ZERO;
        assert!(!repairs.raise(store(1), Position::new(1, 4)));
        repairs.need(store(1), Position::new(1, 4), now);
        repairs.start(now, 1);
        assert!(repairs.raise(store(1), Position::new(1, 7)));
        repairs.reached(store(1), Position::new(1, 4), now);
        let later = now + Patience::default().first_pause;
        assert_eq!(repairs.start(later, 1), [(store(1), Position::new(1, 7))]);
    }
}
