//! ReadChanges.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use meridian_model::ports::TupleChange;
use meridian_model::{ApiError, Revision, Timestamp};
use meridian_proto::openfga::v1;

use crate::api::convert::{timestamp_from_wire, timestamp_to_wire, tuple_key_to_wire};
use crate::calls::{Answer, Context};
use crate::commands::errors::from_datastore;
use crate::commands::{Local, store_id, tokens};

pub(super) async fn read(
    local: &Local,
    cx: &Context,
    request: &v1::ReadChangesRequest,
) -> Answer<v1::ReadChangesResponse> {
    let store = store_id(&request.store_id)?;
    let object_type = request.r#type.as_str();
    let after = tokens::read_changes(&request.continuation_token, object_type)?;
    // A token says exactly where to go on; a start time counts only without one.
    let since = request
        .start_time
        .as_ref()
        .filter(|_| after.is_none())
        .map(timestamp_from_wire);
    let nothing_new = v1::ReadChangesResponse {
        changes: Vec::new(),
        continuation_token: request.continuation_token.clone(),
    };
    let Some(position) = local.position(cx, store).await? else {
        return Ok(local.reply(nothing_new, None, None));
    };
    let of_type = Some(object_type).filter(|object_type| !object_type.is_empty());
    let limit = local
        .page_size(request.page_size)
        .min(local.limits.read_changes_page_size);
    let mut changes = local
        .datastore
        .tuple_changes(store, of_type, since, after, limit, cx.deadline)
        .await
        .map_err(from_datastore)?;
    if local.limits.changelog_horizon > Duration::ZERO {
        let newest = before_now(local.limits.changelog_horizon);
        let shown = changes
            .iter()
            .take_while(|change| change.tuple.timestamp <= newest);
        changes.truncate(shown.count());
    }
    let body = match changes.last() {
        Some(last) => {
            let continuation_token = tokens::changes(last.cursor, object_type);
            v1::ReadChangesResponse {
                changes: changes.iter().map(to_wire).collect(),
                continuation_token,
            }
        }
        None => nothing_new,
    };
    Ok(local.reply(body, Some(position), None))
}

impl Local {
    /// Whether this node's changelog has all that a ReadChanges may be answered with: a copy's does not go back to the
    /// store's beginning when the store came from a snapshot. To be asked behind the answer, since what is kept only
    /// shrinks.
    ///
    /// # Errors
    /// As ReadChanges.
    pub(crate) async fn has_changes(
        &self,
        cx: &Context,
        request: &v1::ReadChangesRequest,
    ) -> Result<bool, ApiError> {
        let store = store_id(&request.store_id)?;
        let after = tokens::read_changes(&request.continuation_token, &request.r#type)?;
        let oldest = self
            .datastore
            .oldest_change(store, cx.deadline)
            .await
            .map_err(from_datastore)?;
        let Some((revision, committed_at)) = oldest else {
            return Ok(false);
        };
        Ok(match (after, &request.start_time) {
            _ if revision == Revision::ZERO.next() => true,
            // The revision that a page ended in may go on behind it.
            (Some(after), _) => after.revision >= revision,
            (None, Some(since)) => timestamp_from_wire(since) > committed_at,
            (None, None) => false,
        })
    }
}

/// That long ago.
fn before_now(age: Duration) -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let then = now.unwrap_or_default().saturating_sub(age).as_micros();
    Timestamp(i64::try_from(then).unwrap_or(i64::MAX))
}

fn to_wire(change: &TupleChange) -> v1::TupleChange {
    let operation = if change.deleted {
        v1::TupleOperation::Delete
    } else {
        v1::TupleOperation::Write
    };
    v1::TupleChange {
        tuple_key: Some(tuple_key_to_wire(
            &change.tuple.key,
            change.tuple.condition.as_ref(),
        )),
        operation: operation.into(),
        timestamp: Some(timestamp_to_wire(change.tuple.timestamp)),
    }
}
