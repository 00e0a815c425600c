//! Who answers: this node, or one above it.
//!
//! Central answers everything itself ([`crate::commands::Local`]), some of it from a read replica if it has one. A regional
//! node answers what its datastore decides, an edge what its views decide; both pass writes up, and every question that
//! they may not or cannot answer: one that must come from central's primary, or from a later position than they have reached.

pub mod batch;
pub mod edge;
pub mod floors;
pub mod regional;
pub mod replica;
pub mod routed;

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use meridian_model::{ApiError, Code, StoreId, Timestamp};
use meridian_proto::openfga::v1;
use tokio::sync::mpsc;

use crate::api::fields::Fields;
use crate::api::operations::Operation;
use crate::calls::{Answer, Calls, Context, Refusal, ServedBy};
use crate::commands::Local;
use crate::commands::check::Decision;
use crate::commands::errors::database_worked;
use crate::commands::lists::hand_on;
use crate::peer::Peers;
use batch::{DecideAll, Standing, Tell, lifting};
use floors::Floors;

/// A decision, and the node that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The decision with what it rests on.
    pub decision: Decision,
    /// The node.
    pub served_by: ServedBy,
}

/// Decides checks for the nodes below.
#[async_trait]
pub trait Decide: DecideAll {
    /// Decides a check at the asked position or later.
    async fn decide(&self, cx: &Context, request: &v1::CheckRequest) -> Result<Decided, Refusal>;
}

#[async_trait]
impl Decide for Local {
    async fn decide(&self, cx: &Context, request: &v1::CheckRequest) -> Result<Decided, Refusal> {
        let decided = self.decided(cx, request).await?;
        database_worked();
        Ok(decided)
    }
}

/// All that a node answers of its own datastore.
pub trait Own: Calls + Decide {}

impl<T: Calls + Decide> Own for T {}

#[async_trait]
impl DecideAll for Local {
    async fn decide_all(
        &self,
        cx: &Context,
        checks: &[v1::CheckRequest],
        tell: &mut Tell<'_>,
    ) -> Result<Standing, Refusal> {
        let (position, model) = Self::decide_all(self, cx, checks, tell).await?;
        database_worked();
        Ok(Standing {
            position,
            model,
            served_by: self.name().clone(),
        })
    }
}

/// Passes calls up, and remembers how far the answers were.
pub struct Upwards {
    peers: Peers,
    floors: Floors,
}

impl Upwards {
    /// Passes calls up to `peers`.
    pub fn new(peers: Peers) -> Self {
        Self {
            peers,
            floors: Floors::default(),
        }
    }

    /// The positions this node has returned.
    pub fn floors(&self) -> &Floors {
        &self.floors
    }

    /// The call's context, asking for the store's floor or later.
    pub fn above_floor(&self, cx: &Context, store: Option<StoreId>) -> Context {
        self.floors.or_later(cx, store)
    }

    async fn decide(
        &self,
        cx: &Context,
        store: StoreId,
        request: &v1::CheckRequest,
    ) -> Result<Decided, Refusal> {
        let decided = self.peers.decide(cx, request).await;
        if let Ok(decided) = &decided {
            self.floors.lift(store, decided.decision.position);
        }
        decided
    }

    async fn forward<O: Operation>(
        &self,
        cx: &Context,
        store: Option<StoreId>,
        request: &O::Request,
        writes: bool,
    ) -> Answer<O::Response> {
        let answer = self
            .peers
            .forward::<O>(&self.above_floor(cx, store), request, writes)
            .await;
        self.floors.lift_to(store, &answer);
        answer
    }

    /// Has a streamed listing answered above; whoever takes nothing of what is found for as long as `patience` is left.
    async fn stream_objects(
        &self,
        cx: &Context,
        request: v1::StreamedListObjectsRequest,
        found: &mpsc::Sender<String>,
        patience: Duration,
    ) -> Answer<()> {
        let store = request.store_id.parse().ok();
        let cx = self.above_floor(cx, store);
        let answer = self.peers.list_objects(&cx, request, found, patience).await;
        self.floors.lift_to(store, &answer);
        answer
    }
}

#[async_trait]
impl DecideAll for Upwards {
    /// In one call. The floor is lifted to the latest answer.
    async fn decide_all(
        &self,
        cx: &Context,
        checks: &[v1::CheckRequest],
        tell: &mut Tell<'_>,
    ) -> Result<Standing, Refusal> {
        let store = checks.first().and_then(store_of);
        let mut lifting = lifting(&self.floors, store, tell);
        let standing = self.peers.decide_all(cx, checks, &mut lifting).await?;
        if let Some(store) = store {
            self.floors.lift(store, standing.position);
        }
        Ok(standing)
    }
}

/// Streams a listing of a node's own, to whoever takes some of what is found within `patience`; also says whether any was.
async fn streamed_here(
    own: &dyn Calls,
    cx: &Context,
    request: v1::StreamedListObjectsRequest,
    found: &mpsc::Sender<String>,
    patience: Duration,
) -> (Answer<()>, bool) {
    let (here, mut names) = mpsc::channel(1);
    let listing = own.streamed_list_objects(cx, request, here);
    let passing_on = async {
        let mut any = false;
        while let Some(name) = names.recv().await {
            any = true;
            if hand_on(name, found, patience).await.is_err() {
                break;
            }
        }
        any
    };
    tokio::join!(listing, passing_on)
}

/// The store that a request is about; `None` if it names none.
fn store_of(request: &impl Fields) -> Option<StoreId> {
    request.store_id().parse().ok()
}

/// Whether an error says something about this node rather than about the request: it lags, or lacks its datastore.
fn is_about_here(error: &ApiError) -> bool {
    match error.code {
        Code::Unavailable | Code::ResourceExhausted => true,
        // What is new at central may not have arrived here.
        Code::StoreIdNotFound
        | Code::LatestAuthorizationModelNotFound
        | Code::AuthorizationModelNotFound => true,
        _ => false,
    }
}

/// This machine's wall clock, which the writer's heartbeats are compared with.
pub(crate) fn wall_clock() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Whether a request is to be answered by central's primary: without any cache, view or replica.
pub(crate) fn wants_primary(consistency: i32) -> bool {
    consistency == v1::ConsistencyPreference::HigherConsistency as i32
}
