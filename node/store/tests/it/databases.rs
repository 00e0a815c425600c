//! What only adapters with a database have: pools, files, servers that are away.

use std::slice;
use std::time::{Duration, Instant};

use meridian_model::change::{Change, ChangeSet, StoreInfo, Tiers};
use meridian_model::ports::{
    Applied, Datastore, DatastoreError, StoreHead, TupleFilter, WriteOptions,
};
use meridian_model::{Epoch, Position, Revision, Timestamp};
use meridian_store::sql::SqlDatastore;
use meridian_store::{DatastoreSettings, OpenError, PoolSettings, open};
use sqlx::{Connection, PgConnection};

use crate::support::{
    deadline, keys, opened, pool, store_id, tuples, with_mysql, with_postgres, with_sqlite,
};

fn small() -> PoolSettings {
    PoolSettings {
        min_connections: 0,
        max_connections: 1,
        acquire_timeout: Duration::from_millis(200),
        ..PoolSettings::default()
    }
}

async fn an_exhausted_pool_is_told_from_a_passed_deadline(url: String) {
    let db = SqlDatastore::connect_lazy(&url, &small()).unwrap();
    db.create_store(store_id(1), "one", deadline())
        .await
        .unwrap();
    let held = db.snapshot(store_id(1), deadline()).await.unwrap();
    let exhausted = db.store(store_id(1), deadline()).await;
    assert!(
        matches!(exhausted, Err(DatastoreError::Exhausted { max: 1, .. })),
        "{exhausted:?}"
    );
    let late = db
        .store(store_id(1), Instant::now() + Duration::from_millis(50))
        .await;
    assert!(
        matches!(late, Err(DatastoreError::DeadlineExceeded)),
        "{late:?}"
    );
    drop(held);
    assert!(db.store(store_id(1), deadline()).await.unwrap().is_some());
}

async fn those_who_read_whole_stores_leave_connections_to_others(url: String) {
    let eight = PoolSettings {
        max_connections: 8,
        ..small()
    };
    let db = SqlDatastore::connect_lazy(&url, &eight).unwrap();
    db.create_store(store_id(1), "one", deadline())
        .await
        .unwrap();
    let bulk = async || db.bulk_snapshot(store_id(1), deadline()).await;
    let (first, _second) = (bulk().await.unwrap(), bulk().await.unwrap());
    let third = bulk().await.map(|_| ());
    assert!(
        matches!(third, Err(DatastoreError::Exhausted { max: 2, .. })),
        "{third:?}"
    );
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(db.snapshot(store_id(1), deadline()).await.unwrap());
    }
    held.pop();
    drop(first);
    assert!(bulk().await.unwrap().is_some());
}

#[tokio::test]
async fn bulk_readers_in_sqlite() {
    with_sqlite(|_, url| those_who_read_whole_stores_leave_connections_to_others(url)).await;
}

#[tokio::test]
async fn bulk_readers_in_postgres() {
    with_postgres(|_, url| those_who_read_whole_stores_leave_connections_to_others(url)).await;
}

#[tokio::test]
async fn bulk_readers_in_mysql() {
    with_mysql(|_, url| those_who_read_whole_stores_leave_connections_to_others(url)).await;
}

#[tokio::test]
async fn exhaustion_in_mysql() {
    with_mysql(|_, url| an_exhausted_pool_is_told_from_a_passed_deadline(url)).await;
}

#[tokio::test]
async fn exhaustion_in_sqlite() {
    with_sqlite(|_, url| an_exhausted_pool_is_told_from_a_passed_deadline(url)).await;
}

#[tokio::test]
async fn exhaustion_in_postgres() {
    with_postgres(|_, url| an_exhausted_pool_is_told_from_a_passed_deadline(url)).await;
}

#[tokio::test]
async fn a_statement_is_bounded_by_the_deadline() {
    with_postgres(|db, url| async move {
        db.create_store(store_id(1), "one", deadline())
            .await
            .unwrap();
        let mut blocker = PgConnection::connect(&url).await.unwrap();
        sqlx::raw_sql("BEGIN; LOCK TABLE stores")
            .execute(&mut blocker)
            .await
            .unwrap();
        a_write_ends_at_its_deadline(&db).await;
        sqlx::raw_sql("COMMIT").execute(&mut blocker).await.unwrap();
        one_tuple_is_written(&db).await;
    })
    .await;
}

