//! Change sets into the changelog and back.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use meridian_model::AuthorizationModel;
use meridian_model::change::{Change, ChangeSet, StoreInfo, StoredModel};
use meridian_model::ids::{Epoch, ModelId, Revision, StoreId, Timestamp};
use meridian_model::ports::{
    ChangeCursor, DatastoreError, OUTBOX_BYTES, OutboxRow, Result, TupleChange,
};
use meridian_model::tuple::Tuple;
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;

use super::error::corrupt;
use super::pool::{Reading, Transaction};
use super::rows::{
    TUPLE_COLUMNS, from_json, key, key_and_condition, optional_text, parsed, text, tiers,
    timestamp, to_json, tuple, unsigned,
};
use super::statement::{ROWS_PER_STATEMENT, Side, Statement, Value};

const TUPLE_WRITTEN: &str = "tuple_written";
const TUPLE_DELETED: &str = "tuple_deleted";
const MODEL_WRITTEN: &str = "model_written";
const STORE_CREATED: &str = "store_created";
const STORE_DELETED: &str = "store_deleted";
const TIERS_ASSIGNED: &str = "tiers_assigned";
/// The only row of a revision without changes, so that every revision is there.
const NOTHING: &str = "nothing";

#[derive(Serialize, Deserialize)]
struct ModelPayload<M> {
    id: ModelId,
    model: M,
}

#[derive(Serialize, Deserialize)]
struct StorePayload {
    name: String,
    created_at: Timestamp,
}

/// Enters change sets into changelog and outbox.
pub(super) async fn record(tx: &mut Transaction, change_sets: &[ChangeSet]) -> Result<()> {
    let (mut changes, mut outbox) = (Vec::new(), Vec::new());
    for set in change_sets {
        for (ordinal, change) in (0u32..).zip(&set.changes) {
            changes.push(row_of(set, ordinal, change)?);
        }
        if set.changes.is_empty() {
            changes.push(row(set, 0, NOTHING, no_tuple(), None));
        }
        outbox.push(vec![set.store.as_str().into(), set.revision.0.into()]);
    }
    for chunk in changes.chunks(ROWS_PER_STATEMENT) {
        let mut insert = Statement::new(format!(
            "INSERT INTO changelog (store_id, revision, ordinal, kind, {TUPLE_COLUMNS}, payload, committed_at, epoch) "
        ));
        insert.rows(tx.dialect(), chunk);
        tx.execute(insert).await?;
    }
    for chunk in outbox.chunks(ROWS_PER_STATEMENT) {
        let mut insert = Statement::new("INSERT INTO outbox (store_id, revision) ");
        insert.rows(tx.dialect(), chunk);
        tx.execute(insert).await?;
    }
    Ok(())
}

fn row_of(change_set: &ChangeSet, ordinal: u32, change: &Change) -> Result<Vec<Value>> {
    let (kind, tuple, payload) = match change {
        Change::TupleWritten(tuple) => {
            let mut values = key_and_condition(&tuple.key, tuple.condition.as_ref());
            values.push(tuple.timestamp.0.into());
            (TUPLE_WRITTEN, values, None)
        }
        Change::TupleDeleted(key) => {
            let mut values = key_and_condition(key, None);
            values.push(change_set.committed_at.0.into());
            (TUPLE_DELETED, values, None)
        }
        Change::ModelWritten(stored) => {
            let payload = ModelPayload {
                id: stored.id,
                model: stored.model.as_ref(),
            };
            (
                MODEL_WRITTEN,
                no_tuple(),
                Some(to_json("authorization model", &payload)?),
            )
        }
        Change::StoreCreated(info) => {
            let payload = StorePayload {
                name: info.name.clone(),
                created_at: info.created_at,
            };
            (STORE_CREATED, no_tuple(), Some(to_json("store", &payload)?))
        }
        Change::StoreDeleted => (STORE_DELETED, no_tuple(), None),
        Change::TiersAssigned(tiers) => (
            TIERS_ASSIGNED,
            no_tuple(),
            Some(to_json("tier assignment", tiers)?),
        ),
    };
    Ok(row(change_set, ordinal, kind, tuple, payload))
}

