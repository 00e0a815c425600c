//! The flow recorder of a node, and what keeps its flows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_trait::async_trait;
use meridian_flow::memory::MemoryFlows;
use meridian_flow::ports::{Starter, Stores};
use meridian_flow::retention::{Sweeper, Swept};
use meridian_flow::sql::SqlFlows;
use meridian_flow::{FlowRecorder, Repository, Sink};
use meridian_model::StoreId;
use meridian_model::ports::Datastore;
use meridian_sync::kafka::group::work::Worker;
use meridian_sync::kafka::topics::make;
use tokio_util::sync::CancellationToken;

use super::Building;
use crate::commands::Local;
use crate::config::Config;
use crate::explanations::Explaining;
use crate::flows::above::{Above, FlowTopic};
use crate::flows::{Flows, Kept, keeping};
use crate::lease::{self, TIMEOUT};
use crate::node_service::EdgeFlows;
use crate::outage::Outage;
use crate::peer::Peers;
use crate::peer::flows::Keeps;
use crate::schema;

/// How often what is set of stores is read again.
const REFRESH: Duration = Duration::from_secs(3);
/// How often old flows are looked for, and how long one node does it before another may.
const SWEEP: Duration = Duration::from_secs(60);
/// How soon the first time: nodes that never run for long must not leave it undone.
const FIRST_SWEEP: Duration = Duration::from_secs(5);
const LEASE: Duration = Duration::from_secs(180);
const LEASE_NAME: &str = "flows";
/// How long Kafka keeps what edges have recorded: longer than any outage of the database.
const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How often it is looked whether the recorder was turned on.
const SWITCHED: Duration = Duration::from_secs(1);

/// A recorder that writes to a database, and what it has written.
#[derive(Clone)]
pub(super) struct Recorder {
    pub(super) recorder: FlowRecorder,
    pub(super) flows: Arc<dyn Repository>,
    /// Where `recorder.url` is another database than the node's.
    other: Option<Arc<dyn Datastore>>,
}

impl Recorder {
    /// By a node's settings. Nothing is connected yet.
    ///
    /// # Errors
    /// When the URL cannot be used.
    pub(super) fn open(config: &Config) -> anyhow::Result<Self> {
        let own = &config.datastore.url;
        let url = config.recorder.url.as_ref().unwrap_or(own);
        let flows: Arc<dyn Repository> = if url.starts_with("memory:") {
            Arc::new(MemoryFlows::new())
        } else {
            Arc::new(SqlFlows::connect_lazy(url).context("recorder.url")?)
        };
        let other = if url == own {
            None
        } else {
            let mut settings = config.datastore_settings();
            settings.url.clone_from(url);
            settings.pool.min_connections = 0;
            settings.pool.max_connections = 1;
            Some(meridian_store::open(&settings).context("recorder.url")?)
        };
        let sink: Arc<dyn Sink> = Arc::clone(&flows) as _;
        Ok(Self {
            recorder: FlowRecorder::new(sink, config.recorder.settings()),
            flows,
            other,
        })
    }

    /// What answers for the flows: stores are found, and decisions explained, by `local`.
    pub(super) fn service(&self, local: Arc<Local>) -> Arc<Flows> {
        let kept = Kept::Here {
            flows: Arc::clone(&self.flows),
            recorder: self.recorder.clone(),
            calls: Arc::clone(&local) as _,
            explaining: Box::new(Explaining::new(local)),
        };
        Arc::new(Flows { kept })
    }

    /// Looks after the flows until `stop`, with other nodes of `datastore`, in turns.
    pub(super) async fn run(
        self,
        address: String,
        datastore: Arc<dyn Datastore>,
        holder: String,
        stop: CancellationToken,
    ) {
        if let Some(other) = &self.other {
            let sender = tokio::sync::watch::Sender::default();
            tokio::select! {
                () = stop.cancelled() => return,
                () = schema::bring_up(&**other, ("recorder.url", &address), &sender) => {}
            }
        }
        // Whoever keeps flows in one database takes turns there, also nodes whose stores are in different ones.
        let leases = self.other.as_ref().unwrap_or(&datastore);
        let stores = Known(Arc::clone(&datastore));
        tokio::join!(
            self.follow(&stop),
            self.sweep(&**leases, &stores, &holder, &stop)
        );
    }