pub(crate) async fn a_write_ends_at_its_deadline(db: &SqlDatastore) {
    let waited = Instant::now();
    let late = db
        .write_tuples(
            store_id(1),
            &[],
            &tuples(&["repo:a#admin@user:anne"]),
            WriteOptions::default(),
            waited + Duration::from_millis(200),
        )
        .await;
    assert!(
        matches!(late, Err(DatastoreError::DeadlineExceeded)),
        "{late:?}"
    );
    assert!(waited.elapsed() < Duration::from_secs(5));
}

pub(crate) async fn one_tuple_is_written(db: &SqlDatastore) {
    let written = db
        .write_tuples(
            store_id(1),
            &[],
            &tuples(&["repo:a#admin@user:anne"]),
            WriteOptions::default(),
            deadline(),
        )
        .await
        .unwrap()
        .unwrap();
    assert_eq!(written.position.revision.0, 2);
}

#[tokio::test]
async fn a_reopened_file_keeps_everything() {
    with_sqlite(|db, url| async move {
        db.create_store(store_id(1), "one", deadline())
            .await
            .unwrap();
        let written = db
            .write_tuples(
                store_id(1),
                &[],
                &tuples(&["repo:a#admin@user:anne"]),
                WriteOptions::default(),
                deadline(),
            )
            .await
            .unwrap()
            .unwrap();
        drop(db);
        let again = opened(&url);
        again.migrate().await.unwrap();
        assert_eq!(
            again
                .store(store_id(1), deadline())
                .await
                .unwrap()
                .unwrap()
                .position,
            written.position
        );
        let kept = again
            .tuples(store_id(1), &TupleFilter::default(), None, 10, deadline())
            .await
            .unwrap();
        assert_eq!(keys(&kept.items), ["repo:a#admin@user:anne"]);
        assert_eq!(again.outbox(10, deadline()).await.unwrap().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn an_unreachable_server_is_unavailable_within_the_deadline() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let db = opened(&format!(
        "postgres://meridian:secret@127.0.0.1:{port}/meridian"
    ));
    assert!(matches!(
        db.migrate().await,
        Err(DatastoreError::Unavailable(_))
    ));
    let started = Instant::now();
    let away = db
        .store(store_id(1), started + Duration::from_millis(1500))
        .await;
    assert!(
        matches!(away, Err(DatastoreError::Unavailable(_))),
        "{away:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn a_lost_connection_is_replaced() {
    with_postgres(|db, url| async move {
        db.create_store(store_id(1), "one", deadline()).await.unwrap();
        let mut admin = PgConnection::connect(&url).await.unwrap();
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
        sqlx::raw_sql(kill).execute(&mut admin).await.unwrap();
        assert!(db.store(store_id(1), deadline()).await.unwrap().is_some());

        let mut snapshot = db.snapshot(store_id(1), deadline()).await.unwrap().unwrap();
        sqlx::raw_sql(kill).execute(&mut admin).await.unwrap();
        let lost = snapshot.tuples(None, 10).await;
        assert!(matches!(lost, Err(DatastoreError::Unavailable(_))), "{lost:?}");
        drop(snapshot);
        db.write_tuples(store_id(1), &[], &tuples(&["repo:a#admin@user:anne"]), WriteOptions::default(), deadline()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_migration_runs_once_however_many_start_it() {
    with_postgres(|_, url| many_migrate_at_once(url)).await;
}

pub(crate) async fn many_migrate_at_once(url: String) {
    let several: Vec<_> = (0..4)
        .map(|_| opened(&url))
        .map(|db| tokio::spawn(async move { db.migrate().await }))
        .collect();
    for migration in several {
        migration.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn unusable_settings_say_why_and_keep_the_password() {
    let refused = |url: &str| {
        open(&DatastoreSettings {
            url: url.to_owned(),
            pool: pool(),
        })
        .map(|_| ())
        .unwrap_err()
    };
    let unknown = refused("mongodb://meridian:secret@localhost/meridian");
    assert!(matches!(&unknown, OpenError::UnknownScheme(scheme) if scheme == "mongodb"));
    for allowed in ["mongodb", "memory:", "sqlite:", "postgres:", "mysql:"] {
        assert!(unknown.to_string().contains(allowed), "{unknown}");
    }
    assert!(matches!(
        refused("sqlite::memory:"),
        OpenError::PrivateDatabase
    ));
    assert!(matches!(
        refused("postgres://meridian:secret@localhost:many/meridian"),
        OpenError::InvalidUrl { .. }
    ));
    for url in [
        "mongodb://meridian:secret@localhost",
        "mysql://meridian:secret@localhost:many/meridian",
        "postgres://meridian:secret@localhost:many/meridian",
        "host=db password=secret",
    ] {
        let error = refused(url);
        assert!(
            !format!("{error:?} {error}").contains("secret"),
            "{error:?}"
        );
    }
    let settings = DatastoreSettings {
        url: "postgres://meridian:secret@localhost/meridian".to_owned(),
        pool: pool(),
    };
    assert!(!format!("{settings:?}").contains("secret"));
    let none = PoolSettings {
        max_connections: 0,
        ..pool()
    };
    assert!(matches!(
        SqlDatastore::connect_lazy("postgres://localhost/meridian", &none),
        Err(OpenError::NoConnections)
    ));
}

#[tokio::test]
async fn a_database_that_comes_later_is_used_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("later");
    let db = opened(&format!(
        "sqlite://{}?mode=rwc",
        place.join("test.db").display()
    ));
    assert!(matches!(
        db.migrate().await,
        Err(DatastoreError::Unavailable(_))
    ));
    let away = db.store(store_id(1), deadline()).await;
    assert!(
        matches!(away, Err(DatastoreError::Unavailable(_))),
        "{away:?}"
    );
    std::fs::create_dir(&place).unwrap();
    db.migrate().await.unwrap();
    db.create_store(store_id(1), "one", deadline())
        .await
        .unwrap();
    assert!(db.store(store_id(1), deadline()).await.unwrap().is_some());
}

/// A record of the store's creation is applied while another replica of the region takes the store over.
#[tokio::test]
async fn a_replaced_store_does_not_go_back_to_its_creation() {
    with_postgres(|db, url| async move {
        let info = StoreInfo {
            id: store_id(1),
            name: "one".to_owned(),
            created_at: Timestamp(1),
        };
        let head = StoreHead {
            info: info.clone(),
            position: Position::new(1, 50),
            models: Vec::new(),
            tiers: Tiers::default(),
            deleted_at: None,
        };
        let mut replacing = db
            .replace(&head, Duration::from_secs(30))
            .await
            .unwrap()
            .unwrap();
        let created = ChangeSet {
            store: store_id(1),
            epoch: Epoch(1),
            revision: Revision(1),
            committed_at: Timestamp(1),
            changes: vec![Change::StoreCreated(info)],
            touched: Vec::new(),
        };
        let other = db.clone();
        let applying =
            tokio::spawn(async move { other.apply(slice::from_ref(&created), deadline()).await });
        someone_waits_for_a_lock(&url).await;
        replacing
            .add(tuples(&["repo:a#admin@user:anne"]))
            .await
            .unwrap();
        replacing.finish().await.unwrap();
        assert_eq!(applying.await.unwrap().unwrap(), Applied::Skipped);
        let record = db.store(store_id(1), deadline()).await.unwrap().unwrap();
        assert_eq!(record.position, Position::new(1, 50));
    })
    .await;
}

async fn someone_waits_for_a_lock(url: &str) {
    let mut observer = PgConnection::connect(url).await.unwrap();
    let end = deadline();
    loop {
        let waiting: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
        .fetch_one(&mut observer)
        .await
        .unwrap();
        if waiting > 0 {
            return;
        }
        assert!(Instant::now() < end, "nobody waits for a lock");
        tokio::task::yield_now().await;
    }
}
