//! What this node gives the nodes below it: `meridian.v1.NodeService`.

mod batch;
mod bulk;
mod flows;
mod list;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use meridian_model::ports::{Datastore, DatastoreError, Snapshot};
use meridian_model::{ApiError, ModelId, Position, Revision, StoreId, Tiers};
use meridian_proto::meridian::v1 as wire;
use meridian_proto::meridian::v1::node_service_server::NodeService;
use meridian_sync::envelope::{
    Heartbeat, change_set_to_wire, position_from_wire, position_to_wire,
};
use meridian_sync::tier;
use prost::Message;
use tonic::{Request, Response, Status};

use crate::admin::Admin;
use crate::api::operations::{self, Operation, Visitor};
use crate::calls::{Calls, Context, Refusal, Resolved, ServedBy};
use crate::explanations::Why;
use crate::routing::Decide;
pub use flows::EdgeFlows;

/// Longest a call of a node below may take when it says nothing itself.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long before its caller gives up a call ends at most.
const MARGIN: Duration = Duration::from_millis(100);
/// Change sets of one page at most.
const MAX_CHANGES: u32 = 1_000;
/// Bytes of one page of change sets at most, unless its first is larger.
const MAX_CHANGES_BYTES: usize = 4 * 1024 * 1024;
/// Change sets read at a time: each may be as large as the largest request.
const CHANGES_PER_READ: u32 = 50;

/// The last heartbeat that a replica has applied everything before, and how long ago it came.
pub type LastHeartbeat = Arc<dyn Fn() -> Option<(Heartbeat, Duration)> + Send + Sync>;

/// What tells the nodes below how old this node's knowledge is.
pub enum Clock {
    /// Central: the datastore's own clock, now.
    Writer,
    /// Everywhere else: what arrived from above.
    Replica(LastHeartbeat),
}

/// The service of a central or regional node.
pub struct Nodes {
    /// Decides checks.
    pub decide: Arc<dyn Decide>,
    /// Answers calls.
    pub calls: Arc<dyn Calls>,
    /// What is replicated from here.
    pub datastore: Arc<dyn Datastore>,
    /// How old its knowledge is.
    pub clock: Clock,
    /// The node's name.
    pub name: ServedBy,
    /// Tier assignments of the nodes below.
    pub admin: Arc<Admin>,
    /// Flows of the edges below.
    pub flows: EdgeFlows,
}

/// A little before the caller gives up, so that it hears what kept it waiting.
fn deadline<T>(request: &Request<T>, longest: Duration) -> Instant {
    let asked = crate::api::timeout(request.metadata().as_ref());
    let time = asked.map_or(longest, |asked| {
        (asked - (asked / 10).min(MARGIN)).min(longest)
    });
    Instant::now() + time
}

fn context<T>(request: &Request<T>, min: Option<wire::Position>) -> Context {
    Context {
        deadline: deadline(request, TIMEOUT),
        min_position: min.map(position_from_wire),
        caller: None,
        model: Resolved::default(),
        why: Why::default(),
    }
}

pub(crate) fn store_id(text: &str) -> Result<StoreId, Status> {
    text.parse()
        .map_err(|why| Status::invalid_argument(format!("store_id '{text}' {why}")))
}

pub(crate) fn status(error: DatastoreError) -> Status {
    match error {
        DatastoreError::UnknownStore(_) => Status::not_found(error.to_string()),
        DatastoreError::Exhausted { .. } => Status::resource_exhausted(error.to_string()),
        DatastoreError::DeadlineExceeded => Status::deadline_exceeded(error.to_string()),
        DatastoreError::Corrupt { .. } => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the datastore cannot be read"
            );
            Status::internal(error.to_string())
        }
        _ => Status::unavailable(error.to_string()),
    }
}

fn node_error(error: &ApiError) -> wire::NodeError {
    wire::NodeError {
        code: u32::from(error.code.number()),
        message: error.message.clone(),
    }
}

