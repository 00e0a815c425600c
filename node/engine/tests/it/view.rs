//! What a view holds after changes, fills, evictions and a restart.

use std::collections::{BTreeMap, BTreeSet};

use meridian_engine::{UnreadableFile, View};
use meridian_model::change::StoreInfo;
use meridian_model::{
    Change, ChangeSet, Position, StoreId, Tiers, Timestamp, TupleCondition, TupleKey,
};
use proptest::prelude::*;

use crate::arbitrary::tuple;

fn store() -> StoreId {
    "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap()
}

fn change_set(revision: u64, changes: Vec<Change>) -> ChangeSet {
    let position = Position::new(1, revision);
    ChangeSet {
        store: store(),
        epoch: position.epoch,
        revision: position.revision,
        committed_at: Timestamp(0),
        changes,
        touched: Vec::new(),
    }
}

fn key(text: &str) -> TupleKey {
    let (object, rest) = text.split_once('#').unwrap();
    let (relation, user) = rest.split_once('@').unwrap();
    TupleKey::parse(object, relation, user).unwrap()
}

fn held(view: &View, object_type: &str) -> BTreeSet<TupleKey> {
    let tuples = view.tuples_of_type(object_type).into_iter();
    tuples.map(|(key, _)| key).collect()
}

type Tuples = BTreeMap<TupleKey, Option<TupleCondition>>;

fn plain(keys: impl IntoIterator<Item = TupleKey>) -> Tuples {
    keys.into_iter().map(|key| (key, None)).collect()
}

