//! Taking a store over from a snapshot: one transaction of many statements, none of which does more than fits its deadline.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use meridian_model::ids::{Revision, StoreId};
use meridian_model::ports::{Replacement, Result, StoreHead};
use meridian_model::tuple::{Tuple, TupleKey};

use super::SqlDatastore;
use super::dialect::Dialect;
use super::pool::Transaction;
use super::rows::{KEY_COLUMNS, key, optional_number};
use super::statement::{ROWS_PER_STATEMENT, Side, Statement};
use super::tuples;
use super::write::{clear, insert_model, insert_tiers, locked, put_store, reserve};

/// Tuples deleted by one statement.
const TUPLES_PER_DELETE: u64 = 20_000;
/// Revisions deleted from the changelog by one statement; each may hold a hundred changes.
const REVISIONS_PER_DELETE: u64 = 1_000;

struct SqlReplacement {
    datastore: SqlDatastore,
    tx: Steps,
    store: StoreId,
    revision: Revision,
    added: usize,
}

/// A transaction each step of which has a deadline of its own.
struct Steps {
    tx: Transaction,
    step: Duration,
}

impl Steps {
    fn next(&mut self) -> &mut Transaction {
        self.tx.extend(Instant::now() + self.step);
        &mut self.tx
    }
}

/// Locks the store's row, so that of two who replace one store the second sees how far the first has come, and clears
/// what is there.
pub(super) async fn begin(
    datastore: &SqlDatastore,
    head: &StoreHead,
    step: Duration,
) -> Result<Option<Box<dyn Replacement>>> {
    let (store, revision) = (head.info.id, head.position.revision);
    let tx = datastore.writing(Instant::now() + step).await?;
    let mut tx = Steps { tx, step };
    reserve(tx.next(), &head.info).await?;
    let have = locked(tx.next(), store).await?;
    if have.unwrap_or_default() >= head.position {
        return Ok(None);
    }
    put_store(tx.next(), &head.info, head.position, head.deleted_at).await?;
    clear(tx.next(), store, &["outbox", "models", "tiers"]).await?;
    clear_changelog(&mut tx, store).await?;
    clear_tuples(&mut tx, store).await?;
    for stored in &head.models {
        insert_model(tx.next(), store, revision, stored.id, &stored.model).await?;
    }
    insert_tiers(tx.next(), store, revision, &head.tiers).await?;
    Ok(Some(Box::new(SqlReplacement {
        datastore: datastore.clone(),
        tx,
        store,
        revision,
        added: 0,
    })))
}

async fn clear_changelog(tx: &mut Steps, store: StoreId) -> Result<()> {
    loop {
        let oldest =
            Statement::new("SELECT MIN(revision) AS oldest FROM changelog WHERE store_id = $1");
        let row = tx.next().row(oldest.with(store.as_str())).await?;
        let Some(oldest) = row
            .map(|row| optional_number(&row, "oldest"))
            .transpose()?
            .flatten()
        else {
            return Ok(());
        };
        let upto = oldest.saturating_add_unsigned(REVISIONS_PER_DELETE);
        let delete = Statement::new("DELETE FROM changelog WHERE store_id = $1 AND revision <= $2");
        tx.next()
            .execute(delete.with(store.as_str()).with(upto))
            .await?;
    }
}

/// In the order of keys and from one to the next, so that no statement walks what earlier ones deleted.
async fn clear_tuples(tx: &mut Steps, store: StoreId) -> Result<()> {
    let mut after: Option<TupleKey> = None;
    let dialect = tx.tx.dialect();
    loop {
        let mut select = Statement::new(format!(
            "SELECT {KEY_COLUMNS} FROM tuples{} WHERE store_id = ",
            dialect.by_key
        ));
        select.bind(store.as_str());
        range(&mut select, dialect, Side::Behind, after.as_ref());
        select.push(" ORDER BY ").push(KEY_COLUMNS);
        select.push(" LIMIT 1 OFFSET ").bind(TUPLES_PER_DELETE);
        let row = tx.next().row(select).await?;
        let last = row.as_ref().map(key).transpose()?;
        let mut delete = Statement::new("DELETE FROM tuples WHERE store_id = ");
        delete.bind(store.as_str());
        range(&mut delete, dialect, Side::Behind, after.as_ref());
        range(&mut delete, dialect, Side::UpTo, last.as_ref());
        tx.next().execute(delete).await?;
        if last.is_none() {
            return Ok(());
        }
        after = last;
    }
}

fn range(statement: &mut Statement, dialect: &Dialect, side: Side, end: Option<&TupleKey>) {
    if let Some(end) = end {
        statement
            .push(" AND ")
            .row_range(dialect, KEY_COLUMNS, side, end.columns());
    }
}

#[async_trait]
impl Replacement for SqlReplacement {
    async fn add(&mut self, tuples: Vec<Tuple>) -> Result<()> {
        for chunk in tuples.chunks(ROWS_PER_STATEMENT) {
            let rows = chunk.iter().map(|tuple| (self.revision, tuple));
            tuples::put(self.tx.next(), self.store, rows).await?;
        }
        self.added += tuples.len();
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<()> {
        // Last, since it holds up every other store's replacement until the transaction ends.
        let grow = Statement::new("UPDATE meta SET generation = generation + 1");
        self.tx.next().execute(grow).await?;
        self.tx.next();
        self.tx.tx.commit().await?;
        self.datastore.changed(self.added);
        Ok(())
    }
}
