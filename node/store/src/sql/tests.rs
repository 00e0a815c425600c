//! That the statements this adapter really issues are answered by the index that is meant for them.

use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use meridian_model::ports::{Datastore, DatastoreError, Read, TupleFilter, WriteOptions};
use meridian_model::{Subject, Tuple};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::SqlDatastore;
use super::read::filtered;
use super::round::statement;
use super::rows::optional_text;
use super::statement::Statement;
use crate::settings::PoolSettings;
use crate::support::{deadline, key, store_id, tuple, with_mysql, with_postgres, with_sqlite};
use crate::{Watcher, watched};

/// How the engine says that it reads a whole table of tuples.
const SCANS: [&str; 3] = ["Seq Scan on tuples", "SCAN t", "ALL by ? of t"];

async fn plan(db: &SqlDatastore, explained: Statement) -> String {
    let prefix = if db.dialect.single_writer {
        "EXPLAIN QUERY PLAN "
    } else {
        "EXPLAIN "
    };
    let rows = db
        .writers
        .reading(deadline())
        .await
        .unwrap()
        .rows(explained.behind(prefix))
        .await
        .unwrap();
    let lines: Vec<String> = rows.iter().map(line).collect();
    lines.join("\n")
}

/// A step of a plan; MySQL's as `<how> by <index> of <table>, <what else>`.
fn line(row: &AnyRow) -> String {
    for column in ["detail", "QUERY PLAN"] {
        if let Ok(line) = row.try_get(column) {
            return line;
        }
    }
    let part = |name| {
        optional_text(row, name)
            .unwrap()
            .unwrap_or_else(|| "?".to_owned())
    };
    let (how, index, table) = (part("type"), part("key"), part("table"));
    format!("{how} by {index} of {table}, {}", part("Extra"))
}

/// Many objects with one tuple, and one with very many direct users and a few usersets.
async fn fill(db: &SqlDatastore) {
    db.create_store(store_id(1), "one", deadline())
        .await
        .unwrap();
    let mut tuples: Vec<Tuple> = (0..5000)
        .map(|n| tuple(&format!("repo:{n}#reader@user:u{}", n % 1000)))
        .collect();
    tuples.extend((0..20_000).map(|n| tuple(&format!("repo:big#reader@user:b{n}"))));
    tuples.extend((0..20).map(|n| tuple(&format!("repo:big#reader@team:t{n}#member"))));
    tuples.extend((0..500).map(|n| tuple(&format!("repo:{n}#owner@org:o{}", n % 10))));
    db.write_tuples(
        store_id(1),
        &[],
        &tuples,
        WriteOptions::default(),
        deadline(),
    )
    .await
    .unwrap();
    db.writers
        .reading(deadline())
        .await
        .unwrap()
        .execute(Statement::new(if db.dialect.has_returning {
            "ANALYZE"
        } else {
            "ANALYZE TABLE tuples"
        }))
        .await
        .unwrap();
}

async fn every_index_is_used(db: SqlDatastore) {
    fill(&db).await;
    let object = TupleFilter {
        object_type: Some("repo".to_owned()),
        object_id: Some("17".to_owned()),
        ..TupleFilter::default()
    };
    let user = TupleFilter {
        subject: Some("user:u17".parse().unwrap()),
        ..TupleFilter::default()
    };
    let userset = TupleFilter {
        subject: Some("team:t1#member".parse().unwrap()),
        ..TupleFilter::default()
    };
    let by_object = plan(&db, filtered(db.dialect, store_id(1), &object, None, 100)).await;
    assert!(is_by_key(&by_object), "{by_object}");
    let by_user = plan(&db, filtered(db.dialect, store_id(1), &user, None, 100)).await;
    assert!(by_user.contains("idx_tuples_user"), "{by_user}");
    let by_userset = plan(&db, filtered(db.dialect, store_id(1), &userset, None, 100)).await;
    assert!(by_userset.contains("idx_tuples_userset"), "{by_userset}");
    for plan in [by_object, by_user, by_userset] {
        assert!(
            !plan.contains("Seq Scan") && !plan.contains("SCAN tuples"),
            "{plan}"
        );
    }
}

/// How a round is answered; no table is ever read through.
async fn plan_of(db: &SqlDatastore, reads: &[Read]) -> String {
    let plan = plan(db, statement(db.dialect, store_id(1), reads).unwrap()).await;
    assert!(!SCANS.iter().any(|scan| plan.contains(scan)), "{plan}");
    plan
}

fn is_by_key(plan: &str) -> bool {
    let keys = ["tuples_pkey", "sqlite_autoindex_tuples_1", "PRIMARY"];
    keys.iter().any(|key| plan.contains(key))
}

async fn a_round_never_walks_what_it_does_not_ask_for(db: SqlDatastore) {
    fill(&db).await;
    let user: Arc<Subject> = Arc::new("user:b17".parse().unwrap());
    let object = |id: &str| format!("repo:{id}").parse().unwrap();
    let direct = |id| Read::Direct {
        object: object(id),
        relation: "reader".into(),
        user: Arc::clone(&user),
    };
    let parents = Read::Parents {
        object: object("17"),
        relation: "owner".into(),
    };
    let members = Read::Members {
        object: object("17"),
        relation: "reader".into(),
    };
    let objects = Read::Objects {
        subject: "user:u17".parse().unwrap(),
        object_type: "repo".into(),
        relation: "reader".into(),
    };
    let check = plan_of(&db, &[direct("big"), direct("17"), parents]).await;
    assert!(check.contains("idx_tuples_set_usersets"), "{check}");
    assert!(is_by_key(&check), "{check}");
    let of_set = plan_of(&db, slice::from_ref(&members)).await;
    assert!(is_by_key(&of_set), "{of_set}");
    let of_user = plan_of(&db, slice::from_ref(&objects)).await;
    assert!(of_user.contains("idx_tuples_user"), "{of_user}");
    let all = plan_of(&db, &[direct("big"), members, objects]).await;
    for index in ["idx_tuples_set_usersets", "idx_tuples_user"] {
        assert!(all.contains(index), "{all}");
    }
}

