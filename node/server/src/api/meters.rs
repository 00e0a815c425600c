//! What is counted of every request, in one place for both transports: under Meridian's names, and under OpenFGA's where
//! its dashboards go by them. The handles of what is frequent are made once.

use std::any::Any;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use meridian_proto::openfga::v1;
use metrics::{Counter, Histogram, counter, describe_counter, describe_histogram, histogram};

use super::Rejection;
use super::grpc::{CHECK_SERVICE, SERVICE};
use super::operations::{COUNT, names, service};
use crate::calls::ServedBy;
use crate::telemetry::has_rpc_histograms;
use crate::telemetry::request::statements;

const REQUESTS: &str = "meridian_requests_total";
const SECONDS: &str = "meridian_request_duration_seconds";
const ERRORS: &str = "meridian_request_errors_total";
const REFUSED: &str = "meridian_refused_callers_total";
const CHECKS: &str = "meridian_checks_total";
const STARTED: &str = "grpc_server_started_total";
const HANDLED: &str = "grpc_server_handled_total";
const HANDLING: &str = "grpc_server_handling_seconds";
const MILLIS: &str = "openfga_request_duration_ms";
const QUERIES: &str = "openfga_datastore_query_count";
const RESULTS: &str = "openfga_check_result_count";
const WRITES: &str = "openfga_write_duration_ms";

const CHECK_MILLIS: &str = "openfga_check_duration_ms";

/// A streamed call, which is no [`super::operations::Served`]: its place is behind those that are.
#[derive(Debug, Clone, Copy)]
pub struct Streamed {
    pub(super) index: usize,
    pub(super) service: &'static str,
    pub(super) name: &'static str,
}

pub(super) const STREAMED_LIST_OBJECTS: Streamed = Streamed {
    index: COUNT,
    service: SERVICE,
    name: "StreamedListObjects",
};
pub(super) const STREAMED_BATCH_CHECK: Streamed = Streamed {
    index: COUNT + 1,
    service: CHECK_SERVICE,
    name: "StreamedBatchCheck",
};
const STREAMED: [Streamed; 2] = [STREAMED_LIST_OBJECTS, STREAMED_BATCH_CHECK];
/// The calls that OpenFGA times by the queries they take, and whose names it then writes in small letters.
const TIMED: [&str; 5] = [
    "Check",
    "BatchCheck",
    "ListObjects",
    STREAMED_LIST_OBJECTS.name,
    "ListUsers",
];
/// OpenFGA's buckets of queries a call, as they stand in a label.
const BUCKETS: [(u32, &str); 2] = [(50, "50"), (200, "200")];
const MORE: &str = "+Inf";
const CONSISTENCIES: [&str; 3] = ["UNSPECIFIED", "MINIMIZE_LATENCY", "HIGHER_CONSISTENCY"];

pub(super) struct Meters {
    operations: Vec<OfOperation>,
    /// By who knew the answer, and by the answer.
    checks: [[Counter; 3]; 3],
    /// Denied, allowed.
    results: [Counter; 2],
}

struct OfOperation {
    service: &'static str,
    name: &'static str,
    requests: Counter,
    seconds: Histogram,
    started: Counter,
    handled: Counter,
    handling: Option<Histogram>,
    timed: Option<Timed>,
}

struct Timed {
    queries: Histogram,
    /// By bucket and consistency; made when first used.
    millis: [[OnceLock<Histogram>; 3]; 3],
}

/// What the meters need of a request.
#[derive(Clone, Copy)]
pub(super) struct Traits {
    consistency: usize,
    /// What a Write does about tuples that are so already, as it says.
    write: Option<(&'static str, &'static str)>,
}

impl Traits {
    pub(super) fn of<R: Any>(request: &R) -> Self {
        let request: &dyn Any = request;
        let consistency = None
            .or_else(|| {
                request
                    .downcast_ref()
                    .map(|check: &v1::CheckRequest| check.consistency)
            })
            .or_else(|| {
                request
                    .downcast_ref()
                    .map(|batch: &v1::BatchCheckRequest| batch.consistency)
            })
            .or_else(|| {
                request
                    .downcast_ref()
                    .map(|list: &v1::ListObjectsRequest| list.consistency)
            })
            .or_else(|| {
                request
                    .downcast_ref()
                    .map(|list: &v1::StreamedListObjectsRequest| list.consistency)
            })
            .or_else(|| {
                request
                    .downcast_ref()
                    .map(|list: &v1::ListUsersRequest| list.consistency)
            });
        let write = request.downcast_ref().map(|write: &v1::WriteRequest| {
            let writes = write
                .writes
                .as_ref()
                .map(|writes| writes.on_duplicate.as_str());
            let deletes = write
                .deletes
                .as_ref()
                .map(|deletes| deletes.on_missing.as_str());
            (known(writes), known(deletes))
        });
        Self {
            consistency: match consistency {
                Some(100) => 1,
                Some(200) => 2,
                _ => 0,
            },
            write,
        }
    }
}