fn row(
    change_set: &ChangeSet,
    ordinal: u32,
    kind: &str,
    tuple: Vec<Value>,
    payload: Option<String>,
) -> Vec<Value> {
    let mut values = vec![
        change_set.store.as_str().into(),
        change_set.revision.0.into(),
        ordinal.into(),
        kind.into(),
    ];
    values.extend(tuple);
    values.extend([
        Value::Text(payload),
        change_set.committed_at.0.into(),
        change_set.epoch.0.into(),
    ]);
    values
}

fn no_tuple() -> Vec<Value> {
    let mut values = vec![Value::Text(None); 8];
    values.push(Value::Number(None));
    values
}

/// The change of a row; `None` for a revision without any.
fn change(row: &AnyRow, store: StoreId) -> Result<Option<Change>> {
    let payload = || optional_text(row, "payload").map(Option::unwrap_or_default);
    Ok(Some(match text(row, "kind")?.as_str() {
        TUPLE_WRITTEN => Change::TupleWritten(tuple(row)?),
        TUPLE_DELETED => Change::TupleDeleted(key(row)?),
        MODEL_WRITTEN => {
            let ModelPayload { id, model } =
                from_json::<ModelPayload<AuthorizationModel>>("authorization model", &payload()?)?;
            Change::ModelWritten(StoredModel {
                id,
                model: Arc::new(model),
            })
        }
        STORE_CREATED => {
            let StorePayload { name, created_at } = from_json("store", &payload()?)?;
            Change::StoreCreated(StoreInfo {
                id: store,
                name,
                created_at,
            })
        }
        STORE_DELETED => Change::StoreDeleted,
        TIERS_ASSIGNED => Change::TiersAssigned(from_json("tier assignment", &payload()?)?),
        NOTHING => return Ok(None),
        other => return Err(corrupt("change", format!("unknown kind '{other}'"))),
    }))
}

/// Adds a changelog row to the change set that it is of, which begins with the row unless it is the last of `sets`.
fn collect(sets: &mut Vec<ChangeSet>, row: &AnyRow, store: StoreId) -> Result<()> {
    let revision = Revision(unsigned(row, "revision")?);
    let change = change(row, store)?;
    match sets.last_mut() {
        Some(set) if set.revision == revision && set.store == store => set.changes.extend(change),
        _ => sets.push(ChangeSet {
            store,
            epoch: Epoch(unsigned(row, "epoch")?),
            revision,
            committed_at: timestamp(row, "committed_at")?,
            changes: change.into_iter().collect(),
            touched: Vec::new(),
        }),
    }
    Ok(())
}

/// See [`meridian_model::ports::Datastore::change_sets`]. One statement, so that a commit between two cannot look like
/// trimmed history.
pub(super) async fn change_sets(
    db: &mut Reading,
    store: StoreId,
    after: Revision,
    limit: u32,
) -> Result<Vec<ChangeSet>> {
    let upto = after.0.saturating_add(u64::from(limit));
    let select = Statement::new(
        "SELECT s.revision AS store_revision, (SELECT MIN(revision) FROM changelog WHERE store_id = $1) AS oldest, c.* \
         FROM stores s LEFT JOIN changelog c ON c.store_id = s.id AND c.revision > $2 AND c.revision <= $3 \
         WHERE s.id = $1 ORDER BY c.revision, c.ordinal",
    );
    let rows = db
        .rows(select.with(store.as_str()).with(after.0).with(upto))
        .await?;
    let Some(first) = rows.first() else {
        return Ok(Vec::new());
    };
    let have = Revision(unsigned(first, "store_revision")?);
    if after >= have || limit == 0 {
        return Ok(Vec::new());
    }
    let oldest = unsigned(first, "oldest").map_or(have.next(), Revision);
    if after.next() < oldest {
        return Err(DatastoreError::Trimmed { oldest });
    }
    let mut sets = Vec::new();
    for row in &rows {
        collect(&mut sets, row, store)?;
    }
    Ok(sets)
}

/// See [`meridian_model::ports::Datastore::oldest_change`].
pub(super) async fn oldest(
    db: &mut Reading,
    store: StoreId,
) -> Result<Option<(Revision, Timestamp)>> {
    let select = Statement::new(
        "SELECT revision, committed_at FROM changelog WHERE store_id = $1 ORDER BY revision, ordinal LIMIT 1",
    );
    let row = db.row(select.with(store.as_str())).await?;
    row.map(|row| {
        Ok((
            Revision(unsigned(&row, "revision")?),
            timestamp(&row, "committed_at")?,
        ))
    })
    .transpose()
}

