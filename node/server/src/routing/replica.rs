//! A node's own datastore, and a read replica of it: a copy that the database itself keeps.
//!
//! A read goes to the replica unless it asks for the latest, or is of what no revision counts. The replica refuses where it
//! has not come as far as the caller asked for, or as this node has ever answered of the store; what it refuses or cannot
//! do, the primary does. So an answer is never older than one that this node gave before, or a write that it acknowledged.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use meridian_model::ports::Datastore;
use meridian_model::{Code, Position, StoreId};
use meridian_proto::openfga::v1;
use metrics::{Counter, counter, describe_counter};
use tokio::sync::mpsc;

use super::batch::{self, DecideAll, Standing, Tell};
use super::floors::Floors;
use super::{Decide, Decided, is_about_here, streamed_here, wants_primary};
use crate::api::fields::Fields;
use crate::api::operations::{
    Check, CreateStore, DeleteStore, Expand, GetStore, ListObjects, ListStores, ListUsers,
    Operation, Read, ReadAssertions, ReadAuthorizationModel, ReadAuthorizationModels, ReadChanges,
    Write, WriteAssertions, WriteAuthorizationModel,
};
use crate::calls::{Answer, Calls, Context, Refusal};
use crate::commands::Local;
use crate::commands::errors::of_replica;
use crate::outage::Outage;

const READS: &str = "meridian_datastore_reads_total";
/// How long a replica may take to say that it is there, and how often one that does not is asked.
const PROBE: Duration = Duration::from_secs(1);
/// Lag that is shorter is no news: a replica is a little behind whatever was just written.
const LONG_LAG: Duration = Duration::from_secs(10);

/// The calls of a node that has a read replica.
pub struct Replicated {
    primary: Arc<Local>,
    replica: Local,
    floors: Floors,
    health: Arc<Health>,
    meters: Meters,
}

struct Meters {
    replica: Counter,
    primary: Counter,
}

/// Whether the replica is worth asking.
struct Health {
    datastore: Arc<dyn Datastore>,
    is_probed: AtomicBool,
    outage: Outage,
    lag: Lag,
}

/// Since when the replica has been too far behind for whatever it was asked.
#[derive(Default)]
struct Lag {
    /// Whether `since` is there; nothing is locked otherwise.
    is_on: AtomicBool,
    since: Mutex<Option<(Instant, bool)>>,
}

impl Replicated {
    /// Reads from `replica`, over `datastore`, what need not come from `primary`.
    pub fn new(primary: Arc<Local>, replica: Local, datastore: Arc<dyn Datastore>) -> Self {
        describe_counter!(
            READS,
            "Reads that a read replica may answer, by who did: the replica or the primary"
        );
        Self {
            primary,
            replica,
            floors: Floors::default(),
            health: Arc::new(Health {
                datastore,
                is_probed: AtomicBool::new(false),
                outage: Outage::new(),
                lag: Lag::default(),
            }),
            meters: Meters {
                replica: counter!(READS, "source" => "replica"),
                primary: counter!(READS, "source" => "primary"),
            },
        }
    }

    /// How the replica is to be asked: for the store's floor or later. `None` where it is not to be.
    fn to_replica(&self, cx: &Context, store: Option<StoreId>, primary: bool) -> Option<Context> {
        if primary {
            return None;
        }
        if self.health.is_probed.load(Ordering::Relaxed) {
            self.meters.primary.increment(1);
            return None;
        }
        let floor = store
            .map(|store| self.floors.get(store))
            .filter(|floor| *floor != Position::default());
        Some(Context {
            min_position: cx.min_position.max(floor),
            ..cx.clone()
        })
    }

    /// Whether what the replica said is the answer; else the primary is to be asked.
    fn is_answer<T>(&self, said: &Result<T, Refusal>, failed: bool) -> bool {
        if failed {
            self.health.probe();
        }
        let is_answer = match said {
            Ok(_) => true,
            Err(refusal) => !failed && !is_about_here(refusal),
        };
        if is_answer {
            self.meters.replica.increment(1);
            self.health.lag.ends();
        } else {
            self.meters.primary.increment(1);
        }
        if let Err(refusal) = said
            && refusal.error.code == Code::Unavailable
            && !failed
        {
            self.health.lag.goes_on();
        }
        is_answer
    }

    fn lift<T>(&self, store: Option<StoreId>, answer: &Answer<T>) {
        let position = answer.as_ref().ok().and_then(|reply| reply.position);
        if let (Some(store), Some(position)) = (store, position) {
            self.floors.lift(store, position);
        }
    }

