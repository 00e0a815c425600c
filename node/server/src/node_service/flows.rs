//! What the flow recorders of edges are given.

use meridian_flow::recorder::Overrides;
use meridian_flow::{FlowRecorder, FlowStatus, NotStored};
use meridian_model::StoreId;
use meridian_proto::meridian::v1 as wire;
use tonic::Status;
use wire::start_flow_response::Outcome;

use crate::flows::events;

/// Whose flows a node keeps beside its own.
pub struct EdgeFlows {
    /// The regions whose edges' flows are kept in this node's database.
    pub regions: Vec<String>,
    /// Whether they are: `recorder.enabled`.
    pub enabled: bool,
    /// What stores their beginnings.
    pub recorder: FlowRecorder,
}

impl EdgeFlows {
    fn check(&self, region: &str) -> Result<(), Status> {
        if self.regions.iter().any(|kept| kept == region) {
            return Ok(());
        }
        Err(Status::failed_precondition(format!(
            "flows of region '{region}' are not kept here: its regional nodes keep them, or central where recorder.regions names it"
        )))
    }

    pub(super) async fn start(
        &self,
        request: wire::StartFlowRequest,
    ) -> Result<wire::StartFlowResponse, Status> {
        self.check(&request.region)?;
        let invalid = |why: &str| Status::invalid_argument(format!("flow: {why}"));
        let flow = request.flow.ok_or_else(|| invalid("value is required"))?;
        let flow = events::from_flow(flow).map_err(|why| invalid(&why.to_string()))?;
        if flow.status != FlowStatus::Pending {
            return Err(invalid("its status is not 'pending'"));
        }
        let outcome = if !(self.enabled && self.recorder.records(flow.store)) {
            Outcome::Disabled
        } else {
            match self.recorder.store_flow(flow).await {
                Ok(_) => Outcome::Stored,
                Err(NotStored::Disabled) => Outcome::Disabled,
                Err(NotStored::Full) => Outcome::Full,
                Err(NotStored::Late) => Outcome::Late,
                Err(NotStored::Refused) => Outcome::Refused,
            }
        };
        Ok(wire::StartFlowResponse {
            outcome: outcome.into(),
        })
    }

    pub(super) fn settings(
        &self,
        request: &wire::FlowSettingsRequest,
    ) -> Result<wire::FlowSettingsResponse, Status> {
        self.check(&request.region)?;
        if !self.enabled {
            return Err(Status::failed_precondition(
                "flows of edges are not kept here: recorder.enabled is not set at this node",
            ));
        }
        let set = self.recorder.overrides().ok_or_else(|| {
            Status::unavailable("this node has not read the recorder's settings yet; try again")
        })?;
        Ok(wire::FlowSettingsResponse {
            stores: set.iter().map(store).collect(),
        })
    }
}

fn store((store, set): &(StoreId, Overrides)) -> wire::flow_settings_response::Store {
    wire::flow_settings_response::Store {
        store_id: store.to_string(),
        enabled: set.enabled,
        sampling: set.sampling,
        retention_seconds: set.retention.map(|keep| keep.as_secs()),
    }
}
