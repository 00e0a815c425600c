use std::collections::BTreeSet;
use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_model::ports::{Datastore, DatastoreError, TupleFilter, WriteOptions};
use meridian_model::tuple::TupleCondition;
use meridian_model::{Change, Position, Revision, StoreId, Tiers, Timestamp, Tuple};

use crate::support::{deadline, keys, model, model_id, store_id, tuple, tuples};

type Db = Arc<dyn Datastore>;

async fn all(db: &Db) -> Vec<Tuple> {
    db.tuples(store_id(1), &TupleFilter::default(), None, 1000, deadline())
        .await
        .unwrap()
        .items
}

pub(super) async fn concurrent_writers_leave_no_gaps(db: Db) {
    db.create_store(store_id(1), "one", deadline())
        .await
        .unwrap();
    let writers: Vec<_> = (0..16)
        .map(|writer| {
            let db = Arc::clone(&db);
            tokio::spawn(async move {
                let mut revisions = Vec::new();
                for n in 0..5 {
                    let write = tuple(&format!("repo:w{writer}n{n}#admin@user:anne"));
                    revisions.push(
                        db.write_tuples(
                            store_id(1),
                            &[],
                            &[write],
                            WriteOptions::default(),
                            deadline(),
                        )
                        .await
                        .unwrap()
                        .unwrap()
                        .position
                        .revision
                        .0,
                    );
                }
                assert!(revisions.is_sorted());
                revisions
            })
        })
        .collect();
    let mut seen = BTreeSet::new();
    for writer in writers {
        seen.extend(writer.await.unwrap());
    }
    assert_eq!(seen, (2..=81).collect());
    let sets = db
        .change_sets(store_id(1), Revision::ZERO, 1000, deadline())
        .await
        .unwrap();
    assert_eq!(
        sets.iter().map(|set| set.revision.0).collect::<Vec<_>>(),
        (1..=81).collect::<Vec<_>>()
    );
    assert!(sets.is_sorted_by_key(|set| set.committed_at));
    assert_eq!(all(&db).await.len(), 80);
}

pub(super) async fn a_failed_write_changes_nothing(db: Db) {
    db.create_store(store_id(1), "one", deadline())
        .await
        .unwrap();
    db.write_tuples(
        store_id(1),
        &[],
        &tuples(&["repo:a#admin@user:anne"]),
        WriteOptions::default(),
        deadline(),
    )
    .await
    .unwrap();
    let before = (
        all(&db).await,
        db.store(store_id(1), deadline()).await.unwrap(),
        db.outbox(100, deadline()).await.unwrap(),
    );

    let existing = tuples(&["repo:b#admin@user:anne", "repo:a#admin@user:anne"]);
    let failed = db
        .write_tuples(
            store_id(1),
            &[],
            &existing,
            WriteOptions::default(),
            deadline(),
        )
        .await;
    assert!(matches!(failed, Err(DatastoreError::TupleExists(key)) if key == existing[1].key));

    let twice = tuples(&["repo:c#admin@user:anne", "repo:c#admin@user:anne"]);
    let failed = db
        .write_tuples(
            store_id(1),
            &[],
            &twice,
            WriteOptions::default(),
            deadline(),
        )
        .await;
    assert!(matches!(failed, Err(DatastoreError::TupleExists(key)) if key == twice[0].key));

    let missing = [existing[1].key.clone(), existing[0].key.clone()];
    let failed = db
        .write_tuples(
            store_id(1),
            &missing,
            &tuples(&["repo:d#admin@user:anne"]),
            WriteOptions::default(),
            deadline(),
        )
        .await;
    assert!(matches!(failed, Err(DatastoreError::TupleMissing(key)) if key == missing[1]));

    let after = (
        all(&db).await,
        db.store(store_id(1), deadline()).await.unwrap(),
        db.outbox(100, deadline()).await.unwrap(),
    );
    assert_eq!(before, after);
}