    async fn read<O>(&self, cx: &Context, request: O::Request, primary: bool) -> Answer<O::Response>
    where
        O: Operation,
        O::Request: Clone,
    {
        let store = store_of(&request);
        if let Some(above_floor) = self.to_replica(cx, store, primary) {
            let call = O::run(&self.replica, &above_floor, request.clone());
            let (answer, failed) = of_replica(call).await;
            if self.is_answer(&answer, failed) {
                self.lift(store, &answer);
                return answer;
            }
        }
        self.at_primary::<O>(cx, request).await
    }

    async fn at_primary<O: Operation>(
        &self,
        cx: &Context,
        request: O::Request,
    ) -> Answer<O::Response> {
        let store = store_of(&request);
        let answer = O::run(&*self.primary, cx, request).await;
        self.lift(store, &answer);
        answer
    }
}

impl Health {
    /// Until the replica answers this, which is tried again and again, the primary does all reads.
    fn probe(self: &Arc<Self>) {
        if self.is_probed.swap(true, Ordering::Relaxed) {
            return;
        }
        let health = Arc::clone(self);
        tokio::spawn(async move {
            while let Err(error) = health.datastore.epoch(Instant::now() + PROBE).await {
                if health.outage.failed() {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the read replica is away; the primary answers all reads"
                    );
                }
                tokio::time::sleep(PROBE).await;
            }
            if let Some(away) = health.outage.worked() {
                tracing::info!(?away, "the read replica is back");
            }
            health.is_probed.store(false, Ordering::Relaxed);
        });
    }
}

impl Lag {
    /// Told once it is long.
    fn goes_on(&self) {
        let mut state = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_on.store(true, Ordering::Relaxed);
        let (since, is_told) = state.get_or_insert_with(|| (Instant::now(), false));
        if !*is_told && since.elapsed() >= LONG_LAG {
            *is_told = true;
            tracing::warn!(
                "the read replica is behind all that is asked of it; the primary answers"
            );
        }
    }

    fn ends(&self) {
        if !self.is_on.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_on.store(false, Ordering::Relaxed);
        if let Some((since, true)) = state.take() {
            let lagged = since.elapsed();
            tracing::info!(?lagged, "the read replica answers again");
        }
    }
}

fn store_of(request: &impl Fields) -> Option<StoreId> {
    request.store_id().parse().ok()
}

#[async_trait]
impl Decide for Replicated {
    async fn decide(&self, cx: &Context, request: &v1::CheckRequest) -> Result<Decided, Refusal> {
        let store = store_of(request);
        let mut decided = None;
        if let Some(above_floor) = self.to_replica(cx, store, wants_primary(request.consistency)) {
            let call = Decide::decide(&self.replica, &above_floor, request);
            let (said, failed) = of_replica(call).await;
            decided = self.is_answer(&said, failed).then_some(said);
        }
        let decided = match decided {
            Some(decided) => decided?,
            None => Decide::decide(&*self.primary, cx, request).await?,
        };
        if let Some(store) = store {
            self.floors.lift(store, decided.decision.position);
        }
        Ok(decided)
    }
}

#[async_trait]
impl DecideAll for Replicated {
    async fn decide_all(
        &self,
        cx: &Context,
        checks: &[v1::CheckRequest],
        tell: &mut Tell<'_>,
    ) -> Result<Standing, Refusal> {
        let first = checks.first();
        let store = first.and_then(store_of);
        let primary = first.is_none_or(|first| wants_primary(first.consistency));
        let mut decided = None;
        if let Some(above_floor) = self.to_replica(cx, store, primary) {
            // Told once it is the answer: what the replica cannot do to the end, the primary does from the beginning.
            let mut told = Vec::new();
            let mut keep = |at: usize, outcome| told.push((at, outcome));
            let call = DecideAll::decide_all(&self.replica, &above_floor, checks, &mut keep);
            let (said, failed) = of_replica(call).await;
            if self.is_answer(&said, failed) {
                told.into_iter().for_each(|(at, outcome)| tell(at, outcome));
                decided = Some(said);
            }
        }
        let decided = match decided {
            Some(decided) => decided,
            None => DecideAll::decide_all(&*self.primary, cx, checks, tell).await,
        };
        if let (Some(store), Ok(standing)) = (store, &decided) {
            self.floors.lift(store, standing.position);
        }
        decided
    }
}

#[async_trait]
impl Calls for Replicated {
    async fn check(&self, cx: &Context, request: v1::CheckRequest) -> Answer<v1::CheckResponse> {
        let primary = wants_primary(request.consistency);
        self.read::<Check>(cx, request, primary).await
    }

    async fn create_store(
        &self,
        cx: &Context,
        request: v1::CreateStoreRequest,
    ) -> Answer<v1::CreateStoreResponse> {
        let answer = self.at_primary::<CreateStore>(cx, request).await;
        let created = answer.as_ref().ok();
        self.lift(
            created.and_then(|reply| reply.body.id.parse().ok()),
            &answer,
        );
        answer
    }

