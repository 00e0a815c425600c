//! Answers that come in parts.

use std::time::Instant;

use tonic::{Status, Streaming};

/// The next part of an answer that has not ended yet.
///
/// # Errors
/// `UNAVAILABLE` where it broke off, `DEADLINE_EXCEEDED` where nothing came until `latest`, or what the connection says.
pub(super) async fn next<T>(parts: &mut Streaming<T>, latest: Instant) -> Result<T, Status> {
    let next = tokio::time::timeout_at(latest.into(), parts.message()).await;
    let next = next.map_err(|_| Status::deadline_exceeded("Request Deadline Exceeded"))?;
    next?.ok_or_else(|| Status::unavailable("an answer in parts broke off; try again"))
}
