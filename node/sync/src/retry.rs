//! When to ask again.

use std::time::Duration;

/// How long to wait for an answer and between tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// After so long without an answer a question counts as lost. Longer than any call's own deadline.
    pub timeout: Duration,
    /// The pause after the first failure; doubled with each further one.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(120),
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(10),
        }
    }
}

impl Patience {
    /// The pause after the `failures`-th failure in a row, between half and all of its nominal length as `spread` says, so
    /// that many who failed together do not come back together.
    pub fn pause(&self, failures: u32, spread: u64) -> Duration {
        let doubled = self
            .first_pause
            .saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
        let half = doubled.min(self.longest_pause) / 2;
        let share = u32::try_from(spread % 1000).unwrap_or(0);
        half + half * share / 1000
    }
}

/// The failure said last, so that the same one is not said with every try.
#[derive(Debug, Default)]
pub(crate) struct Said(Option<String>);

impl Said {
    /// Whether this is another failure than the one before.
    pub(crate) fn is_news(&mut self, failure: &dyn std::error::Error) -> bool {
        let text = format!("{failure:?}");
        let news = self.0.as_ref() != Some(&text);
        self.0 = Some(text);
        news
    }
}

/// A question that is asked until it is answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retry {
    due: Duration,
    failures: u32,
}

impl Retry {
    /// To be asked at once.
    pub(crate) fn new(now: Duration) -> Self {
        Self {
            due: now,
            failures: 0,
        }
    }

    /// Whether to ask now; if so, the wait for the answer begins.
    pub(crate) fn take(&mut self, now: Duration, patience: &Patience) -> bool {
        let due = now >= self.due;
        if due {
            self.due = now + patience.timeout;
        }
        due
    }

    /// It failed: asked again after a pause.
    pub(crate) fn failed(&mut self, now: Duration, patience: &Patience, spread: u64) {
        self.failures = self.failures.saturating_add(1);
        self.due = now
            + patience.pause(
                self.failures,
                spread ^ u64::from(self.failures).wrapping_mul(0x9E37_79B9_7F4A_7C15),
            );
    }

    /// When [`Self::take`] will next say yes.
    pub(crate) fn due(&self) -> Duration {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_spread() {
        let patience = Patience::default();
        assert_eq!(patience.pause(1, 0), Duration::from_millis(50));
        assert_eq!(patience.pause(2, 500), Duration::from_millis(150));
        for failures in [30, u32::MAX] {
            let pause = patience.pause(failures, u64::MAX);
            assert!(pause >= patience.longest_pause / 2 && pause <= patience.longest_pause);
        }
    }
}
