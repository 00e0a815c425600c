//! The task that drives an edge, over a node above that is played here.

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
use meridian_sync::views::Views;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(4);

/// A region that keeps no changes: whoever is behind must start the store over.
struct Region {
    store: StoreId,
    position: Mutex<Position>,
    tuples: Mutex<Vec<Tuple>>,
}

impl Region {
    fn at(&self) -> Position {
        *self.position.lock().unwrap()
    }
}

#[async_trait]
impl Upstream for Region {
    async fn positions(&self, _: Instant) -> Result<Standing, UpstreamError> {
        Ok(Standing {
            stores: vec![(self.store, self.at())],
            heartbeat: None,
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
        Ok((self.at(), self.tuples.lock().unwrap().clone()))
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

#[tokio::test]
async fn a_copy_that_changed_without_records_is_noticed_by_its_heartbeat() {
    let store: StoreId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
    let key = TupleKey::parse("repo:core", "reader", "user:anne").unwrap();
    let granted = Tuple {
        key: key.clone(),
        condition: None,
        timestamp: Timestamp(0),
    };
    let region = Arc::new(Region {
        store,
        position: Mutex::new(Position::new(1, 5)),
        tuples: Mutex::new(vec![granted]),
    });
    let (start, stop) = (Instant::now(), CancellationToken::new());
    let views = Arc::new(Views::new(start, None));
    let settings = DriverSettings {
        // Neither silence nor the regular comparison may be what notices it.
        silence: Duration::from_secs(3600),
        compare: Duration::from_secs(3600),
        ..DriverSettings::default()
    };
    let driver = EdgeDriver {
        upstream: region.clone(),
        views: Arc::clone(&views),
        kept: Vec::new(),
        settings,
        start,
    };
    let (events, receiver) = mpsc::channel(8);
    let running = tokio::spawn(driver.run(receiver, stop.clone()));
    events.send(Event::Reset { partitions: 1 }).await.unwrap();
    events.send(heartbeat(7)).await.unwrap();
    let holds = |expected: Vec<TupleKey>| {
        let views = Arc::clone(&views);
        async move {
            let held = async {
                loop {
                    let shown = views.get(store);
                    if shown.is_some_and(|shown| {
                        shown.view.is_covered("repo")
                            && shown.view.tuples_of_type("repo") == expected
                    }) {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(SOON, held)
                .await
                .expect("the view comes to hold what upstream has");
        }
    };
    holds(vec![key]).await;

    // The region takes the store over from a snapshot, in which the grant is revoked. No record says so.
    region.tuples.lock().unwrap().clear();
    *region.position.lock().unwrap() = Position::new(1, 9);
    events.send(heartbeat(8)).await.unwrap();
    holds(Vec::new()).await;
    stop.cancel();
    running.await.unwrap();
}
