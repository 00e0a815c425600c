//! A streamed listing, answered above.

use std::time::{Duration, Instant};

use meridian_proto::meridian::v1 as wire;
use meridian_proto::openfga::v1;
use meridian_sync::envelope::position_to_wire;
use tokio::sync::mpsc;
use tonic::{Response, Streaming};

use super::Peers;
use super::api::{lacking, refusal, timely};
use super::line::{Failure, Repeat};
use super::origin::Origin;
use super::stream::next;
use crate::calls::{Answer, Context};
use crate::commands::lists::hand_on;

/// The first part of a listing, and the rest.
type Begun = (wire::ForwardListPart, Streaming<wire::ForwardListPart>);

impl Peers {
    /// Has a streamed listing answered above, by the first node that begins to. What it finds goes to `found`, at the pace at
    /// which it is taken from there; dropped, or when nothing is taken for as long as `patience`, the listing above ends.
    ///
    /// # Errors
    /// The answering node's refusal, `unavailable` when none can be reached or the connection breaks, or
    /// `deadline_exceeded`.
    pub async fn list_objects(
        &self,
        cx: &Context,
        list: v1::StreamedListObjectsRequest,
        found: &mpsc::Sender<String>,
        patience: Duration,
    ) -> Answer<()> {
        let request = wire::ForwardListRequest {
            list: Some(list),
            min_position: cx.min_position.map(position_to_wire),
        };
        let begin = |client: super::Client| {
            let request = request.clone();
            async move {
                let response = client.lists().forward_list(timely(cx, request)).await?;
                let mut rest = response.into_inner();
                let first = next(&mut rest, cx.deadline).await?;
                if let Some(error) = first.end.as_ref().and_then(|end| end.error.as_ref()) {
                    lacking(error)?;
                }
                Ok::<_, Failure>(Response::new((first, rest)))
            }
        };
        let begun = self.line.begin(cx.deadline, Repeat::Safe, begin).await;
        let ((mut part, mut rest), peer): (Begun, _) = begun.map_err(refusal)?;
        loop {
            let model = part.authorization_model_id.parse().ok();
            model.into_iter().for_each(|model| cx.model.note(model));
            for name in part.objects {
                hand_on(name, found, patience).await?;
            }
            if let Some(end) = part.end {
                let origin = Origin::new(end.position, model, &end.served_by);
                return match end.error {
                    Some(error) => Err(origin.refused(error)),
                    None => origin.reply((), end.truncated, "a ForwardList answer"),
                };
            }
            // What was found in time may take longer to hand on.
            let latest = cx.deadline.max(Instant::now() + patience);
            let next = next(&mut rest, latest).await;
            part = next.map_err(|status| refusal(peer.broke_off(status)))?;
        }
    }
}
