//! Figures about the operator itself, and where they and its health are served.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::reconcile::Error;

const RECONCILES: &str = "meridian_operator_reconciles_total";
const ERRORS: &str = "meridian_operator_reconcile_errors_total";
const SECONDS: &str = "meridian_operator_reconcile_duration_seconds";
const LEADER: &str = "meridian_operator_leader";

const BUCKETS: [f64; 9] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0];

/// Starts recording.
///
/// # Errors
/// When this process records already.
pub fn record() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(SECONDS.to_owned()), &BUCKETS)?
        .install_recorder()?;
    metrics::describe_counter!(RECONCILES, "Reconciles, by kind");
    metrics::describe_counter!(ERRORS, "Reconciles that failed, by kind and category");
    metrics::describe_histogram!(SECONDS, "How long a reconcile takes, by kind");
    metrics::describe_gauge!(LEADER, "1 while this operator leads");
    leading(false);
    Ok(handle)
}

/// Counts a reconcile.
pub fn reconciled(kind: &str, took: Duration, error: Option<&Error>) {
    metrics::counter!(RECONCILES, "kind" => kind.to_owned()).increment(1);
    metrics::histogram!(SECONDS, "kind" => kind.to_owned()).record(took);
    if let Some(error) = error {
        let category = error.category().label();
        metrics::counter!(ERRORS, "kind" => kind.to_owned(), "category" => category).increment(1);
    }
}

/// Shows whether this operator leads.
pub fn leading(leads: bool) {
    metrics::gauge!(LEADER).set(if leads { 1.0 } else { 0.0 });
}

/// Whether the operator has reached its API server. One that waits to lead is ready too: it stands by.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// It has.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn status(&self) -> StatusCode {
        if self.0.load(Ordering::Relaxed) {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

/// Serves `/livez` and `/readyz`.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve_health(
    address: SocketAddr,
    readiness: Readiness,
) -> anyhow::Result<impl Future<Output = std::io::Result<()>>> {
    let router = Router::new()
        .route("/livez", get(async || StatusCode::OK))
        .route("/readyz", get(async move || readiness.status()));
    serve(address, router).await
}

/// Serves `/metrics`.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve_metrics(
    address: SocketAddr,
    handle: PrometheusHandle,
) -> anyhow::Result<impl Future<Output = std::io::Result<()>>> {
    let router = Router::new().route("/metrics", get(async move || handle.render()));
    serve(address, router).await
}

async fn serve(
    address: SocketAddr,
    router: Router,
) -> anyhow::Result<impl Future<Output = std::io::Result<()>>> {
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    Ok(async move { axum::serve(listener, router).await })
}
