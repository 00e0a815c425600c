//! The task that drives an edge, over a node above that is played here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use meridian_model::change::{StoreInfo, Tiers};
use meridian_model::ports::StoreHead;
use meridian_model::{Epoch, Position, StoreId, Timestamp, Tuple, TupleKey};
use meridian_sync::edge_driver::{DriverSettings, EdgeDriver};
use meridian_sync::envelope::{Heartbeat, Record};
use meridian_sync::kafka::broadcast::Event;
use meridian_sync::upstream::{Changes, Incoming, Standing, Upstream, UpstreamError};
use meridian_sync::views::{Shown, Views};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(60);

/// A region that keeps no changes: whoever is behind must start the store over.
struct Region {
    store: StoreId,
    position: Mutex<Position>,
    tuples: Arc<Mutex<Vec<Tuple>>>,
    filled: AtomicBool,
    /// What it vouches for when it is asked where its stores stand.
    vouches: Mutex<Option<Heartbeat>>,
    /// Fills asked for, and whether they are answered.
    fills: watch::Sender<usize>,
    answers_fills: watch::Sender<bool>,
    /// Calls that panic the next time.
    panics: Mutex<BTreeSet<&'static str>>,
}

impl Region {
    fn holding(tuples: Vec<Tuple>) -> Arc<Self> {
        Arc::new(Self {
            store: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
            position: Mutex::new(Position::new(1, 5)),
            tuples: Arc::new(Mutex::new(tuples)),
            filled: AtomicBool::new(false),
            vouches: Mutex::default(),
            fills: watch::Sender::default(),
            answers_fills: watch::Sender::new(true),
            panics: Mutex::default(),
        })
    }

    fn panic_if_told(&self, call: &str) {
        let told = self.panics.lock().unwrap().remove(call);
        assert!(!told, "told to panic");
    }

    fn at(&self) -> Position {
        *self.position.lock().unwrap()
    }
}

#[async_trait]
impl Upstream for Region {
    async fn positions(&self, _: Instant) -> Result<Standing, UpstreamError> {
        self.panic_if_told("positions");
        Ok(Standing {
            stores: vec![(self.store, self.at())],
            heartbeat: self
                .vouches
                .lock()
                .unwrap()
                .map(|beat| (beat, Duration::ZERO)),
        })
    }

    async fn changes(
        &self,
        _: StoreId,
        after: Position,
        _: u32,
        _: Instant,
    ) -> Result<Changes, UpstreamError> {
        if after < self.at() {
            return Err(UpstreamError::Trimmed);
        }
        Ok(Changes {
            change_sets: Vec::new(),
            position: self.at(),
        })
    }

    async fn head(&self, id: StoreId, _: Position, _: Instant) -> Result<StoreHead, UpstreamError> {
        self.panic_if_told("head");
        Ok(StoreHead {
            info: StoreInfo {
                id,
                name: "shop".into(),
                created_at: Timestamp(0),
            },
            position: self.at(),
            models: Vec::new(),
            tiers: Tiers {
                critical: ["repo".to_owned()].into(),
                ..Tiers::default()
            },
            deleted_at: None,
        })
    }

    async fn fill(
        &self,
        _: StoreId,
        _: &str,
        _: Position,
        _: Duration,
    ) -> Result<(Position, Vec<Tuple>), UpstreamError> {
        self.panic_if_told("fill");
        self.fills.send_modify(|fills| *fills += 1);
        let answers = |answers: &bool| *answers;
        self.answers_fills
            .subscribe()
            .wait_for(answers)
            .await
            .unwrap();
        let tuples = Arc::clone(&self.tuples);
        let tuples = tokio::task::spawn_blocking(move || tuples.lock().unwrap().clone());
        let tuples = tuples.await.unwrap();
        self.filled.store(true, Ordering::Relaxed);
        Ok((self.at(), tuples))
    }

    async fn snapshot(
        &self,
        _: StoreId,
        _: Position,
        _: Duration,
    ) -> Result<Incoming, UpstreamError> {
        unreachable!("an edge fills type by type")
    }
}

fn heartbeat(generation: u64) -> Event {
    let beat = Heartbeat {
        epoch: Epoch(1),
        clock: Timestamp(1),
        generation,
    };
    Event::Record {
        partition: 0,
        record: Box::new(Record::Heartbeat(beat)),
    }
}

fn granted(object: &str) -> Tuple {
    Tuple {
        key: TupleKey::parse(object, "reader", "user:anne").unwrap(),
        condition: None,
        timestamp: Timestamp(0),
    }
}

