use std::sync::Arc;

use meridian_model::Revision;
use meridian_model::ports::{Datastore, DatastoreError, WriteOptions};

use super::replication::{at, content, fill, history, replace};
use crate::support::{deadline, keys, store_id, tuple};

type Db = Arc<dyn Datastore>;

pub(super) async fn the_oldest_change_says_from_where_the_changelog_is_whole(db: Db) {
    let oldest = async || db.oldest_change(store_id(1), deadline()).await.unwrap();
    assert_eq!(oldest().await, None);
    fill(db.as_ref()).await;
    let sets = history(db.as_ref()).await;
    assert_eq!(oldest().await, Some((Revision(1), sets[0].committed_at)));
    let outbox = db.outbox(100, deadline()).await.unwrap();
    let sequences: Vec<_> = outbox.iter().map(|row| row.sequence).collect();
    db.outbox_delete(&sequences, deadline()).await.unwrap();
    db.trim_changes(store_id(1), Revision(3), deadline())
        .await
        .unwrap();
    assert_eq!(oldest().await, Some((Revision(4), sets[3].committed_at)));

    let (head, tuples) = content(db.as_ref()).await;
    let next = at(&head, head.position.epoch.0, 7);
    assert!(replace(db.as_ref(), &next, &tuples).await);
    assert_eq!(oldest().await, None);
    db.write_tuples(
        store_id(1),
        &[],
        &[tuple("repo:z#admin@user:anne")],
        WriteOptions::default(),
        deadline(),
    )
    .await
    .unwrap();
    assert_eq!(oldest().await.unwrap().0, Revision(8));
}

pub(super) async fn trimmed_history_is_an_error(db: Db) {
    fill(db.as_ref()).await;
    // Unpublished revisions are kept.
    db.trim_changes(store_id(1), Revision(3), deadline())
        .await
        .unwrap();
    assert_eq!(history(db.as_ref()).await.len(), 6);
    let sequences: Vec<_> = db
        .outbox(100, deadline())
        .await
        .unwrap()
        .iter()
        .map(|row| row.sequence)
        .collect();
    db.outbox_delete(&sequences, deadline()).await.unwrap();
    db.trim_changes(store_id(1), Revision(3), deadline())
        .await
        .unwrap();
    for after in [0, 1, 2] {
        let trimmed = db
            .change_sets(store_id(1), Revision(after), 1, deadline())
            .await;
        assert!(
            matches!(
                trimmed,
                Err(DatastoreError::Trimmed {
                    oldest: Revision(4)
                })
            ),
            "{trimmed:?}"
        );
    }
    assert_eq!(
        db.change_sets(store_id(1), Revision(3), 10, deadline())
            .await
            .unwrap()
            .len(),
        3
    );
    let (_, tuples) = content(db.as_ref()).await;
    assert_eq!(keys(&tuples).len(), 2);
    db.trim_changes(store_id(1), Revision(100), deadline())
        .await
        .unwrap();
    let trimmed = db
        .change_sets(store_id(1), Revision(5), 1, deadline())
        .await;
    assert!(
        matches!(
            trimmed,
            Err(DatastoreError::Trimmed {
                oldest: Revision(7)
            })
        ),
        "{trimmed:?}"
    );
    assert!(
        db.change_sets(store_id(1), Revision(6), 1, deadline())
            .await
            .unwrap()
            .is_empty()
    );
}
