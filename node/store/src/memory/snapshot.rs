//! A store as it stood at one revision.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use meridian_model::AuthorizationModel;
use meridian_model::ids::{ModelId, Position};
use meridian_model::ports::{Read, Result, Snapshot, StoreHead, TupleFilter};
use meridian_model::tuple::{Tuple, TupleKey};

use super::store::Store;
use crate::history::check_deadline;

/// A clone of the store, which no later write reaches.
pub(super) struct MemorySnapshot {
    pub(super) store: Store,
    pub(super) deadline: Instant,
}

#[async_trait]
impl Snapshot for MemorySnapshot {
    fn position(&self) -> Position {
        self.store.position
    }

    fn extend(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    async fn read(&mut self, reads: &[Read], limit: u32) -> Result<Option<Vec<Vec<Tuple>>>> {
        check_deadline(self.deadline)?;
        Ok(self.store.read(reads, limit))
    }

    async fn tuples_of_type(
        &mut self,
        object_type: &str,
        after: Option<&TupleKey>,
        limit: u32,
    ) -> Result<Vec<Tuple>> {
        check_deadline(self.deadline)?;
        let filter = TupleFilter {
            object_type: Some(object_type.to_owned()),
            ..TupleFilter::default()
        };
        Ok(self
            .store
            .filtered(&filter, after)
            .take(limit as usize)
            .collect())
    }

    async fn tuples(&mut self, after: Option<&TupleKey>, limit: u32) -> Result<Vec<Tuple>> {
        check_deadline(self.deadline)?;
        Ok(self
            .store
            .filtered(&TupleFilter::default(), after)
            .take(limit as usize)
            .collect())
    }

    async fn head(&mut self) -> Result<StoreHead> {
        check_deadline(self.deadline)?;
        Ok(self.store.head())
    }

    async fn latest_model(&mut self) -> Result<Option<ModelId>> {
        check_deadline(self.deadline)?;
        Ok(self.store.latest_model())
    }

    async fn model(&mut self, id: ModelId) -> Result<Option<Arc<AuthorizationModel>>> {
        check_deadline(self.deadline)?;
        Ok(self.store.models.get(&id).cloned())
    }
}
