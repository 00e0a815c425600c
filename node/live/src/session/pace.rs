//! How fast a client may speak.

use std::time::Instant;

/// So many messages a second, and twice as many at once.
pub(super) struct Pace {
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Pace {
    pub(super) fn new(per_second: u32) -> Self {
        let per_second = f64::from(per_second);
        Self {
            per_second,
            left: per_second * 2.0,
            at: Instant::now(),
        }
    }

    /// Whether another message is not too many.
    pub(super) fn step(&mut self) -> bool {
        let now = Instant::now();
        let come = now.duration_since(self.at).as_secs_f64() * self.per_second;
        self.left = (self.left + come).min(self.per_second * 2.0) - 1.0;
        self.at = now;
        let may = self.left >= 0.0;
        self.left = self.left.max(0.0);
        may
    }
}
