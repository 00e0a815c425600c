use std::slice;
use std::sync::Arc;
use std::time::Duration;

use meridian_model::ports::{
    Applied, Datastore, DatastoreError, StoreHead, TupleFilter, WriteOptions,
};
use meridian_model::tuple::TupleCondition;
use meridian_model::{Change, ChangeSet, Epoch, Position, Revision, Tiers, Timestamp, Tuple};
use meridian_store::memory::MemoryDatastore;

use crate::support::{deadline, key, model, model_id, store_id, tuple, tuples};

type Db = Arc<dyn Datastore>;

/// How long a step of a replacement may take.
const STEP: Duration = Duration::from_secs(30);

pub(super) fn tiers(cold: &str) -> Tiers {
    Tiers {
        cold: [cold.to_owned()].into(),
        ..Tiers::default()
    }
}

/// Something of every kind: revisions 1 to 6.
pub(super) async fn fill(db: &dyn Datastore) {
    db.create_store(store_id(1), "one", deadline())
        .await
        .unwrap();
    db.write_model(store_id(1), model_id(1), &model("1.1"), deadline())
        .await
        .unwrap();
    let condition = Some(TupleCondition {
        name: "c".into(),
        context: "{}".into(),
    });
    let writes = [
        tuple("repo:a#admin@user:anne"),
        Tuple {
            condition,
            ..tuple("repo:a#admin@team:core#member")
        },
    ];
    db.write_tuples(
        store_id(1),
        &[],
        &writes,
        WriteOptions::default(),
        deadline(),
    )
    .await
    .unwrap();
    db.assign_tiers(store_id(1), &tiers("repo"), deadline())
        .await
        .unwrap();
    db.write_tuples(
        store_id(1),
        &[key("repo:a#admin@user:anne")],
        &tuples(&["repo:b#admin@user:*"]),
        WriteOptions::default(),
        deadline(),
    )
    .await
    .unwrap();
    db.assign_tiers(store_id(1), &tiers("team"), deadline())
        .await
        .unwrap();
}

pub(super) async fn history(db: &dyn Datastore) -> Vec<ChangeSet> {
    db.change_sets(store_id(1), Revision::ZERO, 100, deadline())
        .await
        .unwrap()
}

pub(super) async fn content(db: &dyn Datastore) -> (StoreHead, Vec<Tuple>) {
    let mut snapshot = db.snapshot(store_id(1), deadline()).await.unwrap().unwrap();
    (
        snapshot.head().await.unwrap(),
        snapshot.tuples(None, 1000).await.unwrap(),
    )
}

pub(super) async fn replayed_changes_make_the_same_store(db: Db) {
    let central = MemoryDatastore::new();
    fill(&central).await;
    for set in history(&central).await {
        assert_eq!(
            db.apply(slice::from_ref(&set), deadline()).await.unwrap(),
            Applied::Applied
        );
    }
    assert_eq!(history(db.as_ref()).await, history(&central).await);
    assert_eq!(content(db.as_ref()).await, content(&central).await);
    assert_eq!(
        db.outbox(100, deadline()).await.unwrap(),
        central.outbox(100, deadline()).await.unwrap()
    );
    assert_eq!(
        db.change_sets(store_id(1), Revision(2), 2, deadline())
            .await
            .unwrap(),
        history(&central).await[2..4]
    );

    central.delete_store(store_id(1), deadline()).await.unwrap();
    let last = central
        .change_sets(store_id(1), Revision(6), 10, deadline())
        .await
        .unwrap();
    assert_eq!(
        db.apply(&last[0..=0], deadline()).await.unwrap(),
        Applied::Applied
    );
    assert_eq!(content(db.as_ref()).await, content(&central).await);
}

pub(super) async fn several_changes_are_applied_at_once(db: Db) {
    let central = MemoryDatastore::new();
    fill(&central).await;
    let sets = history(&central).await;
    let with_a_gap = [sets[0].clone(), sets[2].clone()];
    let have = Position::default();
    assert_eq!(
        db.apply(&with_a_gap, deadline()).await.unwrap(),
        Applied::Gap { have }
    );
    assert_eq!(db.apply(&[], deadline()).await.unwrap(), Applied::Skipped);
    for (upto, expected) in [
        (2, Applied::Applied),
        (sets.len(), Applied::Applied),
        (3, Applied::Skipped),
    ] {
        assert_eq!(db.apply(&sets[..upto], deadline()).await.unwrap(), expected);
    }
    assert_eq!(history(db.as_ref()).await, sets);
    assert_eq!(content(db.as_ref()).await, content(&central).await);
    assert_eq!(
        db.outbox(100, deadline()).await.unwrap(),
        central.outbox(100, deadline()).await.unwrap()
    );
}

