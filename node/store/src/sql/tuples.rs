//! Tuples written and taken away, within a transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::slice;

use meridian_model::change::{Change, ChangeSet};
use meridian_model::ids::{Revision, StoreId, Timestamp};
use meridian_model::ports::{DatastoreError, Result, WriteOptions};
use meridian_model::tuple::{Tuple, TupleKey};

use super::changelog::record;
use super::dialect::Dialect;
use super::pool::Transaction;
use super::rows::{KEY_COLUMNS, TUPLE_COLUMNS, key, key_and_condition, tuple};
use super::statement::{ROWS_PER_STATEMENT, Statement, Value};

/// The tuples that one Write takes away and puts in.
pub(super) struct Wanted {
    pub(super) deletes: Vec<TupleKey>,
    pub(super) writes: Vec<Tuple>,
    pub(super) options: WriteOptions,
}

/// Writes what is wanted and enters it, unless nothing changes, as `revision`.
pub(super) async fn write(
    tx: &mut Transaction,
    mut revision: ChangeSet,
    wanted: &Wanted,
) -> Result<ChangeSet> {
    let options = wanted.options;
    for chunk in wanted.deletes.chunks(ROWS_PER_STATEMENT) {
        let mut deleted = delete(tx, revision.store, chunk).await?;
        for key in chunk {
            if deleted.remove(key) {
                revision.changes.push(Change::TupleDeleted(key.clone()));
            } else if !options.ignore_missing {
                return Err(DatastoreError::TupleMissing(key.clone()));
            }
        }
    }
    let writes = written_at(revision.committed_at, &wanted.writes);
    for chunk in writes.chunks(ROWS_PER_STATEMENT) {
        let rows: Vec<_> = chunk
            .iter()
            .map(|tuple| (revision.revision, tuple))
            .collect();
        let mut inserted = insert(tx, revision.store, &rows).await?;
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
        record(tx, slice::from_ref(&revision)).await?;
    }
    Ok(revision)
}

/// What came of Writes in one transaction.
pub(super) enum Together {
    /// Each is a revision.
    Written(Vec<ChangeSet>),
    /// Those of these numbers would not change all that they name: the transaction is not to be committed.
    Unchanged(BTreeSet<usize>),
}

/// Writes what several want, of whom no two name the same key, each as a revision of its own, of which `last` is the last.
pub(super) async fn write_each(
    tx: &mut Transaction,
    last: ChangeSet,
    wanted: &[&Wanted],
) -> Result<Together> {
    let before = last.revision.0.saturating_sub(wanted.len() as u64);
    let mut sets = Vec::with_capacity(wanted.len());
    for (revision, wanted) in (before + 1..).map(Revision).zip(wanted) {
        let deletes = wanted.deletes.iter().cloned().map(Change::TupleDeleted);
        let writes = written_at(last.committed_at, &wanted.writes).into_iter();
        sets.push(ChangeSet {
            revision,
            changes: deletes.chain(writes.map(Change::TupleWritten)).collect(),
            ..last.clone()
        });
    }
    let (mut deletes, mut writes) = (Vec::new(), Vec::new());
    for (at, set) in sets.iter().enumerate() {
        for change in &set.changes {
            match change {
                Change::TupleDeleted(key) => deletes.push((at, key)),
                Change::TupleWritten(tuple) => writes.push((at, (set.revision, tuple))),
                _ => {}
            }
        }
    }
    let mut unchanged = BTreeSet::new();
    for chunk in deletes.chunks(ROWS_PER_STATEMENT) {
        let deleted = delete(tx, last.store, chunk.iter().map(|(_, key)| *key)).await?;
        let missing = chunk.iter().filter(|(_, key)| !deleted.contains(*key));
        unchanged.extend(missing.map(|(at, _)| *at));
    }
    for chunk in writes.chunks(ROWS_PER_STATEMENT) {
        let rows: Vec<_> = chunk.iter().map(|(_, row)| *row).collect();
        let inserted = insert(tx, last.store, &rows).await?;
        let there = chunk
            .iter()
            .filter(|(_, (_, tuple))| !inserted.contains(&tuple.key));
        unchanged.extend(there.map(|(at, _)| *at));
    }
    if !unchanged.is_empty() {
        return Ok(Together::Unchanged(unchanged));
    }
    record(tx, &sets).await?;
    Ok(Together::Written(sets))
}

fn written_at(at: Timestamp, tuples: &[Tuple]) -> Vec<Tuple> {
    let written = |tuple: &Tuple| Tuple {
        timestamp: at,
        ..tuple.clone()
    };
    tuples.iter().map(written).collect()
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
pub(super) async fn delete<'a>(
    tx: &mut Transaction,
    store: StoreId,
    keys: impl IntoIterator<Item = &'a TupleKey> + Clone,
) -> Result<HashSet<TupleKey>> {
    let mut delete = Statement::new("DELETE FROM tuples WHERE ");
    with_keys(&mut delete, tx.dialect(), store, keys.clone());
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

/// Inserts tuples that are not there, each as of a revision, and returns their keys.
async fn insert(
    tx: &mut Transaction,
    store: StoreId,
    tuples: &[(Revision, &Tuple)],
) -> Result<HashSet<TupleKey>> {
    if tx.dialect().has_returning {
        let mut insert = insertion(tx.dialect(), store, tuples.iter().copied());
        insert
            .push(" ON CONFLICT DO NOTHING RETURNING ")
            .push(KEY_COLUMNS);
        return tx.rows(insert).await?.iter().map(key).collect();
    }
    let keys = tuples.iter().map(|(_, tuple)| &tuple.key);
    let present = present(tx, store, keys).await?;
    let missing: BTreeMap<_, _> = tuples
        .iter()
        .filter(|(_, tuple)| !present.contains(&tuple.key))
        .map(|row| (row.1.key.clone(), *row))
        .collect();
    if !missing.is_empty() {
        let insert = insertion(tx.dialect(), store, missing.values().copied());
        tx.execute(insert).await?;
    }
    Ok(missing.into_keys().collect())
}

/// Inserts tuples, each as of a revision, over those of the same keys. No key may stand among `tuples` twice.
pub(super) async fn put(
    tx: &mut Transaction,
    store: StoreId,
    tuples: impl IntoIterator<Item = (Revision, &Tuple)>,
) -> Result<()> {
    let mut insert = insertion(tx.dialect(), store, tuples);
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
    dialect: &Dialect,
    store: StoreId,
    tuples: impl IntoIterator<Item = (Revision, &'a Tuple)>,
) -> Statement {
    let mut insert = Statement::new(format!(
        "INSERT INTO tuples (store_id, {TUPLE_COLUMNS}, revision) "
    ));
    let row = |(revision, tuple): (Revision, &Tuple)| {
        let mut row = vec![Value::from(store.as_str())];
        row.extend(key_and_condition(&tuple.key, tuple.condition.as_ref()));
        row.extend([Value::from(tuple.timestamp.0), revision.0.into()]);
        row
    };
    let rows: Vec<_> = tuples.into_iter().map(row).collect();
    insert.rows(dialect, &rows);
    insert
}
