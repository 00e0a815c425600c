//! What of a request and its answer is recorded.

use std::any::Any;

use meridian_flow::Asked;
use meridian_proto::openfga::v1;
use meridian_proto::openfga::v1::batch_check_single_result::CheckResult;
use serde_json::json;

/// How many of a batch's checks are told one by one.
const CHECKS: usize = 50;

/// What was asked; `None` of a call that decides nothing.
pub(super) fn of(operation: &'static str, request: &dyn Any) -> Option<Asked> {
    let asked = |object: &str, relation: &str, subject: &str| Asked {
        operation: operation.to_owned(),
        object: object.to_owned(),
        relation: relation.to_owned(),
        subject: subject.to_owned(),
        ..Asked::default()
    };
    if let Some(check) = request.downcast_ref::<v1::CheckRequest>() {
        let key = check.tuple_key.as_ref();
        return Some(key.map_or_else(
            || asked("", "", ""),
            |key| asked(&key.object, &key.relation, &key.user),
        ));
    }
    if let Some(batch) = request.downcast_ref::<v1::BatchCheckRequest>() {
        return Some(asked(&format!("{} checks", batch.checks.len()), "", ""));
    }
    if let Some(list) = request.downcast_ref::<v1::ListObjectsRequest>() {
        return Some(asked(&list.r#type, &list.relation, &list.user));
    }
    if let Some(list) = request.downcast_ref::<v1::StreamedListObjectsRequest>() {
        return Some(asked(&list.r#type, &list.relation, &list.user));
    }
    if let Some(list) = request.downcast_ref::<v1::ListUsersRequest>() {
        let object = list.object.as_ref();
        let object = object.map(|object| format!("{}:{}", object.r#type, object.id));
        let filters = list.user_filters.iter().map(|filter| {
            if filter.relation.is_empty() {
                filter.r#type.clone()
            } else {
                format!("{}#{}", filter.r#type, filter.relation)
            }
        });
        let filters: Vec<_> = filters.collect();
        let object = object.unwrap_or_default();
        return Some(asked(&object, &list.relation, &filters.join(",")));
    }
    let expand = request.downcast_ref::<v1::ExpandRequest>()?;
    let key = expand.tuple_key.as_ref();
    Some(key.map_or_else(
        || asked("", "", ""),
        |key| asked(&key.object, &key.relation, ""),
    ))
}

/// Whether it was allowed, where that is the answer, and what else it came to, as JSON.
pub(super) fn answer(body: &dyn Any) -> (Option<bool>, Option<String>) {
    if let Some(check) = body.downcast_ref::<v1::CheckResponse>() {
        return (Some(check.allowed), None);
    }
    let details = None
        .or_else(|| body.downcast_ref().map(batch))
        .or_else(|| {
            let list = body.downcast_ref::<v1::ListObjectsResponse>()?;
            Some(json!({ "objects": list.objects.len() }))
        })
        .or_else(|| {
            let list = body.downcast_ref::<v1::ListUsersResponse>()?;
            Some(json!({ "users": list.users.len() }))
        });
    (None, details.map(|details| details.to_string()))
}

fn batch(batch: &v1::BatchCheckResponse) -> serde_json::Value {
    let results: serde_json::Map<_, _> = batch
        .result
        .iter()
        .take(CHECKS)
        .map(|(id, result)| {
            let result = match &result.check_result {
                Some(CheckResult::Allowed(allowed)) => json!(allowed),
                Some(CheckResult::Error(error)) => json!({ "error": error.message }),
                None => json!(null),
            };
            (id.clone(), result)
        })
        .collect();
    json!({ "checks": batch.result.len(), "results": results })
}