/// The model of an answer, as the wire has it; empty where none is known.
fn model_to_wire(model: Option<ModelId>) -> String {
    model.map(|model| model.to_string()).unwrap_or_default()
}

/// Who refused.
fn name_of(refusal: &Refusal, this: &ServedBy) -> String {
    let by = refusal.served_by.as_ref().unwrap_or(this);
    by.as_str().to_owned()
}

impl Nodes {
    async fn snapshot_at(
        &self,
        store: &str,
        min: Option<wire::Position>,
        deadline: Instant,
    ) -> Result<Box<dyn Snapshot>, Status> {
        let store = store_id(store)?;
        let snapshot = self
            .datastore
            .bulk_snapshot(store, deadline)
            .await
            .map_err(status)?;
        let snapshot = snapshot
            .ok_or_else(|| Status::not_found(format!("store '{store}' is not known here")))?;
        let (have, min) = (
            snapshot.position(),
            min.map(position_from_wire).unwrap_or_default(),
        );
        if have < min {
            return Err(Status::failed_precondition(format!(
                "store '{store}' is at {have} here, behind {min}"
            )));
        }
        Ok(snapshot)
    }
}

#[async_trait]
impl NodeService for Nodes {
    async fn evaluate(
        &self,
        request: Request<wire::EvaluateRequest>,
    ) -> Result<Response<wire::EvaluateResponse>, Status> {
        let cx = context(&request, request.get_ref().min_position);
        let check = request
            .into_inner()
            .check
            .ok_or_else(|| Status::invalid_argument("check: value is required"))?;
        let decided = self.decide.decide(&cx, &check).await;
        let response = match decided.map_err(|refusal| refusal.under(&cx.model)) {
            Ok(decided) => wire::EvaluateResponse {
                outcome: Some(wire::evaluate_response::Outcome::Allowed(
                    decided.decision.allowed,
                )),
                position: Some(position_to_wire(decided.decision.position)),
                authorization_model_id: decided.decision.model.to_string(),
                reads: decided.decision.reads,
                served_by: decided.served_by.as_str().to_owned(),
            },
            Err(refusal) => wire::EvaluateResponse {
                position: refusal.position.map(position_to_wire),
                authorization_model_id: model_to_wire(refusal.model.as_deref().copied()),
                served_by: name_of(&refusal, &self.name),
                outcome: Some(wire::evaluate_response::Outcome::Error(node_error(
                    &refusal.error,
                ))),
                ..wire::EvaluateResponse::default()
            },
        };
        Ok(Response::new(response))
    }

    type EvaluateBatchStream = batch::Parts;

    async fn evaluate_batch(
        &self,
        request: Request<wire::EvaluateBatchRequest>,
    ) -> Result<Response<Self::EvaluateBatchStream>, Status> {
        let cx = context(&request, request.get_ref().min_position);
        let batch = request
            .into_inner()
            .batch
            .ok_or_else(|| Status::invalid_argument("batch: value is required"))?;
        let decide = Arc::clone(&self.decide);
        let parts = batch::parts(decide, cx, batch, self.name.clone());
        Ok(Response::new(parts))
    }

    async fn forward(
        &self,
        request: Request<wire::ForwardRequest>,
    ) -> Result<Response<wire::ForwardResponse>, Status> {
        let cx = context(&request, request.get_ref().min_position);
        let wire::ForwardRequest {
            method, request, ..
        } = request.into_inner();
        let forward = operations::find(
            &method,
            Forward {
                cx,
                calls: Arc::clone(&self.calls),
                request,
            },
        );
        let answered = forward
            .ok_or_else(|| {
                Status::unimplemented(format!(
                    "method '{method}' is not one of openfga.v1.OpenFGAService"
                ))
            })?
            .await?;
        Ok(Response::new(answered.unwrap_or_else(|refusal| {
            wire::ForwardResponse {
                outcome: Some(wire::forward_response::Outcome::Error(node_error(
                    &refusal.error,
                ))),
                position: refusal.position.map(position_to_wire),
                authorization_model_id: model_to_wire(refusal.model.as_deref().copied()),
                served_by: name_of(&refusal, &self.name),
                ..wire::ForwardResponse::default()
            }
        })))
    }

