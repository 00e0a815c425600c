//! BatchCheck over a datastore: one snapshot for the whole batch, equal checks decided once, and one query a round for all of
//! them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use meridian_engine::Outcome;
use meridian_model::ApiError;
use meridian_proto::openfga::v1;
use meridian_proto::openfga::v1::batch_check_single_result::CheckResult;
use prost::Message;

use super::check::{CheckedRequest, Evaluation, too_complex, unclear};
use super::{Local, at_least, models, store_id};
use crate::api::deadline_exceeded;
use crate::calls::{Answer, Context};
use crate::commands::errors::from_datastore;

/// A check of the batch, and whose it is.
struct Item {
    request: v1::CheckRequest,
    correlation_ids: Vec<String>,
}

pub(super) async fn answer(
    local: &Local,
    cx: &Context,
    request: v1::BatchCheckRequest,
) -> Answer<v1::BatchCheckResponse> {
    let store = store_id(&request.store_id)?;
    let model_id = request.authorization_model_id.clone();
    let snapshot = local.datastore.snapshot(store, cx.deadline).await;
    let mut snapshot = snapshot
        .map_err(from_datastore)?
        .ok_or_else(|| match &*model_id {
            "" => models::no_model(store),
            id => models::model_not_found(id),
        })?;
    let position = at_least(cx, snapshot.position())?;
    let model = local
        .models
        .resolve_in(&mut *snapshot, store, &model_id)
        .await?;
    let items = distinct(request, model.id.as_str());
    let mut decided: Vec<Option<Result<bool, ApiError>>> = Vec::new();
    let mut open = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let begun = CheckedRequest::new(&model.types, &item.request)
            .map(|checked| Evaluation::new(store, Arc::clone(&model), &checked, None));
        match begun {
            Ok(evaluation) => {
                open.push((at, evaluation));
                decided.push(None);
            }
            Err(error) => decided.push(Some(Err(error))),
        }
    }
    let mut left = local.limits.check_reads.saturating_mul(open.len());
    while !open.is_empty() {
        let mut unknown = Vec::new();
        let mut reads = Vec::new();
        for (at, mut evaluation) in open {
            let result = match evaluation.run_inline(&local.limits)? {
                Outcome::Allowed => Ok(true),
                Outcome::Denied => Ok(false),
                Outcome::TooDeep => Err(too_complex()),
                Outcome::Unclear => Err(unclear(evaluation.scratch())),
                Outcome::Interrupted => Err(deadline_exceeded()),
                // Decided by itself below, where it waits for nobody but its like.
                Outcome::OutOfWork => continue,
                Outcome::Unknown => {
                    let missed = evaluation.scratch().missed();
                    let from = reads.len();
                    reads.extend_from_slice(missed);
                    unknown.push((at, evaluation, from..reads.len()));
                    continue;
                }
            };
            if let Some(slot) = decided.get_mut(at) {
                *slot = Some(result);
            }
        }
        open = Vec::with_capacity(unknown.len());
        if unknown.is_empty() {
            break;
        }
        left = left.checked_sub(reads.len()).ok_or_else(too_complex)?;
        let found = snapshot
            .read(&reads, u32::try_from(left).unwrap_or(u32::MAX))
            .await
            .map_err(from_datastore)?
            .ok_or_else(too_complex)?;
        left = left.saturating_sub(found.iter().map(Vec::len).sum());
        for (at, mut evaluation, span) in unknown {
            let (reads, found) = (reads.get(span.clone()), found.get(span));
            evaluation.add(reads.unwrap_or_default(), found.unwrap_or_default());
            open.push((at, evaluation));
        }
    }
    drop(snapshot);
    let mut result = BTreeMap::new();
    for (item, decided) in items.into_iter().zip(decided) {
        let decided = match decided {
            Some(decided) => decided,
            None => {
                let cx = Context {
                    min_position: Some(position),
                    ..cx.clone()
                };
                let alone = local.decide(&cx, &item.request).await;
                alone.map(|decision| decision.allowed)
            }
        };
        let single = single_result(decided);
        for id in item.correlation_ids {
            result.insert(id, single.clone());
        }
    }
    let body = v1::BatchCheckResponse { result };
    Ok(local.reply(body, Some(position), Some(model.id)))
}

/// The checks of a batch, equal ones once. Everything that an answer depends on is compared.
fn distinct(request: v1::BatchCheckRequest, model_id: &str) -> Vec<Item> {
    let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut items: Vec<Item> = Vec::new();
    for check in request.checks {
        let request = v1::CheckRequest {
            store_id: request.store_id.clone(),
            tuple_key: check.tuple_key,
            contextual_tuples: check.contextual_tuples,
            authorization_model_id: model_id.to_owned(),
            trace: false,
            context: check.context,
            consistency: request.consistency,
        };
        let at = *places.entry(request.encode_to_vec()).or_insert(items.len());
        match items.get_mut(at) {
            Some(item) => item.correlation_ids.push(check.correlation_id),
            None => items.push(Item {
                request,
                correlation_ids: vec![check.correlation_id],
            }),
        }
    }
    items
}

/// One check's answer as a batch names it. An error of the request is the asker's, any other the server's.
pub(crate) fn single_result(decided: Result<bool, ApiError>) -> v1::BatchCheckSingleResult {
    let check_result = match decided {
        Ok(allowed) => CheckResult::Allowed(allowed),
        Err(error) => {
            let number = i32::from(error.code.number());
            let code = match number {
                2000..4000 => v1::check_error::Code::InputError(number),
                _ => v1::check_error::Code::InternalError(number),
            };
            CheckResult::Error(v1::CheckError {
                message: error.message,
                code: Some(code),
            })
        }
    };
    v1::BatchCheckSingleResult {
        check_result: Some(check_result),
    }
}
