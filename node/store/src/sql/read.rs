//! What reads a store, on a connection of its own or in a snapshot's transaction.

use std::ops::DerefMut;
use std::sync::Arc;

use meridian_model::AuthorizationModel;
use meridian_model::change::{StoredModel, Tiers};
use meridian_model::ids::{ModelId, Position, StoreId};
use meridian_model::ports::{Result, StoreRecord, TupleFilter};
use meridian_model::tuple::{Subject, Tuple, TupleKey};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::dialect::Dialect;
use super::pool::Session;
use super::rows::{
    KEY_COLUMNS, STORE_COLUMNS, TUPLE_COLUMNS, model, optional_text, parsed, position,
    store as store_of, tiers as tiers_of, tuple,
};
use super::statement::{ROWS_PER_STATEMENT, Side, Statement};

pub(super) async fn store<C: DerefMut<Target = AnyConnection>>(
    db: &mut Session<C>,
    id: StoreId,
) -> Result<Option<StoreRecord>> {
    let select = Statement::new(format!("SELECT {STORE_COLUMNS} FROM stores WHERE id = $1"));
    db.row(select.with(id.as_str()))
        .await?
        .as_ref()
        .map(store_of)
        .transpose()
}

/// Stores that exist, by id, from behind `after`, at most `limit`; with `name`, only those so named.
pub(super) async fn stores<C: DerefMut<Target = AnyConnection>>(
    db: &mut Session<C>,
    name: Option<&str>,
    after: Option<StoreId>,
    limit: u64,
) -> Result<Vec<StoreRecord>> {
    let mut select = Statement::new(format!(
        "SELECT {STORE_COLUMNS} FROM stores WHERE deleted_at IS NULL"
    ));
    if let Some(name) = name {
        select.push(" AND name = ").bind(name);
    }
    if let Some(after) = after {
        select.push(" AND id > ").bind(after.as_str());
    }
    select.push(" ORDER BY id LIMIT ").bind(limit);
    db.rows(select).await?.iter().map(store_of).collect()
}

const POSITIONS: &str = "SELECT id, epoch, revision FROM stores";

/// See [`meridian_model::ports::Datastore::positions`].
pub(super) async fn positions<C: DerefMut<Target = AnyConnection>>(
    db: &mut Session<C>,
) -> Result<Vec<(StoreId, Position)>> {
    let select = Statement::new(format!("{POSITIONS} ORDER BY id"));
    db.rows(select).await?.iter().map(position_of).collect()
}

/// See [`meridian_model::ports::Datastore::positions_of`].
pub(super) async fn positions_of<C: DerefMut<Target = AnyConnection>>(
    db: &mut Session<C>,
    stores: &[StoreId],
) -> Result<Vec<(StoreId, Position)>> {
    let mut positions = Vec::with_capacity(stores.len());
    for chunk in stores.chunks(ROWS_PER_STATEMENT) {
        let mut select = Statement::new(format!("{POSITIONS} WHERE id IN "));
        select.tuple(chunk.iter().map(StoreId::as_str));
        for row in db.rows(select).await? {
            positions.push(position_of(&row)?);
        }
    }
    Ok(positions)
}

fn position_of(row: &AnyRow) -> Result<(StoreId, Position)> {
    Ok((parsed(row, "id")?, position(row)?))
}

/// The assignment of the latest revision that made one.
pub(super) async fn tiers<C: DerefMut<Target = AnyConnection>>(
    db: &mut Session<C>,
    store: StoreId,
) -> Result<Tiers> {
    let select = Statement::new(
        "SELECT tiers FROM tiers WHERE store_id = $1 ORDER BY revision DESC LIMIT 1",
    );
    let row = db.row(select.with(store.as_str())).await?;
    tiers_of(
        row.map(|row| optional_text(&row, "tiers"))
            .transpose()?
            .flatten(),
    )
}

