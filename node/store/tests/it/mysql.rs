//! What MySQL and MariaDB do in their own way.

use std::process;
use std::time::Duration;

use meridian_model::ports::{Datastore, DatastoreError};
use meridian_store::PoolSettings;
use meridian_store::sql::SqlDatastore;
use sqlx::{AssertSqlSafe, Connection, MySqlConnection, query_scalar, raw_sql};

use crate::databases::{a_write_ends_at_its_deadline, many_migrate_at_once, one_tuple_is_written};
use crate::support::{deadline, opened, pool, store_id, with_mysql};

#[tokio::test]
async fn a_statement_is_bounded_by_the_deadline() {
    with_mysql(|db, url| async move {
        db.create_store(store_id(1), "one", deadline())
            .await
            .unwrap();
        let mut blocker = MySqlConnection::connect(&url).await.unwrap();
        raw_sql("BEGIN; SELECT * FROM stores FOR UPDATE")
            .execute(&mut blocker)
            .await
            .unwrap();
        a_write_ends_at_its_deadline(&db).await;
        raw_sql("COMMIT").execute(&mut blocker).await.unwrap();
        one_tuple_is_written(&db).await;
    })
    .await;
}

#[tokio::test]
async fn a_lost_connection_is_replaced() {
    with_mysql(|db, url| async move {
        db.create_store(store_id(1), "one", deadline())
            .await
            .unwrap();
        let mut snapshot = db.snapshot(store_id(1), deadline()).await.unwrap().unwrap();
        kill_others(&url).await;
        let lost = snapshot.tuples(None, 10).await;
        assert!(
            matches!(lost, Err(DatastoreError::Unavailable(_))),
            "{lost:?}"
        );
        drop(snapshot);
        one_tuple_is_written(&db).await;
    })
    .await;
}

/// Ends all other connections to the database.
async fn kill_others(url: &str) {
    let mut admin = MySqlConnection::connect(url).await.unwrap();
    let others: Vec<i64> = query_scalar(
        "SELECT CAST(id AS SIGNED) FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()",
    )
    .fetch_all(&mut admin)
    .await
    .unwrap();
    assert!(!others.is_empty());
    for id in others {
        raw_sql(AssertSqlSafe(format!("KILL {id}")))
            .execute(&mut admin)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn refusals_are_told_apart() {
    with_mysql(|db, url| async move {
        db.create_store(store_id(1), "one", deadline())
            .await
            .unwrap();
        let again = db.create_store(store_id(1), "one", deadline()).await;
        assert!(matches!(again, Err(DatastoreError::Conflict)), "{again:?}");

        let brief = PoolSettings {
            statement_timeout: Duration::from_secs(1),
            ..pool()
        };
        let brief = SqlDatastore::connect_lazy(&url, &brief).unwrap();
        let mut blocker = MySqlConnection::connect(&url).await.unwrap();
        raw_sql("BEGIN; SELECT * FROM stores FOR UPDATE")
            .execute(&mut blocker)
            .await
            .unwrap();
        let blocked = brief.delete_store(store_id(1), deadline()).await;
        assert!(
            matches!(
                blocked,
                Err(DatastoreError::Conflict | DatastoreError::DeadlineExceeded)
            ),
            "{blocked:?}"
        );
        drop(blocker);

        let mut admin = MySqlConnection::connect(&url).await.unwrap();
        let user = format!("u{}", process::id());
        let limited = format!(
            "CREATE USER {user}@'%' IDENTIFIED BY 'secret' WITH MAX_USER_CONNECTIONS 1; GRANT ALL ON *.* TO {user}@'%'"
        );
        raw_sql(AssertSqlSafe(limited))
            .execute(&mut admin)
            .await
            .unwrap();
        let (_, place) = url.split_once('@').unwrap();
        let few = opened(&format!("mysql://{user}:secret@{place}"));
        let held = few.snapshot(store_id(1), deadline()).await.unwrap();
        let full = few.store(store_id(1), deadline()).await;
        assert!(
            matches!(full, Err(DatastoreError::Exhausted { .. })),
            "{full:?}"
        );
        drop(held);
        raw_sql(AssertSqlSafe(format!("DROP USER {user}@'%'")))
            .execute(&mut admin)
            .await
            .unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_migration_runs_once_however_many_start_it() {
    with_mysql(|_, url| async move {
        let mut admin = MySqlConnection::connect(&url).await.unwrap();
        let name: Vec<u8> = query_scalar("SELECT CAST(DATABASE() AS BINARY)")
            .fetch_one(&mut admin)
            .await
            .unwrap();
        let name = String::from_utf8(name).unwrap();
        let anew = format!("DROP DATABASE {name}; CREATE DATABASE {name}");
        raw_sql(AssertSqlSafe(anew))
            .execute(&mut admin)
            .await
            .unwrap();
        many_migrate_at_once(url).await;
    })
    .await;
}