/// An edge below a region.
struct Edge {
    region: Arc<Region>,
    views: Arc<Views>,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Edge {
    async fn below(region: Arc<Region>) -> Self {
        let (start, stop) = (Instant::now(), CancellationToken::new());
        let views = Arc::new(Views::new(start, None));
        let driver = EdgeDriver {
            upstream: region.clone(),
            views: Arc::clone(&views),
            kept: Vec::new(),
            settings: DriverSettings {
                // Neither silence nor the regular comparison may be what notices a thing.
                silence: Duration::from_secs(3600),
                compare: Duration::from_secs(3600),
                ..DriverSettings::default()
            },
            start,
        };
        let (events, receiver) = mpsc::channel(8);
        let running = tokio::spawn(driver.run(receiver, stop.clone()));
        events.send(Event::Reset { partitions: 1 }).await.unwrap();
        Self {
            region,
            views,
            events,
            stop,
            running,
        }
    }

    /// Waits until all tuples of `repo` are held that the region has.
    async fn catches_up(&self) {
        let expected: BTreeMap<_, _> = {
            let tuples = self.region.tuples.lock().unwrap();
            let tuples = tuples.iter();
            tuples
                .map(|tuple| (tuple.key.clone(), tuple.condition.clone()))
                .collect()
        };
        let holds = |shown: Arc<Shown>| {
            let held = shown.view.tuples_of_type("repo").into_iter();
            shown.view.is_covered("repo") && held.collect::<BTreeMap<_, _>>() == expected
        };
        let held = async {
            while !self.views.get(self.region.store).is_some_and(holds) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(SOON, held)
            .await
            .expect("the view comes to hold what upstream has");
    }

    async fn end(self) {
        self.stop.cancel();
        self.running.await.unwrap();
    }
}

#[tokio::test]
async fn a_copy_that_changed_without_records_is_noticed_by_its_heartbeat() {
    let edge = Edge::below(Region::holding(vec![granted("repo:core")])).await;
    edge.events.send(heartbeat(7)).await.unwrap();
    edge.catches_up().await;

    // The region takes the store over from a snapshot, in which the grant is revoked. No record says so.
    edge.region.tuples.lock().unwrap().clear();
    *edge.region.position.lock().unwrap() = Position::new(1, 9);
    edge.events.send(heartbeat(8)).await.unwrap();
    edge.catches_up().await;
    edge.end().await;
}

/// Neither a record nor a comparison tells of it: only a reader, to whom upstream has shown the position.
#[tokio::test]
async fn what_a_reader_waited_for_in_vain_is_asked_for() {
    let edge = Edge::below(Region::holding(vec![granted("repo:core")])).await;
    edge.catches_up().await;

    edge.region.tuples.lock().unwrap().clear();
    let later = Position::new(1, 9);
    *edge.region.position.lock().unwrap() = later;
    edge.views.miss(edge.region.store, later);
    edge.catches_up().await;
    edge.end().await;
}

#[tokio::test]
async fn what_upstream_vouches_for_counts_once_all_of_it_is_in() {
    let region = Region::holding(vec![granted("repo:core")]);
    *region.vouches.lock().unwrap() = Some(Heartbeat {
        epoch: Epoch(1),
        clock: Timestamp(1),
        generation: 0,
    });
    region.answers_fills.send_replace(false);
    let edge = Edge::below(Arc::clone(&region)).await;
    let mut fills = region.fills.subscribe();
    let asked = tokio::time::timeout(SOON, fills.wait_for(|fills| *fills > 0)).await;
    asked.expect("the edge asks for its Critical type").unwrap();
    // Where the stores stand, and what upstream vouches for, was answered before.
    assert_eq!(edge.views.freshness().heartbeat(), None);
    let mut fresh = Box::pin(edge.views.fresh());
    assert!(futures::poll!(&mut fresh).is_pending());

    region.answers_fills.send_replace(true);
    let in_time = tokio::time::timeout(SOON, &mut fresh).await;
    in_time.expect("the age becomes known once the type is in");
    drop(fresh);
    assert!(
        edge.views
            .get(region.store)
            .unwrap()
            .view
            .is_covered("repo")
    );
    edge.end().await;
}

#[tokio::test]
async fn a_call_that_panics_is_made_again() {
    let region = Region::holding(vec![granted("repo:core")]);
    *region.panics.lock().unwrap() = ["positions", "head", "fill"].into();
    let edge = Edge::below(region).await;
    edge.catches_up().await;
    assert_eq!(*edge.region.panics.lock().unwrap(), [].into());
    edge.end().await;
}

#[tokio::test]
async fn whatever_else_runs_goes_on_while_a_large_part_is_covered() {
    const TUPLES: usize = 500_000;
    let tuples = (0..TUPLES).map(|n| granted(&format!("repo:{n}"))).collect();
    let edge = Edge::below(Region::holding(tuples)).await;
    // On this runtime's only thread, as checks are on each of a node's.
    let (mut ticks, mut longest) = (0, Duration::ZERO);
    let mut filled = None;
    let is_covered = |shown: Arc<Shown>| shown.view.is_covered("repo");
    while !edge.views.get(edge.region.store).is_some_and(is_covered) {
        let before = Instant::now();
        tokio::time::sleep(Duration::from_millis(1)).await;
        if edge.region.filled.load(Ordering::Relaxed) {
            filled.get_or_insert(before);
            ticks += 1;
            longest = longest.max(before.elapsed());
        }
    }
    let took = filled.map(|filled| filled.elapsed());
    println!(
        "{TUPLES} tuples were covered within {took:?}; meanwhile {ticks} ticks of 1 ms, the longest {longest:?}"
    );
    assert!(ticks > 10, "{ticks} ticks");
    edge.end().await;
}

#[test]
fn an_edge_that_is_not_told_to_stop_ends_with_its_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let edge = runtime.block_on(async {
        let edge = Edge::below(Region::holding(vec![granted("repo:core")])).await;
        edge.catches_up().await;
        edge
    });
    // Waits for every thread of the runtime.
    drop(runtime);
    assert!(edge.events.is_closed());
}
