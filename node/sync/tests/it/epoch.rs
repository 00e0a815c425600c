//! The documented way of raising the epoch by hand, after a restore of an older database.

use std::slice;
use std::time::{Duration, Instant};

use meridian_model::change::Change;
use meridian_model::ids::{Position, Revision, StoreId, Timestamp};
use meridian_model::ports::{Applied, Datastore, WriteOptions};
use meridian_model::tuple::{Tuple, TupleKey};
use meridian_store::sql::SqlDatastore;
use sqlx::{Connection, Executor};

const OPERATIONS: &str = include_str!("../../../../docs/operations.md");

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn tuple(object: &str) -> Tuple {
    Tuple {
        key: TupleKey::parse(object, "viewer", "user:anne").unwrap(),
        condition: None,
        timestamp: Timestamp(0),
    }
}

async fn write(datastore: &SqlDatastore, store: StoreId, object: &str) -> Position {
    let tuples = [tuple(object)];
    let committed = datastore.write_tuples(store, &[], &tuples, WriteOptions::default(), soon());
    committed.await.unwrap().unwrap().position
}

/// The statements as they stand on the page.
fn documented() -> Vec<&'static str> {
    let indented = OPERATIONS
        .lines()
        .filter_map(|line| line.strip_prefix("    "));
    indented
        .filter(|line| line.starts_with("UPDATE "))
        .collect()
}

#[tokio::test]
async fn the_documented_statements_begin_a_new_epoch_for_every_store() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!(
        "sqlite:{}?mode=rwc",
        dir.path().join("central.db").display()
    );
    let central = SqlDatastore::connect_lazy(&url, &Default::default()).unwrap();
    central.migrate().await.unwrap();
    let stores: [StoreId; 2] = ["1", "2"].map(|n| format!("{n:0>26}").parse().unwrap());
    for store in stores {
        central.create_store(store, "s", soon()).await.unwrap();
        write(&central, store, "doc:1").await;
    }
    let before = central.positions(soon()).await.unwrap();
    let old = before[0].1.epoch;
    assert!(before.iter().all(|(_, at)| *at
        == Position {
            epoch: old,
            revision: Revision(2)
        }));
    // What a node below still has of the history that was given up.
    let lost = central
        .change_sets(stores[0], Revision(1), 1, soon())
        .await
        .unwrap();
    let lost = meridian_model::change::ChangeSet {
        revision: Revision(3),
        ..lost[0].clone()
    };

    let statements = documented();
    assert_eq!(statements.len(), 2, "{statements:?}");
    let mut raw = sqlx::SqliteConnection::connect(&url).await.unwrap();
    for statement in statements {
        raw.execute(statement).await.unwrap();
    }
    raw.close().await.unwrap();

    let epoch = central.epoch(soon()).await.unwrap();
    assert!(epoch > old);
    let after = central.positions(soon()).await.unwrap();
    assert!(
        after.iter().all(|(_, at)| *at
            == Position {
                epoch,
                revision: Revision(2)
            }),
        "{after:?}"
    );
    assert!(matches!(
        central.apply(slice::from_ref(&lost), soon()).await.unwrap(),
        Applied::Fenced { .. }
    ));
    let next = write(&central, stores[0], "doc:2").await;
    assert_eq!(
        next,
        Position {
            epoch,
            revision: Revision(3)
        }
    );

    // A node below that holds the old epoch starts the store over.
    let url = format!("sqlite:{}?mode=rwc", dir.path().join("region.db").display());
    let region = SqlDatastore::connect_lazy(&url, &Default::default()).unwrap();
    region.migrate().await.unwrap();
    let created = meridian_model::change::StoreInfo {
        id: stores[0],
        name: "s".into(),
        created_at: Timestamp(1),
    };
    let changes = [vec![Change::StoreCreated(created)], Vec::new(), Vec::new()];
    for (revision, changes) in (1..).zip(changes) {
        let set = meridian_model::change::ChangeSet {
            revision: Revision(revision),
            changes,
            ..lost.clone()
        };
        assert!(matches!(
            region.apply(slice::from_ref(&set), soon()).await.unwrap(),
            Applied::Applied
        ));
    }
    let sets = central
        .change_sets(stores[0], Revision(2), 1, soon())
        .await
        .unwrap();
    assert_eq!(sets[0].position(), next);
    assert!(matches!(
        region.apply(&sets[0..=0], soon()).await.unwrap(),
        Applied::NewEpoch { .. }
    ));
}
