//! Keeps the planner's statistics from being wildly wrong while the tuples table grows.
//!
//! PostgreSQL analyzes a table about a minute after it has changed. Until then a table that was just filled counts as
//! empty, and a check's look-ups may go by an index that holds every tuple of a user type instead of by the primary key.
//! So the table is analyzed here too, whenever it has changed as much again as before.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::pool::Pool;
use super::statement::Statement;

/// Changed tuples after which the table is first analyzed.
const FIRST: u64 = 500;
/// Beyond so many at a time the database's own schedule does.
const LAST: u64 = 1_000_000;
const TIMEOUT: Duration = Duration::from_secs(30);

/// Counts changed tuples, from the start of this process.
#[derive(Default)]
pub(crate) struct Statistics(AtomicU64);

impl Statistics {
    /// Takes note of `changed` tuples, and analyzes the table in the background if it is time to.
    pub(crate) fn note(&self, changed: usize, analyze: &'static str, pool: &Pool) {
        let changed = u64::try_from(changed).unwrap_or(u64::MAX);
        let before = self.0.fetch_add(changed, Ordering::Relaxed);
        if analyze.is_empty() || !is_due(before, before.saturating_add(changed)) {
            return;
        }
        let pool = pool.clone();
        tokio::spawn(async move {
            let analyzed = async {
                let mut session = pool.reading(Instant::now() + TIMEOUT).await?;
                session.execute(Statement::new(analyze)).await
            };
            if let Err(error) = analyzed.await {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "the tuples table could not be analyzed"
                );
            }
        });
    }
}

/// Whether a doubling of [`FIRST`] lies between the two counts.
fn is_due(before: u64, after: u64) -> bool {
    let doublings = |count: u64| (count / FIRST).checked_ilog2();
    before < LAST && doublings(before) != doublings(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_at_every_doubling() {
        let due: Vec<_> = (0..100)
            .map(|n| n * 100)
            .filter(|n| is_due(*n, n + 100))
            .collect();
        assert_eq!(due, [400, 900, 1900, 3900, 7900]);
        assert!(is_due(0, 50_000) && !is_due(LAST, LAST * 4));
    }
}
