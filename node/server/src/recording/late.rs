//! What was recorded a while ago, so that the same is not recorded again and again.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::time::Duration;

/// Callers of whom it is known that they were recorded a while ago.
const CALLERS: u64 = 100_000;

pub(crate) struct Late {
    /// By hashes under a seed that only this process has; `None` where everything is always recorded.
    known: Option<moka::sync::Cache<u64, ()>>,
    seed: RandomState,
}

impl Late {
    /// Each once in an interval.
    pub(crate) fn new(interval: Duration) -> Self {
        let known = || {
            moka::sync::Cache::builder()
                .max_capacity(CALLERS)
                .time_to_live(interval)
                .build()
        };
        Self {
            known: (!interval.is_zero()).then(known),
            seed: RandomState::new(),
        }
    }

    /// Whether this was recorded of late; from now on it was.
    pub(crate) fn was(&self, what: &impl Hash) -> bool {
        let Some(known) = &self.known else {
            return false;
        };
        let entry = known.entry(self.seed.hash_one(what)).or_insert(());
        !entry.is_fresh()
    }
}
