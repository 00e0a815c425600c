//! Rows of the database, as what they stand for.

use std::str::FromStr;

use meridian_model::Timestamp;
use sqlx::any::{AnyRow, AnyTypeInfoKind};
use sqlx::{Row as _, ValueRef as _};

use super::whole;
use crate::flow::{Asked, Flow, FlowId, FlowKind, FlowStatus, Step, StepStatus};

/// A flow, by its id; `None` of one whose kind or status this version does not know: a newer one wrote it.
pub(super) fn flow(row: &AnyRow) -> sqlx::Result<(FlowId, Option<Flow>)> {
    let id = parsed(row, "id")?;
    let kind = known(row, "kind", FlowKind::of_number)?;
    let status = known(row, "status", FlowStatus::of_number)?;
    let (Some(kind), Some(status)) = (kind, status) else {
        return Ok((id, None));
    };
    let allowed: Option<i64> = row.try_get("allowed")?;
    let asked = match some_text(row, "operation")? {
        None => None,
        Some(operation) => Some(Box::new(Asked {
            operation,
            object: text(row, "object")?,
            relation: text(row, "relation")?,
            subject: text(row, "subject")?,
            allowed: allowed.map(|allowed| allowed != 0),
            revision: some_text(row, "revision")?,
            model: some_text(row, "model_id")?,
            served_by: text(row, "served_by")?,
            explanation: some_text(row, "explanation")?,
        })),
    };
    let completed: Option<i64> = row.try_get("completed_at")?;
    let duration: Option<i64> = row.try_get("duration_micros")?;
    let flow = Flow {
        id,
        store: parsed(row, "store_id")?,
        kind,
        status,
        started_at: Timestamp(row.try_get("started_at")?),
        completed_at: completed.map(Timestamp),
        duration_micros: duration.and_then(|micros| u64::try_from(micros).ok()),
        client_id: some_text(row, "client_id")?,
        grant_type: some_text(row, "grant_type")?,
        user_id: some_text(row, "user_id")?,
        ip: some_text(row, "ip")?.and_then(|ip| ip.parse().ok()),
        user_agent: some_text(row, "user_agent")?,
        asked,
    };
    Ok((id, Some(flow)))
}

/// A step; `None` of one whose status this version does not know.
pub(super) fn step(row: &AnyRow) -> sqlx::Result<Option<Step>> {
    let Some(status) = known(row, "status", StepStatus::of_number)? else {
        return Ok(None);
    };
    Ok(Some(Step {
        flow: parsed(row, "flow_id")?,
        at: Timestamp(row.try_get("occurred_at")?),
        name: text(row, "name")?,
        status,
        duration_micros: unsigned(row, "duration_micros")?,
        error_code: some_text(row, "error_code")?,
        error_message: some_text(row, "error_message")?,
    }))
}

/// The steps of a flow that was recorded whole, as [`step`].
pub(super) fn whole_steps(row: &AnyRow) -> sqlx::Result<Vec<Option<Step>>> {
    let began = Timestamp(row.try_get("started_at")?);
    let steps = whole::steps(parsed(row, "id")?, began, &text(row, "steps")?);
    steps.map_err(|source| broken("steps", source))
}

/// A text, or the bytes of one, as which MySQL keeps it.
pub(super) fn some_text(row: &AnyRow, column: &str) -> sqlx::Result<Option<String>> {
    let value = row.try_get_raw(column)?;
    if value.type_info().kind() != AnyTypeInfoKind::Blob {
        return row.try_get(column);
    }
    let bytes: Option<Vec<u8>> = row.try_get(column)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

pub(super) fn text(row: &AnyRow, column: &str) -> sqlx::Result<String> {
    Ok(some_text(row, column)?.unwrap_or_default())
}

pub(super) fn unsigned(row: &AnyRow, column: &str) -> sqlx::Result<u64> {
    let number: i64 = row.try_get(column)?;
    Ok(u64::try_from(number).unwrap_or(0))
}

pub(super) fn parsed<T>(row: &AnyRow, column: &str) -> sqlx::Result<T>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    text(row, column)?
        .parse()
        .map_err(|source| broken(column, source))
}

/// What a number stands for, of any width.
fn known<T>(row: &AnyRow, column: &str, of: fn(i64) -> Option<T>) -> sqlx::Result<Option<T>> {
    row.try_get(column).map(of)
}

fn broken(column: &str, source: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: Box::new(source),
    }
}