pub(super) async fn deletes_come_before_writes(db: Db) {
    db.create_store(store_id(1), "one", deadline())
        .await
        .unwrap();
    let plain = tuple("repo:a#admin@user:anne");
    db.write_tuples(
        store_id(1),
        &[],
        slice::from_ref(&plain),
        WriteOptions::default(),
        deadline(),
    )
    .await
    .unwrap();
    let condition = TupleCondition {
        name: "office_hours".into(),
        context: r#"{"from":9}"#.into(),
    };
    let conditioned = Tuple {
        condition: Some(condition),
        timestamp: Timestamp(7),
        ..plain.clone()
    };
    let committed = db
        .write_tuples(
            store_id(1),
            slice::from_ref(&plain.key),
            slice::from_ref(&conditioned),
            WriteOptions::default(),
            deadline(),
        )
        .await
        .unwrap()
        .unwrap();
    let stored = Tuple {
        timestamp: committed.at,
        ..conditioned
    };
    assert_eq!(all(&db).await, slice::from_ref(&stored));
    let sets = db
        .change_sets(store_id(1), Revision(2), 10, deadline())
        .await
        .unwrap();
    assert_eq!(sets.len(), 1);
    assert_eq!(
        (sets[0].position(), sets[0].committed_at),
        (committed.position, committed.at)
    );
    assert_eq!(
        sets[0].changes,
        [
            Change::TupleDeleted(plain.key),
            Change::TupleWritten(stored)
        ]
    );
}

