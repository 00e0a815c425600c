//! The API's calls, answered above.

use std::time::Instant;

use meridian_model::{ApiError, Code};
use meridian_proto::meridian::v1 as wire;
use meridian_proto::openfga::v1;
use meridian_sync::envelope::position_to_wire;
use prost::Message;
use tonic::{Request, Status};

use super::Peers;
use super::line::{Failure, Repeat};
use super::origin::Origin;
use crate::api::operations::Operation;
use crate::calls::{Answer, Context, Refusal};
use crate::commands::check::Decision;
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
        let model = response.authorization_model_id.parse().ok();
        let origin = Origin::new(response.position, model, &response.served_by);
        let allowed = match response.outcome {
            Some(wire::evaluate_response::Outcome::Allowed(allowed)) => allowed,
            Some(wire::evaluate_response::Outcome::Error(error)) => {
                return Err(origin.refused(error));
            }
            None => return Err(unreadable("an Evaluate answer without an outcome").into()),
        };
        let Standing {
            position,
            model,
            served_by,
        } = origin.whole("an Evaluate answer")?;
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
        let model = response.authorization_model_id.parse().ok();
        let origin = Origin::new(response.position, model, &response.served_by);
        match response.outcome {
            Some(wire::forward_response::Outcome::Response(bytes)) => {
                let body = O::Response::decode(&*bytes)
                    .map_err(|_| unreadable("a Forward answer of another kind"))?;
                origin.reply(body, response.truncated, "a Forward answer")
            }
            Some(wire::forward_response::Outcome::Error(error)) => Err(origin.refused(error)),
            None => Err(unreadable("a Forward answer without an outcome").into()),
        }
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