/// Only what the API defines becomes a label.
fn known(option: Option<&str>) -> &'static str {
    match option {
        Some("ignore") => "ignore",
        Some("error") => "error",
        _ => "",
    }
}

/// What became of a request.
pub(super) struct Done<'a, T> {
    pub(super) took: Duration,
    /// Statements that the datastore of this node ran for it.
    pub(super) statements: u32,
    pub(super) result: Result<&'a T, &'a Rejection>,
    /// Who answered, and who was asked.
    pub(super) served_by: Option<&'a ServedBy>,
    pub(super) here: &'a ServedBy,
}

impl Meters {
    /// Registers with the recorder installed at this moment.
    pub(super) fn new() -> Self {
        describe();
        let unary = names()
            .enumerate()
            .map(|(index, name)| (service(index), name));
        let streamed = STREAMED.map(|streamed| (streamed.service, streamed.name));
        let checks = |served| {
            ["allowed", "denied", "error"]
                .map(|outcome| counter!(CHECKS, "served" => served, "outcome" => outcome))
        };
        Self {
            operations: unary
                .chain(streamed)
                .map(|(service, name)| OfOperation::new(service, name))
                .collect(),
            checks: ["here", "kept", "upstream"].map(checks),
            results: ["false", "true"].map(|allowed| counter!(RESULTS, "allowed" => allowed)),
        }
    }

    /// Counts a request that was not let in.
    pub(super) fn refused(&self, code: &'static str) {
        counter!(REFUSED, "code" => code).increment(1);
    }

    /// A request has come in.
    pub(super) fn started(&self, index: usize) {
        if let Some(of) = self.operations.get(index) {
            of.started.increment(1);
        }
    }

    /// A request is done.
    pub(super) fn done<T: Any>(&self, index: usize, traits: Traits, done: &Done<'_, T>) {
        let Some(of) = self.operations.get(index) else {
            return;
        };
        of.requests.increment(1);
        of.seconds.record(done.took);
        if let Some(handling) = &of.handling {
            handling.record(done.took);
        }
        match done.result {
            Ok(body) => {
                of.handled.increment(1);
                if let Some(timed) = &of.timed {
                    timed.record(of.name, traits, done.took, done.statements);
                }
                self.answered(body, done);
            }
            Err(rejection) => {
                let (operation, code) = (of.name, rejection.code());
                counter!(ERRORS, "operation" => operation, "code" => code).increment(1);
                of.handled(rejection.grpc_code()).increment(1);
                if operation == "Check" {
                    self.check(done, 2);
                }
            }
        }
        if let Some((duplicate, missing)) = traits.write {
            histogram!(WRITES, "require_authorize_check" => "false", "on_duplicate_write" => duplicate, "on_missing_delete" => missing)
                .record(millis(done.took));
        }
    }

    fn answered<T: Any>(&self, body: &T, done: &Done<'_, T>) {
        let body: &dyn Any = body;
        if let Some(check) = body.downcast_ref::<v1::CheckResponse>() {
            let [denied, allowed] = &self.results;
            if check.allowed { allowed } else { denied }.increment(1);
            self.check(done, usize::from(!check.allowed));
        }
    }

    fn check<T>(&self, done: &Done<'_, T>, outcome: usize) {
        let served = match done.served_by {
            Some(node) if node != done.here => 2,
            Some(node) if node.is_kept() => 1,
            _ => 0,
        };
        if let Some(counter) = self.checks.get(served).and_then(|of| of.get(outcome)) {
            counter.increment(1);
        }
    }
}

