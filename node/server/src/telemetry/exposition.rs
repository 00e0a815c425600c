//! `/metrics`.

use std::net::SocketAddr;
use std::sync::OnceLock;

use anyhow::Context as _;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

use super::{Measuring, conditions};

/// Seconds, from what an edge takes to what a client bears.
const SECONDS: [f64; 13] = [
    0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0,
];
/// As OpenFGA has them.
const MILLIS: [f64; 13] = [
    1.0, 5.0, 10.0, 25.0, 50.0, 80.0, 100.0, 150.0, 200.0, 300.0, 1000.0, 2000.0, 5000.0,
];
/// As OpenFGA has them.
const QUERIES: [f64; 11] = [
    1.0, 5.0, 20.0, 50.0, 100.0, 150.0, 225.0, 400.0, 500.0, 750.0, 1000.0,
];
/// As Prometheus' Go library has them.
const HANDLING: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// As OpenFGA has them.
const COMPILATION: [f64; 8] = [1.0, 5.0, 15.0, 50.0, 100.0, 250.0, 500.0, 1000.0];
/// As OpenFGA has them, and below those, since most conditions take microseconds.
const EVALUATION: [f64; 12] = [
    0.001, 0.01, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 50.0, 100.0, 250.0, 500.0,
];
/// Up to OpenFGA's limit.
const COST: [f64; 10] = [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0];
/// Steps of an evaluation, of which there are 25 at most, and rounds, of which there are no more.
const STEPS: [f64; 10] = [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 18.0, 25.0];

/// Whether calls are timed under the name of Go's gRPC library too.
static RPC_HISTOGRAMS: OnceLock<bool> = OnceLock::new();

/// Whether calls are timed under the name of Go's gRPC library too.
pub(crate) fn has_rpc_histograms() -> bool {
    RPC_HISTOGRAMS.get().copied().unwrap_or_default()
}

/// Serves Prometheus metrics at `address`, and has what is measured from now on shown there.
///
/// # Errors
/// When the address cannot be listened on.
pub fn serve_metrics(address: SocketAddr, measuring: &Measuring) -> anyhow::Result<()> {
    let _ = RPC_HISTOGRAMS.set(measuring.rpc_histograms);
    let named = |name: &str| Matcher::Full(name.to_owned());
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_ms".to_owned()), &MILLIS)?
        .set_buckets_for_metric(named("grpc_server_handling_seconds"), &HANDLING)?
        .set_buckets_for_metric(named("openfga_datastore_query_count"), &QUERIES)?
        .set_buckets_for_metric(named(conditions::COMPILATION), &COMPILATION)?
        .set_buckets_for_metric(named(conditions::EVALUATION), &EVALUATION)?
        .set_buckets_for_metric(named(conditions::COST), &COST)?
        .set_buckets_for_metric(named("meridian_check_depth"), &STEPS)?
        .set_buckets_for_metric(named("meridian_check_rounds"), &STEPS)?
        .with_http_listener(address)
        .install()
        .with_context(|| format!("cannot serve metrics on {address}"))?;
    conditions::measure();
    Ok(())
}
