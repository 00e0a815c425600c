//! Which stores there are, asked of the node's own calls: those that have a database read it, others ask the nodes above.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_model::{Code, StoreId};
use meridian_proto::openfga::v1;
use moka::Expiry;
use moka::future::Cache;

use crate::calls::{Calls, Context};

/// Answers that are kept.
const KEPT: u64 = 100_000;
/// How long a question may take: nobody waits for long for what may not be answered at all.
const TIMEOUT: Duration = Duration::from_secs(1);

/// What is known of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It exists, or did a minute ago.
    There,
    /// It does not, or did not a second ago.
    Missing,
    /// Nobody could say.
    Unknown,
}

/// Knows which stores there are.
pub struct Stores {
    calls: Arc<dyn Calls>,
    found: Cache<StoreId, Found>,
}

/// How long each answer is kept.
struct Ages;

impl Expiry<StoreId, Found> for Ages {
    fn expire_after_create(&self, _: &StoreId, found: &Found, _: Instant) -> Option<Duration> {
        Some(match found {
            Found::There => Duration::from_secs(60),
            Found::Missing => Duration::from_secs(1),
            // Until then the next one does not wait either.
            Found::Unknown => 5 * TIMEOUT,
        })
    }
}

impl Stores {
    /// Those that `calls` knows.
    pub fn new(calls: Arc<dyn Calls>) -> Self {
        let found = Cache::builder()
            .max_capacity(KEPT)
            .expire_after(Ages)
            .build();
        Self { calls, found }
    }

    /// Whether there is such a store. Those who ask for the same one at the same time share the question.
    pub async fn find(&self, store: StoreId) -> Found {
        self.found.get_with(store, self.ask(store)).await
    }

    async fn ask(&self, store: StoreId) -> Found {
        let deadline = Instant::now() + TIMEOUT;
        let cx = Context::own(deadline);
        let request = v1::GetStoreRequest {
            store_id: store.to_string(),
        };
        let asked = self.calls.get_store(&cx, request);
        match tokio::time::timeout_at(deadline.into(), asked).await {
            Ok(Ok(_)) => Found::There,
            Ok(Err(refusal)) if refusal.error.code == Code::StoreIdNotFound => Found::Missing,
            Ok(Err(_)) | Err(_) => Found::Unknown,
        }
    }
}
