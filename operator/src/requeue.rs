//! When to look again.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// While all is as it should be.
pub const SETTLED: Duration = Duration::from_secs(30);
/// While something is on its way.
pub const UNSETTLED: Duration = Duration::from_secs(5);
/// While something that is named is missing. It is watched too.
pub const MISSING: Duration = Duration::from_secs(300);

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// Between three quarters of a duration and the whole, so that not all come at once.
#[must_use]
pub fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(rand::random_range(0.75..=1.0))
}

/// How long to wait after failures, per object: twice as long each time, up to five minutes.
#[derive(Debug)]
pub struct Backoff<K>(Mutex<HashMap<K, u32>>);

impl<K> Default for Backoff<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq> Backoff<K> {
    /// After one more failure.
    pub fn failed(&self, of: K) -> Duration {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(of).or_insert(0);
        let wait = FIRST.saturating_mul(1 << (*count).min(16)).min(LONGEST);
        *count = count.saturating_add(1);
        jittered(wait)
    }

    /// After a success.
    pub fn succeeded(&self, of: &K) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.remove(of);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_five_minutes_and_start_over_after_a_success() {
        let backoff = Backoff::default();
        let mut before = Duration::ZERO;
        for _ in 0..9 {
            let wait = backoff.failed("a");
            assert!(wait > before, "{wait:?} after {before:?}");
            before = wait;
        }
        for _ in 0..100 {
            let wait = backoff.failed("a");
            assert!(wait <= LONGEST && wait >= LONGEST.mul_f64(0.75), "{wait:?}");
        }
        assert!(backoff.failed("b") <= FIRST);
        backoff.succeeded(&"a");
        assert!(backoff.failed("a") <= FIRST);
    }
}