    type ForwardListStream = list::Parts;

    async fn forward_list(
        &self,
        request: Request<wire::ForwardListRequest>,
    ) -> Result<Response<Self::ForwardListStream>, Status> {
        let cx = context(&request, request.get_ref().min_position);
        let list = request
            .into_inner()
            .list
            .ok_or_else(|| Status::invalid_argument("list: value is required"))?;
        let calls = Arc::clone(&self.calls);
        Ok(Response::new(list::parts(
            calls,
            cx,
            list,
            self.name.clone(),
        )))
    }

    async fn changes(
        &self,
        request: Request<wire::ChangesRequest>,
    ) -> Result<Response<wire::ChangesResponse>, Status> {
        let deadline = deadline(&request, TIMEOUT);
        let wire::ChangesRequest {
            store_id: store,
            after,
            limit,
            for_edge,
        } = request.into_inner();
        let (store, after) = (
            store_id(&store)?,
            after.map(position_from_wire).unwrap_or_default(),
        );
        let record = self
            .datastore
            .store(store, deadline)
            .await
            .map_err(status)?;
        let have = record
            .ok_or_else(|| Status::not_found(format!("store '{store}' is not known here")))?
            .position;
        let page = if after.epoch != have.epoch && after != Position::default() {
            None
        } else if after.revision < have.revision {
            let thin = if for_edge {
                Some(
                    self.datastore
                        .tiers(store, deadline)
                        .await
                        .map_err(status)?,
                )
            } else {
                None
            };
            let limit = limit.clamp(1, MAX_CHANGES);
            page(
                &*self.datastore,
                store,
                after.revision,
                limit,
                thin.as_ref(),
                deadline,
            )
            .await?
        } else {
            Some(Vec::new())
        };
        let trimmed = page.is_none();
        let change_sets = page.unwrap_or_default();
        let reached = change_sets.last().map_or(0, |last| last.revision);
        let position = Position {
            revision: have.revision.max(Revision(reached)),
            ..have
        };
        Ok(Response::new(wire::ChangesResponse {
            change_sets,
            position: Some(position_to_wire(position)),
            trimmed,
        }))
    }

    type FillStream = bulk::Chunks<wire::FillChunk>;

    async fn fill(
        &self,
        request: Request<wire::FillRequest>,
    ) -> Result<Response<Self::FillStream>, Status> {
        let deadline = deadline(&request, bulk::STEP);
        let wire::FillRequest {
            store_id,
            object_type,
            min_position,
        } = request.into_inner();
        let snapshot = self.snapshot_at(&store_id, min_position, deadline).await?;
        Ok(Response::new(bulk::fill(snapshot, object_type)))
    }

    type SnapshotStream = bulk::Chunks<wire::SnapshotChunk>;

    async fn snapshot(
        &self,
        request: Request<wire::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let deadline = deadline(&request, bulk::STEP);
        let wire::SnapshotRequest {
            store_id,
            min_position,
            head_only,
        } = request.into_inner();
        let snapshot = self.snapshot_at(&store_id, min_position, deadline).await?;
        Ok(Response::new(bulk::snapshot(snapshot, head_only)))
    }

