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

    /// What may stand for something here in place of itself.
    pub(crate) fn key(&self, what: &impl Hash) -> u64 {
        self.seed.hash_one(what)
    }

    /// Whether this was recorded of late; from now on it was.
    pub(crate) fn was(&self, what: &impl Hash) -> bool {
        let Some(known) = &self.known else {
            return false;
        };
        let entry = known.entry(self.key(what)).or_insert(());
        !entry.is_fresh()
    }

    /// It was not recorded after all.
    pub(crate) fn forget(&self, what: &impl Hash) {
        if let Some(known) = &self.known {
            known.invalidate(&self.key(what));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_recorded_after_all_is_recorded_the_next_time() {
        let late = Late::new(Duration::from_secs(3600));
        let (one, other) = (late.key(&("anne", 1)), late.key(&("anne", 2)));
        assert!(!late.was(&one) && late.was(&one) && !late.was(&other));
        late.forget(&one);
        assert!(!late.was(&one) && late.was(&one) && late.was(&other));
        let always = Late::new(Duration::ZERO);
        assert!(!always.was(&one) && !always.was(&one));
    }
}
