//! A streamed listing for a node below.
//!
//! What is found goes on in parts of as much as is there. While the node below takes none the listing waits, and when it is
//! gone the listing ends.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use meridian_proto::meridian::v1 as wire;
use meridian_proto::openfga::v1;
use meridian_sync::envelope::position_to_wire;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use super::{model_to_wire, name_of, node_error};
use crate::calls::{Answer, Calls, Context, Resolved, ServedBy};
use crate::telemetry::request::onward;

/// Objects of one part at most, and objects that wait for the node below.
const OBJECTS: usize = 256;

/// Objects, and behind them how it ended.
pub(super) type Parts = BoxStream<'static, Result<wire::ForwardListPart, Status>>;

/// A listing under way, and what it finds.
type UnderWay = (mpsc::Receiver<String>, AbortOnDropHandle<Answer<()>>);

/// Begins a listing.
pub(super) fn parts(
    calls: Arc<dyn Calls>,
    cx: Context,
    list: v1::StreamedListObjectsRequest,
    this: ServedBy,
) -> Parts {
    let (found, names) = mpsc::channel(OBJECTS);
    let model = cx.model.clone();
    let listing = async move { calls.streamed_list_objects(&cx, list, found).await };
    let listing = AbortOnDropHandle::new(tokio::spawn(onward(listing)));
    let next = move |under_way: Option<UnderWay>| {
        let (this, model) = (this.clone(), model.clone());
        async move {
            let (mut names, listing) = under_way?;
            let mut objects = Vec::new();
            if names.recv_many(&mut objects, OBJECTS).await > 0 {
                let part = wire::ForwardListPart {
                    objects,
                    end: None,
                    authorization_model_id: model_to_wire(model.get()),
                };
                return Some((Ok(part), Some((names, listing))));
            }
            let end = match listing.await {
                Ok(answer) => Ok(last(answer, &model, &this)),
                Err(_) => Err(Status::internal("a listing ended unexpectedly")),
            };
            Some((end, None))
        }
    };
    futures::stream::unfold(Some((names, listing)), next).boxed()
}

/// The last part: how a listing ended.
fn last(answer: Answer<()>, resolved: &Resolved, this: &ServedBy) -> wire::ForwardListPart {
    let (model, end) = match answer.map_err(|refusal| refusal.under(resolved)) {
        Ok(reply) => (
            reply.model,
            wire::ForwardListEnd {
                error: None,
                position: reply.position.map(position_to_wire),
                served_by: reply.served_by.as_str().to_owned(),
                truncated: reply.truncated,
            },
        ),
        Err(refusal) => (
            refusal.model.as_deref().copied(),
            wire::ForwardListEnd {
                error: Some(node_error(&refusal.error)),
                position: refusal.position.map(position_to_wire),
                served_by: name_of(&refusal, this),
                truncated: false,
            },
        ),
    };
    wire::ForwardListPart {
        objects: Vec::new(),
        end: Some(end),
        authorization_model_id: model_to_wire(model),
    }
}