    async fn get_store(
        &self,
        cx: &Context,
        request: v1::GetStoreRequest,
    ) -> Answer<v1::GetStoreResponse> {
        self.read::<GetStore>(cx, request, false).await
    }

    async fn list_stores(
        &self,
        cx: &Context,
        request: v1::ListStoresRequest,
    ) -> Answer<v1::ListStoresResponse> {
        // Which stores exist is not any one store's revision.
        self.at_primary::<ListStores>(cx, request).await
    }

    async fn delete_store(
        &self,
        cx: &Context,
        request: v1::DeleteStoreRequest,
    ) -> Answer<v1::DeleteStoreResponse> {
        self.at_primary::<DeleteStore>(cx, request).await
    }

    async fn write_authorization_model(
        &self,
        cx: &Context,
        request: v1::WriteAuthorizationModelRequest,
    ) -> Answer<v1::WriteAuthorizationModelResponse> {
        self.at_primary::<WriteAuthorizationModel>(cx, request)
            .await
    }

    async fn read_authorization_model(
        &self,
        cx: &Context,
        request: v1::ReadAuthorizationModelRequest,
    ) -> Answer<v1::ReadAuthorizationModelResponse> {
        self.read::<ReadAuthorizationModel>(cx, request, false)
            .await
    }

    async fn read_authorization_models(
        &self,
        cx: &Context,
        request: v1::ReadAuthorizationModelsRequest,
    ) -> Answer<v1::ReadAuthorizationModelsResponse> {
        self.read::<ReadAuthorizationModels>(cx, request, false)
            .await
    }

    async fn write(&self, cx: &Context, request: v1::WriteRequest) -> Answer<v1::WriteResponse> {
        self.at_primary::<Write>(cx, request).await
    }

    async fn read(&self, cx: &Context, request: v1::ReadRequest) -> Answer<v1::ReadResponse> {
        let primary = wants_primary(request.consistency);
        self.read::<Read>(cx, request, primary).await
    }

    async fn read_changes(
        &self,
        cx: &Context,
        request: v1::ReadChangesRequest,
    ) -> Answer<v1::ReadChangesResponse> {
        self.read::<ReadChanges>(cx, request, false).await
    }

    async fn batch_check(
        &self,
        cx: &Context,
        request: v1::BatchCheckRequest,
    ) -> Answer<v1::BatchCheckResponse> {
        batch::answer(self, cx, request).await
    }

    async fn streamed_batch_check(
        &self,
        cx: &Context,
        request: v1::BatchCheckRequest,
        found: mpsc::Sender<batch::BatchResult>,
    ) -> Answer<()> {
        batch::stream(self, cx, request, &found).await
    }

    async fn expand(&self, cx: &Context, request: v1::ExpandRequest) -> Answer<v1::ExpandResponse> {
        let primary = wants_primary(request.consistency);
        self.read::<Expand>(cx, request, primary).await
    }

    async fn list_objects(
        &self,
        cx: &Context,
        request: v1::ListObjectsRequest,
    ) -> Answer<v1::ListObjectsResponse> {
        let primary = wants_primary(request.consistency);
        self.read::<ListObjects>(cx, request, primary).await
    }

    async fn streamed_list_objects(
        &self,
        cx: &Context,
        request: v1::StreamedListObjectsRequest,
        found: mpsc::Sender<String>,
    ) -> Answer<()> {
        let store = store_of(&request);
        if let Some(above_floor) = self.to_replica(cx, store, wants_primary(request.consistency)) {
            let patience = self.primary.limits().request_timeout;
            let call = request.clone();
            let here = streamed_here(&self.replica, &above_floor, call, &found, patience);
            let ((answer, any), failed) = of_replica(here).await;
            // What was streamed cannot be taken back.
            if self.is_answer(&answer, failed) || any {
                self.lift(store, &answer);
                return answer;
            }
        }
        let answer = Calls::streamed_list_objects(&*self.primary, cx, request, found).await;
        self.lift(store, &answer);
        answer
    }

    async fn list_users(
        &self,
        cx: &Context,
        request: v1::ListUsersRequest,
    ) -> Answer<v1::ListUsersResponse> {
        let primary = wants_primary(request.consistency);
        self.read::<ListUsers>(cx, request, primary).await
    }

    async fn write_assertions(
        &self,
        cx: &Context,
        request: v1::WriteAssertionsRequest,
    ) -> Answer<v1::WriteAssertionsResponse> {
        self.at_primary::<WriteAssertions>(cx, request).await
    }

    async fn read_assertions(
        &self,
        cx: &Context,
        request: v1::ReadAssertionsRequest,
    ) -> Answer<v1::ReadAssertionsResponse> {
        // They are of no revision.
        self.at_primary::<ReadAssertions>(cx, request).await
    }
}
