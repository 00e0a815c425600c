//! Records in every kind of database, and what is done about one that does not take them.

use std::collections::VecDeque;
use std::env;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use meridian_live_channel::durable::{Keeper, NotStored, Purged, RecordRepository, SqlRecords};
use meridian_live_channel::{Place, Record};
use meridian_store::{DatastoreSettings, PoolSettings, open};
use serde_json::value::RawValue;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _, Row as _};

const TOPIC: &str = "meridian.shop.live";

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

fn record(offset: i64, at: i64) -> Record {
    Record {
        store: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
        object: format!("event:'ü{offset}"),
        objects: vec!["organization:1".to_owned(), "stage:2".to_owned()],
        data: RawValue::from_string(r#"{"text":"\u0000 \"ü🦀' \\ \ud83e"}"#.to_owned()).unwrap(),
        at,
        place: Place {
            partition: 1,
            offset,
        },
    }
}

/// What one kind of database makes of records.
async fn holds(url: &str) {
    let pool = PoolSettings {
        min_connections: 0,
        max_connections: 1,
        ..PoolSettings::default()
    };
    let settings = DatastoreSettings {
        url: url.to_owned(),
        pool,
    };
    open(&settings).unwrap().migrate().await.unwrap();
    let records = SqlRecords::connect_lazy(url).unwrap();
    let all: Vec<_> = (0..1000)
        .map(|offset| record(offset, 1_764_000_000_000))
        .collect();
    records
        .insert(TOPIC, &all[..600], deadline())
        .await
        .unwrap();
    records
        .insert(TOPIC, &all[400..], deadline())
        .await
        .unwrap();
    // The topic was made anew: the same place is another record.
    records
        .insert(TOPIC, &[record(0, 1_764_000_000_001)], deadline())
        .await
        .unwrap();
    records.insert(TOPIC, &[], deadline()).await.unwrap();

    let mut connection = AnyConnection::connect(url).await.unwrap();
    let count = async |connection: &mut AnyConnection| -> i64 {
        let all = "SELECT count(*) FROM live_records";
        connection.fetch_one(all).await.unwrap().get(0)
    };
    assert_eq!(count(&mut connection).await, 1001);
    let number = "SELECT count(*) FROM live_records WHERE published_at = 1764000000000000 \
                  AND topic_partition = 1 AND store_id = '01ARZ3NDEKTSV4RRFFQ69G5FAV' \
                  AND objects = 'organization:1,stage:2'";
    let same: i64 = connection.fetch_one(number).await.unwrap().get(0);
    assert_eq!(same, 1000);
    let seen = "SELECT object, data FROM live_records WHERE topic_offset = 7";
    let row = connection.fetch_one(seen).await.unwrap();
    let text = |column: usize| match row.try_get::<String, _>(column) {
        Ok(text) => text,
        Err(_) => String::from_utf8(row.get::<Vec<u8>, _>(column)).unwrap(),
    };
    assert_eq!(
        (text(0), text(1)),
        ("event:'ü7".to_owned(), all[7].data.get().to_owned())
    );

    let (long_ago, soon) = (
        SystemTime::now() - Duration::from_secs(3600),
        SystemTime::now() + Duration::from_secs(3600),
    );
    assert_eq!(records.purge(long_ago, 300, deadline()).await.unwrap(), 0);
    assert_eq!(records.purge(soon, 300, deadline()).await.unwrap(), 300);
    assert_eq!(count(&mut connection).await, 701);
    let keeper = Keeper::new(Arc::new(records), TOPIC.to_owned());
    let until = tokio::time::Instant::now() + Duration::from_secs(60);
    for (retention, records) in [(Duration::from_secs(3600), 0), (Duration::ZERO, 701)] {
        let purged = keeper.purge(retention, until).await.unwrap();
        let expected = Purged {
            records,
            more: false,
        };
        assert_eq!(purged, expected);
    }
    connection.close().await.unwrap();
}

#[tokio::test]
async fn sqlite_holds_each_record_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test.db");
    holds(&format!("sqlite://{}?mode=rwc", file.display())).await;
}

#[tokio::test]
async fn postgres_holds_each_record_once() {
    on_server("MERIDIAN_TEST_POSTGRES", " WITH (FORCE)").await;
}

#[tokio::test]
async fn mysql_holds_each_record_once() {
    on_server("MERIDIAN_TEST_MYSQL", "").await;
}

