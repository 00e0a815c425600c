//! Checks that are decided together for a node below.

use meridian_proto::meridian::v1 as wire;
use meridian_proto::openfga::v1;
use meridian_sync::envelope::position_to_wire;
use tonic::{Request, Response, Status};

use super::{Nodes, context, model_to_wire, name_of, node_error};
use crate::commands::decisions::Outcome;

/// Decides a batch for a node below.
pub(super) async fn evaluate(
    nodes: &Nodes,
    request: Request<wire::EvaluateBatchRequest>,
) -> Result<Response<wire::EvaluateBatchResponse>, Status> {
    let cx = context(&request, request.get_ref().min_position);
    let batch = request
        .into_inner()
        .batch
        .ok_or_else(|| Status::invalid_argument("batch: value is required"))?;
    let checks = checks_of(batch);
    let mut results = vec![wire::evaluate_batch_response::Result::default(); checks.len()];
    let mut tell = |at: usize, outcome| {
        if let Some(result) = results.get_mut(at) {
            *result = batch_result(outcome);
        }
    };
    let decided = nodes.decide.decide_all(&cx, &checks, &mut tell).await;
    let response = match decided.map_err(|refusal| refusal.under(&cx.model)) {
        Ok(standing) => wire::EvaluateBatchResponse {
            results,
            error: None,
            position: Some(position_to_wire(standing.position)),
            authorization_model_id: standing.model.to_string(),
            served_by: standing.served_by.as_str().to_owned(),
        },
        Err(refusal) => wire::EvaluateBatchResponse {
            error: Some(node_error(&refusal.error)),
            position: refusal.position.map(position_to_wire),
            authorization_model_id: model_to_wire(refusal.model.as_deref().copied()),
            served_by: name_of(&refusal, &nodes.name),
            ..wire::EvaluateBatchResponse::default()
        },
    };
    Ok(Response::new(response))
}

fn checks_of(batch: v1::BatchCheckRequest) -> Vec<v1::CheckRequest> {
    let check = |item: v1::BatchCheckItem| v1::CheckRequest {
        store_id: batch.store_id.clone(),
        tuple_key: item.tuple_key,
        contextual_tuples: item.contextual_tuples,
        authorization_model_id: batch.authorization_model_id.clone(),
        trace: false,
        context: item.context,
        consistency: batch.consistency,
    };
    batch.checks.into_iter().map(check).collect()
}

fn batch_result(outcome: Outcome) -> wire::evaluate_batch_response::Result {
    use wire::evaluate_batch_response::Result;
    use wire::evaluate_batch_response::result::Outcome;
    match outcome {
        Ok(decision) => Result {
            outcome: Some(Outcome::Allowed(decision.allowed)),
            reads: decision.reads,
            position: Some(position_to_wire(decision.position)),
        },
        Err(error) => Result {
            outcome: Some(Outcome::Error(node_error(&error))),
            ..Result::default()
        },
    }
}
