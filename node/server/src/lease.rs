//! Leases of the datastore by which one node at a time does what is to be done once.

use std::time::{Duration, Instant};

use meridian_model::ports::Datastore;

/// How long the datastore may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// Gives a lease back, so that another node need not wait until it ends by itself. One that somebody else holds stays theirs.
pub(crate) async fn give_back(datastore: &dyn Datastore, name: &str, holder: &str) {
    let deadline = Instant::now() + TIMEOUT;
    let given = datastore.acquire_lease(name, holder, Duration::ZERO, deadline);
    if let Err(error) = given.await {
        let error: &dyn std::error::Error = &error;
        tracing::debug!(error, name, "a lease was not given back; it ends by itself");
    }
}