pub(super) async fn a_store_is_created_listed_and_deleted(db: Db) {
    for number in [3, 1, 2, 4] {
        let name = if number == 4 { "other" } else { "same" };
        let record = db
            .create_store(store_id(number), name, deadline())
            .await
            .unwrap();
        assert_eq!(record.position.revision, Revision(1));
        assert_eq!(record.position.epoch, db.epoch(deadline()).await.unwrap());
        assert_eq!(
            db.store(store_id(number), deadline()).await.unwrap(),
            Some(record)
        );
    }
    assert!(matches!(
        db.create_store(store_id(1), "again", deadline()).await,
        Err(DatastoreError::Conflict)
    ));

    let first = db.stores(Some("same"), None, 2, deadline()).await.unwrap();
    assert_eq!(
        first
            .items
            .iter()
            .map(|store| store.info.id)
            .collect::<Vec<_>>(),
        [store_id(1), store_id(2)]
    );
    let second = db
        .stores(Some("same"), first.next, 2, deadline())
        .await
        .unwrap();
    assert_eq!(
        (second.items.len(), second.items[0].info.id, second.next),
        (1, store_id(3), None)
    );

    db.write_tuples(
        store_id(2),
        &[],
        &tuples(&["repo:a#admin@user:anne"]),
        WriteOptions::default(),
        deadline(),
    )
    .await
    .unwrap();
    db.write_model(store_id(2), model_id(1), &model("1.1"), deadline())
        .await
        .unwrap();
    let deleted = db
        .delete_store(store_id(2), deadline())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(deleted.position.revision, Revision(4));
    assert_eq!(
        db.delete_store(store_id(2), deadline()).await.unwrap(),
        None
    );
    assert_eq!(
        db.delete_store(store_id(9), deadline()).await.unwrap(),
        None
    );

    let record = db.store(store_id(2), deadline()).await.unwrap().unwrap();
    assert_eq!(
        (record.deleted_at, record.position),
        (Some(deleted.at), deleted.position)
    );
    assert_eq!(
        db.stores(None, None, 10, deadline())
            .await
            .unwrap()
            .items
            .len(),
        3
    );
    let positions = db.positions(deadline()).await.unwrap();
    assert_eq!(positions.len(), 4);
    // More than one statement asks for, most of them unknown.
    let mut asked: Vec<_> = (100..350).map(store_id).collect();
    asked.extend([store_id(2), store_id(1)]);
    let mut some = db.positions_of(&asked, deadline()).await.unwrap();
    some.sort_unstable();
    let those = |(id, _): &(StoreId, Position)| asked.contains(id);
    let mut expected: Vec<_> = positions.into_iter().filter(those).collect();
    expected.sort_unstable();
    assert_eq!(some.len(), 2, "the deleted one too");
    assert_eq!(some, expected);
    assert_eq!(db.positions_of(&[], deadline()).await.unwrap(), []);
    assert!(
        db.tuples(store_id(2), &TupleFilter::default(), None, 10, deadline())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert!(
        db.tuple_changes(store_id(2), None, None, None, 10, deadline())
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        db.latest_model(store_id(2), deadline()).await.unwrap(),
        None
    );
    let sets = db
        .change_sets(store_id(2), Revision(3), 10, deadline())
        .await
        .unwrap();
    assert_eq!(sets[0].changes, [Change::StoreDeleted]);
    for unknown in [store_id(2), store_id(9)] {
        let failed = db
            .write_tuples(
                unknown,
                &[],
                &tuples(&["repo:a#admin@user:anne"]),
                WriteOptions::default(),
                deadline(),
            )
            .await;
        assert!(matches!(failed, Err(DatastoreError::UnknownStore(id)) if id == unknown));
        assert!(matches!(
            db.assign_tiers(unknown, &Tiers::default(), deadline())
                .await,
            Err(DatastoreError::UnknownStore(_))
        ));
    }
}

pub(super) async fn later_models_follow_earlier_ones(db: Db) {
    db.create_store(store_id(1), "one", deadline())
        .await
        .unwrap();
    assert_eq!(
        db.latest_model(store_id(1), deadline()).await.unwrap(),
        None
    );
    for number in 1..=3 {
        db.write_model(
            store_id(1),
            model_id(number),
            &model(&number.to_string()),
            deadline(),
        )
        .await
        .unwrap();
    }
    assert!(matches!(
        db.write_model(store_id(1), model_id(2), &model("x"), deadline())
            .await,
        Err(DatastoreError::Conflict)
    ));
    assert_eq!(
        db.latest_model(store_id(1), deadline()).await.unwrap(),
        Some(model_id(3))
    );
    assert_eq!(
        *db.model(store_id(1), model_id(2), deadline())
            .await
            .unwrap()
            .unwrap(),
        model("2")
    );
    assert!(
        db.model(store_id(1), model_id(9), deadline())
            .await
            .unwrap()
            .is_none()
    );
    let first = db.models(store_id(1), None, 2, deadline()).await.unwrap();
    assert_eq!(
        first
            .items
            .iter()
            .map(|stored| stored.id)
            .collect::<Vec<_>>(),
        [model_id(3), model_id(2)]
    );
    let second = db
        .models(store_id(1), first.next, 2, deadline())
        .await
        .unwrap();
    assert_eq!(
        (second.items.len(), second.items[0].id, second.next),
        (1, model_id(1), None)
    );
    assert_eq!(
        db.store(store_id(1), deadline())
            .await
            .unwrap()
            .unwrap()
            .position
            .revision,
        Revision(4)
    );
}

pub(super) async fn a_lease_is_taken_over_once_it_ends(db: Db) {
    let long = Duration::from_secs(60);
    let short = Duration::from_millis(50);
    assert!(
        db.acquire_lease("relay", "a", long, deadline())
            .await
            .unwrap()
    );
    assert!(
        !db.acquire_lease("relay", "b", long, deadline())
            .await
            .unwrap()
    );
    assert!(
        db.acquire_lease("other", "b", long, deadline())
            .await
            .unwrap()
    );
    let extended_at = db.now(deadline()).await.unwrap();
    assert!(
        db.acquire_lease("relay", "a", short, deadline())
            .await
            .unwrap()
    );
    while !db
        .acquire_lease("relay", "b", long, deadline())
        .await
        .unwrap()
    {
        tokio::task::yield_now().await;
    }
    let taken_at = db.now(deadline()).await.unwrap();
    assert!(
        taken_at.micros_since(extended_at) >= 49_000,
        "{extended_at:?} {taken_at:?}"
    );
    assert!(
        !db.acquire_lease("relay", "a", long, deadline())
            .await
            .unwrap()
    );
}

pub(super) async fn a_passed_deadline_is_an_error(db: Db) {
    let passed = Instant::now();
    assert!(matches!(
        db.store(store_id(1), passed).await,
        Err(DatastoreError::DeadlineExceeded)
    ));
    assert!(matches!(
        db.create_store(store_id(1), "one", passed).await,
        Err(DatastoreError::DeadlineExceeded)
    ));
    assert!(matches!(
        db.snapshot(store_id(1), passed).await.map(|_| ()),
        Err(DatastoreError::DeadlineExceeded)
    ));
    assert_eq!(db.store(store_id(1), deadline()).await.unwrap(), None);
    db.create_store(store_id(1), "one", deadline())
        .await
        .unwrap();
    db.write_tuples(
        store_id(1),
        &[],
        &tuples(&["repo:a#admin@user:anne"]),
        WriteOptions::default(),
        deadline(),
    )
    .await
    .unwrap();
    assert_eq!(keys(&all(&db).await), ["repo:a#admin@user:anne"]);
}
