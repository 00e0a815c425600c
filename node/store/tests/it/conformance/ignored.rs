use std::slice;
use std::sync::Arc;

use meridian_model::ports::{Datastore, DatastoreError, TupleFilter, WriteOptions};
use meridian_model::tuple::TupleCondition;
use meridian_model::{Change, Revision, Tuple, TupleKey};

use crate::support::{deadline, key, store_id, tuple};

type Db = Arc<dyn Datastore>;

async fn all(db: &Db) -> Vec<Tuple> {
    db.tuples(store_id(1), &TupleFilter::default(), None, 1000, deadline())
        .await
        .unwrap()
        .items
}

pub(super) async fn what_is_so_already_may_be_ignored(db: Db) {
    db.create_store(store_id(1), "one", deadline())
        .await
        .unwrap();
    let conditioned = |text: &str, from: u32| Tuple {
        condition: Some(TupleCondition {
            name: "office_hours".into(),
            context: format!(r#"{{"from":{from}}}"#).into(),
        }),
        ..tuple(text)
    };
    let (plain, nine) = (
        tuple("repo:a#admin@user:anne"),
        conditioned("repo:b#admin@user:anne", 9),
    );
    let there = [plain.clone(), nine.clone()];
    let write = async |deletes: &[TupleKey], writes: &[Tuple], options| {
        db.write_tuples(store_id(1), deletes, writes, options, deadline())
            .await
    };
    let ignoring = WriteOptions {
        ignore_duplicate: true,
        ignore_missing: true,
    };
    write(&[], &there, ignoring).await.unwrap().unwrap();
    let stored = all(&db).await;
    let absent = key("repo:c#admin@user:anne");

    // Nothing is left to do: there is no revision.
    for (deletes, writes) in [
        (slice::from_ref(&absent), &there[..]),
        (slice::from_ref(&absent), &[]),
        (&[], &there[1..]),
        (&[], &[]),
    ] {
        assert_eq!(write(deletes, writes, ignoring).await.unwrap(), None);
    }
    let position = db.store(store_id(1), deadline()).await.unwrap().unwrap();
    assert_eq!(position.position.revision, Revision(2));
    assert_eq!(all(&db).await, stored);

    // Another condition is another tuple, whichever of both has one, and each option stands for itself.
    for other in [
        conditioned("repo:b#admin@user:anne", 10),
        tuple("repo:b#admin@user:anne"),
        conditioned("repo:a#admin@user:anne", 9),
    ] {
        let new = tuple("repo:new#admin@user:anne");
        let writes = [new, other.clone()];
        let failed = write(&[], &writes, ignoring).await;
        assert!(
            matches!(&failed, Err(DatastoreError::ConditionDiffers(key)) if *key == other.key),
            "{failed:?}"
        );
    }
    let only_missing = WriteOptions {
        ignore_duplicate: false,
        ..ignoring
    };
    let failed = write(slice::from_ref(&absent), &there, only_missing).await;
    assert!(matches!(failed, Err(DatastoreError::TupleExists(key)) if key == plain.key));
    let only_duplicate = WriteOptions {
        ignore_missing: false,
        ..ignoring
    };
    let failed = write(slice::from_ref(&absent), &there, only_duplicate).await;
    assert!(matches!(failed, Err(DatastoreError::TupleMissing(key)) if key == absent));
    assert_eq!(all(&db).await, stored);

    // The changelog has only what was changed.
    let new = tuple("repo:d#admin@user:anne");
    let deletes = [absent, nine.key.clone()];
    let writes = [plain, new.clone()];
    let committed = write(&deletes, &writes, ignoring).await.unwrap().unwrap();
    assert_eq!(committed.position.revision, Revision(3));
    let sets = db.change_sets(store_id(1), Revision(2), 10, deadline());
    let new = Tuple {
        timestamp: committed.at,
        ..new
    };
    assert_eq!(
        sets.await.unwrap()[0].changes,
        [Change::TupleDeleted(nine.key), Change::TupleWritten(new)]
    );
}
