//! Computation that gives way, so that what else is done on its thread goes on.
//!
//! A thread that serves connections serves many: what takes it for longer than a few evaluations keeps everybody waiting.

use std::time::{Duration, Instant};

/// How long a thread is taken before the others have their turn.
const TURN: Duration = Duration::from_micros(200);

/// The pace of a computation in many small steps.
pub(crate) struct Pace {
    since: Instant,
}

impl Pace {
    /// A computation begins.
    pub(crate) fn begin() -> Self {
        Self {
            since: Instant::now(),
        }
    }

    /// Between two steps: lets others go on if it has been a while.
    pub(crate) async fn step(&mut self) {
        if self.since.elapsed() >= TURN {
            tokio::task::yield_now().await;
            self.since = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    /// On one thread, as the tests' runtime is.
    #[tokio::test]
    async fn others_have_their_turn_before_a_long_computation_ends() {
        let turns = Rc::new(Cell::new(0));
        let local = tokio::task::LocalSet::new();
        let counted = Rc::clone(&turns);
        let computing = async move {
            let other = Rc::clone(&counted);
            tokio::task::spawn_local(async move {
                loop {
                    other.set(other.get() + 1);
                    tokio::task::yield_now().await;
                }
            });
            let mut pace = Pace::begin();
            while counted.get() < 3 {
                pace.step().await;
            }
        };
        local.run_until(computing).await;
        assert!(turns.get() >= 3);
    }
}
