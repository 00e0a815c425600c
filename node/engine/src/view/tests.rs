use super::*;
use crate::names::Limit;

fn plain(
    numbers: std::ops::Range<u32>,
) -> impl Iterator<Item = (TupleKey, Option<TupleCondition>)> {
    keys(numbers).into_iter().map(|key| (key, None))
}

fn keys(numbers: std::ops::Range<u32>) -> Vec<TupleKey> {
    let key = |n| TupleKey::parse(&format!("doc:{n:04}"), "a", "user:anne").unwrap();
    numbers.map(key).collect()
}

/// A view that has room for `bytes` of names.
fn small(bytes: u32) -> View {
    let view = View::new(Position::new(1, 1));
    let root = Root {
        names: Names::new(Limit(bytes)),
        ..Root::clone(&view.root)
    };
    View {
        root: Arc::new(root),
    }
}

/// Room for `user:anne` and a hundred objects of eight bytes.
const ROOM: u32 = 9 + 100 * 8;

fn written(key: &TupleKey) -> ChangeSet {
    ChangeSet {
        store: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
        epoch: meridian_model::Epoch(1),
        revision: meridian_model::Revision(2),
        committed_at: meridian_model::Timestamp(0),
        changes: vec![Change::TupleWritten(Tuple {
            key: key.clone(),
            condition: None,
            timestamp: meridian_model::Timestamp(0),
        })],
        touched: Vec::new(),
    }
}

#[test]
fn a_type_whose_names_find_no_room_is_not_covered() {
    let full = small(ROOM).cover("doc", plain(0..100));
    assert!(full.is_covered("doc"));
    assert_eq!((full.tuple_count(), full.name_count()), (100, 101));

    let over = full.cover("doc", plain(0..101));
    assert!(!over.is_covered("doc"));
    assert_eq!(
        (over.tuple_count(), over.tuples_of_type("doc")),
        (0, vec![])
    );
}

#[test]
fn a_change_whose_names_find_no_room_uncovers_its_type() {
    let full = small(ROOM).cover("doc", plain(0..100));
    let known = full.apply(&written(&keys(0..1)[0]));
    assert!(known.is_covered("doc"));
    let over = full.apply(&written(&keys(100..101)[0]));
    assert!(!over.is_covered("doc"));
    assert_eq!(
        (over.tuple_count(), over.position()),
        (0, Position::new(1, 2))
    );
}
