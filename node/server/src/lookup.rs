//! Whether there is a store, as far as a node's own calls can say: those that have a database read it, others ask the nodes above.

use std::time::{Duration, Instant};

use meridian_model::{Code, StoreId};
use meridian_proto::openfga::v1;

use crate::calls::{Calls, Context};

/// What is known of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It exists.
    There,
    /// It does not.
    Missing,
    /// Nobody could say.
    Unknown,
}

/// Looks for a store, no longer than `limit`.
pub(crate) async fn look(calls: &dyn Calls, store: StoreId, limit: Duration) -> Found {
    let deadline = Instant::now() + limit;
    let cx = Context::own(deadline);
    let request = v1::GetStoreRequest {
        store_id: store.to_string(),
    };
    let asked = calls.get_store(&cx, request);
    match tokio::time::timeout_at(deadline.into(), asked).await {
        Ok(Ok(_)) => Found::There,
        Ok(Err(refusal)) if refusal.error.code == Code::StoreIdNotFound => Found::Missing,
        Ok(Err(_)) | Err(_) => Found::Unknown,
    }
}
