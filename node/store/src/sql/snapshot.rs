//! A consistent view of one store: one read-only transaction.

use std::collections::BTreeMap;

use async_trait::async_trait;
use meridian_model::ids::{Position, StoreId};
use meridian_model::ports::{Read, Result, Snapshot, StoreHead, StoreRecord, TupleFilter};
use meridian_model::tuple::{Object, Subject, Tuple, TupleKey};

use super::dialect::Dialect;
use super::pool::Transaction;
use super::read;

struct SqlSnapshot {
    tx: Transaction,
    dialect: &'static Dialect,
    store: StoreRecord,
}

/// Reads the store's row, which is the transaction's first statement and so fixes the moment that all others see.
pub(super) async fn open(
    mut tx: Transaction,
    dialect: &'static Dialect,
    store: StoreId,
) -> Result<Option<Box<dyn Snapshot>>> {
    let store = read::store(&mut tx, store).await?;
    Ok(store.map(|store| Box::new(SqlSnapshot { tx, dialect, store }) as Box<dyn Snapshot>))
}

#[async_trait]
impl Snapshot for SqlSnapshot {
    fn position(&self) -> Position {
        self.store.position
    }

    async fn read(
        &mut self,
        reads: &[Read],
        user: &Subject,
    ) -> Result<BTreeMap<(Object, Box<str>), Vec<Tuple>>> {
        read::round(&mut self.tx, self.dialect, self.store.info.id, reads, user).await
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
}