/// The id of the latest model.
pub(super) async fn latest_model<C: DerefMut<Target = AnyConnection>>(
    db: &mut Session<C>,
    store: StoreId,
) -> Result<Option<ModelId>> {
    let select =
        Statement::new("SELECT id FROM models WHERE store_id = $1 ORDER BY id DESC LIMIT 1");
    let row = db.row(select.with(store.as_str())).await?;
    row.map(|row| parsed(&row, "id")).transpose()
}

/// A model by id.
pub(super) async fn model_of<C: DerefMut<Target = AnyConnection>>(
    db: &mut Session<C>,
    store: StoreId,
    id: ModelId,
) -> Result<Option<Arc<AuthorizationModel>>> {
    let select = Statement::new("SELECT id, model FROM models WHERE store_id = $1 AND id = $2");
    let row = db
        .row(select.with(store.as_str()).with(id.as_str()))
        .await?;
    let stored = row.as_ref().map(model).transpose()?;
    Ok(stored.map(|stored| stored.model))
}

/// Models, newest first, from before `before`.
pub(super) async fn models<C: DerefMut<Target = AnyConnection>>(
    db: &mut Session<C>,
    store: StoreId,
    before: Option<ModelId>,
    limit: Option<u64>,
) -> Result<Vec<StoredModel>> {
    let mut select = Statement::new("SELECT id, model FROM models WHERE store_id = ");
    select.bind(store.as_str());
    if let Some(before) = before {
        select.push(" AND id < ").bind(before.as_str());
    }
    select.push(" ORDER BY id DESC");
    if let Some(limit) = limit {
        select.push(" LIMIT ").bind(limit);
    }
    db.rows(select).await?.iter().map(model).collect()
}

/// Tuples by filter in key order, from behind `after`, at most `limit`.
pub(super) async fn tuples<C: DerefMut<Target = AnyConnection>>(
    db: &mut Session<C>,
    store: StoreId,
    filter: &TupleFilter,
    after: Option<&TupleKey>,
    limit: u64,
) -> Result<Vec<Tuple>> {
    db.rows(filtered(db.dialect(), store, filter, after, limit))
        .await?
        .iter()
        .map(tuple)
        .collect()
}

pub(super) fn filtered(
    dialect: &Dialect,
    store: StoreId,
    filter: &TupleFilter,
    after: Option<&TupleKey>,
    limit: u64,
) -> Statement {
    let index = match filter {
        TupleFilter {
            subject: Some(_),
            object_id: None,
            ..
        } => dialect.by_user,
        _ => dialect.by_key,
    };
    let mut select = Statement::new(format!(
        "SELECT {TUPLE_COLUMNS} FROM tuples{index} WHERE store_id = "
    ));
    select.bind(store.as_str());
    let mut order: Vec<_> = KEY_COLUMNS.split(", ").collect();
    let columns = [
        ("object_type", &filter.object_type),
        ("object_id", &filter.object_id),
        ("relation", &filter.relation),
    ];
    for (column, value) in columns {
        if let Some(value) = value {
            select
                .push(" AND ")
                .push(column)
                .push(" = ")
                .bind(value.as_str());
            order.retain(|ordered| *ordered != column);
        }
    }
    if let Some(subject) = &filter.subject {
        let columns = [
            ("user_type", subject.subject_type()),
            ("user_id", subject.id()),
            ("user_relation", subject.relation()),
        ];
        for (column, value) in columns {
            select.push(" AND ").push(column).push(" = ").bind(value);
            order.retain(|ordered| *ordered != column);
        }
        if matches!(subject, Subject::Userset(..)) {
            // Says what the value implies, for a planner that does not see it to use the partial index.
            select.push(" AND user_relation <> ''");
        }
    }
    if let Some(after) = after {
        select
            .push(" AND ")
            .row_range(dialect, KEY_COLUMNS, Side::Behind, after.columns());
    }
    // By what may differ alone: MySQL sorts anew where it is told to order by what cannot.
    if !order.is_empty() {
        select.push(" ORDER BY ").push(&order.join(", "));
    }
    select.push(" LIMIT ").bind(limit);
    select
}
