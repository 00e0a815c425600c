//! Which stores there are, known for a while.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_model::StoreId;
use moka::Expiry;
use moka::future::Cache;

use crate::calls::Calls;
use crate::lookup::{self, Found};

/// Answers that are kept.
const KEPT: u64 = 100_000;
/// How long a question may take: nobody waits for long for what may not be answered at all.
const TIMEOUT: Duration = Duration::from_secs(1);

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
        let look = lookup::look(&*self.calls, store, TIMEOUT);
        self.found.get_with(store, look).await
    }
}
