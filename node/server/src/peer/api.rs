//! The API's calls, answered above.

use std::time::Instant;

use meridian_model::{ApiError, Code, ModelId, Position};
use meridian_proto::meridian::v1 as wire;
use meridian_proto::openfga::v1;
use meridian_sync::envelope::{position_from_wire, position_to_wire};
use prost::Message;
use tonic::{Request, Status};

use super::Peers;
use super::line::{Failure, Repeat};
use crate::api::operations::Operation;
use crate::calls::{Answer, Context, Refusal, Reply, ServedBy};
use crate::commands::check::Decision;
use crate::commands::decisions::Outcome;
use crate::routing::Decided;
use crate::routing::batch::Standing;

impl Peers {
    /// Has a check decided above.
    ///
    /// # Errors
    /// The deciding node's refusal, or `unavailable` when none can be reached.
    pub async fn decide(&self, cx: &Context, check: &v1::CheckRequest) -> Result<Decided, Refusal> {
        let request = wire::EvaluateRequest {
            check: Some(check.clone()),
            min_position: cx.min_position.map(position_to_wire),
        };
        let response = self
            .line
            .call(cx.deadline, Repeat::Safe, |client| {
                let request = request.clone();
                async move {
                    let response = client.nodes().evaluate(timely(cx, request)).await?;
                    if let Some(wire::evaluate_response::Outcome::Error(error)) =
                        &response.get_ref().outcome
                    {
                        lacking(error)?;
                    }
                    Ok::<_, Failure>(response)
                }
            })
            .await
            .map_err(refusal)?;
        let (position, served_by) = (
            response.position.map(position_from_wire),
            ServedBy::new(&response.served_by).ok(),
        );
        let model = response.authorization_model_id.parse().ok();
        let allowed = match response.outcome {
            Some(wire::evaluate_response::Outcome::Allowed(allowed)) => allowed,
            Some(wire::evaluate_response::Outcome::Error(error)) => {
                return Err(Refusal {
                    error: api_error(error),
                    position,
                    model: model.map(Box::new),
                    served_by,
                });
            }
            None => return Err(unreadable("an Evaluate answer without an outcome").into()),
        };
        let (Some(position), Some(served_by), Some(model)) = (position, served_by, model) else {
            return Err(unreadable("an Evaluate answer without position, model or node").into());
        };
        Ok(Decided {
            decision: Decision {
                allowed,
                position,
                model,
                reads: response.reads,
            },
            served_by,
        })
    }

    /// Has different checks of one store, model and consistency decided above, in one call.
    ///
    /// # Errors
    /// The deciding node's refusal of all of them, or `unavailable` when none can be reached.
    pub async fn decide_all(
        &self,
        cx: &Context,
        checks: &[v1::CheckRequest],
    ) -> Result<(Standing, Vec<Outcome>), Refusal> {
        let request = wire::EvaluateBatchRequest {
            batch: Some(batch_of(checks)),
            min_position: cx.min_position.map(position_to_wire),
        };
        let response = self
            .line
            .call(cx.deadline, Repeat::Safe, |client| {
                let request = request.clone();
                async move {
                    let response = client.nodes().evaluate_batch(timely(cx, request)).await?;
                    if let Some(error) = &response.get_ref().error {
                        lacking(error)?;
                    }
                    Ok::<_, Failure>(response)
                }
            })
            .await
            .map_err(refusal)?;
        let (position, served_by) = (
            response.position.map(position_from_wire),
            ServedBy::new(&response.served_by).ok(),
        );
        let model = response.authorization_model_id.parse().ok();
        if let Some(error) = response.error {
            return Err(Refusal {
                error: api_error(error),
                position,
                model: model.map(Box::new),
                served_by,
            });
        }
        let (Some(position), Some(served_by), Some(model)) = (position, served_by, model) else {
            return Err(
                unreadable("an EvaluateBatch answer without position, model or node").into(),
            );
        };
        if response.results.len() != checks.len() {
            return Err(unreadable("an EvaluateBatch answer of another size").into());
        }
        cx.model.note(model);
        let outcome = |result| outcome(result, position, model);
        let outcomes = response.results.into_iter().map(outcome).collect();
        let standing = Standing {
            position,
            model,
            served_by,
        };
        Ok((standing, outcomes))
    }

