//! The nodes above, over `meridian.v1.NodeService`.
//!
//! A node has one or more of them, nearest first: an edge its regional and behind it central. A call goes to the first
//! that is not known to be down. One that cannot be reached, or says it is unavailable, is passed over for a moment, and
//! a call that may safely be made twice goes on to the next. A write goes on only where it certainly was not sent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use meridian_model::ports::StoreHead;
use meridian_model::{ApiError, Code, Position, StoreId, Timestamp, Tuple};
use meridian_proto::meridian::v1 as wire;
use meridian_proto::meridian::v1::admin_service_client::AdminServiceClient;
use meridian_proto::meridian::v1::node_service_client::NodeServiceClient;
use meridian_proto::openfga::v1;
use meridian_sync::envelope::{
    Heartbeat, change_set_from_wire, head_from_wire, position_from_wire, position_to_wire,
    tuple_from_wire,
};
use meridian_sync::upstream::{Changes, Standing, Upstream, UpstreamError};
use prost::Message;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use crate::api::operations::Operation;
use crate::calls::{Answer, Context, Refusal, Reply, ServedBy};
use crate::commands::check::Decision;
use crate::routing::Decided;

/// Largest message taken from upstream: a page of changes, a chunk of a fill.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;
/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a node that failed is passed over while another is there.
const PASS_OVER: Duration = Duration::from_secs(1);

/// The nodes above this one, nearest first.
pub struct Peers {
    peers: Vec<Peer>,
    start: Instant,
}

struct Peer {
    address: String,
    client: Client,
    /// Milliseconds after `start` until which it is passed over.
    down_until: AtomicU64,
}

/// A node's services over one connection.
#[derive(Clone)]
struct Client(Channel);

impl Client {
    fn nodes(self) -> NodeServiceClient<Channel> {
        NodeServiceClient::new(self.0)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    fn admin(self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.0)
    }
}

/// Why an address is not one.
#[derive(Debug, thiserror::Error)]
#[error("upstream address '{address}' is not a URL like http://central:8082")]
pub struct InvalidAddress {
    address: String,
    #[source]
    source: tonic::transport::Error,
}

/// What may be done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// The call changes nothing: any node may be asked again.
    Safe,
    /// Only if it never left this node.
    Unsent,
}

impl Peers {
    /// Nodes by address. Connects when first used, and again whenever a connection is lost.
    ///
    /// # Errors
    /// [`InvalidAddress`] naming the one that is no URL.
    pub fn new(addresses: &[String]) -> Result<Self, InvalidAddress> {
        let peer = |address: &String| {
            let endpoint =
                Endpoint::from_shared(address.clone()).map_err(|source| InvalidAddress {
                    address: address.clone(),
                    source,
                })?;
            let endpoint = endpoint
                .connect_timeout(CONNECT_TIMEOUT)
                .http2_keep_alive_interval(Duration::from_secs(10))
                .tcp_nodelay(true);
            Ok(Peer {
                address: address.clone(),
                client: Client(endpoint.connect_lazy()),
                down_until: AtomicU64::new(0),
            })
        };
        Ok(Self {
            peers: addresses.iter().map(peer).collect::<Result<_, _>>()?,
            start: Instant::now(),
        })
    }

