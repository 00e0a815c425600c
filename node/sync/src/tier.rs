//! What of a revision travels to an edge.

use std::collections::BTreeSet;

use meridian_model::change::{Change, ChangeSet, Tier, Tiers};
use meridian_model::hash::{set_hash, type_hash};
use meridian_model::tuple::TupleKey;

/// Thins a change set out for an edge. Tuples of Critical types, models, tiers and the store's beginning and end stay;
/// the other tuples leave only hashes of their set and type in `touched`, sorted, each once.
///
/// `tiers` are those in force after the change set; if it assigns tiers itself, the ones it assigns are used.
pub fn for_edge(change_set: &ChangeSet, tiers: &Tiers) -> ChangeSet {
    let assigned = change_set
        .changes
        .iter()
        .rev()
        .find_map(|change| match change {
            Change::TiersAssigned(tiers) => Some(tiers),
            _ => None,
        });
    let tiers = assigned.unwrap_or(tiers);
    let mut touched: BTreeSet<u64> = change_set.touched.iter().copied().collect();
    let mut changes = Vec::new();
    for change in &change_set.changes {
        match tuple_key(change) {
            Some(key) if tiers.of(key.object.object_type()) != Tier::Critical => {
                touched.extend(hashes(key))
            }
            _ => changes.push(change.clone()),
        }
    }
    ChangeSet {
        changes,
        touched: touched.into_iter().collect(),
        ..*change_set
    }
}

/// Hashes of every set and type that a change set touches, carried or not, sorted, each once: what ends kept answers.
pub fn touched(change_set: &ChangeSet) -> Vec<u64> {
    let carried = change_set
        .changes
        .iter()
        .filter_map(tuple_key)
        .flat_map(hashes);
    let all: BTreeSet<u64> = carried.chain(change_set.touched.iter().copied()).collect();
    all.into_iter().collect()
}

/// The tuple that a change writes or deletes.
pub(crate) fn tuple_key(change: &Change) -> Option<&TupleKey> {
    match change {
        Change::TupleWritten(tuple) => Some(&tuple.key),
        Change::TupleDeleted(key) => Some(key),
        Change::ModelWritten(_)
        | Change::StoreCreated(_)
        | Change::StoreDeleted
        | Change::TiersAssigned(_) => None,
    }
}

/// Hashes of the set and of the type that a tuple is of.
pub fn hashes(key: &TupleKey) -> [u64; 2] {
    [
        set_hash(&key.object, &key.relation),
        type_hash(key.object.object_type()),
    ]
}

#[cfg(test)]
mod tests {
    use meridian_model::ids::{Epoch, Revision, Timestamp};
    use meridian_model::tuple::Tuple;

    use super::*;

    fn key(object: &str) -> TupleKey {
        TupleKey::parse(object, "viewer", "user:anne").unwrap()
    }

    fn written(object: &str) -> Change {
        Change::TupleWritten(Tuple {
            key: key(object),
            condition: None,
            timestamp: Timestamp(0),
        })
    }

    fn set(changes: Vec<Change>) -> ChangeSet {
        let store = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        ChangeSet {
            store,
            epoch: Epoch(1),
            revision: Revision(2),
            committed_at: Timestamp(0),
            changes,
            touched: vec![],
        }
    }

    fn critical(types: &[&str]) -> Tiers {
        Tiers {
            critical: types.iter().map(|&t| t.to_owned()).collect(),
            cold: BTreeSet::new(),
        }
    }

    #[test]
    fn critical_tuples_are_carried_and_the_rest_leave_hashes() {
        let full = set(vec![
            written("repo:a"),
            written("log:1"),
            written("log:2"),
            Change::TupleDeleted(key("log:1")),
            Change::StoreDeleted,
        ]);
        let thin = for_edge(&full, &critical(&["repo"]));
        assert_eq!(thin.changes, vec![written("repo:a"), Change::StoreDeleted]);
        let mut expected = vec![
            type_hash("log"),
            set_hash(&key("log:1").object, "viewer"),
            set_hash(&key("log:2").object, "viewer"),
        ];
        expected.sort_unstable();
        assert_eq!(thin.touched, expected);
        assert_eq!(thin.position(), full.position());
        assert_eq!(
            for_edge(&thin, &critical(&["repo"])),
            thin,
            "thinning out twice changes nothing"
        );
        assert_eq!(
            touched(&thin),
            touched(&full),
            "an edge learns of every touched set"
        );
    }

    #[test]
    fn a_change_set_that_assigns_tiers_follows_them() {
        let full = set(vec![
            written("repo:a"),
            Change::TiersAssigned(critical(&["log"])),
            written("log:1"),
        ]);
        let thin = for_edge(&full, &critical(&["repo"]));
        assert_eq!(
            thin.changes,
            vec![Change::TiersAssigned(critical(&["log"])), written("log:1")]
        );
    }
}