#[tokio::test]
async fn indexes_in_sqlite() {
    with_sqlite(|db, _| every_index_is_used(db)).await;
}

#[tokio::test]
async fn indexes_in_postgres() {
    with_postgres(|db, _| every_index_is_used(db)).await;
}

/// MySQL has neither partial indexes nor ranges of rows, so its plans are others.
#[tokio::test]
async fn indexes_in_mysql() {
    with_mysql(|db, _| async move {
        fill(&db).await;
        let whole = TupleFilter::default();
        let of_type = TupleFilter {
            object_type: Some("repo".to_owned()),
            ..TupleFilter::default()
        };
        let after = key("repo:big#reader@user:b7");
        for (filter, after) in [
            (&whole, None),
            (&whole, Some(&after)),
            (&of_type, None),
            (&of_type, Some(&after)),
        ] {
            let page = filtered(db.dialect, store_id(1), filter, after, 100);
            let plan = plan(&db, page).await;
            let how = if after.is_some() { "range" } else { "ref" };
            let by_key = plan.starts_with(&format!("{how} by PRIMARY of tuples"));
            assert!(by_key && !plan.contains("filesort"), "{plan}");
        }
        for subject in ["user:u17", "team:t1#member"] {
            let user = TupleFilter {
                subject: Some(subject.parse().unwrap()),
                ..of_type.clone()
            };
            let plan = plan(&db, filtered(db.dialect, store_id(1), &user, None, 100)).await;
            assert!(
                plan.starts_with("ref by idx_tuples_user of tuples"),
                "{plan}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn rounds_in_mysql() {
    with_mysql(|db, _| a_round_never_walks_what_it_does_not_ask_for(db)).await;
}

#[tokio::test]
async fn rounds_in_sqlite() {
    with_sqlite(|db, _| a_round_never_walks_what_it_does_not_ask_for(db)).await;
}

#[tokio::test]
async fn rounds_in_postgres() {
    with_postgres(|db, _| a_round_never_walks_what_it_does_not_ask_for(db)).await;
}

/// The clock is read once in a transaction; and whose request it is learns of its statements.
async fn waiting_writes_are_one_transaction(db: SqlDatastore) {
    db.create_store(store_id(1), "one", deadline())
        .await
        .unwrap();
    let write = async |n: usize| {
        let tuples = [tuple(&format!("repo:{n}#admin@user:anne"))];
        let counter = Arc::new(Counter::default());
        let options = WriteOptions::default();
        let written = db.write_tuples(store_id(1), &[], &tuples, options, deadline());
        let written = watched(Arc::clone(&counter) as _, written).await;
        (
            written.unwrap().unwrap().at,
            counter.0.load(Ordering::Relaxed),
        )
    };
    // All have come before the first of this thread's other tasks runs.
    let written = join_all((0..9).map(write)).await;
    let (first, statements) = written[0];
    assert!(statements >= 4, "{statements}");
    for other in &written {
        assert_eq!(*other, (first, statements));
    }
    let (_, alone) = write(9).await;
    assert!(alone >= 4, "{alone}");
}

#[derive(Default)]
struct Counter(AtomicUsize);

impl Watcher for Counter {
    fn statement(&self, _: &str, _: Duration) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn waiting_writes_in_sqlite() {
    with_sqlite(|db, _| waiting_writes_are_one_transaction(db)).await;
}

#[tokio::test]
async fn waiting_writes_in_postgres() {
    with_postgres(|db, _| waiting_writes_are_one_transaction(db)).await;
}

#[tokio::test]
async fn waiting_writes_in_mysql() {
    with_mysql(|db, _| waiting_writes_are_one_transaction(db)).await;
}

/// A database that takes connections and never says a word, and how long one is waited for.
fn silent(acquire_timeout: Duration) -> (std::net::TcpListener, SqlDatastore) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://{}/meridian", listener.local_addr().unwrap());
    let settings = PoolSettings {
        acquire_timeout,
        ..PoolSettings::default()
    };
    let db = SqlDatastore::connect_lazy(&url, &settings).unwrap();
    (listener, db)
}

#[tokio::test]
async fn too_little_time_left_says_nothing_about_the_database() {
    let (_listener, db) = silent(Duration::from_secs(5));
    let told = db.epoch(Instant::now() + Duration::from_millis(5)).await;
    assert!(
        matches!(told, Err(DatastoreError::DeadlineExceeded)),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_wait_for_a_connection_that_was_long_enough_names_the_database() {
    let (listener, db) = silent(Duration::from_millis(50));
    let told = db.epoch(deadline()).await.unwrap_err();
    let source = std::error::Error::source(&told).unwrap().to_string();
    let place = listener.local_addr().unwrap().to_string();
    assert!(source.contains(&place), "{told:?}");

    let (_listener, db) = silent(Duration::from_secs(60));
    // Once that is known, whoever has less time is told it too.
    for time in [1_000, 5] {
        let told = db.epoch(Instant::now() + Duration::from_millis(time)).await;
        assert!(
            matches!(told, Err(DatastoreError::Unavailable(_))),
            "{told:?}"
        );
    }
}

#[tokio::test]
async fn no_statement_is_logged_whole() {
    let (_listener, db) = silent(Duration::from_secs(5));
    let levels = &db.options.log_settings;
    for level in [levels.statements_level, levels.slow_statements_level] {
        assert_eq!(level.to_string(), "OFF");
    }
}
