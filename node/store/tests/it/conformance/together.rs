use std::sync::Arc;

use futures::future::join_all;
use meridian_model::ports::{Committed, Datastore, DatastoreError, TupleFilter, WriteOptions};
use meridian_model::{Change, Revision, Tuple};

use crate::support::{deadline, keys, store_id, tuples};

type Db = Arc<dyn Datastore>;

async fn write(
    db: Db,
    deletes: Vec<Tuple>,
    writes: Vec<Tuple>,
) -> Result<Committed, DatastoreError> {
    let deletes: Vec<_> = deletes.into_iter().map(|tuple| tuple.key).collect();
    let options = WriteOptions::default();
    let written = db.write_tuples(store_id(1), &deletes, &writes, options, deadline());
    written.await.map(Option::unwrap)
}

async fn stored(db: &Db) -> Vec<Tuple> {
    let all = TupleFilter::default();
    let page = db.tuples(store_id(1), &all, None, 1000, deadline());
    page.await.unwrap().items
}

pub(super) async fn each_of_many_writes_is_a_revision_of_its_own(db: Db) {
    db.create_store(store_id(1), "one", deadline())
        .await
        .unwrap();
    let old: Vec<_> = (0..12)
        .map(|n| format!("repo:old{n}#admin@user:anne"))
        .collect();
    let old: Vec<_> = old.iter().map(String::as_str).collect();
    write(Arc::clone(&db), Vec::new(), tuples(&old))
        .await
        .unwrap();
    let written = join_all(old.iter().enumerate().map(|(n, old)| {
        let db = Arc::clone(&db);
        async move {
            let new = format!("repo:new{n}#admin@user:\"a\\b\"{{,}}NULL'é");
            let both = tuples(&[&new, &format!("{new}2")]);
            let committed = write(db, tuples(&[old]), both).await;
            (committed.unwrap(), (*old).to_owned(), new)
        }
    }))
    .await;
    let mut revisions: Vec<_> = written
        .iter()
        .map(|(committed, ..)| committed.position.revision.0)
        .collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (3..=14).collect::<Vec<_>>());
    let sets = db
        .change_sets(store_id(1), Revision(2), 100, deadline())
        .await
        .unwrap();
    for (committed, old, new) in written {
        let set = sets
            .iter()
            .find(|set| set.position() == committed.position)
            .unwrap();
        assert_eq!(set.committed_at, committed.at);
        let named: Vec<_> = set
            .changes
            .iter()
            .map(|change| match change {
                Change::TupleDeleted(key) => format!("-{key}"),
                Change::TupleWritten(tuple) => format!("+{}", tuple.key),
                _ => "another".to_owned(),
            })
            .collect();
        assert_eq!(
            named,
            [format!("-{old}"), format!("+{new}"), format!("+{new}2")]
        );
    }
    assert_eq!(stored(&db).await.len(), 24);
}

pub(super) async fn a_write_that_fails_takes_no_other_with_it(db: Db) {
    db.create_store(store_id(1), "one", deadline())
        .await
        .unwrap();
    let there = "repo:there#admin@user:anne";
    write(Arc::clone(&db), Vec::new(), tuples(&[there]))
        .await
        .unwrap();
    let new: Vec<_> = (0..8)
        .map(|n| format!("repo:new{n}#admin@user:anne"))
        .collect();
    let fine = new
        .iter()
        .map(|new| write(Arc::clone(&db), Vec::new(), tuples(&[new])));
    let gone = tuples(&["repo:gone#admin@user:anne", there]);
    let missing = tuples(&["repo:missing#admin@user:anne"]);
    let (fine, exists, missing) = tokio::join!(
        join_all(fine),
        write(Arc::clone(&db), Vec::new(), gone),
        write(Arc::clone(&db), missing, Vec::new()),
    );
    assert!(fine.iter().all(Result::is_ok), "{fine:?}");
    assert!(
        matches!(exists, Err(DatastoreError::TupleExists(key)) if key.to_string() == there),
        "not the tuple that is there"
    );
    assert!(matches!(missing, Err(DatastoreError::TupleMissing(_))));
    let mut expected = new.clone();
    expected.push(there.to_owned());
    assert_eq!(keys(&stored(&db).await), expected);
    let last = db.store(store_id(1), deadline()).await.unwrap().unwrap();
    assert_eq!(last.position.revision, Revision(10));
}

pub(super) async fn of_writes_of_one_tuple_the_first_wins(db: Db) {
    db.create_store(store_id(1), "one", deadline())
        .await
        .unwrap();
    let same = "repo:same#admin@user:anne";
    let written =
        join_all((0..8).map(|_| write(Arc::clone(&db), Vec::new(), tuples(&[same])))).await;
    let won = written.iter().filter(|written| written.is_ok()).count();
    assert_eq!(won, 1, "{written:?}");
    assert_eq!(keys(&stored(&db).await), [same]);
}

/// The changelog says what the store holds, whoever of the two came first.
pub(super) async fn a_write_and_a_delete_of_one_tuple_go_one_after_the_other(db: Db) {
    db.create_store(store_id(1), "one", deadline())
        .await
        .unwrap();
    let same = "repo:same#admin@user:anne";
    write(Arc::clone(&db), Vec::new(), tuples(&[same]))
        .await
        .unwrap();
    let (again, deleted) = tokio::join!(
        write(Arc::clone(&db), Vec::new(), tuples(&[same])),
        write(Arc::clone(&db), tuples(&[same]), Vec::new()),
    );
    assert!(deleted.is_ok(), "{again:?} {deleted:?}");
    let sets = db.change_sets(store_id(1), Revision(1), 100, deadline());
    let mut held = Vec::new();
    for change in sets.await.unwrap().into_iter().flat_map(|set| set.changes) {
        match change {
            Change::TupleWritten(tuple) => held.push(tuple.key.to_string()),
            Change::TupleDeleted(key) => held.retain(|held| *held != key.to_string()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(keys(&stored(&db).await), held);
}

pub(super) async fn who_gives_up_before_has_not_written(db: Db) {
    db.create_store(store_id(1), "one", deadline())
        .await
        .unwrap();
    let (mut waiting, mut expected) = (Vec::new(), Vec::new());
    for n in 0..8 {
        let new = format!("repo:new{n}#admin@user:anne");
        let mut write = Box::pin(write(Arc::clone(&db), Vec::new(), tuples(&[&new])));
        let is_done = futures::poll!(write.as_mut()).is_ready();
        if is_done || n % 2 == 1 {
            expected.push(new);
        }
        if !is_done && n % 2 == 1 {
            waiting.push(write);
        }
    }
    let ended = join_all(waiting).await;
    assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    assert_eq!(keys(&stored(&db).await), expected);
}
