//! What the flow recorders of edges are given.

use meridian_flow::recorder::Overrides;
use meridian_flow::{FlowRecorder, FlowStatus, NotStored};
use meridian_model::StoreId;
use meridian_proto::meridian::v1 as wire;
use tonic::Status;
use wire::start_flow_response::Outcome;

use crate::flows::events;
use crate::peer::flows::Keeps;

/// Whose flows a node keeps beside its own.
pub struct EdgeFlows {
    /// The regions whose edges' flows are kept in this node's database.
    pub(crate) keeps: Keeps,
    /// What stores their beginnings, while it is on.
    pub recorder: FlowRecorder,
}

impl EdgeFlows {
    pub(super) async fn start(
        &self,
        request: wire::StartFlowRequest,
    ) -> Result<wire::StartFlowResponse, Status> {
        self.keeps.check(&request.region)?;
        let invalid = |why: &str| Status::invalid_argument(format!("flow: {why}"));
        let flow = request.flow.ok_or_else(|| invalid("value is required"))?;
        let flow = events::from_flow(flow).map_err(|why| invalid(&why.to_string()))?;
        if flow.status != FlowStatus::Pending {
            return Err(invalid("its status is not 'pending'"));
        }
        let outcome = if !self.recorder.records(flow.store) {
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
        self.keeps.check(&request.region)?;
        if !self.recorder.is_on() {
            return Err(Status::failed_precondition(
                "flows of edges are not kept now: this node's recorder is off (recorder.enabled, process_enabled)",
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
