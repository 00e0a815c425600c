//! Why a check was decided as it was: as it was kept with the decision, else as it would be decided now.

use std::time::Instant;

use meridian_flow::{Asked, Flow};
use meridian_model::{ApiError, Code, StoreId};
use meridian_proto::meridian::v1 as wire;
use meridian_proto::openfga::v1;
use tonic::Status;

use crate::explanations::{Explained, Explaining};

const SUBSCRIBE: &str = "Subscribe";
/// Calls that are one check each.
const ONE_CHECK: [&str; 3] = ["Check", "Evaluation", SUBSCRIBE];

/// Explains the check that a flow is of.
pub(super) async fn decided(
    explaining: &Explaining,
    flow: &Flow,
    deadline: Instant,
) -> Result<wire::Explanation, Status> {
    let asked = flow.asked.as_deref();
    let asked = asked
        .filter(|asked| ONE_CHECK.contains(&asked.operation.as_str()))
        .ok_or_else(|| {
            let told = format!(
                "explain: only flows of {} can be explained",
                ONE_CHECK.join(", ")
            );
            Status::failed_precondition(told)
        })?;
    if asked.operation == SUBSCRIBE && asked.model.is_none() {
        let told = "explain: it was not decided, or by live.authorityUrl";
        return Err(Status::failed_precondition(told));
    }
    if let Some(json) = asked.explanation.clone() {
        return Ok(wire::Explanation {
            revision: asked.revision.clone().unwrap_or_default(),
            kept: true,
            json,
        });
    }
    let request = request(flow.store, asked);
    let explained = explaining.explain(&request, deadline).await;
    let (position, explained) = explained.map_err(refused)?;
    match explained {
        Explained::Because(explanation) => Ok(wire::Explanation {
            revision: position.to_string(),
            kept: false,
            json: explanation.to_json(),
        }),
        Explained::Busy => Err(Status::deadline_exceeded(
            "explain: others are being explained; try again",
        )),
        Explained::TooLarge | Explained::NotHere => Err(Status::failed_precondition(
            "explain: the check takes more work than an explanation may",
        )),
    }
}

/// The check again, without what is never kept of it.
fn request(store: StoreId, asked: &Asked) -> v1::CheckRequest {
    v1::CheckRequest {
        store_id: store.to_string(),
        authorization_model_id: asked.model.clone().unwrap_or_default(),
        tuple_key: Some(v1::CheckRequestTupleKey {
            user: asked.subject.clone(),
            relation: asked.relation.clone(),
            object: asked.object.clone(),
        }),
        ..v1::CheckRequest::default()
    }
}

fn refused(error: ApiError) -> Status {
    let message = format!("explain: {}", error.message);
    match error.code {
        Code::Unavailable => Status::unavailable(message),
        Code::DeadlineExceeded => Status::deadline_exceeded(message),
        _ => Status::failed_precondition(message),
    }
}
