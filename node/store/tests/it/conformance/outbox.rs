//! The outbox.

use std::sync::Arc;

use meridian_model::change::{ChangeSet, Tiers};
use meridian_model::ports::{Datastore, OUTBOX_BYTES};

use super::replication::{fill, history, tiers};
use crate::support::{deadline, model, model_id, store_id};

type Db = Arc<dyn Datastore>;

pub(super) async fn the_outbox_holds_every_revision_in_order(db: Db) {
    fill(db.as_ref()).await;
    let rows = db.outbox(100, deadline()).await.unwrap();
    assert!(rows.is_sorted_by_key(|row| row.sequence));
    assert_eq!(
        rows.iter()
            .map(|row| row.change_set.clone())
            .collect::<Vec<_>>(),
        history(db.as_ref()).await
    );
    let expected = [
        Tiers::default(),
        Tiers::default(),
        Tiers::default(),
        tiers("repo"),
        tiers("repo"),
        tiers("team"),
    ];
    assert_eq!(
        rows.iter().map(|row| row.tiers.clone()).collect::<Vec<_>>(),
        expected
    );
    assert_eq!(db.outbox(2, deadline()).await.unwrap(), rows[..2]);
    db.outbox_delete(&[rows[0].sequence, rows[2].sequence], deadline())
        .await
        .unwrap();
    db.outbox_delete(&[rows[0].sequence], deadline())
        .await
        .unwrap();
    db.outbox_delete(&[], deadline()).await.unwrap();
    assert_eq!(
        db.outbox(2, deadline()).await.unwrap(),
        [rows[1].clone(), rows[3].clone()]
    );
}

pub(super) async fn it_is_told_how_much_there_is(db: Db) {
    let empty = db.sizes(deadline()).await.unwrap();
    assert_eq!((empty.tuples, empty.outbox), (0, 0));
    fill(db.as_ref()).await;
    let revisions = history(db.as_ref()).await.len() as u64;
    let rows = db.outbox(1, deadline()).await.unwrap();
    db.outbox_delete(&[rows[0].sequence], deadline())
        .await
        .unwrap();
    assert_eq!(db.sizes(deadline()).await.unwrap().outbox, revisions - 1);
    if let Some(connections) = db.connections() {
        assert!(connections.open > 0 && connections.in_use == 0);
        assert!(connections.max >= connections.open);
    }
}

/// What a scan leaves, the next one brings.
pub(super) async fn a_scan_of_the_outbox_ends_where_it_weighs_enough(db: Db) {
    db.create_store(store_id(1), "one", deadline())
        .await
        .unwrap();
    for number in 1..=20 {
        db.write_model(store_id(1), model_id(number), &model("1.1"), deadline())
            .await
            .unwrap();
    }
    let mut revisions = Vec::new();
    loop {
        let rows = db.outbox(100, deadline()).await.unwrap();
        let sets = || rows.iter().map(|row| &row.change_set);
        revisions.extend(sets().map(|set| set.revision.0));
        let weight: usize = sets().map(ChangeSet::weight).sum();
        let last = sets().next_back().map_or(0, ChangeSet::weight);
        assert!(weight - last < OUTBOX_BYTES, "{weight}");
        if weight < OUTBOX_BYTES {
            break;
        }
        assert!(rows.len() < 20, "{}", rows.len());
        let sequences: Vec<_> = rows.iter().map(|row| row.sequence).collect();
        db.outbox_delete(&sequences, deadline()).await.unwrap();
    }
    assert!(revisions.into_iter().eq(1..=21));
}
