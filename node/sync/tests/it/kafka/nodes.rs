//! Nodes in one process: central, a region and an edge on memory datastores, with calls instead of gRPC between them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::StreamExt;
use meridian_model::change::Tiers;
use meridian_model::ids::{Position, StoreId, Timestamp};
use meridian_model::ports::{Datastore, DatastoreError, Snapshot, StoreHead, WriteOptions};
use meridian_model::tuple::{Tuple, TupleKey};
use meridian_store::memory::MemoryDatastore;
use meridian_sync::edge_driver::{DriverSettings, EdgeDriver};
use meridian_sync::envelope::Heartbeat;
use meridian_sync::freshness::Freshness;
use meridian_sync::kafka::group::GroupConsumer;
use meridian_sync::kafka::relay::{Relay, RelaySettings, Role};
use meridian_sync::kafka::{Settings, broadcast};
use meridian_sync::regional::{Applier, Regional, RegionalSettings};
use meridian_sync::tier::for_edge;
use meridian_sync::upstream::{Changes, Incoming, Result, Standing, Upstream, UpstreamError};
use meridian_sync::views::Views;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// Waits for something; fails the test when it does not come in time.
pub(crate) async fn within<T>(what: &str, awaited: impl Future<Output = T>) -> T {
    let Ok(value) = tokio::time::timeout(PATIENCE, awaited).await else {
        panic!("not in {PATIENCE:?}: {what}");
    };
    value
}

/// Waits until something holds; fails the test when it does not in time.
pub(crate) async fn eventually<T>(what: &str, holds: impl AsyncFnMut() -> Option<T>) -> T {
    within(what, until(holds)).await
}

