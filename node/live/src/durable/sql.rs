//! Records in PostgreSQL, MySQL, MariaDB and SQLite. The table is in `migrations/`, beside the datastore's.
//!
//! The connections are few and its own: however much is written, whoever asks the datastore does not wait for it. Rows are
//! handed over as one JSON text, which each engine reads as a table.

use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use serde::Serialize;
use sqlx::any::{Any, AnyConnectOptions, AnyPoolOptions};
use sqlx::{ConnectOptions, Executor};
use tokio::time::timeout_at;

use super::{NotStored, RecordRepository};
use crate::record::Record;

/// One writes, one purges.
const CONNECTIONS: u32 = 2;
/// How long a connection may take to be made: then it is said that the database is away.
const ACQUIRE: Duration = Duration::from_secs(3);
/// How long a connection that is not used is kept.
const IDLE: Duration = Duration::from_secs(10 * 60);

/// One engine's way of saying things.
struct Dialect {
    /// What every new connection runs first.
    on_connect: &'static str,
    /// Inserts the rows of a JSON text; those that are there stay.
    insert: &'static str,
    /// Deletes what was stored before a time, at most so many rows.
    purge: &'static str,
}

static POSTGRES: Dialect = Dialect {
    on_connect: "SET statement_timeout = 30000",
    insert: "INSERT INTO live_records \
                 (topic, topic_partition, topic_offset, published_at, stored_at, store_id, object, objects, data) \
             SELECT topic, topic_partition, topic_offset, published_at, stored_at, store_id, object, objects, data \
             FROM json_to_recordset(CAST($1 AS json)) AS r(topic text, topic_partition bigint, topic_offset bigint, \
                 published_at bigint, stored_at bigint, store_id text, object text, objects text, data text) \
             ON CONFLICT (topic, topic_partition, topic_offset, published_at) DO NOTHING",
    purge: "DELETE FROM live_records WHERE ctid = ANY(ARRAY( \
                SELECT ctid FROM live_records WHERE stored_at < $1 ORDER BY stored_at LIMIT $2))",
};

static SQLITE: Dialect = Dialect {
    on_connect: "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL",
    // Without a condition SQLite would take what follows for one of the join.
    insert: "INSERT INTO live_records \
                 (topic, topic_partition, topic_offset, published_at, stored_at, store_id, object, objects, data) \
             SELECT value ->> '$.topic', value ->> '$.topic_partition', value ->> '$.topic_offset', \
                 value ->> '$.published_at', value ->> '$.stored_at', value ->> '$.store_id', value ->> '$.object', \
                 value ->> '$.objects', value ->> '$.data' \
             FROM json_each($1) WHERE true \
             ON CONFLICT (topic, topic_partition, topic_offset, published_at) DO NOTHING",
    purge: "DELETE FROM live_records WHERE rowid IN ( \
                SELECT rowid FROM live_records WHERE stored_at < $1 ORDER BY stored_at LIMIT $2)",
};

static MYSQL: Dialect = Dialect {
    on_connect: "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
                 SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', innodb_lock_wait_timeout = 30",
    insert: "INSERT INTO live_records \
                 (topic, topic_partition, topic_offset, published_at, stored_at, store_id, object, objects, data) \
             SELECT r.topic, r.topic_partition, r.topic_offset, r.published_at, r.stored_at, r.store_id, r.object, \
                 r.objects, r.data \
             FROM JSON_TABLE(?, '$[*]' COLUMNS ( \
                 topic MEDIUMTEXT CHARACTER SET utf8mb4 PATH '$.topic', topic_partition BIGINT PATH '$.topic_partition', \
                 topic_offset BIGINT PATH '$.topic_offset', published_at BIGINT PATH '$.published_at', \
                 stored_at BIGINT PATH '$.stored_at', store_id MEDIUMTEXT CHARACTER SET utf8mb4 PATH '$.store_id', \
                 object MEDIUMTEXT CHARACTER SET utf8mb4 PATH '$.object', \
                 objects MEDIUMTEXT CHARACTER SET utf8mb4 PATH '$.objects', \
                 data MEDIUMTEXT CHARACTER SET utf8mb4 PATH '$.data')) AS r \
             ON DUPLICATE KEY UPDATE topic = live_records.topic",
    purge: "DELETE FROM live_records WHERE stored_at < ? ORDER BY stored_at LIMIT ?",
};