fn condition() -> impl Strategy<Value = Option<TupleCondition>> {
    let named = |context: String| TupleCondition {
        name: "is_one".into(),
        context: context.into(),
    };
    proptest::option::weighted(0.3, r#"\{"x":[0-9]\}"#.prop_map(named))
}

/// A few hundred possible tuples of two types.
fn tuples() -> impl Strategy<Value = TupleKey> {
    (0..2_usize, 0..40_u8, 0..2_usize, 0..3_u8, 0..12_u8).prop_map(
        |(object_type, id, relation, kind, user)| {
            let user = match kind {
                0 => format!("user:{user}"),
                1 => format!("team:{user}#member"),
                _ => "user:*".to_owned(),
            };
            TupleKey::parse(
                &format!("{}:{id}", ["repo", "team"][object_type]),
                ["reader", "member"][relation],
                &user,
            )
            .unwrap()
        },
    )
}

proptest! {
    #[test]
    fn a_covered_type_holds_exactly_its_tuples(
        before in proptest::collection::btree_map(tuples(), condition(), 0..200),
        changes in proptest::collection::vec((any::<bool>(), tuples(), condition()), 0..600),
    ) {
        let held = |view: &View| view.tuples_of_type("repo").into_iter().collect::<Tuples>();
        let mut expected = before;
        expected.retain(|key, _| key.object.object_type() == "repo");
        let mut view = View::new(Position::new(1, 1)).cover("repo", expected.clone());
        for (revision, (written, key, condition)) in (2..).zip(&changes) {
            let change = if *written { Change::TupleWritten(tuple((key, condition))) } else { Change::TupleDeleted(key.clone()) };
            view = view.apply(&change_set(revision, vec![change]));
            if key.object.object_type() == "repo" {
                if *written { expected.insert(key.clone(), condition.clone()) } else { expected.remove(key) };
            }
        }
        prop_assert_eq!(held(&view), expected.clone());
        prop_assert_eq!(view.tuple_count(), expected.len(), "nothing of an uncovered type is kept");
        let mut by_set: BTreeMap<_, Tuples> = (0..40).map(|id| ((format!("repo:{id}"), "reader".into()), Tuples::new())).collect();
        for (key, condition) in &expected {
            let set = (key.object.to_string(), key.relation.clone());
            by_set.entry(set).or_default().insert(key.clone(), condition.clone());
        }
        for ((object, relation), expected) in by_set {
            let tuples = |most| view.tuples_of_set(&object.parse().unwrap(), &relation, most).unwrap();
            prop_assert_eq!(tuples(600).into_iter().collect::<Tuples>(), expected.clone());
            prop_assert_eq!(tuples(2).len(), expected.len().min(3));
        }
        prop_assert!(view.tuples_of_set(&"team:1".parse().unwrap(), "member", 1).is_none());

        let file = view.to_file();
        let again = View::from_file(&file).unwrap();
        prop_assert_eq!(held(&again), expected);
        prop_assert_eq!(again.position(), view.position());

        let gone = view.uncover("repo");
        prop_assert!(!gone.is_covered("repo") && view.is_covered("repo"));
        prop_assert_eq!(gone.tuple_count(), 0);
    }

    #[test]
    fn a_damaged_file_is_refused(at in any::<prop::sample::Index>(), bit in 0..8_u8, cut in any::<prop::sample::Index>()) {
        let view = View::new(Position::new(3, 7)).cover("repo", plain([key("repo:core#reader@user:anne"), key("repo:core#reader@team:x#member")]));
        let file = view.to_file();
        let mut damaged = file.clone();
        damaged[at.index(file.len())] ^= 1 << bit;
        prop_assert!(View::from_file(&damaged).is_err());
        prop_assert!(View::from_file(&file[..cut.index(file.len())]).is_err());
    }
}

#[test]
fn another_version_of_the_file_is_named_as_such() {
    assert_eq!(
        View::from_file(b"MERIDIAN VIEW 9\nwhatever").err(),
        Some(UnreadableFile::Version)
    );
}

#[test]
fn readers_keep_the_view_they_have() {
    let before =
        View::new(Position::new(1, 1)).cover("repo", plain([key("repo:core#reader@user:anne")]));
    let after = before.apply(&change_set(
        2,
        vec![
            Change::TupleDeleted(key("repo:core#reader@user:anne")),
            Change::TupleWritten(tuple((&key("repo:core#reader@user:bob"), &None))),
        ],
    ));
    assert_eq!(
        held(&before, "repo"),
        [key("repo:core#reader@user:anne")].into()
    );
    assert_eq!(
        held(&after, "repo"),
        [key("repo:core#reader@user:bob")].into()
    );
}

#[test]
fn a_deleted_store_holds_nothing() {
    let info = StoreInfo {
        id: store(),
        name: "shop".into(),
        created_at: Timestamp(5),
    };
    let view = View::new(Position::new(1, 0))
        .apply(&change_set(1, vec![Change::StoreCreated(info.clone())]))
        .cover("repo", plain([key("repo:core#reader@user:anne")]))
        .apply(&change_set(
            2,
            vec![Change::TiersAssigned(Tiers {
                critical: ["repo".to_owned()].into(),
                ..Tiers::default()
            })],
        ));
    assert_eq!(view.info(), Some(&info));
    assert!(view.tiers().critical.contains("repo"));
    let deleted = view.apply(&change_set(3, vec![Change::StoreDeleted]));
    assert!(deleted.is_deleted() && !deleted.is_covered("repo"));
    assert_eq!(
        (deleted.tuple_count(), deleted.position()),
        (0, Position::new(1, 3))
    );
}

#[test]
fn a_view_whose_objects_come_and_go_for_ever_stays_small() {
    let stays: BTreeSet<_> = (0..500)
        .map(|n| key(&format!("repo:stays-{n}#reader@team:stays-{n}#member")))
        .collect();
    let mut view = View::new(Position::new(1, 1)).cover("repo", plain(stays.clone()));
    let mut revision = 1;
    for round in 0..300 {
        let come: Vec<_> = (0..100)
            .map(|n| key(&format!("repo:{round}-{n}#reader@user:{round}-{n}")))
            .collect();
        let written = come
            .iter()
            .map(|key| Change::TupleWritten(tuple((key, &None))));
        let deleted = come.iter().map(|key| Change::TupleDeleted(key.clone()));
        for changes in [written.collect(), deleted.collect()] {
            revision += 1;
            view = view.apply(&change_set(revision, changes));
        }
        assert!(view.name_count() < 10_000, "{} names", view.name_count());
    }
    assert_eq!(held(&view, "repo"), stays);
    let again = View::from_file(&view.to_file()).unwrap();
    assert_eq!((held(&again, "repo"), again.name_count()), (stays, 1000));
    let empty = view.uncover("repo");
    assert_eq!((empty.tuple_count(), held(&empty, "repo").len()), (0, 0));
}

/// Names held beyond twice those in use.
const SPARE: usize = 4096;

fn many(numbers: std::ops::Range<u32>) -> Vec<TupleKey> {
    let key = |n| key(&format!("doc:{n}#a@user:{n}"));
    numbers.map(key).collect()
}

#[test]
fn names_are_freed_after_uncover() {
    let view = View::new(Position::new(1, 1)).cover("doc", plain(many(0..100_000)));
    assert_eq!(view.name_count(), 200_000);
    let empty = view.uncover("doc");
    assert!(empty.name_count() <= SPARE, "{} names", empty.name_count());
    let deleted = view.apply(&change_set(2, vec![Change::StoreDeleted]));
    assert_eq!(deleted.name_count(), 0);
}

#[test]
fn names_are_freed_after_many_deletions() {
    let all = many(0..20_000);
    let mut view = View::new(Position::new(1, 1)).cover("doc", plain(all.clone()));
    for (revision, keys) in (2..).zip(all.chunks(100)) {
        let deleted = keys.iter().cloned().map(Change::TupleDeleted);
        view = view.apply(&change_set(revision, deleted.collect()));
        let allowed = 2 * 2 * view.tuple_count() + SPARE;
        assert!(view.name_count() <= allowed, "{} names", view.name_count());
    }
    assert_eq!(view.tuple_count(), 0);
}

#[test]
fn a_type_that_cannot_be_covered_anew_is_not_covered_with_old_tuples() {
    let view = View::new(Position::new(1, 1)).cover("doc", plain(many(0..1)));
    // More relations than there are numbers for.
    let relations = (0..70_000).map(|n| key(&format!("doc:0#r{n}@user:0")));
    let failed = view.cover("doc", plain(relations));
    assert!(!failed.is_covered("doc"));
    assert_eq!(held(&failed, "doc"), BTreeSet::new());
}
