//! What changes a store, within a transaction: central's own writes, replication, take-over from a snapshot.

use std::collections::{BTreeMap, HashMap, HashSet};

use meridian_model::AuthorizationModel;
use meridian_model::change::{Change, ChangeSet, StoreInfo, StoredModel, Tiers};
use meridian_model::ids::{ModelId, Position, Revision, StoreId, Timestamp};
use meridian_model::ports::{Applied, DatastoreError, Result, WriteOptions};
use meridian_model::tuple::{Tuple, TupleKey};
use sqlx::any::AnyRow;

use super::changelog::record;
use super::dialect::Dialect;
use super::pool::Transaction;
use super::rows::{
    KEY_COLUMNS, TUPLE_COLUMNS, key, key_and_condition, position, timestamp, to_json, tuple,
};
use super::statement::{ROWS_PER_STATEMENT, Statement, Value};
use crate::history::verdict;

/// Numbers the store's next revision, which locks the store's row until the transaction ends. The clock is read under
/// that lock, so time goes on as revisions do.
pub(super) async fn next_revision(tx: &mut Transaction, store: StoreId) -> Result<ChangeSet> {
    let Dialect {
        now, has_returning, ..
    } = *tx.dialect();
    let mut update = Statement::new(
        "UPDATE stores SET revision = revision + 1, epoch = (SELECT epoch FROM meta) \
         WHERE id = $1 AND deleted_at IS NULL",
    );
    let columns = format!("epoch, revision, {now} AS committed_at");
    let row = if has_returning {
        update.push(" RETURNING ").push(&columns);
        tx.row(update.with(store.as_str())).await?
    } else if tx.execute(update.with(store.as_str())).await? > 0 {
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
    record(tx, &created).await?;
    Ok((created, info))
}

pub(super) async fn delete_store(
    tx: &mut Transaction,
    mut revision: ChangeSet,
) -> Result<ChangeSet> {
    mark_deleted(tx, revision.store, revision.committed_at).await?;
    revision.changes.push(Change::StoreDeleted);
    record(tx, &revision).await?;
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
    record(tx, &revision).await?;
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
    record(tx, &revision).await?;
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

pub(super) async fn write_tuples(
    tx: &mut Transaction,
    mut revision: ChangeSet,
    deletes: &[TupleKey],
    writes: &[Tuple],
    options: WriteOptions,
) -> Result<ChangeSet> {
    for chunk in deletes.chunks(ROWS_PER_STATEMENT) {
        let mut deleted = delete_tuples(tx, revision.store, chunk).await?;
        for key in chunk {
            if deleted.remove(key) {
                revision.changes.push(Change::TupleDeleted(key.clone()));
            } else if !options.ignore_missing {
                return Err(DatastoreError::TupleMissing(key.clone()));
            }
        }
    }
    let writes: Vec<Tuple> = writes
        .iter()
        .map(|tuple| Tuple {
            timestamp: revision.committed_at,
            ..tuple.clone()
        })
        .collect();
    for chunk in writes.chunks(ROWS_PER_STATEMENT) {
        let mut inserted = insert_tuples(tx, revision.store, revision.revision, chunk).await?;
        let (new, existing): (Vec<&Tuple>, Vec<&Tuple>) =
            chunk.iter().partition(|tuple| inserted.remove(&tuple.key));
        match existing.first() {
            Some(first) if !options.ignore_duplicate => {
                return Err(DatastoreError::TupleExists(first.key.clone()));
            }
            Some(_) => have_those_conditions(tx, revision.store, &existing).await?,
            None => {}
        }
        let written = new.into_iter().cloned().map(Change::TupleWritten);
        revision.changes.extend(written);
    }
    if !revision.changes.is_empty() {
        record(tx, &revision).await?;
    }
    Ok(revision)
}

/// Fails unless tuples that are stored have the conditions they have here.
async fn have_those_conditions(
    tx: &mut Transaction,
    store: StoreId,
    tuples: &[&Tuple],
) -> Result<()> {
    let keys = tuples.iter().map(|tuple| &tuple.key);
    let mut select = Statement::new(format!("SELECT {TUPLE_COLUMNS} FROM tuples WHERE "));
    with_keys(&mut select, tx.dialect(), store, keys);
    let rows = tx.rows(select).await?;
    let stored: Vec<Tuple> = rows.iter().map(tuple).collect::<Result<_>>()?;
    let conditions: HashMap<_, _> = stored
        .iter()
        .map(|tuple| (&tuple.key, &tuple.condition))
        .collect();
    let differs = |tuple: &&&Tuple| conditions.get(&tuple.key) != Some(&&tuple.condition);
    tuples.iter().find(differs).map_or(Ok(()), |tuple| {
        Err(DatastoreError::ConditionDiffers(tuple.key.clone()))
    })
}

/// Adds that a tuple is the store's and has one of the keys.
fn with_keys<'a>(
    statement: &mut Statement,
    dialect: &Dialect,
    store: StoreId,
    keys: impl IntoIterator<Item = &'a TupleKey>,
) {
    statement
        .push("store_id = ")
        .bind(store.as_str())
        .push(" AND (")
        .push(KEY_COLUMNS)
        .push(dialect.in_rows)
        .tuples(keys.into_iter().map(TupleKey::columns))
        .push(")");
}

/// Those of the keys that tuples have. None of the store's come or go while its row is locked.
async fn present<'a>(
    tx: &mut Transaction,
    store: StoreId,
    keys: impl IntoIterator<Item = &'a TupleKey>,
) -> Result<HashSet<TupleKey>> {
    let mut select = Statement::new(format!("SELECT {KEY_COLUMNS} FROM tuples WHERE "));
    with_keys(&mut select, tx.dialect(), store, keys);
    tx.rows(select).await?.iter().map(key).collect()
}