/// In a new database of a server, which is dropped afterwards, also when the test fails.
async fn on_server(variable: &str, drop_with: &str) {
    let server =
        env::var(variable).unwrap_or_else(|_| panic!("set {variable} or run `cargo xtask test`"));
    sqlx::any::install_default_drivers();
    let mut admin = AnyConnection::connect(&server).await.unwrap();
    let nanos = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    let name = format!("meridian_live_{}_{nanos}", std::process::id());
    let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
    admin.execute(create).await.unwrap();
    let (before, query) = server.split_once('?').unwrap_or((&server, ""));
    let authority = before.find("://").unwrap() + 3;
    let end = before[authority..]
        .find('/')
        .map_or(before.len(), |slash| authority + slash);
    let url = format!("{}/{name}?{query}", &before[..end]);
    let tested = tokio::spawn(async move { holds(url.trim_end_matches('?')).await }).await;
    let drop = AssertSqlSafe(format!("DROP DATABASE {name}{drop_with}"));
    admin.execute(drop).await.unwrap();
    if let Err(failed) = tested {
        std::panic::resume_unwind(failed.into_panic());
    }
}

/// A database that is told what to do, and never takes one record.
#[derive(Default)]
struct Told {
    next: Mutex<VecDeque<NotStored>>,
    refused: Option<i64>,
    has: Mutex<Vec<i64>>,
    /// How many it has that are old.
    old: AtomicU64,
}

#[async_trait]
impl RecordRepository for Told {
    async fn insert(&self, _: &str, records: &[Record], _: Instant) -> Result<(), NotStored> {
        if let Some(error) = self.next.lock().unwrap().pop_front() {
            return Err(error);
        }
        let offsets = || records.iter().map(|record| record.place.offset);
        if offsets().any(|offset| Some(offset) == self.refused) {
            return Err(NotStored::Rejected(Arc::new(io::Error::other("bad"))));
        }
        self.has.lock().unwrap().extend(offsets());
        Ok(())
    }

    async fn purge(&self, _: SystemTime, limit: u32, _: Instant) -> Result<u64, NotStored> {
        let gone = self.old.load(Ordering::Relaxed).min(limit.into());
        self.old.fetch_sub(gone, Ordering::Relaxed);
        Ok(gone)
    }
}

fn shuffled() -> Vec<Record> {
    (0..100).map(|n| record(n * 37 % 100, 1)).collect()
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_waited_out() {
    let away = || NotStored::Unavailable(Arc::new(io::Error::other("away")));
    let errors = (0..500).map(|n| {
        if n % 2 == 0 {
            away()
        } else {
            NotStored::DeadlineExceeded
        }
    });
    let told = Arc::new(Told {
        next: Mutex::new(errors.collect()),
        ..Told::default()
    });
    let start = tokio::time::Instant::now();
    Keeper::new(told.clone(), TOPIC.to_owned())
        .keep(shuffled())
        .await;
    assert_eq!(*told.has.lock().unwrap(), (0..100).collect::<Vec<_>>());
    assert!(
        start.elapsed() > Duration::from_secs(600),
        "not without pauses"
    );
}

#[tokio::test]
async fn one_bad_record_costs_no_other() {
    let told = Arc::new(Told {
        refused: Some(42),
        ..Told::default()
    });
    Keeper::new(told.clone(), TOPIC.to_owned())
        .keep(shuffled())
        .await;
    let others: Vec<_> = (0..100).filter(|offset| *offset != 42).collect();
    assert_eq!(*told.has.lock().unwrap(), others);
}

#[tokio::test(start_paused = true)]
async fn a_purge_ends_at_its_time_and_says_that_there_is_more() {
    let told = Arc::new(Told::default());
    let keeper = Keeper::new(told.clone(), TOPIC.to_owned());
    let (time, month) = (
        Duration::from_secs(75),
        Duration::from_secs(30 * 24 * 60 * 60),
    );
    let look = async |old: u64, time: Duration| {
        told.old.store(old, Ordering::Relaxed);
        let start = tokio::time::Instant::now();
        let purged = keeper.purge(month, start + time).await.unwrap();
        (purged, start.elapsed())
    };
    // More than it could ever delete.
    let (purged, took) = look(u64::MAX, time).await;
    assert!(purged.more && purged.records > 1000, "{purged:?}");
    assert!(
        took >= time && took < time + Duration::from_secs(1),
        "{took:?}"
    );
    let left = told.old.load(Ordering::Relaxed);
    assert_eq!(left, u64::MAX - purged.records);
    // However little time there is, it gets on.
    let (purged, _) = look(1200, Duration::ZERO).await;
    let expected = |records, more| Purged { records, more };
    assert_eq!(purged, expected(500, true));
    let (purged, _) = look(700, time).await;
    assert_eq!(purged, expected(700, false));
}
