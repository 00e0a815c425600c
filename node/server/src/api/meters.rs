//! What is counted of every request, in one place for both transports. The handles of the frequent ones are made once.

use std::time::Duration;

use metrics::{Counter, Histogram, counter, describe_counter, describe_histogram, histogram};

use crate::api::operations::{Served, names};

const REQUESTS: &str = "meridian_requests_total";
const SECONDS: &str = "meridian_request_duration_seconds";
const ERRORS: &str = "meridian_request_errors_total";
const REFUSED: &str = "meridian_refused_callers_total";

pub(super) struct Meters {
    /// By [`Served::INDEX`].
    operations: Vec<(Counter, Histogram)>,
}

impl Meters {
    /// Registers with the recorder installed at this moment.
    pub(super) fn new() -> Self {
        describe_counter!(REQUESTS, "Requests by operation, failed ones included");
        describe_histogram!(
            SECONDS,
            metrics::Unit::Seconds,
            "Time from decoded request to answer, by operation"
        );
        describe_counter!(ERRORS, "Failed requests by operation and error code");
        describe_counter!(REFUSED, "Requests of nobody known, by error code");
        let operations = names()
            .map(|name| {
                (
                    counter!(REQUESTS, "operation" => name),
                    histogram!(SECONDS, "operation" => name),
                )
            })
            .collect();
        Self { operations }
    }

    /// Counts a request that was not let in.
    pub(super) fn refused(&self, code: &'static str) {
        counter!(REFUSED, "code" => code).increment(1);
    }

    pub(super) fn record<O: Served>(&self, took: Duration, error: Option<&'static str>) {
        if let Some((requests, seconds)) = self.operations.get(O::INDEX) {
            requests.increment(1);
            seconds.record(took);
        }
        if let Some(code) = error {
            counter!(ERRORS, "operation" => O::NAME, "code" => code).increment(1);
        }
    }
}
