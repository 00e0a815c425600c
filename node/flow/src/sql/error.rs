//! What an error of sqlx means: whether the same may work later.

use std::sync::Arc;

use crate::ports::RepositoryError;

/// The classes of the standard's codes that say that a value or a row is refused: data exceptions, integrity constraints.
const REFUSED: [&str; 2] = ["22", "23"];
/// The same of SQLite, the low byte of its codes: too big, a constraint, a mismatch.
const SQLITE_REFUSED: [u32; 3] = [18, 19, 20];

pub(super) fn classify(error: sqlx::Error) -> RepositoryError {
    let is_refused = match &error {
        sqlx::Error::Database(source) => {
            let code = source.code().unwrap_or_default();
            let of_sqlite = |code: u32| code < 10_000 && SQLITE_REFUSED.contains(&(code & 0xff));
            if code.len() == 5 {
                REFUSED.iter().any(|class| code.starts_with(class))
            } else {
                code.parse().is_ok_and(of_sqlite)
            }
        }
        sqlx::Error::Encode(_) => true,
        _ => false,
    };
    let source = Arc::new(error);
    if is_refused {
        RepositoryError::Rejected(source)
    } else {
        RepositoryError::Unavailable(source)
    }
}
