//! What an error of sqlx means to the caller of the port; decided here and nowhere else.

use std::sync::Arc;

use meridian_model::ports::DatastoreError;
use sqlx::error::DatabaseError;
use sqlx::migrate::MigrateError;
use sqlx::mysql::MySqlDatabaseError;

/// PostgreSQL's serialization failure and deadlock; a lock that was not to be had.
const CONFLICTS: [&str; 3] = ["40001", "40P01", "55P03"];
/// PostgreSQL's own statement timeout.
const CANCELLED: &str = "57014";
/// SQLite's SQLITE_BUSY and SQLITE_LOCKED, the low byte of the extended codes.
const SQLITE_BUSY: u32 = 5;
const SQLITE_LOCKED: u32 = 6;

/// Of MySQL and MariaDB: a lock waited for too long, a deadlock, a row that changed since the snapshot.
const MYSQL_CONFLICTS: [u16; 3] = [1205, 1213, 1020];
/// The limits of a statement's time of MySQL and MariaDB, and a statement that was killed.
const MYSQL_CANCELLED: [u16; 3] = [3024, 1969, 1317];
/// All connections of the server, of a user, and of a user by another limit are taken.
const MYSQL_FULL: [u16; 3] = [1040, 1203, 1226];

/// A later version of this program has been at the database.
#[derive(Debug, thiserror::Error)]
#[error(
    "it is newer than this program, which does not know migration {0}: run the version that made it or a later one"
)]
struct NewerSchema(i64);

/// Classifies an error of a query.
pub(crate) fn classify(error: sqlx::Error) -> DatastoreError {
    match error {
        sqlx::Error::Database(source) => classify_database(source),
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::Decode(_)
        | sqlx::Error::AnyDriverError(_) => corrupt("row", error),
        other => DatastoreError::Unavailable(Arc::new(other)),
    }
}

/// Whether the database refused a connection since it has no more of them.
pub(crate) fn is_full(error: &sqlx::Error) -> bool {
    let source = error.as_database_error();
    source
        .and_then(mysql_number)
        .is_some_and(|number| MYSQL_FULL.contains(&number))
}

/// MySQL's own number, which says more than the code that the standard has for it.
fn mysql_number(source: &(dyn DatabaseError + 'static)) -> Option<u16> {
    source
        .try_downcast_ref()
        .map(|source: &MySqlDatabaseError| source.number())
}

fn classify_database(source: Box<dyn DatabaseError>) -> DatastoreError {
    match mysql_number(source.as_ref()) {
        Some(number) if MYSQL_CONFLICTS.contains(&number) => return DatastoreError::Conflict,
        Some(number) if MYSQL_CANCELLED.contains(&number) => {
            return DatastoreError::DeadlineExceeded;
        }
        _ => {}
    }
    let code = source.code().unwrap_or_default().into_owned();
    let busy = code
        .parse::<u32>()
        .is_ok_and(|code| code < 10_000 && matches!(code & 0xff, SQLITE_BUSY | SQLITE_LOCKED));
    if busy || CONFLICTS.contains(&code.as_str()) || source.is_unique_violation() {
        DatastoreError::Conflict
    } else if code == CANCELLED {
        DatastoreError::DeadlineExceeded
    } else {
        DatastoreError::Unavailable(Arc::new(sqlx::Error::Database(source)))
    }
}

/// Classifies an error of a migration.
pub(crate) fn classify_migration(error: MigrateError) -> DatastoreError {
    match error {
        MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => {
            classify(source)
        }
        MigrateError::VersionMissing(version) => corrupt("schema", NewerSchema(version)),
        other => corrupt("schema", other),
    }
}

/// The database holds something this program did not write.
pub(crate) fn corrupt(
    what: &str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> DatastoreError {
    DatastoreError::Corrupt {
        what: what.to_owned(),
        source: source.into().into(),
    }
}
