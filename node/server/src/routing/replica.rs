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
use meridian_model::{Code, StoreId};
use meridian_proto::openfga::v1;
use metrics::{Counter, counter, describe_counter};
use tokio::sync::mpsc;

use super::batch::{DecideAll, Standing, Tell, Told, lifting};
use super::floors::Floors;
use super::routed::Routed;
use super::{Decide, Decided, is_about_here, store_of, streamed_here, wants_primary};
use crate::api::operations::{Operation, Way};
use crate::calls::{Answer, Calls as _, Context, Refusal, ServedBy};
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
        Some(self.floors.or_later(cx, store))
    }

    /// Whether what the replica said is the answer; else the primary is to be asked.
    fn is_answer<T>(&self, said: &Result<T, Refusal>, failed: bool) -> bool {
        if failed {
            self.health.probe();
        }
        let is_answer = match said {
            Ok(_) => true,
            Err(refusal) => !failed && !is_about_here(&refusal.error),
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
        let (mut told, mut tell) = (Told::default(), lifting(&self.floors, store, tell));
        let mut decided = None;
        if let Some(above_floor) = self.to_replica(cx, store, primary) {
            let call = told.decide_here(&self.replica, &above_floor, checks, &mut tell);
            let (said, failed) = of_replica(call).await;
            decided = self.is_answer(&said, failed).then_some(said);
        }
        let standing = match decided {
            Some(decided) => decided?,
            None => {
                told.decide_rest(&*self.primary, cx, checks, &mut tell)
                    .await?
            }
        };
        if let Some(store) = store {
            self.floors.lift(store, standing.position);
        }
        Ok(standing)
    }
}

impl Routed for Replicated {
    fn name(&self) -> &ServedBy {
        self.primary.name()
    }

    fn floors(&self) -> &Floors {
        &self.floors
    }

    async fn answer<O: Operation>(&self, cx: &Context, request: O::Request) -> Answer<O::Response> {
        let store = store_of(&request);
        if let Some(above_floor) = self.to_replica(cx, store, O::way(&request) != Way::Read) {
            let call = O::run(&self.replica, &above_floor, request.clone());
            let (answer, failed) = of_replica(call).await;
            if self.is_answer(&answer, failed) {
                self.floors.lift_to(store, &answer);
                return answer;
            }
        }
        let answer = O::run(&*self.primary, cx, request).await;
        self.floors.lift_to(store, &answer);
        answer
    }

    async fn streamed(
        &self,
        cx: &Context,
        request: v1::StreamedListObjectsRequest,
        found: &mpsc::Sender<String>,
    ) -> Answer<()> {
        let store = store_of(&request);
        if let Some(above_floor) = self.to_replica(cx, store, wants_primary(request.consistency)) {
            let patience = self.primary.limits().request_timeout;
            let call = request.clone();
            let here = streamed_here(&self.replica, &above_floor, call, found, patience);
            let ((answer, any), failed) = of_replica(here).await;
            // What was streamed cannot be taken back.
            if self.is_answer(&answer, failed) || any {
                self.floors.lift_to(store, &answer);
                return answer;
            }
        }
        let answer = self
            .primary
            .streamed_list_objects(cx, request, found.clone())
            .await;
        self.floors.lift_to(store, &answer);
        answer
    }
}