async fn until<T>(mut holds: impl AsyncFnMut() -> Option<T>) -> T {
    loop {
        if let Some(value) = holds().await {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A datastore as the node below sees it.
pub(crate) struct Above {
    pub(crate) datastore: MemoryDatastore,
    pub(crate) thin: bool,
    /// How often change sets were asked for.
    pub(crate) asked: AtomicUsize,
    /// What this node knows of its own freshness; `None` at central.
    heard: Option<watch::Receiver<Option<Heartbeat>>>,
}

impl Above {
    pub(crate) fn central(datastore: &MemoryDatastore) -> Arc<Self> {
        Arc::new(Self {
            datastore: datastore.clone(),
            thin: false,
            asked: AtomicUsize::new(0),
            heard: None,
        })
    }

    async fn at(
        &self,
        store: StoreId,
        min: Position,
        deadline: Instant,
    ) -> Result<Box<dyn Snapshot>> {
        let snapshot = self
            .datastore
            .snapshot(store, deadline)
            .await
            .map_err(unavailable)?
            .ok_or(UpstreamError::UnknownStore)?;
        if snapshot.position() < min {
            Err(UpstreamError::Behind)
        } else {
            Ok(snapshot)
        }
    }
}

fn unavailable(error: DatastoreError) -> UpstreamError {
    match error {
        DatastoreError::Trimmed { .. } => UpstreamError::Trimmed,
        DatastoreError::UnknownStore(_) => UpstreamError::UnknownStore,
        error => UpstreamError::Unavailable(Box::new(error)),
    }
}

#[async_trait]
impl Upstream for Above {
    async fn positions(&self, deadline: Instant) -> Result<Standing> {
        let heartbeat = match &self.heard {
            Some(heard) => heard.borrow().map(|beat| (beat, Duration::ZERO)),
            None => {
                let epoch = self.datastore.epoch(deadline).await.map_err(unavailable)?;
                let clock = self.datastore.now(deadline).await.map_err(unavailable)?;
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
        Ok(Standing {
            stores: self
                .datastore
                .positions(deadline)
                .await
                .map_err(unavailable)?,
            heartbeat,
        })
    }

    async fn changes(
        &self,
        store: StoreId,
        after: Position,
        limit: u32,
        deadline: Instant,
    ) -> Result<Changes> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let position = self
            .at(store, Position::default(), deadline)
            .await?
            .position();
        if after.epoch != position.epoch && after.revision.0 > 0 {
            return Ok(Changes {
                change_sets: Vec::new(),
                position,
            });
        }
        let sets = self
            .datastore
            .change_sets(store, after.revision, limit, deadline)
            .await
            .map_err(unavailable)?;
        let tiers = if self.thin {
            self.datastore
                .tiers(store, deadline)
                .await
                .map_err(unavailable)?
        } else {
            Tiers::default()
        };
        let change_sets = sets
            .into_iter()
            .map(|set| {
                if self.thin {
                    for_edge(&set, &tiers)
                } else {
                    set
                }
            })
            .collect();
        Ok(Changes {
            change_sets,
            position,
        })
    }

    async fn head(&self, store: StoreId, min: Position, deadline: Instant) -> Result<StoreHead> {
        self.at(store, min, deadline)
            .await?
            .head()
            .await
            .map_err(unavailable)
    }

    async fn fill(
        &self,
        store: StoreId,
        object_type: &str,
        min: Position,
        step: Duration,
    ) -> Result<(Position, Vec<Tuple>)> {
        let deadline = Instant::now() + step;
        let mut snapshot = self.at(store, min, deadline).await?;
        let tuples = snapshot
            .tuples_of_type(object_type, None, u32::MAX)
            .await
            .map_err(unavailable)?;
        Ok((snapshot.position(), tuples))
    }

    async fn snapshot(&self, store: StoreId, min: Position, step: Duration) -> Result<Incoming> {
        let mut snapshot = self.at(store, min, Instant::now() + step).await?;
        let tuples = snapshot.tuples(None, u32::MAX).await.map_err(unavailable)?;
        Ok(Incoming {
            head: snapshot.head().await.map_err(unavailable)?,
            tuples: futures::stream::iter([Ok(tuples)]).boxed(),
        })
    }
}

/// A running node; stopped when dropped.
pub(crate) struct Node<T> {
    pub(crate) is: T,
    stop: tokio_util::sync::DropGuard,
}

pub(crate) struct Central {
    pub(crate) datastore: MemoryDatastore,
    pub(crate) wake: Arc<Notify>,
    relay: JoinHandle<()>,
}

pub(crate) fn central(kafka: &Settings) -> Node<Central> {
    let (datastore, wake, stop) = (
        MemoryDatastore::new(),
        Arc::new(Notify::new()),
        CancellationToken::new(),
    );
    let relay = relay(
        kafka,
        &datastore,
        kafka.changes_topic(),
        Role::Writer,
        &wake,
    );
    let relay = tokio::spawn(relay.run(stop.clone()));
    Node {
        is: Central {
            datastore,
            wake,
            relay,
        },
        stop: stop.drop_guard(),
    }
}

fn relay(
    kafka: &Settings,
    datastore: &MemoryDatastore,
    topic: String,
    role: Role,
    wake: &Arc<Notify>,
) -> Relay {
    let settings = RelaySettings {
        poll: Duration::from_millis(100),
        heartbeat: Duration::from_millis(300),
        ..RelaySettings::default()
    };
    Relay {
        datastore: Arc::new(datastore.clone()),
        kafka: kafka.clone(),
        topic,
        role,
        holder: "test".into(),
        wake: Arc::clone(wake),
        trouble: watch::Sender::default(),
        settings,
    }
}

pub(crate) struct Region {
    pub(crate) datastore: MemoryDatastore,
    pub(crate) freshness: watch::Receiver<Freshness>,
    pub(crate) above: Arc<Above>,
    pub(crate) start: Instant,
    task: JoinHandle<()>,
}

pub(crate) fn region(kafka: &Settings, above: &Arc<Above>) -> Node<Region> {
    let (datastore, applied, stop, start) = (
        MemoryDatastore::new(),
        Arc::new(Notify::new()),
        CancellationToken::new(),
        Instant::now(),
    );
    let heartbeat = watch::Sender::new(None);
    let freshness = watch::Sender::new(Freshness::default());
    let for_edges = Above {
        datastore: datastore.clone(),
        thin: true,
        asked: AtomicUsize::new(0),
        heard: Some(heartbeat.subscribe()),
    };
    let (known, above_edges) = (freshness.subscribe(), Arc::new(for_edges));
    let relay = relay(
        kafka,
        &datastore,
        kafka.edge_topic("eu"),
        Role::Region(heartbeat.subscribe()),
        &applied,
    );
    tokio::spawn(relay.run(stop.clone()));
    let upstream: Arc<dyn Upstream> = above.clone();
    let applier = Applier::new(
        Arc::new(datastore.clone()),
        upstream,
        RegionalSettings::default(),
    );
    let consumer = GroupConsumer::new(kafka, "eu").unwrap();
    let task = tokio::spawn(
        Regional {
            applier,
            applied,
            heartbeat,
            freshness,
            start,
        }
        .run(consumer, stop.clone()),
    );
    Node {
        is: Region {
            datastore,
            freshness: known,
            above: above_edges,
            start,
            task,
        },
        stop: stop.drop_guard(),
    }
}

impl Node<Region> {
    /// Tells the applier to stop; returns its task.
    pub(crate) fn stop(self) -> JoinHandle<()> {
        self.is.task
    }
}

pub(crate) fn edge(kafka: &Settings, above: &Arc<Above>) -> Node<Arc<Views>> {
    let (stop, start) = (CancellationToken::new(), Instant::now());
    let views = Arc::new(Views::new(start, None));
    let events = broadcast::read(kafka, &kafka.edge_topic("eu"), "edge-1", stop.clone()).unwrap();
    let upstream: Arc<dyn Upstream> = above.clone();
    let driver = EdgeDriver {
        upstream,
        views: Arc::clone(&views),
        kept: Vec::new(),
        settings: DriverSettings::default(),
        start,
    };
    tokio::spawn(driver.run(events, stop.clone()));
    Node {
        is: views,
        stop: stop.drop_guard(),
    }
}

pub(crate) fn store_id(n: usize) -> StoreId {
    format!("{n:026}").parse().unwrap()
}

pub(crate) fn tuple(object: &str, user: &str) -> Tuple {
    Tuple {
        key: TupleKey::parse(object, "viewer", user).unwrap(),
        condition: None,
        timestamp: Timestamp(0),
    }
}

pub(crate) fn critical(types: &[&str]) -> Tiers {
    Tiers {
        critical: types.iter().map(|&name| name.to_owned()).collect(),
        cold: BTreeSet::new(),
    }
}

impl Node<Central> {
    /// Ends the relay: from now on nothing of the datastore comes to the topic. Returns the datastore.
    pub(crate) async fn stop(self) -> MemoryDatastore {
        let Central {
            datastore, relay, ..
        } = self.is;
        drop(self.stop);
        within("the relay ends", relay).await.unwrap();
        datastore
    }

    /// Makes a store whose `doc` is Critical.
    pub(crate) async fn create(&self, n: usize) -> StoreId {
        let id = store_id(n);
        self.is
            .datastore
            .create_store(id, "s", soon())
            .await
            .unwrap();
        self.is
            .datastore
            .assign_tiers(id, &critical(&["doc"]), soon())
            .await
            .unwrap();
        self.is.wake.notify_one();
        id
    }

    pub(crate) async fn write(&self, store: StoreId, tuples: &[Tuple]) -> Position {
        let committed = self
            .is
            .datastore
            .write_tuples(store, &[], tuples, WriteOptions::default(), soon())
            .await
            .unwrap();
        self.is.wake.notify_one();
        committed.unwrap().position
    }

    pub(crate) async fn delete(&self, store: StoreId, tuples: &[Tuple]) -> Position {
        let keys: Vec<_> = tuples.iter().map(|tuple| tuple.key.clone()).collect();
        let committed = self
            .is
            .datastore
            .write_tuples(store, &keys, &[], WriteOptions::default(), soon())
            .await
            .unwrap();
        self.is.wake.notify_one();
        committed.unwrap().position
    }
}

/// Every store's position and tuples.
pub(crate) async fn content(
    datastore: &MemoryDatastore,
) -> BTreeMap<StoreId, (Position, Vec<Tuple>)> {
    let mut content = BTreeMap::new();
    for (id, position) in datastore.positions(soon()).await.unwrap() {
        let mut snapshot = datastore.snapshot(id, soon()).await.unwrap().unwrap();
        content.insert(
            id,
            (position, snapshot.tuples(None, u32::MAX).await.unwrap()),
        );
    }
    content
}

/// Waits until a datastore holds what another does; fails the test with what each holds when it does not in time.
pub(crate) async fn converged(from: &MemoryDatastore, to: &MemoryDatastore) {
    let equal = until(async || (content(from).await == content(to).await).then_some(()));
    if tokio::time::timeout(PATIENCE, equal).await.is_err() {
        let (above, below) = (content(from).await, content(to).await);
        assert_eq!(above, below, "central and the region after {PATIENCE:?}");
    }
}
