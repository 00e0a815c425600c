//! All that differs between the SQL engines.

use std::str::FromStr;

use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use crate::settings::PoolSettings;

static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/sqlite");
static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/postgres");

/// One engine's way of saying things.
pub(crate) struct Dialect {
    pub(crate) migrations: &'static Migrator,
    /// Begins a transaction that writes.
    pub(crate) begin_write: &'static str,
    /// Begins a transaction whose reads all see one moment.
    pub(crate) begin_snapshot: &'static str,
    /// Microseconds since the Unix epoch by the database's clock, at this statement and not at the transaction's start.
    pub(crate) now: &'static str,
    /// Ends a SELECT whose rows are to be locked.
    pub(crate) for_update: &'static str,
    /// Follows the table's name where only the index on the usersets of a set will do.
    pub(crate) by_set_usersets: &'static str,
    /// Has the planner look at the tuples table again; empty where it does not go by statistics.
    pub(crate) analyze: &'static str,
    /// Whether one connection does all the writing.
    pub(crate) single_writer: bool,
    /// What every new connection runs first.
    pub(crate) on_connect: fn(&PoolSettings) -> String,
    /// Says what is wrong with a URL before anything connects.
    pub(crate) check_url: fn(&str) -> sqlx::Result<()>,
}

pub(crate) static SQLITE: Dialect = Dialect {
    migrations: &SQLITE_MIGRATIONS,
    begin_write: "BEGIN IMMEDIATE",
    begin_snapshot: "BEGIN DEFERRED",
    now: "CAST(unixepoch('now', 'subsec') * 1000000 AS INTEGER)",
    for_update: "",
    by_set_usersets: " INDEXED BY idx_tuples_set_usersets",
    analyze: "",
    single_writer: true,
    on_connect: |settings| {
        let busy = settings.acquire_timeout.as_millis();
        format!(
            "PRAGMA busy_timeout = {busy}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON"
        )
    },
    check_url: |url| SqliteConnectOptions::from_str(url).map(drop),
};

pub(crate) static POSTGRES: Dialect = Dialect {
    migrations: &POSTGRES_MIGRATIONS,
    begin_write: "BEGIN",
    begin_snapshot: "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    now: "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)",
    for_update: " FOR UPDATE",
    by_set_usersets: "",
    analyze: "ANALYZE tuples",
    single_writer: false,
    on_connect: |settings| {
        format!(
            "SET statement_timeout = {}",
            settings.statement_timeout.as_millis()
        )
    },
    check_url: |url| PgConnectOptions::from_str(url).map(drop),
};
