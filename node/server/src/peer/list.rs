//! A streamed listing, answered above.

use std::time::{Duration, Instant};

use meridian_proto::meridian::v1 as wire;
use meridian_proto::openfga::v1;
use meridian_sync::envelope::position_to_wire;
use tokio::sync::mpsc;

use super::api::timely;
use super::origin::Origin;
use super::stream::Part;
use super::{Client, Peers};
use crate::calls::{Answer, Context};
use crate::commands::lists::hand_on;

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
        let call = async |client: Client| {
            let request = timely(cx, request.clone());
            client.lists().forward_list(request).await
        };
        let (mut parts, mut latest) = (self.begin(cx, call).await?, cx.deadline);
        loop {
            let (part, model) = parts.next(cx, latest).await?;
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
            latest = cx.deadline.max(Instant::now() + patience);
        }
    }
}

impl Part for wire::ForwardListPart {
    fn model(&self) -> &str {
        &self.authorization_model_id
    }

    fn error(&self) -> Option<&wire::NodeError> {
        self.end.as_ref()?.error.as_ref()
    }
}
