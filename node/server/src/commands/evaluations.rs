//! What is measured of checks' evaluations.

use meridian_engine::{Outcome, Scratch};
use metrics::{Histogram, describe_histogram, histogram};

const DEPTH: &str = "meridian_check_depth";
const ROUNDS: &str = "meridian_check_rounds";

/// The measures of a node.
pub(crate) struct Evaluations {
    depth: Histogram,
    rounds: Histogram,
}

impl Evaluations {
    /// Of a node that evaluates over a datastore. Registers with the recorder installed at this moment.
    pub(crate) fn by_rounds() -> Self {
        describe_histogram!(ROUNDS, "Times that a check read from the datastore");
        Self {
            rounds: histogram!(ROUNDS),
            ..Self::new()
        }
    }

    /// Of a node that reads nothing. Registers with the recorder installed at this moment.
    pub(crate) fn new() -> Self {
        describe_histogram!(
            DEPTH,
            "Steps through usersets and parents that a decided check went at its deepest"
        );
        Self {
            depth: histogram!(DEPTH),
            rounds: Histogram::noop(),
        }
    }

    /// An evaluation came to an end.
    pub(crate) fn evaluated(&self, outcome: Outcome, scratch: &Scratch) {
        if matches!(outcome, Outcome::Allowed | Outcome::Denied) {
            self.depth.record(f64::from(scratch.steps()));
        }
    }

    /// A check was decided after so many reads.
    pub(crate) fn read(&self, rounds: u32) {
        self.rounds.record(f64::from(rounds));
    }
}
