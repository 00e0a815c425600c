//! What conditions take, under OpenFGA's names.

use std::time::{Duration, Instant};

use meridian_condition::{Observer, observe};
use metrics::{Histogram, describe_histogram, histogram};

pub(super) const COMPILATION: &str = "openfga_condition_compilation_duration_ms";
pub(super) const EVALUATION: &str = "openfga_condition_evaluation_duration_ms";
pub(super) const COST: &str = "openfga_condition_evaluation_cost";

/// Measures conditions from now on, with the recorder installed at this moment.
pub(super) fn measure() {
    describe_histogram!(COMPILATION, "Time of a condition's compilation");
    describe_histogram!(EVALUATION, "Time of a condition's evaluation");
    describe_histogram!(COST, "What a condition's evaluation cost, as cel-go counts");
    observe(Meters {
        started: Instant::now(),
        compilation: histogram!(COMPILATION),
        evaluation: histogram!(EVALUATION),
        cost: histogram!(COST),
    });
}

struct Meters {
    started: Instant,
    compilation: Histogram,
    evaluation: Histogram,
    cost: Histogram,
}

impl Observer for Meters {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn compiled(&self, took: Duration) {
        self.compilation.record(millis(took));
    }

    fn evaluated(&self, took: Duration, cost: u64) {
        self.evaluation.record(millis(took));
        self.cost.record(cost as f64);
    }
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}
