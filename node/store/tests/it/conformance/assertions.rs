use std::sync::Arc;

use meridian_model::ports::{Datastore, DatastoreError};

use crate::support::{deadline, model, model_id, store_id};

pub(super) async fn assertions_are_kept_by_model(db: Arc<dyn Datastore>) {
    let write = async |store, number, text: &str| {
        db.write_assertions(store_id(store), model_id(number), text, deadline())
            .await
    };
    let read = async |store, number| {
        let read = db.read_assertions(store_id(store), model_id(number), deadline());
        read.await.unwrap()
    };
    for store in [1, 2] {
        db.create_store(store_id(store), "shop", deadline())
            .await
            .unwrap();
        for number in [1, 2] {
            db.write_model(store_id(store), model_id(number), &model("1.1"), deadline())
                .await
                .unwrap();
        }
    }
    let before = (
        db.positions(deadline()).await.unwrap(),
        db.outbox(100, deadline()).await.unwrap(),
    );
    assert_eq!(read(1, 1).await, None);
    write(1, 1, "old").await.unwrap();
    let long = "\u{e4}".repeat(32_000);
    for (store, number, text) in [(1, 1, "new"), (1, 2, &long), (2, 1, "other")] {
        write(store, number, text).await.unwrap();
    }
    assert_eq!(read(1, 1).await.as_deref(), Some("new"));
    assert_eq!(read(1, 2).await, Some(long));
    assert_eq!(read(2, 1).await.as_deref(), Some("other"));
    assert_eq!(read(2, 2).await, None);
    // They are no revision: nothing of them is published.
    let after = (
        db.positions(deadline()).await.unwrap(),
        db.outbox(100, deadline()).await.unwrap(),
    );
    assert_eq!(before, after);

    db.delete_store(store_id(1), deadline()).await.unwrap();
    assert_eq!(read(1, 1).await, None);
    assert_eq!(read(2, 1).await.as_deref(), Some("other"));
    for gone in [1, 9] {
        let late = write(gone, 1, "late").await;
        assert!(
            matches!(late, Err(DatastoreError::UnknownStore(id)) if id == store_id(gone)),
            "{late:?}"
        );
        assert_eq!(read(gone, 1).await, None);
    }
}