impl OfOperation {
    fn new(service: &'static str, name: &'static str) -> Self {
        let timed = TIMED.contains(&name).then(|| Timed {
            queries: histogram!(QUERIES, "grpc_service" => SERVICE, "grpc_method" => name.to_lowercase()),
            millis: Default::default(),
        });
        let this = Self {
            service,
            name,
            requests: counter!(REQUESTS, "operation" => name),
            seconds: histogram!(SECONDS, "operation" => name),
            started: counter!(STARTED, "grpc_service" => service, "grpc_method" => name, "grpc_type" => kind(name)),
            handled: Counter::noop(),
            handling: has_rpc_histograms().then(|| histogram!(HANDLING, "grpc_service" => service, "grpc_method" => name, "grpc_type" => kind(name))),
            timed,
        };
        Self {
            handled: this.handled("OK".to_owned()),
            ..this
        }
    }

    fn handled(&self, code: String) -> Counter {
        counter!(HANDLED, "grpc_service" => self.service, "grpc_method" => self.name, "grpc_type" => kind(self.name), "grpc_code" => code)
    }
}

impl Timed {
    fn record(&self, name: &'static str, traits: Traits, took: Duration, statements: u32) {
        self.queries.record(f64::from(statements));
        let (bucket, queries) = bucket(statements);
        let of = self
            .millis
            .get(bucket)
            .and_then(|of| of.get(traits.consistency));
        let Some(cell) = of else { return };
        let make = || {
            let consistency = CONSISTENCIES
                .get(traits.consistency)
                .copied()
                .unwrap_or_default();
            // Nothing is dispatched here, so all calls are in the first bucket.
            histogram!(MILLIS, "grpc_service" => SERVICE, "grpc_method" => name.to_lowercase(), "datastore_query_count" => queries, "dispatch_count" => "50", "consistency" => consistency)
        };
        cell.get_or_init(make).record(millis(took));
    }
}

/// The place and the label of OpenFGA's bucket for so many queries.
fn bucket(statements: u32) -> (usize, &'static str) {
    let at = BUCKETS.iter().position(|(most, _)| statements <= *most);
    let at = at.unwrap_or(BUCKETS.len());
    (at, BUCKETS.get(at).map_or(MORE, |(_, label)| label))
}

/// Times the checks of one batch, each from the batch's beginning until it is decided.
pub(crate) struct CheckDurations {
    began: Instant,
    /// By bucket; made when first used.
    millis: [Option<Histogram>; 3],
}

impl CheckDurations {
    pub(crate) fn begin() -> Self {
        Self {
            began: Instant::now(),
            millis: Default::default(),
        }
    }

    /// Some checks of the batch are decided, after so many queries as the request took until now.
    pub(crate) fn decided(&mut self, checks: usize) {
        let (at, queries) = bucket(statements());
        let Some(histogram) = self.millis.get_mut(at) else {
            return;
        };
        let make = || histogram!(CHECK_MILLIS, "datastore_query_count" => queries, "caller" => "batchcheck");
        let took = millis(self.began.elapsed());
        histogram.get_or_insert_with(make).record_many(took, checks);
    }
}

fn kind(name: &str) -> &'static str {
    if STREAMED.iter().any(|streamed| streamed.name == name) {
        "server_stream"
    } else {
        "unary"
    }
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}

fn describe() {
    describe_counter!(REQUESTS, "Requests by operation, failed ones included");
    describe_histogram!(
        SECONDS,
        metrics::Unit::Seconds,
        "Time from decoded request to answer, by operation"
    );
    describe_counter!(ERRORS, "Failed requests by operation and error code");
    describe_counter!(REFUSED, "Requests of nobody known, by error code");
    describe_counter!(
        CHECKS,
        "Checks by where the answer came from and what it was"
    );
    describe_counter!(STARTED, "Calls begun, over both transports");
    describe_counter!(HANDLED, "Calls done, over both transports, by gRPC code");
    describe_histogram!(
        HANDLING,
        metrics::Unit::Seconds,
        "Time of calls, over both transports"
    );
    describe_histogram!(MILLIS, "Time of calls that evaluate, in milliseconds");
    describe_histogram!(QUERIES, "Datastore queries of a call that evaluates");
    describe_counter!(RESULTS, "Checks answered, by the answer");
    describe_histogram!(
        CHECK_MILLIS,
        "Time of each check of a batch, in milliseconds"
    );
    describe_histogram!(WRITES, "Time of Writes, in milliseconds");
}