pub(super) async fn only_the_next_change_of_the_epoch_is_applied(db: Db) {
    let central = MemoryDatastore::new();
    fill(&central).await;
    let sets = history(&central).await;
    assert_eq!(
        db.apply(&sets[1..=1], deadline()).await.unwrap(),
        Applied::Gap {
            have: Position::default()
        }
    );
    for set in &sets[..3] {
        assert_eq!(
            db.apply(slice::from_ref(set), deadline()).await.unwrap(),
            Applied::Applied
        );
    }
    let before = content(db.as_ref()).await;
    let have = sets[2].position();
    assert_eq!(
        db.apply(&sets[2..=2], deadline()).await.unwrap(),
        Applied::Skipped
    );
    assert_eq!(
        db.apply(&sets[0..=0], deadline()).await.unwrap(),
        Applied::Skipped
    );
    assert_eq!(
        db.apply(&sets[4..=4], deadline()).await.unwrap(),
        Applied::Gap { have }
    );
    let in_epoch = |set: &ChangeSet, epoch: u64| ChangeSet {
        epoch: Epoch(epoch),
        ..set.clone()
    };
    let older = have.epoch.0 - 1;
    for set in &sets {
        assert_eq!(
            db.apply(&[in_epoch(set, older)], deadline()).await.unwrap(),
            Applied::Fenced { have }
        );
        assert_eq!(
            db.apply(&[in_epoch(set, have.epoch.0 + 1)], deadline())
                .await
                .unwrap(),
            Applied::NewEpoch { have }
        );
    }
    assert_eq!(content(db.as_ref()).await, before);
    assert_eq!(db.outbox(100, deadline()).await.unwrap().len(), 3);
    assert_eq!(
        db.apply(&sets[3..=3], deadline()).await.unwrap(),
        Applied::Applied
    );
}

pub(super) async fn applying_is_idempotent(db: Db) {
    fill(db.as_ref()).await;
    let have = db
        .store(store_id(1), deadline())
        .await
        .unwrap()
        .unwrap()
        .position;
    let again = Tuple {
        timestamp: Timestamp(5),
        ..tuple("repo:b#admin@user:*")
    };
    let set = ChangeSet {
        store: store_id(1),
        epoch: have.epoch,
        revision: have.revision.next(),
        committed_at: Timestamp(5),
        changes: vec![
            Change::TupleDeleted(key("repo:z#admin@user:anne")),
            Change::TupleWritten(again.clone()),
            Change::TupleWritten(again.clone()),
        ],
        touched: Vec::new(),
    };
    assert_eq!(
        db.apply(slice::from_ref(&set), deadline()).await.unwrap(),
        Applied::Applied
    );
    let empty = ChangeSet {
        revision: set.revision.next(),
        changes: Vec::new(),
        ..set.clone()
    };
    assert_eq!(
        db.apply(slice::from_ref(&empty), deadline()).await.unwrap(),
        Applied::Applied
    );
    let filter = TupleFilter {
        object_type: Some("repo".to_owned()),
        object_id: Some("b".to_owned()),
        ..TupleFilter::default()
    };
    assert_eq!(
        db.tuples(store_id(1), &filter, None, 10, deadline())
            .await
            .unwrap()
            .items,
        [again]
    );
    assert_eq!(
        db.change_sets(store_id(1), have.revision, 10, deadline())
            .await
            .unwrap(),
        [set, empty]
    );
}

pub(super) async fn a_snapshot_replaces_the_store(db: Db) {
    fill(db.as_ref()).await;
    db.create_store(store_id(2), "two", deadline())
        .await
        .unwrap();
    let central = MemoryDatastore::new();
    fill(&central).await;
    central
        .write_tuples(
            store_id(1),
            &[],
            &tuples(&["repo:new#admin@user:anne"]),
            WriteOptions::default(),
            deadline(),
        )
        .await
        .unwrap();
    let (head, tuples) = content(&central).await;
    let generation = db.generation(deadline()).await.unwrap();
    assert!(replace(db.as_ref(), &head, &tuples).await);
    assert_ne!(db.generation(deadline()).await.unwrap(), generation);
    assert_eq!(
        db.oldest_change(store_id(1), deadline()).await.unwrap(),
        None
    );

    assert_eq!(content(db.as_ref()).await, content(&central).await);
    assert_eq!(db.tiers(store_id(1), deadline()).await.unwrap(), head.tiers);
    let outbox = db.outbox(100, deadline()).await.unwrap();
    assert_eq!(
        outbox
            .iter()
            .map(|row| row.change_set.store)
            .collect::<Vec<_>>(),
        [store_id(2)]
    );
    let trimmed = db
        .change_sets(store_id(1), Revision(3), 10, deadline())
        .await;
    assert!(
        matches!(
            trimmed,
            Err(DatastoreError::Trimmed {
                oldest: Revision(8)
            })
        ),
        "{trimmed:?}"
    );
    assert!(
        db.change_sets(store_id(1), Revision(7), 10, deadline())
            .await
            .unwrap()
            .is_empty()
    );

    central
        .assign_tiers(store_id(1), &tiers("none"), deadline())
        .await
        .unwrap();
    let next = central
        .change_sets(store_id(1), Revision(7), 10, deadline())
        .await
        .unwrap();
    assert_eq!(
        db.apply(&next[0..=0], deadline()).await.unwrap(),
        Applied::Applied
    );
    assert_eq!(
        db.change_sets(store_id(1), Revision(7), 10, deadline())
            .await
            .unwrap(),
        next
    );
}