/// Records in an SQL database.
pub struct SqlRecords {
    dialect: &'static Dialect,
    pool: sqlx::Pool<Any>,
}

/// Why a URL is of no use. What the driver says is left out: it may show a password.
#[derive(Debug, thiserror::Error)]
pub enum InvalidUrl {
    /// No adapter answers to it.
    #[error(
        "unknown scheme '{0}'; use sqlite:///path/file.db, postgres://user:password@host/database or mysql://user:password@host/database"
    )]
    Scheme(String),
    /// The rest of it cannot be read.
    #[error("it cannot be read as a {0} URL")]
    Rest(String),
}

impl SqlRecords {
    /// Records at a `sqlite:`, `postgres:` or `mysql:` URL, within a Tokio runtime. Connections are made as they are needed.
    ///
    /// # Errors
    /// [`InvalidUrl`].
    pub fn connect_lazy(url: &str) -> Result<Self, InvalidUrl> {
        let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
        let dialect = match scheme {
            "sqlite" => &SQLITE,
            "postgres" | "postgresql" => &POSTGRES,
            "mysql" | "mariadb" => &MYSQL,
            _ => return Err(InvalidUrl::Scheme(scheme.to_owned())),
        };
        sqlx::any::install_default_drivers();
        let options = AnyConnectOptions::from_str(url)
            .map_err(|_| InvalidUrl::Rest(scheme.to_owned()))?
            .disable_statement_logging();
        let pool = AnyPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE)
            .idle_timeout(IDLE)
            .after_connect(move |connection, _| {
                Box::pin(async move { connection.execute(dialect.on_connect).await.map(drop) })
            })
            .connect_lazy_with(options);
        Ok(Self { dialect, pool })
    }
}

#[derive(Serialize)]
struct Row<'a> {
    topic: &'a str,
    topic_partition: usize,
    topic_offset: i64,
    published_at: i64,
    stored_at: i64,
    store_id: &'a str,
    object: &'a str,
    objects: String,
    data: &'a str,
}

#[async_trait]
impl RecordRepository for SqlRecords {
    async fn insert(
        &self,
        topic: &str,
        records: &[Record],
        deadline: Instant,
    ) -> Result<(), NotStored> {
        let stored_at = micros(SystemTime::now());
        let rows: Vec<_> = records
            .iter()
            .map(|record| Row {
                topic,
                topic_partition: record.place.partition,
                topic_offset: record.place.offset,
                published_at: record.at.saturating_mul(1000),
                stored_at,
                store_id: record.store.as_str(),
                object: &record.object,
                objects: record.objects.join(","),
                data: record.data.get(),
            })
            .collect();
        let rows =
            serde_json::to_string(&rows).map_err(|why| NotStored::Rejected(Arc::new(why)))?;
        let insert = sqlx::query(self.dialect.insert).bind(rows);
        within(deadline, insert.execute(&self.pool)).await?;
        Ok(())
    }

    async fn purge(
        &self,
        before: SystemTime,
        limit: u32,
        deadline: Instant,
    ) -> Result<u64, NotStored> {
        let purge = sqlx::query(self.dialect.purge)
            .bind(micros(before))
            .bind(i64::from(limit));
        let purged = within(deadline, purge.execute(&self.pool)).await?;
        Ok(purged.rows_affected())
    }
}

fn micros(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(i64::MAX)
}

async fn within<T>(
    deadline: Instant,
    call: impl Future<Output = sqlx::Result<T>>,
) -> Result<T, NotStored> {
    timeout_at(deadline.into(), call)
        .await
        .map_err(|_| NotStored::DeadlineExceeded)?
        .map_err(classify)
}

/// The standard's classes of codes for data and constraints, and SQLite's codes for too big, a constraint, a mismatch: the
/// row is at fault. All else may work later.
fn classify(error: sqlx::Error) -> NotStored {
    let is_refused = match &error {
        sqlx::Error::Database(source) => {
            let code = source.code().unwrap_or_default();
            if code.len() == 5 {
                code.starts_with("22") || code.starts_with("23")
            } else {
                code.parse::<u32>()
                    .is_ok_and(|code| code < 10_000 && (18..=20).contains(&(code & 0xff)))
            }
        }
        _ => false,
    };
    let source = Arc::new(error);
    if is_refused {
        NotStored::Rejected(source)
    } else {
        NotStored::Unavailable(source)
    }
}
