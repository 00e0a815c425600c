//! What changes a store, within a transaction: central's own writes, replication, take-over from a snapshot.

use std::collections::BTreeMap;
use std::slice;

use meridian_model::AuthorizationModel;
use meridian_model::change::{Change, ChangeSet, StoreInfo, StoredModel, Tiers};
use meridian_model::ids::{ModelId, Position, Revision, StoreId, Timestamp};
use meridian_model::ports::{Applied, DatastoreError, Result};
use meridian_model::tuple::{Tuple, TupleKey};
use sqlx::any::AnyRow;

use super::changelog::record;
use super::dialect::Dialect;
use super::pool::Transaction;
use super::rows::{position, timestamp, to_json};
use super::statement::{ROWS_PER_STATEMENT, Statement, Value};
use super::tuples;
use crate::history::{following, verdict};

/// Numbers the store's next `count` revisions and gives the last of them, without changes. This locks the store's row until
/// the transaction ends. The clock is read under that lock, so time goes on as revisions do.
pub(super) async fn next_revisions(
    tx: &mut Transaction,
    store: StoreId,
    count: u64,
) -> Result<ChangeSet> {
    let Dialect {
        now, has_returning, ..
    } = *tx.dialect();
    let mut update = Statement::new(
        "UPDATE stores SET revision = revision + $2, epoch = (SELECT epoch FROM meta) \
         WHERE id = $1 AND deleted_at IS NULL",
    );
    let columns = format!("epoch, revision, {now} AS committed_at");
    let row = if has_returning {
        update.push(" RETURNING ").push(&columns);
        tx.row(update.with(store.as_str()).with(count)).await?
    } else if tx.execute(update.with(store.as_str()).with(count)).await? > 0 {
        let select = Statement::new(format!("SELECT {columns} FROM stores WHERE id = $1"));
        tx.row(select.with(store.as_str())).await?
    } else {
        None
    };
    let row = row.ok_or(DatastoreError::UnknownStore(store))?;
    change_set(store, &row)
}

fn change_set(store: StoreId, row: &AnyRow) -> Result<ChangeSet> {
    let Position { epoch, revision } = position(row)?;
    Ok(ChangeSet {
        store,
        epoch,
        revision,
        committed_at: timestamp(row, "committed_at")?,
        changes: Vec::new(),
        touched: Vec::new(),
    })
}

pub(super) async fn create_store(
    tx: &mut Transaction,
    id: StoreId,
    name: &str,
) -> Result<(ChangeSet, StoreInfo)> {
    let insert = Statement::new(format!(
        "INSERT INTO stores (id, name, created_at, epoch, revision) SELECT $1, $2, {}, epoch, 1 FROM meta",
        tx.dialect().now
    ));
    tx.execute(insert.with(id.as_str()).with(name)).await?;
    let select = Statement::new(
        "SELECT epoch, revision, created_at AS committed_at FROM stores WHERE id = $1",
    );
    let row = tx
        .row(select.with(id.as_str()))
        .await?
        .ok_or(DatastoreError::Conflict)?;
    let mut created = change_set(id, &row)?;
    let info = StoreInfo {
        id,
        name: name.to_owned(),
        created_at: created.committed_at,
    };
    created.changes.push(Change::StoreCreated(info.clone()));
    record(tx, slice::from_ref(&created)).await?;
    Ok((created, info))
}

pub(super) async fn delete_store(
    tx: &mut Transaction,
    mut revision: ChangeSet,
) -> Result<ChangeSet> {
    mark_deleted(tx, revision.store, revision.committed_at).await?;
    revision.changes.push(Change::StoreDeleted);
    record(tx, slice::from_ref(&revision)).await?;
    Ok(revision)
}

/// The row stays, for its deletion to be replicated; tuples, models and assertions go.
async fn mark_deleted(tx: &mut Transaction, store: StoreId, at: Timestamp) -> Result<()> {
    tx.execute(
        Statement::new("UPDATE stores SET deleted_at = $2 WHERE id = $1")
            .with(store.as_str())
            .with(at.0),
    )
    .await?;
    clear(tx, store, &["tuples", "models", "assertions"]).await
}

