//! What reads a store, on a connection of its own or in a snapshot's transaction.

use std::ops::DerefMut;
use std::sync::Arc;

use meridian_model::AuthorizationModel;
use meridian_model::change::{StoredModel, Tiers};
use meridian_model::ids::{ModelId, StoreId};
use meridian_model::ports::{Read, Result, Sets, StoreRecord, TupleFilter};
use meridian_model::tuple::{Subject, Tuple, TupleKey};
use sqlx::AnyConnection;

use super::dialect::Dialect;
use super::pool::Session;
use super::rows::{
    KEY_COLUMNS, STORE_COLUMNS, TUPLE_COLUMNS, model, optional_text, parsed, store as store_of,
    tiers as tiers_of, tuple,
};
use super::statement::Statement;
use crate::history::by_set;

/// Reads of one statement, with 3 values each; see [`super::statement::ROWS_PER_STATEMENT`].
const READS_PER_STATEMENT: usize = 1000;

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
    db.rows(filtered(store, filter, after, limit))
        .await?
        .iter()
        .map(tuple)
        .collect()
}

pub(super) fn filtered(
    store: StoreId,
    filter: &TupleFilter,
    after: Option<&TupleKey>,
    limit: u64,
) -> Statement {
    let mut select = Statement::new(format!(
        "SELECT {TUPLE_COLUMNS} FROM tuples WHERE store_id = "
    ));
    select.bind(store.as_str());
    let columns = [
        (" AND object_type = ", &filter.object_type),
        (" AND object_id = ", &filter.object_id),
        (" AND relation = ", &filter.relation),
    ];
    for (condition, value) in columns {
        if let Some(value) = value {
            select.push(condition).bind(value.as_str());
        }
    }
    if let Some(subject) = &filter.subject {
        select
            .push(" AND user_type = ")
            .bind(subject.subject_type())
            .push(" AND user_id = ")
            .bind(subject.id());
        select
            .push(" AND user_relation = ")
            .bind(subject.relation());
        if matches!(subject, Subject::Userset(..)) {
            // Says what the value implies, for a planner that does not see it to use the partial index.
            select.push(" AND user_relation <> ''");
        }
    }
    if let Some(after) = after {
        select
            .push(" AND (")
            .push(KEY_COLUMNS)
            .push(") > ")
            .tuple(after.columns());
    }
    select
        .push(" ORDER BY ")
        .push(KEY_COLUMNS)
        .push(" LIMIT ")
        .bind(limit);
    select
}

/// One round of an evaluation; see [`meridian_model::ports::Snapshot::read`].
pub(super) async fn round<C: DerefMut<Target = AnyConnection>>(
    db: &mut Session<C>,
    dialect: &Dialect,
    store: StoreId,
    reads: &[Read],
    user: &Subject,
    limit: u32,
) -> Result<Option<Sets>> {
    let mut found = Vec::new();
    for chunk in reads.chunks(READS_PER_STATEMENT) {
        let left = u64::from(limit).saturating_sub(found.len() as u64);
        let mut select = round_statement(dialect, store, chunk, user);
        select.push(" LIMIT ").bind(left + 1);
        let rows = db.rows(select).await?;
        if rows.len() as u64 > left {
            return Ok(None);
        }
        for row in &rows {
            found.push(tuple(row)?);
        }
    }
    Ok(Some(by_set(reads, found)))
}

/// One statement for all reads. An object may have a million direct users, so direct membership is looked up by the
/// whole primary key and usersets by an index that holds nothing else.
pub(super) fn round_statement(
    dialect: &Dialect,
    store: StoreId,
    reads: &[Read],
    user: &Subject,
) -> Statement {
    let mut direct = Vec::new();
    let mut parents = Vec::new();
    for read in reads {
        match read {
            Read::Direct { object, relation } => {
                direct.push([object.object_type(), object.id(), relation])
            }
            Read::Parents { object, relation } => {
                parents.push([object.object_type(), object.id(), relation])
            }
        }
    }
    let mut select = Statement::new("WITH ");
    let mut branches = Branches {
        select: &mut select,
        store,
        separator: "",
    };
    branches.sets("direct_set", &direct);
    branches.sets("parent_set", &parents);
    branches.separator = " ";
    if !direct.is_empty() {
        let ids = match user {
            Subject::Object(object) => vec![object.id(), "*"],
            Subject::Wildcard(_) | Subject::Userset(..) => vec!["*"],
        };
        branches
            .branch("direct_set", "")
            .push(" AND t.user_type = ")
            .bind(user.subject_type());
        branches
            .select
            .push(" AND t.user_id IN ")
            .tuple(ids)
            .push(" AND t.user_relation = ''");
        branches
            .branch("direct_set", dialect.by_set_usersets)
            .push(" AND t.user_relation <> ''");
    }
    if !parents.is_empty() {
        branches
            .branch("parent_set", "")
            .push(" AND t.user_relation = '' AND t.user_id <> '*'");
    }
    select
}

struct Branches<'a> {
    select: &'a mut Statement,
    store: StoreId,
    separator: &'static str,
}

impl Branches<'_> {
    fn sets(&mut self, name: &str, sets: &[[&str; 3]]) {
        if !sets.is_empty() {
            self.select
                .push(self.separator)
                .push(name)
                .push(" (s_type, s_id, s_relation) AS (VALUES ");
            self.select.tuples(sets.iter().copied()).push(")");
            self.separator = ", ";
        }
    }

    /// The tuples of every set of `sets`. CROSS JOIN, since SQLite then keeps the order: sets first.
    fn branch(&mut self, sets: &str, index: &str) -> &mut Statement {
        self.select
            .push(self.separator)
            .push("SELECT ")
            .push(TUPLE_COLUMNS)
            .push(" FROM ")
            .push(sets);
        self.select
            .push(" CROSS JOIN tuples AS t")
            .push(index)
            .push(" WHERE t.store_id = ")
            .bind(self.store.as_str());
        self.separator = " UNION ALL ";
        self.select
            .push(" AND t.object_type = s_type AND t.object_id = s_id AND t.relation = s_relation")
    }
}
