//! All that differs between the SQL engines.

use std::str::FromStr;

use sqlx::migrate::Migrator;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use crate::settings::{OpenError, PoolSettings, scheme};

static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/sqlite");
static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/postgres");
static MYSQL_MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/mysql");

/// How values become a table that a statement joins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tables {
    /// As `VALUES (...), (...)`.
    Values,
    /// As those, but rows to be inserted as an array of each column: parsing and planning a thousand placeholders takes the
    /// database longer than inserting the rows.
    Arrays,
    /// As a JSON text, by `JSON_TABLE`: MySQL and MariaDB share no other way.
    Json,
}

/// One engine's way of saying things.
pub(crate) struct Dialect {
    pub(crate) migrations: &'static Migrator,
    /// Run before migrations, to have others wait who run them too; empty where the migrations see to it.
    pub(crate) lock_migrations: &'static str,
    /// Begins a transaction that writes.
    pub(crate) begin_write: &'static str,
    /// Begins a transaction whose reads all see one moment.
    pub(crate) begin_snapshot: &'static str,
    /// Microseconds since the Unix epoch by the database's clock, at this statement and not at the transaction's start.
    pub(crate) now: &'static str,
    /// Ends a SELECT whose rows are to be locked.
    pub(crate) for_update: &'static str,
    /// Whether placeholders are numbered (`$1`); else each `?` is the next value.
    pub(crate) has_numbered_placeholders: bool,
    /// Whether every statement that changes rows can return them.
    pub(crate) has_returning: bool,
    /// Stands between the columns of a row and the rows that it may be: `(a, b` ... `(1, 2), (3, 4))`.
    pub(crate) in_rows: &'static str,
    /// Whether `(a, b) > (1, 2)` goes by an index.
    pub(crate) has_row_ranges: bool,
    pub(crate) tables: Tables,
    /// A join that reads the left side first.
    pub(crate) join_in_order: &'static str,
    /// Follows the table's name where only the primary key will do.
    pub(crate) by_key: &'static str,
    /// Follows the table's name where only the index on users will do.
    pub(crate) by_user: &'static str,
    /// Follows the table's name where only the index on the usersets of a set will do.
    pub(crate) by_set_usersets: &'static str,
    /// Is true of tuples `t` of usersets, as that index knows them.
    pub(crate) is_userset: &'static str,
    /// What an INSERT ends with to change `columns` of the row that is there already; to keep it, if there are none.
    pub(crate) or_update: fn(key: &str, columns: &[&str]) -> String,
    /// Has the planner look at the tuples table again; empty where it does not go by statistics.
    pub(crate) analyze: &'static str,
    /// Selects how many tuples there are, as `tuples`: counted, or estimated where that reads them all.
    pub(crate) tuples: &'static str,
    /// Whether one connection does all the writing.
    pub(crate) single_writer: bool,
    /// What every new connection runs first.
    pub(crate) on_connect: fn(&PoolSettings) -> String,
    /// Says what is wrong with a URL before anything connects.
    pub(crate) check_url: fn(&str) -> Result<(), OpenError>,
}

impl Dialect {
    /// That of the engine that a URL names.
    ///
    /// # Errors
    /// [`OpenError`] where the URL cannot be used.
    pub(crate) fn of(url: &str) -> Result<&'static Self, OpenError> {
        let dialect = match scheme(url) {
            "sqlite" if url.contains(":memory:") || url.contains("mode=memory") => {
                return Err(OpenError::PrivateDatabase);
            }
            "sqlite" => &SQLITE,
            "postgres" | "postgresql" => &POSTGRES,
            "mysql" | "mariadb" => &MYSQL,
            other => return Err(OpenError::UnknownScheme(other.to_owned())),
        };
        (dialect.check_url)(url)?;
        Ok(dialect)
    }
}

/// What the driver says of a URL, by its innermost words: the others repeat them. It names what cannot be read, and never a
/// password.
pub(crate) fn invalid(url: &str, error: &sqlx::Error) -> OpenError {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(deeper) = innermost.source() {
        innermost = deeper;
    }
    OpenError::InvalidUrl {
        scheme: scheme(url).to_owned(),
        why: innermost.to_string(),
    }
}

/// Checks it as options of this kind.
fn readable<O: FromStr<Err = sqlx::Error>>(url: &str) -> Result<O, OpenError> {
    O::from_str(url).map_err(|why| invalid(url, &why))
}

/// A file is made only where the URL says so. One that is not there would be waited for, and nobody make it.
fn check_sqlite(url: &str) -> Result<(), OpenError> {
    let file = readable::<SqliteConnectOptions>(url)?;
    let file = file.get_filename();
    if url.contains("mode=rwc") || file.exists() {
        Ok(())
    } else {
        Err(OpenError::NoFile(file.display().to_string()))
    }
}