pub(super) async fn clear(
    tx: &mut Transaction,
    store: StoreId,
    tables: &[&'static str],
) -> Result<()> {
    for table in tables {
        tx.execute(
            Statement::new(format!("DELETE FROM {table} WHERE store_id = $1")).with(store.as_str()),
        )
        .await?;
    }
    Ok(())
}

pub(super) async fn write_model(
    tx: &mut Transaction,
    mut revision: ChangeSet,
    stored: StoredModel,
) -> Result<ChangeSet> {
    let later = Statement::new("SELECT id FROM models WHERE store_id = $1 AND id >= $2 LIMIT 1");
    if tx
        .row(later.with(revision.store.as_str()).with(stored.id.as_str()))
        .await?
        .is_some()
    {
        return Err(DatastoreError::Conflict);
    }
    insert_model(
        tx,
        revision.store,
        revision.revision,
        stored.id,
        &stored.model,
    )
    .await?;
    revision.changes.push(Change::ModelWritten(stored));
    record(tx, slice::from_ref(&revision)).await?;
    Ok(revision)
}

pub(super) async fn insert_model(
    tx: &mut Transaction,
    store: StoreId,
    revision: Revision,
    id: ModelId,
    model: &AuthorizationModel,
) -> Result<()> {
    let insert = Statement::new(format!(
        "INSERT INTO models (store_id, id, model, revision) VALUES ($1, $2, $3, $4){}",
        (tx.dialect().or_update)("store_id, id", &["model", "revision"])
    ));
    tx.execute(
        insert
            .with(store.as_str())
            .with(id.as_str())
            .with(to_json("authorization model", model)?)
            .with(revision.0),
    )
    .await?;
    Ok(())
}

pub(super) async fn assign_tiers(
    tx: &mut Transaction,
    mut revision: ChangeSet,
    tiers: &Tiers,
) -> Result<ChangeSet> {
    insert_tiers(tx, revision.store, revision.revision, tiers).await?;
    revision.changes.push(Change::TiersAssigned(tiers.clone()));
    record(tx, slice::from_ref(&revision)).await?;
    Ok(revision)
}

pub(super) async fn insert_tiers(
    tx: &mut Transaction,
    store: StoreId,
    revision: Revision,
    tiers: &Tiers,
) -> Result<()> {
    let insert =
        Statement::new("INSERT INTO tiers (store_id, revision, tiers) VALUES ($1, $2, $3)");
    tx.execute(
        insert
            .with(store.as_str())
            .with(revision.0)
            .with(to_json("tier assignment", tiers)?),
    )
    .await?;
    Ok(())
}

/// Makes a row to lock where there is none, at no position yet. Of two who bring a store in, the second waits here until
/// the first has ended, and then sees how far that one came.
pub(super) async fn reserve(tx: &mut Transaction, info: &StoreInfo) -> Result<()> {
    let reserve = Statement::new(format!(
        "INSERT INTO stores (id, name, created_at, epoch, revision) VALUES ($1, $2, $3, 0, 0){}",
        (tx.dialect().or_update)("id", &[])
    ));
    let reserve = reserve
        .with(info.id.as_str())
        .with(info.name.as_str())
        .with(info.created_at.0);
    tx.execute(reserve).await.map(drop)
}

/// Where the store stands, with its row locked until the transaction ends; `None` when it is unknown or only reserved.
pub(super) async fn locked(tx: &mut Transaction, store: StoreId) -> Result<Option<Position>> {
    let select = Statement::new(format!(
        "SELECT epoch, revision FROM stores WHERE id = $1{}",
        tx.dialect().for_update
    ));
    let row = tx.row(select.with(store.as_str())).await?;
    let have = row.as_ref().map(position).transpose()?;
    Ok(have.filter(|have| have.revision != Revision::ZERO))
}

/// See [`meridian_model::ports::Datastore::apply`].
pub(super) async fn apply(tx: &mut Transaction, change_sets: &[ChangeSet]) -> Result<Applied> {
    let Some(first) = change_sets.first() else {
        return Ok(Applied::Skipped);
    };
    let store = first.store;
    let mut have = locked(tx, store).await?;
    if have.is_none()
        && let Some(Change::StoreCreated(info)) = first.changes.first()
        && verdict(None, first) == Applied::Applied
    {
        reserve(tx, info).await?;
        have = locked(tx, store).await?;
    }
    let sets = match following(have, change_sets) {
        Ok(sets) => sets,
        Err(verdict) => return Ok(verdict),
    };
    let mut tuples: BTreeMap<&TupleKey, Option<(Revision, &Tuple)>> = BTreeMap::new();
    for set in sets {
        let revision = set.revision;
        for change in &set.changes {
            match change {
                Change::TupleWritten(tuple) => {
                    tuples.insert(&tuple.key, Some((revision, tuple)));
                }
                Change::TupleDeleted(key) => drop(tuples.insert(key, None)),
                Change::ModelWritten(stored) => {
                    insert_model(tx, store, revision, stored.id, &stored.model).await?
                }
                Change::StoreCreated(info) => put_store(tx, info, set.position(), None).await?,
                Change::StoreDeleted => {
                    tuples.clear();
                    mark_deleted(tx, store, set.committed_at).await?;
                }
                Change::TiersAssigned(tiers) => insert_tiers(tx, store, revision, tiers).await?,
            }
        }
    }
    let deleted: Vec<&TupleKey> = tuples
        .iter()
        .filter(|(_, tuple)| tuple.is_none())
        .map(|(key, _)| *key)
        .collect();
    for chunk in deleted.chunks(ROWS_PER_STATEMENT) {
        tuples::delete(tx, store, chunk.iter().copied()).await?;
    }
    let written: Vec<_> = tuples.into_values().flatten().collect();
    for chunk in written.chunks(ROWS_PER_STATEMENT) {
        tuples::put(tx, store, chunk.iter().copied()).await?;
    }
    let last = sets.last().unwrap_or(first);
    let advance = Statement::new("UPDATE stores SET revision = $2 WHERE id = $1");
    tx.execute(advance.with(store.as_str()).with(last.revision.0))
        .await?;
    record(tx, sets).await?;
    Ok(Applied::Applied)
}

pub(super) async fn put_store(
    tx: &mut Transaction,
    info: &StoreInfo,
    position: Position,
    deleted_at: Option<Timestamp>,
) -> Result<()> {
    let columns = ["name", "created_at", "deleted_at", "epoch", "revision"];
    let upsert = Statement::new(format!(
        "INSERT INTO stores (id, name, created_at, deleted_at, epoch, revision) VALUES ($1, $2, $3, $4, $5, $6){}",
        (tx.dialect().or_update)("id", &columns)
    ));
    let upsert = upsert
        .with(info.id.as_str())
        .with(info.name.as_str())
        .with(info.created_at.0)
        .with(Value::Number(deleted_at.map(|at| at.0)));
    tx.execute(upsert.with(position.epoch.0).with(position.revision.0))
        .await?;
    Ok(())
}