    /// Takes over what is set of stores, again and again.
    async fn follow(&self, stop: &CancellationToken) {
        let outage = Outage::new();
        loop {
            match self.flows.get_overrides(Instant::now() + TIMEOUT).await {
                Ok(overrides) => {
                    outage.worked();
                    self.recorder.set_overrides(&overrides);
                }
                Err(error) if outage.failed() => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, "the recorder's settings of stores cannot be read");
                }
                Err(_) => {}
            }
            if tokio::time::timeout(REFRESH, stop.cancelled())
                .await
                .is_ok()
            {
                return;
            }
        }
    }

    async fn sweep(
        &self,
        leases: &dyn Datastore,
        stores: &dyn Stores,
        holder: &str,
        stop: &CancellationToken,
    ) {
        let (mut sweeper, outage) = (Sweeper::default(), Outage::new());
        let mut pause = FIRST_SWEEP;
        loop {
            if tokio::time::timeout(pause, stop.cancelled()).await.is_ok() {
                return lease::give_back(leases, LEASE_NAME, holder).await;
            }
            pause = SWEEP;
            let deadline = Instant::now() + TIMEOUT;
            let is_ours = leases.acquire_lease(LEASE_NAME, holder, LEASE, deadline);
            match is_ours.await {
                Ok(is_ours) => {
                    outage.worked();
                    if !is_ours {
                        continue;
                    }
                }
                Err(error) => {
                    if outage.failed() {
                        let error: &dyn std::error::Error = &error;
                        tracing::warn!(
                            error,
                            "nobody can take turns at looking after old flows; trying again"
                        );
                    }
                    continue;
                }
            }
            // Its last statement ends before anybody else may begin.
            let until = Instant::now() + LEASE / 2;
            let swept = tokio::select! {
                () = stop.cancelled() => continue,
                swept = sweeper.sweep(&*self.flows, stores, &self.recorder, until) => swept,
            };
            match swept {
                Ok(swept) => {
                    if swept.is_cut {
                        pause = Duration::ZERO;
                    }
                    if swept != Swept::default() {
                        let Swept {
                            purged,
                            expired,
                            sessions,
                            is_cut,
                        } = swept;
                        tracing::info!(purged, expired, sessions, is_cut, "old flows are gone");
                    }
                }
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(
                        error,
                        "old flows could not be looked for; trying again later"
                    );
                }
            }
        }
    }
}

/// What a node's datastore knows of stores.
struct Known(Arc<dyn Datastore>);

#[async_trait]
impl Stores for Known {
    async fn is_deleted(&self, store: StoreId, deadline: Instant) -> bool {
        match self.0.store(store, deadline).await {
            Ok(known) => known.is_some_and(|store| store.deleted_at.is_some()),
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::debug!(error, %store, "whether a store was deleted is not known now");
                false
            }
        }
    }
}

impl Building {
    /// The recorder of a node without a database, and the way to those that keep its flows.
    ///
    /// # Errors
    /// When a setting cannot be used.
    pub(super) fn recorder_above(
        &mut self,
        peers: Peers,
    ) -> anyhow::Result<(FlowRecorder, Arc<Above>)> {
        let (region, of) = (&self.config.region, &self.config.recorder);
        let above = Arc::new(Above::new(peers, region, of.start_timeout));
        let topic = Arc::new(FlowTopic::new(self.kafka()?, region));
        let starter = Arc::clone(&above) as Arc<dyn Starter>;
        let recorder = FlowRecorder::elsewhere(starter, topic, of.settings());
        self.recorder = recorder.clone();
        let (following, own, stop) = (Arc::clone(&above), recorder.clone(), self.stop.clone());
        self.spawn(async move { following.follow(&own, &stop).await });
        Ok((recorder, above))
    }

    /// Has the node keep what edges of `regions` record, from when it first records itself. Nodes that share a database share the
    /// work.
    ///
    /// # Errors
    /// When a setting cannot be used.
    pub(super) fn keep_flows(
        &mut self,
        recorder: &Recorder,
        regions: Vec<String>,
    ) -> anyhow::Result<EdgeFlows> {
        let kafka = self.kafka()?;
        for region in &regions {
            let topic = kafka.flows_topic(region);
            let (kafka, stop) = (kafka.clone(), self.stop.clone());
            let sink = Arc::clone(&recorder.flows) as Arc<dyn Sink>;
            let keeper = recorder.recorder.clone();
            self.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = async {
                        while !keeper.is_on() {
                            tokio::time::sleep(SWITCHED).await;
                        }
                        make(&kafka, &topic, Some(KEPT)).await;
                    } => {}
                }
                // The group is named as the topic: it is the one that reads all of it.
                match Worker::new(&kafka, &topic, &topic) {
                    Ok(worker) => keeping::keep(worker, sink, &keeper, &stop).await,
                    Err(error) => {
                        let error: &dyn std::error::Error = &error;
                        tracing::error!(error, topic, "what edges record is not kept");
                    }
                }
            });
        }
        Ok(EdgeFlows {
            keeps: Keeps(regions),
            recorder: recorder.recorder.clone(),
        })
    }

    /// Has a recorder looked after, once the database is of this program's schema.
    pub(super) fn recording(
        &self,
        recorder: &Recorder,
        datastore: &Arc<dyn Datastore>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let url = &self.config.recorder.url;
        let address = url.as_deref().map(schema::address).unwrap_or_default();
        let (recorder, datastore) = (recorder.clone(), Arc::clone(datastore));
        recorder.run(address, datastore, self.holder(), self.stop.clone())
    }
}