    /// Has a check decided above.
    ///
    /// # Errors
    /// The deciding node's refusal, or `unavailable` when none can be reached.
    pub async fn decide(&self, cx: &Context, check: &v1::CheckRequest) -> Result<Decided, Refusal> {
        let request = wire::EvaluateRequest {
            check: Some(check.clone()),
            min_position: cx.min_position.map(position_to_wire),
        };
        let response = self
            .call(cx.deadline, Repeat::Safe, |client| {
                let request = request.clone();
                async move {
                    let response = client.nodes().evaluate(request).await?;
                    if let Some(wire::evaluate_response::Outcome::Error(error)) =
                        &response.get_ref().outcome
                    {
                        away(error)?;
                    }
                    Ok(response)
                }
            })
            .await
            .map_err(refusal)?;
        let (position, served_by) = (
            response.position.map(position_from_wire),
            ServedBy::new(&response.served_by).ok(),
        );
        let allowed = match response.outcome {
            Some(wire::evaluate_response::Outcome::Allowed(allowed)) => allowed,
            Some(wire::evaluate_response::Outcome::Error(error)) => {
                return Err(Refusal {
                    error: api_error(error),
                    position,
                    served_by,
                });
            }
            None => return Err(unreadable("an Evaluate answer without an outcome").into()),
        };
        let (Some(position), Some(served_by), Ok(model)) =
            (position, served_by, response.authorization_model_id.parse())
        else {
            return Err(unreadable("an Evaluate answer without position, model or node").into());
        };
        Ok(Decided {
            decision: Decision {
                allowed,
                position,
                model,
                reads: response.reads,
            },
            served_by,
        })
    }

    /// Has a call answered above. One that `writes` is never made twice.
    ///
    /// # Errors
    /// The answering node's refusal, or `unavailable` when none can be reached.
    pub async fn forward<O: Operation>(
        &self,
        cx: &Context,
        request: &O::Request,
        writes: bool,
    ) -> Answer<O::Response> {
        let request = wire::ForwardRequest {
            method: O::NAME.to_owned(),
            request: request.encode_to_vec().into(),
            min_position: cx.min_position.map(position_to_wire),
        };
        let repeat = if writes { Repeat::Unsent } else { Repeat::Safe };
        let response = self
            .call(cx.deadline, repeat, |client| {
                let request = request.clone();
                async move {
                    let response = client.nodes().forward(request).await?;
                    if let Some(wire::forward_response::Outcome::Error(error)) =
                        &response.get_ref().outcome
                        && !writes
                    {
                        away(error)?;
                    }
                    Ok(response)
                }
            })
            .await
            .map_err(refusal)?;
        let (position, served_by) = (
            response.position.map(position_from_wire),
            ServedBy::new(&response.served_by).ok(),
        );
        match response.outcome {
            Some(wire::forward_response::Outcome::Response(bytes)) => {
                let body = O::Response::decode(&*bytes)
                    .map_err(|_| unreadable("a Forward answer of another kind"))?;
                let served_by =
                    served_by.ok_or_else(|| unreadable("a Forward answer without a node"))?;
                Ok(Reply {
                    body,
                    position,
                    model: response.authorization_model_id.parse().ok(),
                    served_by,
                })
            }
            Some(wire::forward_response::Outcome::Error(error)) => Err(Refusal {
                error: api_error(error),
                position,
                served_by,
            }),
            None => Err(unreadable("a Forward answer without an outcome").into()),
        }
    }

    /// Has tiers assigned at central.
    ///
    /// # Errors
    /// As central's [`crate::admin::Admin`] answers, or UNAVAILABLE.
    pub async fn assign_tiers(
        &self,
        deadline: Instant,
        request: wire::AssignTiersRequest,
    ) -> Result<wire::AssignTiersResponse, Status> {
        let call = |client: Client| {
            let request = request.clone();
            async move { client.admin().assign_tiers(request).await }
        };
        self.call(deadline, Repeat::Unsent, call).await
    }

    /// Asks central for the tiers in force.
    ///
    /// # Errors
    /// As central's [`crate::admin::Admin`] answers, or UNAVAILABLE.
    pub async fn get_tiers(
        &self,
        deadline: Instant,
        request: wire::GetTiersRequest,
    ) -> Result<wire::GetTiersResponse, Status> {
        let call = |client: Client| {
            let request = request.clone();
            async move { client.admin().get_tiers(request).await }
        };
        self.call(deadline, Repeat::Safe, call).await
    }