/// Takes a store over in chunks of two tuples; whether the datastore let it.
pub(super) async fn replace(db: &dyn Datastore, head: &StoreHead, tuples: &[Tuple]) -> bool {
    let Some(mut replacement) = db.replace(head, STEP).await.unwrap() else {
        return false;
    };
    for chunk in tuples.chunks(2) {
        replacement.add(chunk.to_vec()).await.unwrap();
    }
    match replacement.finish().await {
        Err(DatastoreError::Conflict) => false,
        finished => {
            finished.unwrap();
            true
        }
    }
}

pub(super) fn at(head: &StoreHead, epoch: u64, revision: u64) -> StoreHead {
    StoreHead {
        position: Position::new(epoch, revision),
        ..head.clone()
    }
}

pub(super) async fn a_store_is_only_replaced_by_a_newer_one(db: Db) {
    let central = MemoryDatastore::new();
    fill(&central).await;
    let (head, kept) = content(&central).await;
    let generation = async || db.generation(deadline()).await.unwrap();
    let first = generation().await;
    assert!(replace(db.as_ref(), &at(&head, 5, 9), &kept).await);
    let second = generation().await;
    assert_ne!(first, second);

    for older in [at(&head, 5, 9), at(&head, 5, 8), at(&head, 4, 100)] {
        let other = tuples(&["repo:other#admin@user:anne"]);
        assert!(!replace(db.as_ref(), &older, &other).await);
    }
    // Begun, and given up.
    let begun = db.replace(&at(&head, 6, 1), STEP).await.unwrap();
    let mut begun = begun.unwrap();
    begun
        .add(tuples(&["repo:other#admin@user:anne"]))
        .await
        .unwrap();
    drop(begun);
    assert_eq!(content(db.as_ref()).await, (at(&head, 5, 9), kept.clone()));
    assert_eq!(generation().await, second);

    assert!(replace(db.as_ref(), &at(&head, 6, 1), &kept[..1]).await);
    assert_eq!(
        content(db.as_ref()).await,
        (at(&head, 6, 1), kept[..1].to_vec())
    );
    assert_ne!(generation().await, second);
}

pub(super) async fn of_two_who_replace_a_store_the_newer_wins(db: Db) {
    let central = MemoryDatastore::new();
    fill(&central).await;
    let (head, kept) = content(&central).await;
    let newer = db.replace(&at(&head, 1, 9), STEP).await.unwrap();
    let (other, older) = (Arc::clone(&db), at(&head, 1, 8));
    let slower = tokio::spawn(async move { replace(other.as_ref(), &older, &[]).await });
    tokio::task::yield_now().await;
    let mut newer = newer.unwrap();
    newer.add(kept.clone()).await.unwrap();
    newer.finish().await.unwrap();
    slower.await.unwrap();
    assert_eq!(content(db.as_ref()).await, (at(&head, 1, 9), kept));
}

pub(super) async fn a_large_store_is_replaced(db: Db) {
    let central = MemoryDatastore::new();
    fill(&central).await;
    let (head, _) = content(&central).await;
    let many = |name: &str, count: u32| -> Vec<Tuple> {
        (0..count)
            .map(|n| tuple(&format!("repo:{name}{n:06}#admin@user:anne")))
            .collect()
    };
    for (epoch, name, count) in [(1, "a", 45_000), (2, "b", 1)] {
        let begun = db.replace(&at(&head, epoch, 9), STEP).await.unwrap();
        let mut begun = begun.unwrap();
        for chunk in many(name, count).chunks(5_000) {
            begun.add(chunk.to_vec()).await.unwrap();
        }
        begun.finish().await.unwrap();
    }
    assert_eq!(content(db.as_ref()).await, (at(&head, 2, 9), many("b", 1)));
}
