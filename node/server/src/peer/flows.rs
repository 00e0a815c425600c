//! What an edge asks of the nodes above about flows. They are those of its region: a node that does not keep them says so, and
//! the next one is asked. Central is above every edge, and most often keeps none but its own: what it has set, lists or deletes
//! would be another's.

use std::time::Instant;

use meridian_proto::meridian::v1 as wire;
use meridian_proto::meridian::v1::flow_service_client::FlowServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::line::{Failure, Repeat};
use super::trust::Trust;
use super::{Client, Peers};

/// Names the region whose flows a call of `FlowService` is about, among nodes.
const REGION: &str = "meridian-region";
/// Marks the answer of a node that does not keep those.
const ELSEWHERE: &str = "meridian-flows-elsewhere";

/// A client of a node above, for the flows of a region.
pub(crate) type Flowing = FlowServiceClient<InterceptedService<Channel, ForFlows>>;

/// The region whose flows are meant.
#[derive(Clone)]
pub(crate) struct OfRegion(MetadataValue<Ascii>);

/// Says it with every call, beside what a node shows.
#[derive(Clone)]
pub(crate) struct ForFlows {
    pub(super) trust: Trust,
    pub(super) region: OfRegion,
}

impl OfRegion {
    fn new(region: &str) -> Result<Self, Status> {
        // The settings let no other names through.
        let named = region.parse();
        named
            .map(Self)
            .map_err(|_| Status::internal(format!("region '{region}' is no ASCII text")))
    }
}

impl Interceptor for ForFlows {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let mut request = self.trust.call(request)?;
        let OfRegion(region) = &self.region;
        request.metadata_mut().insert(REGION, region.clone());
        Ok(request)
    }
}

/// Lets calls of nodes below through that are about flows of these regions.
#[derive(Clone)]
pub(crate) struct Keeps(pub(crate) Vec<String>);

impl Keeps {
    /// Refuses flows of a region that are not kept here.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION`, which has the next node asked.
    pub(crate) fn check(&self, region: &str) -> Result<(), Status> {
        if self.0.iter().any(|kept| kept == region) {
            return Ok(());
        }
        let mut refusal = Status::failed_precondition(format!(
            "flows of region '{region}' are not kept here: its regional nodes keep them, or central where recorder.regions names it"
        ));
        let mark = MetadataValue::from_static("true");
        refusal.metadata_mut().insert(ELSEWHERE, mark);
        Err(refusal)
    }
}

impl Interceptor for Keeps {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let region = request.metadata().get(REGION);
        let region = region.and_then(|region| region.to_str().ok());
        self.check(region.unwrap_or_default())?;
        Ok(request)
    }
}

/// Another node may keep what this one does not.
fn failure(status: Status) -> Failure {
    if status.metadata().contains_key(ELSEWHERE) {
        return Failure::Lacks(status);
    }
    Failure::Said(status)
}

impl Peers {
    /// Makes a call of the flow service at the first node that keeps the flows of `region`. None does harm when it is made twice.
    ///
    /// # Errors
    /// What the node refused, `FAILED_PRECONDITION` where no node above keeps them, or why none that may can be reached.
    pub(crate) async fn flows<T, F>(
        &self,
        deadline: Instant,
        region: &str,
        call: impl Fn(Flowing) -> F,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let region = OfRegion::new(region)?;
        let call = |client: Client| {
            let calling = call(client.flows(region.clone()));
            async move { calling.await.map_err(failure) }
        };
        self.line.call(deadline, Repeat::Safe, call).await
    }

    /// Has a flow's beginning stored. Stored twice it is there once.
    ///
    /// # Errors
    /// As [`Self::flows`].
    pub(crate) async fn start_flow(
        &self,
        deadline: Instant,
        request: &wire::StartFlowRequest,
    ) -> Result<wire::StartFlowResponse, Status> {
        let call = |client: Client| {
            let mut request = Request::new(request.clone());
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
            async move { client.nodes().start_flow(request).await.map_err(failure) }
        };
        self.line.call(deadline, Repeat::Safe, call).await
    }

    /// Asks what is set of the recording of stores.
    ///
    /// # Errors
    /// As [`Self::flows`].
    pub(crate) async fn flow_settings(
        &self,
        deadline: Instant,
        request: wire::FlowSettingsRequest,
    ) -> Result<wire::FlowSettingsResponse, Status> {
        let call = |client: Client| {
            let request = request.clone();
            async move { client.nodes().flow_settings(request).await.map_err(failure) }
        };
        self.line.call(deadline, Repeat::Safe, call).await
    }
}