    async fn call<T, F>(
        &self,
        deadline: Instant,
        repeat: Repeat,
        call: impl Fn(Client) -> F,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut last = Status::unavailable("no upstream node is configured");
        let up: Vec<_> = self
            .peers
            .iter()
            .filter(|peer| !self.is_down(peer))
            .collect();
        let asked = if up.is_empty() {
            self.peers.iter().collect()
        } else {
            up
        };
        for (index, peer) in asked.iter().enumerate() {
            // A node that hangs must leave time to ask the next.
            let left = deadline.saturating_duration_since(Instant::now());
            let share = if index + 1 < asked.len() && repeat == Repeat::Safe {
                left / 2
            } else {
                left
            };
            let outcome = tokio::time::timeout(share, call(peer.client.clone())).await;
            let status = match outcome {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => status,
                Err(_) => {
                    Status::deadline_exceeded(format!("{} did not answer in time", peer.address))
                }
            };
            let unsent = is_unsent(&status);
            let away = matches!(
                status.code(),
                tonic::Code::Unavailable | tonic::Code::DeadlineExceeded | tonic::Code::Unknown
            ) || unsent;
            if !away {
                return Err(status);
            }
            tracing::warn!(upstream = %peer.address, error = %status.message(), "an upstream node failed");
            let until = self.start.elapsed() + PASS_OVER;
            peer.down_until.store(
                u64::try_from(until.as_millis()).unwrap_or(u64::MAX),
                Ordering::Relaxed,
            );
            last = status;
            if repeat == Repeat::Unsent && !unsent {
                break;
            }
        }
        Err(last)
    }

    fn is_down(&self, peer: &Peer) -> bool {
        u128::from(peer.down_until.load(Ordering::Relaxed)) > self.start.elapsed().as_millis()
    }
}

