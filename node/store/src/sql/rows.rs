//! Rows into the model's types.

use std::str::FromStr;

use meridian_model::change::{StoreInfo, StoredModel, Tiers};
use meridian_model::ids::{Position, StoreId, Timestamp};
use meridian_model::ports::{Result, StoreRecord};
use meridian_model::tuple::{Object, Subject, Tuple, TupleCondition, TupleKey};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::any::{AnyRow, AnyTypeInfoKind};
use sqlx::{Row, ValueRef};

use super::error::{classify, corrupt};
use super::statement::Value;

/// The columns that [`tuple()`] reads.
pub(crate) const TUPLE_COLUMNS: &str = "object_type, object_id, relation, user_type, user_id, user_relation, condition_name, condition_context, inserted_at";
/// The columns of a tuple's key, in the key's order.
pub(crate) const KEY_COLUMNS: &str =
    "object_type, object_id, relation, user_type, user_id, user_relation";
/// The columns that [`store()`] reads.
pub(crate) const STORE_COLUMNS: &str = "id, name, created_at, deleted_at, epoch, revision";

pub(crate) fn text(row: &AnyRow, column: &str) -> Result<String> {
    optional_text(row, column)?.ok_or_else(|| corrupt(column, "it is null"))
}

/// A text, or the bytes of one, as which MySQL keeps it.
pub(crate) fn optional_text(row: &AnyRow, column: &str) -> Result<Option<String>> {
    let value = row.try_get_raw(column).map_err(classify)?;
    if value.type_info().kind() != AnyTypeInfoKind::Blob {
        return row.try_get(column).map_err(classify);
    }
    let bytes: Vec<u8> = row.try_get(column).map_err(classify)?;
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|source| corrupt(column, source))
}

pub(crate) fn number(row: &AnyRow, column: &str) -> Result<i64> {
    row.try_get(column).map_err(classify)
}

pub(crate) fn optional_number(row: &AnyRow, column: &str) -> Result<Option<i64>> {
    row.try_get(column).map_err(classify)
}

pub(crate) fn unsigned(row: &AnyRow, column: &str) -> Result<u64> {
    number(row, column)?
        .try_into()
        .map_err(|source: std::num::TryFromIntError| corrupt(column, source))
}

pub(crate) fn timestamp(row: &AnyRow, column: &str) -> Result<Timestamp> {
    number(row, column).map(Timestamp)
}

/// An id or anything else that is kept as its text.
pub(crate) fn parsed<T>(row: &AnyRow, column: &str) -> Result<T>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text(row, column)?
        .parse()
        .map_err(|source| corrupt(column, source))
}

pub(crate) fn to_json<T: Serialize>(what: &str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|source| corrupt(what, source))
}

pub(crate) fn from_json<T: DeserializeOwned>(what: &str, json: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|source| corrupt(what, source))
}

pub(crate) fn position(row: &AnyRow) -> Result<Position> {
    Ok(Position::new(
        unsigned(row, "epoch")?,
        unsigned(row, "revision")?,
    ))
}

pub(crate) fn store(row: &AnyRow) -> Result<StoreRecord> {
    let id: StoreId = parsed(row, "id")?;
    let deleted_at = optional_number(row, "deleted_at")?;
    let info = StoreInfo {
        id,
        name: text(row, "name")?,
        created_at: timestamp(row, "created_at")?,
    };
    Ok(StoreRecord {
        info,
        position: position(row)?,
        deleted_at: deleted_at.map(Timestamp),
    })
}

pub(crate) fn model(row: &AnyRow) -> Result<StoredModel> {
    Ok(StoredModel {
        id: parsed(row, "id")?,
        model: from_json("authorization model", &text(row, "model")?)?,
    })
}

/// The tier assignment of a row; none means that all types are Warm.
pub(crate) fn tiers(json: Option<String>) -> Result<Tiers> {
    json.map_or_else(
        || Ok(Tiers::default()),
        |json| from_json("tier assignment", &json),
    )
}

pub(crate) fn key(row: &AnyRow) -> Result<TupleKey> {
    let object = Object::new(&text(row, "object_type")?, &text(row, "object_id")?);
    let subject = Subject::from_parts(
        &text(row, "user_type")?,
        &text(row, "user_id")?,
        &text(row, "user_relation")?,
    );
    let unreadable = |source| corrupt("tuple", source);
    Ok(TupleKey {
        object: object.map_err(unreadable)?,
        relation: text(row, "relation")?.into(),
        subject: subject.map_err(unreadable)?,
    })
}

pub(crate) fn tuple(row: &AnyRow) -> Result<Tuple> {
    let condition = match optional_text(row, "condition_name")? {
        Some(name) => Some(TupleCondition {
            name: name.into(),
            context: optional_text(row, "condition_context")?
                .unwrap_or_else(|| "{}".to_owned())
                .into(),
        }),
        None => None,
    };
    Ok(Tuple {
        key: key(row)?,
        condition,
        timestamp: timestamp(row, "inserted_at")?,
    })
}

/// The values of [`TUPLE_COLUMNS`] but the last.
pub(crate) fn key_and_condition(key: &TupleKey, condition: Option<&TupleCondition>) -> Vec<Value> {
    let mut values: Vec<Value> = key.columns().into_iter().map(Value::from).collect();
    values.push(Value::Text(
        condition.map(|condition| condition.name.to_string()),
    ));
    values.push(Value::Text(
        condition.map(|condition| condition.context.to_string()),
    ));
    values
}
