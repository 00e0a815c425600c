//! What an error of sqlx means: whether the same may work later.

use std::sync::Arc;

use sqlx::error::DatabaseError;
use sqlx::mysql::MySqlDatabaseError;

use crate::ports::RepositoryError;

/// The classes of the standard's codes that say that a value or a row is refused: data exceptions, integrity constraints.
const REFUSED: [&str; 2] = ["22", "23"];
/// The same of SQLite, the low byte of its codes: too big, a constraint, a mismatch.
const SQLITE_REFUSED: [u32; 3] = [18, 19, 20];
/// PostgreSQL's limit of a statement's time.
const CANCELLED: &str = "57014";
/// Those of MySQL and MariaDB, the one of waiting for a lock, and a statement that was killed.
const MYSQL_CANCELLED: [u16; 4] = [3024, 1969, 1205, 1317];

pub(super) fn classify(error: sqlx::Error) -> RepositoryError {
    let class = match &error {
        sqlx::Error::Database(source) => classify_database(&**source),
        sqlx::Error::Encode(_) => Class::Refused,
        _ => Class::Other,
    };
    match class {
        Class::Refused => RepositoryError::Rejected(Arc::new(error)),
        Class::Late => RepositoryError::DeadlineExceeded,
        Class::Other => RepositoryError::Unavailable(Arc::new(error)),
    }
}

enum Class {
    Refused,
    Late,
    Other,
}

fn classify_database(source: &(dyn DatabaseError + 'static)) -> Class {
    let number = source
        .try_downcast_ref()
        .map(|source: &MySqlDatabaseError| source.number());
    let code = source.code().unwrap_or_default();
    let of_sqlite = |code: u32| SQLITE_REFUSED.contains(&(code & 0xff));
    let is_refused = match code.len() {
        5 => REFUSED.iter().any(|class| code.starts_with(class)),
        _ => code.parse().is_ok_and(of_sqlite),
    };
    if code == CANCELLED || number.is_some_and(|number| MYSQL_CANCELLED.contains(&number)) {
        Class::Late
    } else if is_refused {
        Class::Refused
    } else {
        Class::Other
    }
}
