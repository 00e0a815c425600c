//! A warning that is said once in a while, however often there is reason for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How often the same is said at most.
const EVERY: Duration = Duration::from_secs(10);

/// When something was last said, and how often there was reason for it since.
pub(crate) struct Warning {
    since: Instant,
    /// Milliseconds after `since` plus 1; 0 for never.
    said: AtomicU64,
    unsaid: AtomicU64,
}

impl Warning {
    pub(crate) fn new() -> Self {
        Self {
            since: Instant::now(),
            said: AtomicU64::new(0),
            unsaid: AtomicU64::new(0),
        }
    }

    /// Notes a reason; how many there were since it was last said, if it is to be said now.
    pub(crate) fn reason(&self) -> Option<u64> {
        let reasons = self.unsaid.fetch_add(1, Ordering::Relaxed) + 1;
        let now = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX) + 1;
        let said = self.said.load(Ordering::Relaxed);
        let every = u64::try_from(EVERY.as_millis()).unwrap_or(u64::MAX);
        let is_due = said == 0 || now.saturating_sub(said) >= every;
        let is_ours = is_due
            && self
                .said
                .compare_exchange(said, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        is_ours.then(|| {
            self.unsaid.store(0, Ordering::Relaxed);
            reasons
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_said_once_in_a_while() {
        let warning = Warning::new();
        assert_eq!(warning.reason(), Some(1));
        assert_eq!(warning.reason(), None);
        assert_eq!(warning.reason(), None);
        tokio::time::advance(EVERY).await;
        assert_eq!(warning.reason(), Some(3));
        assert_eq!(warning.reason(), None);
    }
}