fn on_conflict(key: &str, columns: &[&str]) -> String {
    if columns.is_empty() {
        return format!(" ON CONFLICT ({key}) DO NOTHING");
    }
    let set: Vec<_> = columns
        .iter()
        .map(|column| format!("{column} = excluded.{column}"))
        .collect();
    format!(" ON CONFLICT ({key}) DO UPDATE SET {}", set.join(", "))
}

/// There is no way to change nothing, so the key's first column is set to what it is. `INSERT IGNORE` would pass over
/// values that do not fit as well.
fn on_duplicate_key(key: &str, columns: &[&str]) -> String {
    let first = key.split(',').next().unwrap_or(key);
    let set: Vec<_> = columns
        .iter()
        .map(|column| format!("{column} = VALUES({column})"))
        .collect();
    if set.is_empty() {
        return format!(" ON DUPLICATE KEY UPDATE {first} = {first}");
    }
    format!(" ON DUPLICATE KEY UPDATE {}", set.join(", "))
}

pub(crate) static SQLITE: Dialect = Dialect {
    migrations: &SQLITE_MIGRATIONS,
    lock_migrations: "",
    begin_write: "BEGIN IMMEDIATE",
    begin_snapshot: "BEGIN DEFERRED",
    now: "CAST(unixepoch('now', 'subsec') * 1000000 AS INTEGER)",
    for_update: "",
    has_numbered_placeholders: true,
    has_returning: true,
    in_rows: ") IN (VALUES ",
    has_row_ranges: true,
    tables: Tables::Values,
    // The table that is named first is read first.
    join_in_order: " CROSS JOIN ",
    by_key: "",
    by_user: "",
    by_set_usersets: " INDEXED BY idx_tuples_set_usersets",
    is_userset: "t.user_relation <> ''",
    or_update: on_conflict,
    analyze: "",
    tuples: "SELECT COUNT(*) AS tuples FROM tuples",
    single_writer: true,
    on_connect: |settings| {
        let busy = settings.acquire_timeout.as_millis();
        format!(
            "PRAGMA busy_timeout = {busy}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON"
        )
    },
    check_url: check_sqlite,
};

pub(crate) static POSTGRES: Dialect = Dialect {
    migrations: &POSTGRES_MIGRATIONS,
    lock_migrations: "",
    begin_write: "BEGIN",
    begin_snapshot: "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    now: "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)",
    for_update: " FOR UPDATE",
    has_numbered_placeholders: true,
    has_returning: true,
    in_rows: ") IN (VALUES ",
    has_row_ranges: true,
    tables: Tables::Arrays,
    join_in_order: " CROSS JOIN ",
    by_key: "",
    by_user: "",
    by_set_usersets: "",
    is_userset: "t.user_relation <> ''",
    or_update: on_conflict,
    analyze: "ANALYZE tuples",
    tuples: "SELECT GREATEST(CAST(reltuples AS BIGINT), 0) AS tuples FROM pg_class WHERE oid = CAST('tuples' AS regclass)",
    single_writer: false,
    on_connect: |settings| {
        format!(
            "SET statement_timeout = {}",
            settings.statement_timeout.as_millis()
        )
    },
    check_url: |url| readable::<PgConnectOptions>(url).map(drop),
};

/// MySQL 8 and MariaDB 10.6. A comment that begins with `!80000` is run by MySQL alone, one with `M!` by MariaDB alone.
pub(crate) static MYSQL: Dialect = Dialect {
    migrations: &MYSQL_MIGRATIONS,
    // MariaDB does not wait at all where the migrations ask it to wait for ever.
    lock_migrations: "SELECT GET_LOCK(SHA1(CONCAT('meridian ', DATABASE())), 86400)",
    begin_write: "START TRANSACTION",
    begin_snapshot: "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
    now: "CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)",
    for_update: " FOR UPDATE",
    has_numbered_placeholders: false,
    has_returning: false,
    in_rows: ") IN (",
    has_row_ranges: false,
    tables: Tables::Json,
    join_in_order: " STRAIGHT_JOIN ",
    by_key: " FORCE INDEX (PRIMARY)",
    by_user: " FORCE INDEX (idx_tuples_user)",
    by_set_usersets: " FORCE INDEX (idx_tuples_set_usersets)",
    is_userset: "t.is_userset = 1",
    or_update: on_duplicate_key,
    // Its indexes are named wherever it might take another.
    analyze: "",
    tuples: "SELECT CAST(table_rows AS SIGNED) AS tuples FROM information_schema.tables \
             WHERE table_schema = DATABASE() AND table_name = 'tuples'",
    single_writer: false,
    on_connect: |settings| {
        let timeout = settings.statement_timeout;
        let (milliseconds, seconds) = (timeout.as_millis(), timeout.as_secs().max(1));
        format!(
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
             SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', innodb_lock_wait_timeout = {seconds}\
             /*!80000 , max_execution_time = {milliseconds} *//*M!100600 , max_statement_time = {seconds} */"
        )
    },
    check_url: |url| readable::<MySqlConnectOptions>(url).map(drop),
};