/// See [`meridian_model::ports::Datastore::outbox`].
pub(super) async fn outbox(db: &mut Reading, limit: u32) -> Result<Vec<OutboxRow>> {
    let select = Statement::new(
        "SELECT o.sequence AS sequence, \
         (SELECT t.tiers FROM tiers t WHERE t.store_id = o.store_id AND t.revision <= o.revision ORDER BY t.revision DESC LIMIT 1) AS tiers, c.* \
         FROM (SELECT sequence, store_id, revision FROM outbox ORDER BY sequence LIMIT $1) o \
         JOIN changelog c ON c.store_id = o.store_id AND c.revision = o.revision ORDER BY o.sequence, c.ordinal",
    );
    let mut heads = BTreeMap::new();
    let (mut sets, mut bytes) = (Vec::new(), 0);
    let take = |row| {
        let before = sets.len();
        collect(&mut sets, &row, parsed(&row, "store_id")?)?;
        if sets.len() > before {
            let whole = before.checked_sub(1).and_then(|last| sets.get(last));
            bytes += whole.map_or(0, ChangeSet::weight);
            if bytes >= OUTBOX_BYTES {
                sets.pop();
                return Ok(ControlFlow::Break(()));
            }
        }
        heads.insert(unsigned(&row, "sequence")?, optional_text(&row, "tiers")?);
        Ok(ControlFlow::Continue(()))
    };
    db.each(select.with(limit), take).await?;
    let rows = heads.into_iter().zip(sets);
    rows.map(|((sequence, json), change_set)| {
        Ok(OutboxRow {
            sequence,
            change_set,
            tiers: tiers(json)?,
        })
    })
    .collect()
}

/// See [`meridian_model::ports::Datastore::tuple_changes`].
pub(super) async fn tuple_changes(
    db: &mut Reading,
    store: StoreId,
    object_type: Option<&str>,
    since: Option<Timestamp>,
    after: Option<ChangeCursor>,
    limit: u32,
) -> Result<Vec<TupleChange>> {
    let mut select = Statement::new(format!(
        "SELECT revision, ordinal, kind, {TUPLE_COLUMNS} FROM changelog WHERE store_id = "
    ));
    select
        .bind(store.as_str())
        .push(" AND kind IN (")
        .bind(TUPLE_WRITTEN)
        .push(", ")
        .bind(TUPLE_DELETED)
        .push(")");
    select.push(" AND EXISTS (SELECT 1 FROM stores WHERE id = store_id AND deleted_at IS NULL)");
    if let Some(object_type) = object_type {
        select.push(" AND object_type = ").bind(object_type);
    }
    if let Some(since) = since {
        select.push(" AND committed_at >= ").bind(since.0);
    }
    if let Some(after) = after {
        let after = [Value::from(after.revision.0), after.ordinal.into()];
        select
            .push(" AND ")
            .row_range(db.dialect(), "revision, ordinal", Side::Behind, after);
    }
    select
        .push(" ORDER BY revision, ordinal LIMIT ")
        .bind(limit);
    db.rows(select).await?.iter().map(tuple_change).collect()
}

fn tuple_change(row: &AnyRow) -> Result<TupleChange> {
    let ordinal =
        u32::try_from(unsigned(row, "ordinal")?).map_err(|source| corrupt("ordinal", source))?;
    let deleted = text(row, "kind")? == TUPLE_DELETED;
    let tuple: Tuple = tuple(row)?;
    Ok(TupleChange {
        cursor: ChangeCursor {
            revision: Revision(unsigned(row, "revision")?),
            ordinal,
        },
        tuple,
        deleted,
    })
}

/// Forgets changes up to and including `upto`. What is not yet published stays: the outbox refers to it.
pub(super) async fn trim(db: &mut Reading, store: StoreId, upto: Revision) -> Result<()> {
    let delete = Statement::new(
        "DELETE FROM changelog WHERE store_id = $1 AND revision <= $2 \
         AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.store_id = $1 AND o.revision <= changelog.revision)",
    );
    db.execute(delete.with(store.as_str()).with(upto.0)).await?;
    Ok(())
}
