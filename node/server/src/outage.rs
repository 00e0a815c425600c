//! Something outside that is away: told when it goes and when it is back, and not at every call in between.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Whether something is away, and since when.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    /// Whether `since` is there; nearly always not, and then nothing is locked.
    is_on: AtomicBool,
    since: Mutex<Option<Instant>>,
}

impl Outage {
    /// Nothing is away.
    pub(crate) const fn new() -> Self {
        Self {
            is_on: AtomicBool::new(false),
            since: Mutex::new(None),
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Notes a failure; whether the outage begins with it.
    pub(crate) fn failed(&self) -> bool {
        let mut since = self.since();
        self.is_on.store(true, Ordering::Relaxed);
        let begins = since.is_none();
        since.get_or_insert_with(Instant::now);
        begins
    }

    /// Notes a success; how long the outage was that ends with it.
    pub(crate) fn worked(&self) -> Option<Duration> {
        if !self.is_on() {
            return None;
        }
        let mut since = self.since();
        self.is_on.store(false, Ordering::Relaxed);
        since.take().map(|since| since.elapsed())
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
