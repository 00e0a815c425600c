//! Which stores are being repaired, how far each must come, and when to try again. Time is an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use meridian_model::change::ChangeSet;
use meridian_model::ids::{Position, StoreId};
use meridian_model::watermark::{Admit, admit};

use super::applier::ApplyError;
use crate::aside::Aside;
use crate::edge::Limits;
use crate::retry::Patience;

struct Repair {
    target: Position,
    running: bool,
    failures: u32,
    due: Duration,
    last: Option<ApplyError>,
    /// What the topic brought of the store meanwhile.
    aside: Aside,
    /// How far what came since the repair began to run, and was not set aside, wants the store to be.
    more: Position,
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

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.stores.is_empty()
    }

    /// Whether the store is being repaired.
    pub(super) fn has(&self, store: StoreId) -> bool {
        self.stores.contains_key(&store)
    }

    /// How far each store must come.
    pub(super) fn targets(&self) -> impl Iterator<Item = (StoreId, Position)> {
        self.stores.iter().map(|(id, repair)| (*id, repair.target))
    }

    /// Sets a change set aside until its store is repaired; given back if it is not being repaired. Of the reign known, as
    /// all of them.
    pub(super) fn set_aside(&mut self, set: ChangeSet) -> Option<ChangeSet> {
        let Some(repair) = self.stores.get_mut(&set.store) else {
            return Some(set);
        };
        repair.target = repair.target.max(set.position());
        repair.aside.insert(set);
        if repair.aside.keep_nearest(&Limits::default()) {
            repair.more = repair.target;
        }
        None
    }

    /// The store must come as far as `target`.
    pub(super) fn need(&mut self, store: StoreId, target: Position, now: Duration) {
        let repair = self.stores.entry(store).or_insert_with(|| Repair {
            target,
            running: false,
            failures: 0,
            due: now,
            last: None,
            aside: Aside::default(),
            more: Position::default(),
        });
        repair.target = repair.target.max(target);
        repair.more = repair.more.max(target);
    }

    /// A newer reign is known: what was set aside is of the one before.
    pub(super) fn enter_reign(&mut self) {
        for repair in self.stores.values_mut() {
            if repair.aside.pop_first().is_some() {
                (repair.aside, repair.more) = (Aside::default(), repair.target);
            }
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
                (repair.running, repair.more) = (true, Position::default());
                (*store, repair.target)
            })
            .collect()
    }

    /// A repair that was to come as far as `asked` came as far as `reached`, or upstream has no more. Returns what was set
    /// aside and follows on there, to be applied now.
    pub(super) fn reached(
        &mut self,
        store: StoreId,
        asked: Position,
        reached: Position,
        now: Duration,
    ) -> Vec<ChangeSet> {
        let Some(mut repair) = self.stores.remove(&store) else {
            return Vec::new();
        };
        if repair.failures > 0 {
            tracing::info!(%store, position = %reached, failures = repair.failures, "the store can be repaired again");
        }
        repair.aside.drop_through(reached);
        let (mut next, mut following) = (reached, Vec::new());
        while let Some(set) = repair
            .aside
            .pop_first_if(|set| admit(next, set.position()) == Admit::Apply)
        {
            next = set.position();
            following.push(set);
        }
        if repair.more > next || repair.target > asked.max(next) {
            // More came meanwhile, and not all of it in order.
            (repair.running, repair.failures, repair.last) = (false, 0, None);
            repair.due = now + self.patience.pause(1, 0);
            self.stores.insert(store, repair);
        }
        following
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
            tracing::warn!(%store, target = %repair.target, error = &error as &dyn std::error::Error, "the store lacks changes and cannot be repaired; trying until it can be, others go on");
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
    use meridian_model::ids::{Epoch, Revision, Timestamp};

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
        repairs.reached(store(2), target, target, now);
        assert!(repairs.start(now, 2).is_empty());
        let later = now + Patience::default().first_pause;
        assert_eq!(repairs.start(later, 2), [(store(1), target)]);
        repairs.reached(store(1), target, target, later);
        repairs.reached(store(3), target, target, later);
        assert!(repairs.is_empty());
    }

    fn set(revision: u64) -> ChangeSet {
        ChangeSet {
            store: store(1),
            epoch: Epoch(1),
            revision: Revision(revision),
            committed_at: Timestamp(0),
            changes: Vec::new(),
            touched: Vec::new(),
        }
    }

    /// A running repair of store 1 to 1.4.
    fn running() -> Repairs {
        let mut repairs = Repairs::new(Patience::default());
        repairs.need(store(1), Position::new(1, 4), Duration::ZERO);
        repairs.start(Duration::ZERO, 1);
        repairs
    }

    /// What follows on once that repair has come as far as `reached`.
    fn follows(repairs: &mut Repairs, reached: u64) -> Vec<u64> {
        let asked = Position::new(1, 4);
        let reached = Position::new(1, reached);
        let sets = repairs.reached(store(1), asked, reached, Duration::ZERO);
        sets.into_iter().map(|set| set.revision.0).collect()
    }

    #[test]
    fn records_that_come_during_a_repair_follow_on_it() {
        let mut repairs = Repairs::new(Patience::default());
        assert!(repairs.set_aside(set(4)).is_some());
        let mut repairs = running();
        for revision in 4..=7 {
            assert!(repairs.set_aside(set(revision)).is_none());
        }
        assert_eq!(follows(&mut repairs, 5), [6, 7]);
        assert!(repairs.is_empty());
    }

    #[test]
    fn what_comes_during_a_repair_without_a_record_is_repaired_too() {
        let mut repairs = running();
        repairs.need(store(1), Position::new(1, 7), Duration::ZERO);
        repairs.set_aside(set(5));
        assert_eq!(follows(&mut repairs, 4), [5]);
        let later = Patience::default().first_pause;
        let again = (store(1), Position::new(1, 7));
        assert_eq!(repairs.start(later, 1), [again]);

        // Upstream did not have 4 when it was asked, but has it by now.
        let mut repairs = running();
        repairs.need(store(1), Position::new(1, 4), Duration::ZERO);
        assert!(follows(&mut repairs, 3).is_empty());
        assert!(!repairs.is_empty());
    }

    #[test]
    fn a_record_that_does_not_follow_is_repaired_too() {
        let mut repairs = running();
        repairs.set_aside(set(7));
        assert!(follows(&mut repairs, 5).is_empty());
        assert!(!repairs.is_empty());
    }

    #[test]
    fn a_revision_that_upstream_does_not_have_is_let_go_and_no_other() {
        // Upstream has 3 where 4 was asked for; 4 and 5 come after it was asked.
        let mut repairs = running();
        assert!(follows(&mut repairs, 3).is_empty());
        assert!(repairs.is_empty());
        let mut repairs = running();
        repairs.set_aside(set(4));
        assert_eq!(follows(&mut repairs, 3), [4]);
        assert!(repairs.is_empty());
    }

    #[test]
    fn what_an_older_reign_left_does_not_follow() {
        let mut repairs = running();
        repairs.set_aside(set(5));
        repairs.enter_reign();
        assert!(follows(&mut repairs, 4).is_empty());
        assert!(!repairs.is_empty());
    }
}
