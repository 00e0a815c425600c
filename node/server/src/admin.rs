//! `meridian.v1.AdminService`: tier assignments, at every node, carried out at central; and how the node itself stands.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use meridian_model::ports::Datastore;
use meridian_model::{StoreId, Tiers};
use meridian_proto::meridian::v1 as wire;
use meridian_proto::meridian::v1::admin_service_server::AdminService;
use meridian_sync::envelope::{position_to_wire, tiers_from_wire, tiers_to_wire};
use tokio::sync::Notify;
use tonic::{Request, Response, Status};

use crate::node_service::{status, store_id};
use crate::peer::Peers;
use crate::status::NodeStatus;

const TIMEOUT: Duration = Duration::from_secs(10);

/// The service of a node.
pub struct Admin {
    /// Who assigns tiers.
    pub tiering: Tiering,
    /// How the node stands.
    pub status: NodeStatus,
}

/// Who assigns tiers.
pub enum Tiering {
    /// This node.
    Central {
        /// Where stores are.
        datastore: Arc<dyn Datastore>,
        /// Told after each commit.
        committed: Arc<Notify>,
    },
    /// Central, somewhere above.
    Below(Peers),
}

#[async_trait]
impl AdminService for Admin {
    async fn assign_tiers(
        &self,
        request: Request<wire::AssignTiersRequest>,
    ) -> Result<Response<wire::AssignTiersResponse>, Status> {
        let deadline = Instant::now() + TIMEOUT;
        let request = request.into_inner();
        let (datastore, committed) = match &self.tiering {
            Tiering::Below(peers) => {
                return peers
                    .assign_tiers(deadline, request)
                    .await
                    .map(Response::new);
            }
            Tiering::Central {
                datastore,
                committed,
            } => (datastore, committed),
        };
        let (store, wanted) = (
            store_id(&request.store_id)?,
            request.tiers.unwrap_or_default(),
        );
        let tiers = tiers_from_wire(wanted);
        check(&**datastore, store, &tiers, deadline).await?;
        let done = datastore
            .assign_tiers(store, &tiers, deadline)
            .await
            .map_err(status)?;
        committed.notify_one();
        Ok(Response::new(wire::AssignTiersResponse {
            position: Some(position_to_wire(done.position)),
        }))
    }

    async fn get_tiers(
        &self,
        request: Request<wire::GetTiersRequest>,
    ) -> Result<Response<wire::GetTiersResponse>, Status> {
        let deadline = Instant::now() + TIMEOUT;
        let request = request.into_inner();
        let datastore = match &self.tiering {
            Tiering::Below(peers) => {
                return peers.get_tiers(deadline, request).await.map(Response::new);
            }
            Tiering::Central { datastore, .. } => datastore,
        };
        let tiers = datastore
            .tiers(store_id(&request.store_id)?, deadline)
            .await
            .map_err(status)?;
        Ok(Response::new(wire::GetTiersResponse {
            tiers: Some(tiers_to_wire(&tiers)),
        }))
    }

    async fn get_status(
        &self,
        request: Request<wire::GetStatusRequest>,
    ) -> Result<Response<wire::GetStatusResponse>, Status> {
        let store = match request.into_inner().store_id {
            none if none.is_empty() => None,
            id => Some(store_id(&id)?),
        };
        Ok(Response::new(self.status.now(store).await))
    }
}

/// Refuses a type in two tiers, and one that the latest model does not define: most likely misspelt, and then without the
/// effect that somebody counts on.
async fn check(
    datastore: &dyn Datastore,
    store: StoreId,
    tiers: &Tiers,
    deadline: Instant,
) -> Result<(), Status> {
    if let Some(twice) = tiers.critical.intersection(&tiers.cold).next() {
        return Err(Status::invalid_argument(format!(
            "tiers: type '{twice}' is both critical and cold; name it once"
        )));
    }
    let latest = datastore
        .latest_model(store, deadline)
        .await
        .map_err(status)?;
    let Some(latest) = latest else {
        return Err(Status::failed_precondition(format!(
            "store '{store}' has no authorization model; write one before assigning tiers"
        )));
    };
    let model = datastore
        .model(store, latest, deadline)
        .await
        .map_err(status)?;
    let defined: BTreeSet<&str> = model
        .iter()
        .flat_map(|model| &model.type_definitions)
        .map(|definition| definition.name.as_str())
        .collect();
    match tiers
        .critical
        .union(&tiers.cold)
        .find(|name| !defined.contains(name.as_str()))
    {
        Some(unknown) => Err(Status::invalid_argument(format!(
            "tiers: type '{unknown}' is not defined by the store's latest model"
        ))),
        None => Ok(()),
    }
}