/// Deletes tuples and returns the keys of those that were there.
async fn delete_tuples(
    tx: &mut Transaction,
    store: StoreId,
    keys: &[TupleKey],
) -> Result<HashSet<TupleKey>> {
    let mut delete = Statement::new("DELETE FROM tuples WHERE ");
    with_keys(&mut delete, tx.dialect(), store, keys);
    if tx.dialect().has_returning {
        delete.push(" RETURNING ").push(KEY_COLUMNS);
        return tx.rows(delete).await?.iter().map(key).collect();
    }
    let deleted = present(tx, store, keys).await?;
    if !deleted.is_empty() {
        tx.execute(delete).await?;
    }
    Ok(deleted)
}

/// Inserts tuples that are not there and returns their keys.
async fn insert_tuples(
    tx: &mut Transaction,
    store: StoreId,
    revision: Revision,
    tuples: &[Tuple],
) -> Result<HashSet<TupleKey>> {
    if tx.dialect().has_returning {
        let mut insert = insertion(store, revision, tuples);
        insert
            .push(" ON CONFLICT DO NOTHING RETURNING ")
            .push(KEY_COLUMNS);
        return tx.rows(insert).await?.iter().map(key).collect();
    }
    let present = present(tx, store, tuples.iter().map(|tuple| &tuple.key)).await?;
    let missing = tuples.iter().filter(|tuple| !present.contains(&tuple.key));
    let missing: BTreeMap<_, _> = missing.map(|tuple| (tuple.key.clone(), tuple)).collect();
    if !missing.is_empty() {
        tx.execute(insertion(store, revision, missing.values().copied()))
            .await?;
    }
    Ok(missing.into_keys().collect())
}

/// Inserts tuples over those of the same keys. No key may stand among `tuples` twice.
pub(super) async fn put_tuples(
    tx: &mut Transaction,
    store: StoreId,
    revision: Revision,
    tuples: &[Tuple],
) -> Result<()> {
    let mut insert = insertion(store, revision, tuples);
    let columns = [
        "condition_name",
        "condition_context",
        "inserted_at",
        "revision",
    ];
    let key = format!("store_id, {KEY_COLUMNS}");
    insert.push(&(tx.dialect().or_update)(&key, &columns));
    tx.execute(insert).await.map(drop)
}

fn insertion<'a>(
    store: StoreId,
    revision: Revision,
    tuples: impl IntoIterator<Item = &'a Tuple>,
) -> Statement {
    let mut insert = Statement::new(format!(
        "INSERT INTO tuples (store_id, {TUPLE_COLUMNS}, revision) VALUES "
    ));
    insert.tuples(tuples.into_iter().map(|tuple| {
        let mut row = vec![Value::from(store.as_str())];
        row.extend(key_and_condition(&tuple.key, tuple.condition.as_ref()));
        row.extend([Value::from(tuple.timestamp.0), revision.0.into()]);
        row
    }));
    insert
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

/// Applies a replicated change set if it is the store's next.
pub(super) async fn apply(tx: &mut Transaction, change_set: &ChangeSet) -> Result<Applied> {
    let store = change_set.store;
    let mut have = locked(tx, store).await?;
    if have.is_none()
        && let Some(Change::StoreCreated(info)) = change_set.changes.first()
        && verdict(None, change_set) == Applied::Applied
    {
        reserve(tx, info).await?;
        have = locked(tx, store).await?;
    }
    let verdict = verdict(have, change_set);
    if verdict != Applied::Applied {
        return Ok(verdict);
    }
    let mut tuples: BTreeMap<&TupleKey, Option<&Tuple>> = BTreeMap::new();
    for change in &change_set.changes {
        match change {
            Change::TupleWritten(tuple) => drop(tuples.insert(&tuple.key, Some(tuple))),
            Change::TupleDeleted(key) => drop(tuples.insert(key, None)),
            Change::ModelWritten(stored) => {
                insert_model(tx, store, change_set.revision, stored.id, &stored.model).await?
            }
            Change::StoreCreated(info) => put_store(tx, info, change_set.position(), None).await?,
            Change::StoreDeleted => {
                tuples.clear();
                mark_deleted(tx, store, change_set.committed_at).await?;
            }
            Change::TiersAssigned(tiers) => {
                insert_tiers(tx, store, change_set.revision, tiers).await?
            }
        }
    }
    let deleted: Vec<TupleKey> = tuples
        .iter()
        .filter(|(_, tuple)| tuple.is_none())
        .map(|(key, _)| (*key).clone())
        .collect();
    for chunk in deleted.chunks(ROWS_PER_STATEMENT) {
        delete_tuples(tx, store, chunk).await?;
    }
    let written: Vec<Tuple> = tuples.into_values().flatten().cloned().collect();
    for chunk in written.chunks(ROWS_PER_STATEMENT) {
        put_tuples(tx, store, change_set.revision, chunk).await?;
    }
    let advance = Statement::new("UPDATE stores SET revision = $2 WHERE id = $1");
    tx.execute(advance.with(store.as_str()).with(change_set.revision.0))
        .await?;
    record(tx, change_set).await?;
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
