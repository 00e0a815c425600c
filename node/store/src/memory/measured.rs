//! What a datastore in memory tells about itself.

use std::time::Instant;

use async_trait::async_trait;
use meridian_model::ports::{Connections, Measured, Result, Sizes};

use super::MemoryDatastore;
use super::store::Store;

#[async_trait]
impl Measured for MemoryDatastore {
    fn connections(&self) -> Option<Connections> {
        None
    }

    async fn sizes(&self, deadline: Instant) -> Result<Sizes> {
        let state = self.state(deadline)?;
        let tuples: usize = state.stores.values().map(Store::tuple_count).sum();
        Ok(Sizes {
            tuples: tuples as u64,
            outbox: state.outbox.len() as u64,
        })
    }
}
