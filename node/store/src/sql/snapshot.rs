//! A consistent view of one store: one read-only transaction.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use meridian_model::AuthorizationModel;
use meridian_model::ids::{ModelId, Position, StoreId};
use meridian_model::ports::{Read, Result, Snapshot, StoreHead, StoreRecord, TupleFilter};
use meridian_model::tuple::{Tuple, TupleKey};
use tokio::sync::OwnedSemaphorePermit;

use super::pool::Transaction;
use super::{read, round};

struct SqlSnapshot {
    tx: Transaction,
    store: StoreRecord,
    _bulk: Option<OwnedSemaphorePermit>,
}

/// Reads the store's row, which is the transaction's first statement and so fixes the moment that all others see.
pub(super) async fn open(
    mut tx: Transaction,
    store: StoreId,
    bulk: Option<OwnedSemaphorePermit>,
) -> Result<Option<Box<dyn Snapshot>>> {
    let Some(store) = read::store(&mut tx, store).await? else {
        return Ok(None);
    };
    Ok(Some(Box::new(SqlSnapshot {
        tx,
        store,
        _bulk: bulk,
    })))
}

#[async_trait]
impl Snapshot for SqlSnapshot {
    fn position(&self) -> Position {
        self.store.position
    }

    fn extend(&mut self, deadline: Instant) {
        self.tx.extend(deadline);
    }

    async fn read(&mut self, reads: &[Read], limit: u32) -> Result<Option<Vec<Vec<Tuple>>>> {
        let store = self.store.info.id;
        round::read(&mut self.tx, store, reads, limit).await
    }

    async fn tuples_of_type(
        &mut self,
        object_type: &str,
        after: Option<&TupleKey>,
        limit: u32,
    ) -> Result<Vec<Tuple>> {
        let filter = TupleFilter {
            object_type: Some(object_type.to_owned()),
            ..TupleFilter::default()
        };
        read::tuples(
            &mut self.tx,
            self.store.info.id,
            &filter,
            after,
            limit.into(),
        )
        .await
    }

    async fn tuples(&mut self, after: Option<&TupleKey>, limit: u32) -> Result<Vec<Tuple>> {
        read::tuples(
            &mut self.tx,
            self.store.info.id,
            &TupleFilter::default(),
            after,
            limit.into(),
        )
        .await
    }

    async fn head(&mut self) -> Result<StoreHead> {
        let mut models = read::models(&mut self.tx, self.store.info.id, None, None).await?;
        models.reverse();
        let tiers = read::tiers(&mut self.tx, self.store.info.id).await?;
        let StoreRecord {
            info,
            position,
            deleted_at,
        } = self.store.clone();
        Ok(StoreHead {
            info,
            position,
            models,
            tiers,
            deleted_at,
        })
    }

    async fn latest_model(&mut self) -> Result<Option<ModelId>> {
        read::latest_model(&mut self.tx, self.store.info.id).await
    }

    async fn model(&mut self, id: ModelId) -> Result<Option<Arc<AuthorizationModel>>> {
        read::model_of(&mut self.tx, self.store.info.id, id).await
    }
}
