//! What an error of sqlx means to the caller of the port; decided here and nowhere else.

use meridian_model::ports::DatastoreError;
use sqlx::error::DatabaseError;
use sqlx::migrate::MigrateError;

/// PostgreSQL's serialization failure and deadlock; a lock that was not to be had.
const CONFLICTS: [&str; 3] = ["40001", "40P01", "55P03"];
/// PostgreSQL's own statement timeout.
const CANCELLED: &str = "57014";
/// SQLite's SQLITE_BUSY and SQLITE_LOCKED, the low byte of the extended codes.
const SQLITE_BUSY: u32 = 5;
const SQLITE_LOCKED: u32 = 6;

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
        other => DatastoreError::Unavailable(Box::new(other)),
    }
}

fn classify_database(source: Box<dyn DatabaseError>) -> DatastoreError {
    let code = source.code().unwrap_or_default().into_owned();
    let busy = code
        .parse::<u32>()
        .is_ok_and(|code| code < 10_000 && matches!(code & 0xff, SQLITE_BUSY | SQLITE_LOCKED));
    if busy || CONFLICTS.contains(&code.as_str()) || source.is_unique_violation() {
        DatastoreError::Conflict
    } else if code == CANCELLED {
        DatastoreError::DeadlineExceeded
    } else {
        DatastoreError::Unavailable(Box::new(sqlx::Error::Database(source)))
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
        source: source.into(),
    }
}
