//! What an edge's flow recorder asks of the nodes above.

use std::time::Instant;

use meridian_proto::meridian::v1 as wire;
use tonic::{Request, Status};

use super::line::Repeat;
use super::{Client, Peers};

impl Peers {
    /// Has a flow's beginning stored. Stored twice it is there once.
    ///
    /// # Errors
    /// What the node refused, or why none can be reached.
    pub(crate) async fn start_flow(
        &self,
        deadline: Instant,
        request: &wire::StartFlowRequest,
    ) -> Result<wire::StartFlowResponse, Status> {
        let call = |client: Client| {
            let mut request = Request::new(request.clone());
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
            async move { client.nodes().start_flow(request).await }
        };
        self.line.call(deadline, Repeat::Safe, call).await
    }

    /// Asks what is set of the recording of stores.
    ///
    /// # Errors
    /// What the node refused, or why none can be reached.
    pub(crate) async fn flow_settings(
        &self,
        deadline: Instant,
        request: wire::FlowSettingsRequest,
    ) -> Result<wire::FlowSettingsResponse, Status> {
        let call = |client: Client| {
            let request = request.clone();
            async move { client.nodes().flow_settings(request).await }
        };
        self.line.call(deadline, Repeat::Safe, call).await
    }
}