    /// Has a call answered above. One that `writes` is never made twice.
    ///
    /// # Errors
    /// The answering node's refusal, or `unavailable` when none can be reached.
    pub async fn forward<O: Operation>(
        &self,
        cx: &Context,
        request: &O::Request,
        writes: bool,
    ) -> Answer<O::Response> {
        let request = wire::ForwardRequest {
            method: O::NAME.to_owned(),
            request: request.encode_to_vec().into(),
            min_position: cx.min_position.map(position_to_wire),
        };
        let repeat = if writes { Repeat::Unsent } else { Repeat::Safe };
        let response = self
            .line
            .call(cx.deadline, repeat, |client| {
                let request = request.clone();
                async move {
                    let response = client.nodes().forward(timely(cx, request)).await?;
                    if let Some(wire::forward_response::Outcome::Error(error)) =
                        &response.get_ref().outcome
                        && !writes
                    {
                        lacking(error)?;
                    }
                    Ok::<_, Failure>(response)
                }
            })
            .await
            .map_err(refusal)?;
        let (position, served_by) = (
            response.position.map(position_from_wire),
            ServedBy::new(&response.served_by).ok(),
        );
        let model = response.authorization_model_id.parse().ok();
        match response.outcome {
            Some(wire::forward_response::Outcome::Response(bytes)) => {
                let body = O::Response::decode(&*bytes)
                    .map_err(|_| unreadable("a Forward answer of another kind"))?;
                let served_by =
                    served_by.ok_or_else(|| unreadable("a Forward answer without a node"))?;
                Ok(Reply {
                    body,
                    position,
                    model,
                    served_by,
                    truncated: response.truncated,
                })
            }
            Some(wire::forward_response::Outcome::Error(error)) => Err(Refusal {
                error: api_error(error),
                position,
                model: model.map(Box::new),
                served_by,
            }),
            None => Err(unreadable("a Forward answer without an outcome").into()),
        }
    }
}

/// Checks as one message: what they have in common is the first's.
fn batch_of(checks: &[v1::CheckRequest]) -> v1::BatchCheckRequest {
    let first = checks.first().cloned().unwrap_or_default();
    let item = |check: &v1::CheckRequest| v1::BatchCheckItem {
        tuple_key: check.tuple_key.clone(),
        contextual_tuples: check.contextual_tuples.clone(),
        context: check.context.clone(),
        correlation_id: String::new(),
    };
    v1::BatchCheckRequest {
        store_id: first.store_id,
        checks: checks.iter().map(item).collect(),
        authorization_model_id: first.authorization_model_id,
        consistency: first.consistency,
    }
}

/// One result of a batch; a position of its own stands where it is not the batch's.
fn outcome(
    result: wire::evaluate_batch_response::Result,
    position: Position,
    model: ModelId,
) -> Outcome {
    use wire::evaluate_batch_response::result::Outcome as Wire;
    match result.outcome {
        Some(Wire::Allowed(allowed)) => Ok(Decision {
            allowed,
            position: result.position.map_or(position, position_from_wire),
            model,
            reads: result.reads,
        }),
        Some(Wire::Error(error)) => Err(api_error(error)),
        None => Err(unreadable("a result without an outcome")),
    }
}

/// A request that tells the node above how long its answer is awaited, so that it can say in time what it waits for.
pub(super) fn timely<T>(cx: &Context, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(cx.deadline.saturating_duration_since(Instant::now()));
    request
}

pub(super) fn refusal(status: Status) -> Refusal {
    let code = match status.code() {
        tonic::Code::DeadlineExceeded => Code::DeadlineExceeded,
        tonic::Code::ResourceExhausted => Code::ResourceExhausted,
        tonic::Code::Unavailable => Code::Unavailable,
        _ => Code::Internal,
    };
    ApiError::new(code, status.message()).into()
}

/// A node that cannot answer for want of others says so inside its answer; for a read another node may be asked.
pub(super) fn lacking(error: &wire::NodeError) -> Result<(), Failure> {
    match Code::from_number(error.code) {
        Some(Code::Unavailable) => Err(Failure::Lacks(Status::unavailable(&error.message))),
        Some(Code::ResourceExhausted) => {
            Err(Failure::Lacks(Status::resource_exhausted(&error.message)))
        }
        _ => Ok(()),
    }
}

pub(super) fn api_error(error: wire::NodeError) -> ApiError {
    ApiError::new(
        Code::from_number(error.code).unwrap_or(Code::Internal),
        error.message,
    )
}

pub(super) fn unreadable(what: &str) -> ApiError {
    ApiError::new(
        Code::Internal,
        format!("the node above sent {what}; are both of one version?"),
    )
}
