//! Change sets kept for later: in order of revision, bounded by number and by what they weigh. What does not fit is asked
//! for again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use meridian_model::change::ChangeSet;
use meridian_model::ids::{Position, Revision};

use crate::edge::Limits;

/// What a process keeps of all stores, in bytes; beyond it each store may keep no more than [`SHARE`].
const ALL: usize = 64 * 1024 * 1024;
/// What is kept of a store however much others keep, so that it comes along.
const SHARE: usize = 1024 * 1024;

/// What all of them in this process weigh.
static KEPT: AtomicUsize = AtomicUsize::new(0);

/// Change sets of one store and reign.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    sets: BTreeMap<Revision, ChangeSet>,
    bytes: usize,
}

impl Aside {
    pub(crate) fn insert(&mut self, set: ChangeSet) {
        self.came(set.weight());
        let before = self.sets.insert(set.revision, set);
        self.went(before.as_ref());
    }

    /// Whether something must go.
    pub(crate) fn is_over(&self, limits: &Limits) -> bool {
        let crowded = self.bytes > SHARE && KEPT.load(Ordering::Relaxed) > ALL;
        crowded || self.sets.len() > limits.set_aside
    }

    /// Lets the latest go until what is left may be kept: what is far ahead is the cheapest to ask for later. Whether any
    /// had to.
    pub(crate) fn keep_nearest(&mut self, limits: &Limits) -> bool {
        let over = self.is_over(limits);
        while self.is_over(limits) {
            let last = self.sets.pop_last();
            self.went(last.as_ref().map(|(_, set)| set));
        }
        over
    }

    pub(crate) fn pop_first(&mut self) -> Option<ChangeSet> {
        self.pop_first_if(|_| true)
    }

    /// Takes the first if it is such a one.
    pub(crate) fn pop_first_if(
        &mut self,
        is: impl FnOnce(&ChangeSet) -> bool,
    ) -> Option<ChangeSet> {
        let first = self.sets.first_entry().filter(|first| is(first.get()))?;
        let first = first.remove();
        self.went(Some(&first));
        Some(first)
    }

    /// Drops what is at `position` or before.
    pub(crate) fn drop_through(&mut self, position: Position) {
        while let Some(first) = self.sets.first_entry()
            && first.get().position() <= position
        {
            let first = first.remove();
            self.went(Some(&first));
        }
    }

    /// Drops what is behind `last`.
    pub(crate) fn drop_after(&mut self, last: Revision) {
        for set in self.sets.split_off(&last.next()).values() {
            self.went(Some(set));
        }
    }

    /// What is behind `position`, in order.
    pub(crate) fn after(&self, position: Position) -> impl Iterator<Item = &ChangeSet> {
        let sets = self.sets.values();
        sets.filter(move |set| set.position() > position)
    }

    fn came(&mut self, bytes: usize) {
        self.bytes += bytes;
        KEPT.fetch_add(bytes, Ordering::Relaxed);
    }

    fn went(&mut self, set: Option<&ChangeSet>) {
        let bytes = set.map_or(0, ChangeSet::weight);
        self.bytes -= bytes;
        KEPT.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        KEPT.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use meridian_model::AuthorizationModel;
    use meridian_model::change::{Change, StoredModel};
    use meridian_model::ids::{Epoch, Timestamp};

    use super::*;

    /// One that weighs as much as the largest model.
    fn heavy(revision: u64) -> ChangeSet {
        let model = AuthorizationModel {
            schema_version: "1.1".into(),
            type_definitions: Vec::new(),
            conditions: Default::default(),
        };
        ChangeSet {
            store: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
            epoch: Epoch(1),
            revision: Revision(revision),
            committed_at: Timestamp(0),
            changes: vec![Change::ModelWritten(StoredModel {
                id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
                model: Arc::new(model),
            })],
            touched: Vec::new(),
        }
    }

    #[test]
    fn what_is_kept_is_bounded_by_its_weight_over_all_stores() {
        let limits = Limits::default();
        let (mut one, mut other) = (Aside::default(), Aside::default());
        let weight = heavy(1).weight();
        for revision in (1..=100).rev() {
            one.insert(heavy(revision));
            one.keep_nearest(&limits);
        }
        let kept = one.after(Position::default()).count();
        assert!(kept * weight <= ALL && (kept + 3) * weight > ALL, "{kept}");
        assert_eq!(one.pop_first().map(|set| set.revision), Some(Revision(1)));

        // Others go on with their share, and with more once there is room.
        let fill = |other: &mut Aside| {
            for revision in 1..=9 {
                other.insert(heavy(revision));
                other.keep_nearest(&limits);
            }
            other.after(Position::default()).count()
        };
        assert!(fill(&mut other) < 4);
        one.drop_after(Revision(20));
        assert_eq!(fill(&mut other), 9);
        other.drop_through(Position::new(1, 4));
        assert_eq!(other.pop_first().map(|set| set.revision), Some(Revision(5)));
    }
}