/// Whether the request certainly never left this node.
fn is_unsent(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

fn refusal(status: Status) -> Refusal {
    let code = match status.code() {
        tonic::Code::DeadlineExceeded => Code::DeadlineExceeded,
        tonic::Code::ResourceExhausted => Code::ResourceExhausted,
        tonic::Code::Unavailable | tonic::Code::Unknown => Code::Unavailable,
        _ => Code::Internal,
    };
    ApiError::new(
        code,
        format!(
            "the node above cannot answer: {}; try again",
            status.message()
        ),
    )
    .into()
}

/// A node that cannot answer for want of others says so inside its answer; for a read that is as good as its absence.
fn away(error: &wire::NodeError) -> Result<(), Status> {
    match Code::from_number(error.code) {
        Some(Code::Unavailable | Code::ResourceExhausted) => {
            Err(Status::unavailable(error.message.clone()))
        }
        _ => Ok(()),
    }
}

fn api_error(error: wire::NodeError) -> ApiError {
    ApiError::new(
        Code::from_number(error.code).unwrap_or(Code::Internal),
        error.message,
    )
}

fn unreadable(what: &str) -> ApiError {
    ApiError::new(
        Code::Internal,
        format!("the node above sent {what}; are both of one version?"),
    )
}

fn unavailable(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> UpstreamError {
    UpstreamError::Unavailable(why.into())
}

fn upstream_error(status: Status) -> UpstreamError {
    match status.code() {
        tonic::Code::OutOfRange => UpstreamError::Trimmed,
        tonic::Code::FailedPrecondition => UpstreamError::Behind,
        tonic::Code::NotFound => UpstreamError::UnknownStore,
        _ => unavailable(status),
    }
}

#[async_trait]
impl Upstream for Peers {
    async fn positions(&self, deadline: Instant) -> Result<Standing, UpstreamError> {
        let call = |client: Client| async move {
            client.nodes().positions(wire::PositionsRequest {}).await
        };
        let response = self
            .call(deadline, Repeat::Safe, call)
            .await
            .map_err(upstream_error)?;
        let mut stores = Vec::with_capacity(response.stores.len());
        for store in response.stores {
            let id: StoreId = store.store_id.parse().map_err(unavailable)?;
            stores.push((
                id,
                store.position.map(position_from_wire).unwrap_or_default(),
            ));
        }
        let heartbeat = response.heartbeat.map(|heartbeat| {
            let beat = Heartbeat {
                epoch: meridian_model::Epoch(heartbeat.epoch),
                clock: Timestamp(heartbeat.clock_micros),
                generation: heartbeat.generation,
            };
            (beat, Duration::from_micros(response.heartbeat_age_micros))
        });
        Ok(Standing { stores, heartbeat })
    }

    async fn changes(
        &self,
        store: StoreId,
        after: Position,
        limit: u32,
        deadline: Instant,
    ) -> Result<Changes, UpstreamError> {
        let request = wire::ChangesRequest {
            store_id: store.to_string(),
            after: Some(position_to_wire(after)),
            limit,
        };
        let call = |client: Client| {
            let request = request.clone();
            async move { client.nodes().changes(request).await }
        };
        let response = self
            .call(deadline, Repeat::Safe, call)
            .await
            .map_err(upstream_error)?;
        let change_sets = response
            .change_sets
            .into_iter()
            .map(change_set_from_wire)
            .collect::<Result<_, _>>()
            .map_err(unavailable)?;
        Ok(Changes {
            change_sets,
            position: response
                .position
                .map(position_from_wire)
                .unwrap_or_default(),
        })
    }

    async fn head(
        &self,
        store: StoreId,
        min: Position,
        deadline: Instant,
    ) -> Result<StoreHead, UpstreamError> {
        self.whole(store, min, true, deadline)
            .await
            .map(|(head, _)| head)
    }

    async fn fill(
        &self,
        store: StoreId,
        object_type: &str,
        min: Position,
        deadline: Instant,
    ) -> Result<(Position, Vec<Tuple>), UpstreamError> {
        let request = wire::FillRequest {
            store_id: store.to_string(),
            object_type: object_type.to_owned(),
            min_position: Some(position_to_wire(min)),
        };
        let call = |client: Client| {
            let request = request.clone();
            async move { client.nodes().fill(request).await }
        };
        let mut chunks = self
            .call(deadline, Repeat::Safe, call)
            .await
            .map_err(upstream_error)?;
        let (mut position, mut tuples) = (None, Vec::new());
        while let Some(chunk) = by(deadline, chunks.message()).await? {
            let at = chunk.position.map(position_from_wire).unwrap_or_default();
            if *position.get_or_insert(at) != at {
                return Err(unavailable("a fill of two positions"));
            }
            for tuple in chunk.tuples {
                tuples.push(tuple_from_wire(tuple).map_err(unavailable)?);
            }
        }
        position
            .map(|position| (position, tuples))
            .ok_or_else(|| unavailable("an empty fill"))
    }

    async fn snapshot(
        &self,
        store: StoreId,
        min: Position,
        deadline: Instant,
    ) -> Result<(StoreHead, Vec<Tuple>), UpstreamError> {
        self.whole(store, min, false, deadline).await
    }
}

impl Peers {
    async fn whole(
        &self,
        store: StoreId,
        min: Position,
        head_only: bool,
        deadline: Instant,
    ) -> Result<(StoreHead, Vec<Tuple>), UpstreamError> {
        let request = wire::SnapshotRequest {
            store_id: store.to_string(),
            min_position: Some(position_to_wire(min)),
            head_only,
        };
        let call = |client: Client| {
            let request = request.clone();
            async move { client.nodes().snapshot(request).await }
        };
        let mut chunks = self
            .call(deadline, Repeat::Safe, call)
            .await
            .map_err(upstream_error)?;
        let (mut head, mut tuples) = (None, Vec::new());
        while let Some(chunk) = by(deadline, chunks.message()).await? {
            if let Some(first) = chunk.head {
                head = Some(head_from_wire(first).map_err(unavailable)?);
            }
            for tuple in chunk.tuples {
                tuples.push(tuple_from_wire(tuple).map_err(unavailable)?);
            }
        }
        head.map(|head| (head, tuples))
            .ok_or_else(|| unavailable("a snapshot without a head"))
    }
}

async fn by<T>(
    deadline: Instant,
    next: impl Future<Output = Result<T, Status>>,
) -> Result<T, UpstreamError> {
    let next = tokio::time::timeout_at(deadline.into(), next).await;
    next.map_err(unavailable)?.map_err(upstream_error)
}