    async fn positions(
        &self,
        request: Request<wire::PositionsRequest>,
    ) -> Result<Response<wire::PositionsResponse>, Status> {
        let deadline = deadline(&request, TIMEOUT);
        // Before the positions: they are then at least as far as the heartbeat says.
        let heartbeat = match &self.clock {
            Clock::Replica(last) => last(),
            Clock::Writer => {
                let epoch = self.datastore.epoch(deadline).await.map_err(status)?;
                let clock = self.datastore.now(deadline).await.map_err(status)?;
                Some((
                    Heartbeat {
                        epoch,
                        clock,
                        generation: 0,
                    },
                    Duration::ZERO,
                ))
            }
        };
        let stores = self.datastore.positions(deadline).await.map_err(status)?;
        let store = |(id, position): (StoreId, Position)| wire::positions_response::Store {
            store_id: id.to_string(),
            position: Some(position_to_wire(position)),
        };
        Ok(Response::new(wire::PositionsResponse {
            stores: stores.into_iter().map(store).collect(),
            heartbeat: heartbeat.map(|(beat, _)| wire::Heartbeat {
                epoch: beat.epoch.0,
                clock_micros: beat.clock.0,
                generation: beat.generation,
            }),
            heartbeat_age_micros: heartbeat.map_or(0, |(_, age)| {
                u64::try_from(age.as_micros()).unwrap_or(u64::MAX)
            }),
        }))
    }

    async fn start_flow(
        &self,
        request: Request<wire::StartFlowRequest>,
    ) -> Result<Response<wire::StartFlowResponse>, Status> {
        let started = self.flows.start(request.into_inner()).await;
        started.map(Response::new)
    }

    async fn flow_settings(
        &self,
        request: Request<wire::FlowSettingsRequest>,
    ) -> Result<Response<wire::FlowSettingsResponse>, Status> {
        self.flows.settings(request.get_ref()).map(Response::new)
    }
}

/// Change sets from behind `after`, as many as fit a page; `None` when they are no longer kept.
async fn page(
    datastore: &dyn Datastore,
    store: StoreId,
    mut after: Revision,
    limit: u32,
    thin: Option<&Tiers>,
    deadline: Instant,
) -> Result<Option<Vec<wire::ChangeSet>>, Status> {
    let (limit, mut bytes) = (limit as usize, 0_usize);
    let mut page: Vec<wire::ChangeSet> = Vec::new();
    while page.len() < limit {
        let left = u32::try_from(limit - page.len()).unwrap_or(u32::MAX);
        let read = datastore
            .change_sets(store, after, left.min(CHANGES_PER_READ), deadline)
            .await;
        let read = match read {
            Err(DatastoreError::Trimmed { .. }) => {
                return Ok((!page.is_empty()).then_some(page));
            }
            read => read.map_err(status)?,
        };
        let Some(last) = read.last() else { break };
        after = last.revision;
        for set in &read {
            let set = match thin {
                Some(tiers) => change_set_to_wire(&tier::for_edge(set, tiers)),
                None => change_set_to_wire(set),
            };
            bytes += set.encoded_len();
            if bytes > MAX_CHANGES_BYTES && !page.is_empty() {
                return Ok(Some(page));
            }
            page.push(set);
        }
    }
    Ok(Some(page))
}

/// A forwarded call on its way to [`Calls`].
struct Forward {
    cx: Context,
    calls: Arc<dyn Calls>,
    request: bytes::Bytes,
}

type Forwarded = std::pin::Pin<
    Box<dyn Future<Output = Result<Result<wire::ForwardResponse, Refusal>, Status>> + Send>,
>;

impl Visitor for Forward {
    type Output = Forwarded;

    fn visit<O: Operation>(self) -> Forwarded {
        Box::pin(async move {
            let request = O::Request::decode(self.request)
                .map_err(|why| Status::invalid_argument(format!("{} request: {why}", O::NAME)))?;
            let answer = O::run(&*self.calls, &self.cx, request).await;
            Ok(answer
                .map_err(|refusal| refusal.under(&self.cx.model))
                .map(|reply| wire::ForwardResponse {
                    outcome: Some(wire::forward_response::Outcome::Response(
                        reply.body.encode_to_vec().into(),
                    )),
                    position: reply.position.map(position_to_wire),
                    served_by: reply.served_by.as_str().to_owned(),
                    authorization_model_id: model_to_wire(reply.model),
                    truncated: reply.truncated,
                }))
        })
    }
}
