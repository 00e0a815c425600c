//! What this node gives the nodes below it: `meridian.v1.NodeService`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use meridian_model::ports::{Datastore, DatastoreError, Snapshot};
use meridian_model::{Position, Revision, StoreId, TupleKey};
use meridian_proto::meridian::v1 as wire;
use meridian_proto::meridian::v1::node_service_server::NodeService;
use meridian_sync::envelope::{
    Heartbeat, change_set_to_wire, head_to_wire, position_from_wire, position_to_wire,
    tuple_to_wire,
};
use prost::Message;
use tonic::{Request, Response, Status};

use crate::admin::Admin;
use crate::api::operations::{self, Operation, Visitor};
use crate::calls::{Calls, Context, Refusal, ServedBy};
use crate::routing::Decide;

/// Longest a call of a node below may take when it says nothing itself.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest a fill or snapshot may take.
const BULK_TIMEOUT: Duration = Duration::from_secs(300);
/// Tuples of one chunk of a fill or snapshot.
const CHUNK: u32 = 5_000;
/// Change sets of one page at most; each may hold 100 tuples.
const MAX_CHANGES: u32 = 1_000;

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
}

fn deadline<T>(request: &Request<T>, longest: Duration) -> Instant {
    let asked = crate::api::timeout(request.metadata().as_ref());
    Instant::now() + asked.map_or(longest, |asked| asked.min(longest))
}

fn context<T>(request: &Request<T>, min: Option<wire::Position>) -> Context {
    Context {
        deadline: deadline(request, TIMEOUT),
        min_position: min.map(position_from_wire),
        request_id: 0,
    }
}

pub(crate) fn store_id(text: &str) -> Result<StoreId, Status> {
    text.parse()
        .map_err(|why| Status::invalid_argument(format!("store_id '{text}' {why}")))
}

pub(crate) fn status(error: DatastoreError) -> Status {
    match error {
        DatastoreError::Trimmed { .. } => Status::out_of_range(error.to_string()),
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

fn node_error(refusal: &Refusal) -> wire::NodeError {
    wire::NodeError {
        code: u32::from(refusal.error.code.number()),
        message: refusal.error.message.clone(),
    }
}

impl Nodes {
    fn name_of(&self, refusal: &Refusal) -> String {
        refusal
            .served_by
            .as_ref()
            .unwrap_or(&self.name)
            .as_str()
            .to_owned()
    }

    async fn snapshot_at(
        &self,
        store: &str,
        min: Option<wire::Position>,
        deadline: Instant,
    ) -> Result<Box<dyn Snapshot>, Status> {
        let store = store_id(store)?;
        let snapshot = self
            .datastore
            .snapshot(store, deadline)
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

type Chunks<T> = BoxStream<'static, Result<T, Status>>;

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
        let response = match self.decide.decide(&cx, &check).await {
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
                served_by: self.name_of(&refusal),
                outcome: Some(wire::evaluate_response::Outcome::Error(node_error(
                    &refusal,
                ))),
                ..wire::EvaluateResponse::default()
            },
        };
        Ok(Response::new(response))
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
                outcome: Some(wire::forward_response::Outcome::Error(node_error(&refusal))),
                position: refusal.position.map(position_to_wire),
                served_by: self.name_of(&refusal),
                ..wire::ForwardResponse::default()
            }
        })))
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
            ..
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
        if after.epoch != have.epoch && after != Position::default() {
            return Err(Status::out_of_range(format!(
                "store '{store}' is in epoch {} here, not in {}",
                have.epoch, after.epoch
            )));
        }
        let limit = limit.clamp(1, MAX_CHANGES);
        let change_sets = if after.revision < have.revision {
            self.datastore
                .change_sets(store, after.revision, limit, deadline)
                .await
        } else {
            Ok(Vec::new())
        };
        let change_sets = change_sets.map_err(status)?;
        let reached = change_sets
            .last()
            .map_or(Revision::ZERO, |last| last.revision);
        let position = Position {
            revision: have.revision.max(reached),
            ..have
        };
        let change_sets = change_sets.iter().map(change_set_to_wire).collect();
        Ok(Response::new(wire::ChangesResponse {
            change_sets,
            position: Some(position_to_wire(position)),
        }))
    }

    type FillStream = Chunks<wire::FillChunk>;

    async fn fill(
        &self,
        request: Request<wire::FillRequest>,
    ) -> Result<Response<Self::FillStream>, Status> {
        let deadline = deadline(&request, BULK_TIMEOUT);
        let wire::FillRequest {
            store_id,
            object_type,
            min_position,
        } = request.into_inner();
        let snapshot = self.snapshot_at(&store_id, min_position, deadline).await?;
        let position = position_to_wire(snapshot.position());
        let chunks = chunks(snapshot, Some(object_type)).map_ok(move |tuples| wire::FillChunk {
            position: Some(position),
            tuples,
        });
        Ok(Response::new(chunks.boxed()))
    }

    type SnapshotStream = Chunks<wire::SnapshotChunk>;

    async fn snapshot(
        &self,
        request: Request<wire::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let deadline = deadline(&request, BULK_TIMEOUT);
        let wire::SnapshotRequest {
            store_id,
            min_position,
            head_only,
        } = request.into_inner();
        let mut snapshot = self.snapshot_at(&store_id, min_position, deadline).await?;
        let head = snapshot.head().await.map_err(status)?;
        let first = wire::SnapshotChunk {
            head: Some(head_to_wire(&head)),
            tuples: Vec::new(),
        };
        let first = futures::stream::once(async { Ok(first) });
        if head_only {
            return Ok(Response::new(first.boxed()));
        }
        let rest =
            chunks(snapshot, None).map_ok(|tuples| wire::SnapshotChunk { head: None, tuples });
        Ok(Response::new(first.chain(rest).boxed()))
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
}

/// The tuples of a snapshot, of one type or all, in chunks; at least one chunk, so that its position is always told.
fn chunks(
    snapshot: Box<dyn Snapshot>,
    object_type: Option<String>,
) -> impl futures::Stream<Item = Result<Vec<wire::Tuple>, Status>> + Send {
    let start: Option<(Box<dyn Snapshot>, Option<TupleKey>)> = Some((snapshot, None));
    futures::stream::try_unfold((start, object_type), |(state, object_type)| async move {
        let Some((mut snapshot, after)) = state else {
            return Ok(None);
        };
        let read = match &object_type {
            Some(object_type) => {
                snapshot
                    .tuples_of_type(object_type, after.as_ref(), CHUNK)
                    .await
            }
            None => snapshot.tuples(after.as_ref(), CHUNK).await,
        };
        let tuples = read.map_err(status)?;
        let full = tuples.len() >= CHUNK as usize;
        let next = tuples
            .last()
            .filter(|_| full)
            .map(|last| (snapshot, Some(last.key.clone())));
        Ok(Some((
            tuples.iter().map(tuple_to_wire).collect(),
            (next, object_type),
        )))
    })
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
            Ok(O::run(&*self.calls, &self.cx, request)
                .await
                .map(|reply| wire::ForwardResponse {
                    outcome: Some(wire::forward_response::Outcome::Response(
                        reply.body.encode_to_vec().into(),
                    )),
                    position: reply.position.map(position_to_wire),
                    served_by: reply.served_by.as_str().to_owned(),
                    authorization_model_id: reply
                        .model
                        .map(|model| model.to_string())
                        .unwrap_or_default(),
                }))
        })
    }
}
