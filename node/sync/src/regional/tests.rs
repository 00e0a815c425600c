mod load;
mod upstreams;

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use futures::StreamExt;
use meridian_model::ids::Timestamp;
use meridian_model::ports::{Datastore, StoreHead};
use meridian_model::tuple::{Tuple, TupleKey};
use meridian_store::memory::MemoryDatastore;

use self::upstreams::{Restored, Slow, Whole};
use super::*;
use crate::upstream::{Changes, Incoming, Standing, Upstream, UpstreamError};

/// How long a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(20);

fn store(number: u32) -> StoreId {
    format!("01ARZ3NDEKTSV4RRFF{number:08}").parse().unwrap()
}

fn tuple(number: usize) -> Tuple {
    Tuple {
        key: TupleKey::parse(&format!("doc:{number}"), "reader", "user:anne").unwrap(),
        condition: None,
        timestamp: Timestamp(0),
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

fn task<U: Upstream>(
    datastore: &MemoryDatastore,
    upstream: &Arc<U>,
    settings: RegionalSettings,
) -> Task {
    Task::new(Regional {
        applier: Applier::new(
            Arc::new(datastore.clone()),
            Arc::clone(upstream) as _,
            settings,
        ),
        applied: Arc::default(),
        heartbeat: watch::Sender::new(None),
        freshness: watch::Sender::new(Freshness::default()),
        start: Instant::now(),
    })
}

async fn position(datastore: &MemoryDatastore, id: StoreId) -> Option<Position> {
    let record = datastore.store(id, soon()).await.unwrap();
    record.map(|record| record.position)
}

/// The next change set of a store that central creates.
async fn created(id: StoreId) -> ChangeSet {
    let central = MemoryDatastore::new();
    central.create_store(id, "shop", soon()).await.unwrap();
    let mut sets = central
        .change_sets(id, Default::default(), 1, soon())
        .await
        .unwrap();
    ChangeSet {
        epoch: Epoch(1),
        ..sets.remove(0)
    }
}

fn record(set: ChangeSet) -> Event {
    Event::Record {
        partition: 0,
        record: Box::new(Record::ChangeSet(set)),
    }
}

fn heartbeat(epoch: u64) -> Event {
    heartbeat_of(epoch, 5)
}

fn heartbeat_of(epoch: u64, clock: i64) -> Event {
    let beat = Heartbeat {
        epoch: Epoch(epoch),
        clock: Timestamp(clock),
        generation: 0,
    };
    Event::Record {
        partition: 0,
        record: Box::new(Record::Heartbeat(beat)),
    }
}

#[tokio::test]
async fn a_store_that_takes_longer_than_the_deadline_gets_in() {
    let settings = RegionalSettings {
        deadline: Duration::from_millis(50),
        ..RegionalSettings::default()
    };
    let upstream = Arc::new(Slow {
        tuples: 20,
        pause: settings.deadline / 10,
        ..Slow::at(Position::new(1, 9))
    });
    let datastore = MemoryDatastore::new();
    let applier = Applier::new(Arc::new(datastore.clone()), upstream, settings);
    let reached = applier.mend(store(2), Position::new(1, 8)).await.unwrap();
    assert_eq!(reached, Position::new(1, 9));
    let mut snapshot = datastore.snapshot(store(2), soon()).await.unwrap().unwrap();
    assert_eq!(snapshot.position(), reached);
    assert_eq!(snapshot.tuples(None, 100).await.unwrap().len(), 20);
}

#[tokio::test]
async fn a_store_that_never_comes_holds_up_no_other_but_the_heartbeats() {
    let upstream = Arc::new(Slow::at(Position::new(1, 9)));
    let datastore = MemoryDatastore::new();
    let mut task = task(&datastore, &upstream, RegionalSettings::default());
    task.work_in([Event::Reset { partitions: 1 }]).await;
    task.look_up();
    let compared = task.beside.join_next().await.unwrap();
    task.ended(compared).await;
    task.repair();
    let repaired = tokio::time::timeout(PATIENCE, task.beside.join_next()).await;
    task.ended(repaired.unwrap().unwrap()).await;
    assert_eq!(
        position(&datastore, store(2)).await,
        Some(Position::new(1, 9))
    );

    // Its own records wait for the repair, which then goes as far; other stores' go on.
    let next = ChangeSet {
        revision: Position::new(1, 12).revision,
        ..created(store(1)).await
    };
    task.work_in([record(next)]).await;
    task.work_in([record(created(store(3)).await)]).await;
    assert_eq!(
        position(&datastore, store(3)).await,
        Some(Position::new(1, 1))
    );
    assert_eq!(position(&datastore, store(1)).await, None);
    task.work_in([heartbeat(1)]).await;
    assert_eq!(*task.node.heartbeat.borrow(), None);
    assert_eq!(upstream.asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_change_set_that_runs_out_of_time_breaks_its_store_only() {
    let datastore = MemoryDatastore::new();
    let no_time = RegionalSettings {
        deadline: Duration::ZERO,
        ..RegionalSettings::default()
    };
    let upstream = Arc::new(Slow::at(Position::new(1, 9)));
    let mut task = task(&datastore, &upstream, no_time);
    (task.compare, task.epoch) = (false, Epoch(1));
    let applied = task.work_in([record(created(store(2)).await)]);
    tokio::time::timeout(PATIENCE, applied).await.unwrap();
    assert!(!task.repairs.is_empty());
    task.work_in([heartbeat(1)]).await;
    assert_eq!(*task.node.heartbeat.borrow(), None);
}

#[tokio::test]
async fn a_heartbeat_from_upstream_counts_once_every_store_is_in() {
    let upstream = Arc::new(Slow::at(Position::new(1, 9)));
    let datastore = MemoryDatastore::new();
    let mut head = upstream
        .snapshot(store(2), Position::default(), PATIENCE)
        .await
        .unwrap()
        .head;
    head.info.id = store(1);
    let step = Duration::from_secs(30);
    let begun = datastore.replace(&head, step).await.unwrap().unwrap();
    begun.finish().await.unwrap();

    let mut task = task(&datastore, &upstream, RegionalSettings::default());
    task.look_up();
    let compared = task.beside.join_next().await.unwrap();
    task.ended(compared).await;
    assert_eq!(*task.node.heartbeat.borrow(), None);
    task.repair();
    let repaired = task.beside.join_next().await.unwrap();
    task.ended(repaired).await;
    assert!(task.node.heartbeat.borrow().is_some());
}

/// Lets what is due run to its end, as often as it makes for more.
async fn settle(task: &mut Task) {
    loop {
        if task.compare {
            task.look_up();
        }
        task.repair();
        let Some(ended) = task.beside.join_next().await else {
            return;
        };
        task.ended(ended).await;
    }
}

#[tokio::test]
async fn a_record_of_a_store_that_central_does_not_know_stops_no_heartbeat() {
    let datastore = MemoryDatastore::new();
    let mut task = task(&datastore, &Arc::new(Restored), RegionalSettings::default());
    task.work_in([Event::Reset { partitions: 1 }]).await;
    let stray = ChangeSet {
        revision: Position::new(1, 7).revision,
        changes: Vec::new(),
        ..created(store(1)).await
    };
    task.work_in([record(stray)]).await;
    assert!(!task.repairs.is_empty());
    settle(&mut task).await;
    assert!(task.repairs.is_empty());
    task.work_in([heartbeat(2)]).await;
    assert!(task.node.heartbeat.borrow().is_some());
    assert_eq!(position(&datastore, store(1)).await, None);
}

#[tokio::test]
async fn a_record_of_an_older_reign_makes_no_store() {
    let datastore = MemoryDatastore::new();
    let mut task = task(&datastore, &Arc::new(Restored), RegionalSettings::default());
    settle(&mut task).await;
    task.work_in([record(created(store(1)).await)]).await;
    assert_eq!(position(&datastore, store(1)).await, None);
}

#[tokio::test]
async fn a_store_that_a_newer_reign_does_not_have_is_deleted() {
    let datastore = MemoryDatastore::new();
    let mut task = task(&datastore, &Arc::new(Restored), RegionalSettings::default());
    // Read before a comparison could tell of the newer reign.
    task.epoch = Epoch(1);
    task.work_in([record(created(store(1)).await)]).await;
    settle(&mut task).await;
    let copy = datastore.store(store(1), soon()).await.unwrap().unwrap();
    assert_eq!(copy.position, Position::new(2, 1));
    assert_eq!(copy.deleted_at, Some(Timestamp(9)));
    assert!(task.repairs.is_empty() && !task.compare);
}

fn announced(id: StoreId, position: Position) -> Event {
    let record = Record::Announced {
        store: id,
        position,
    };
    Event::Record {
        partition: 0,
        record: Box::new(record),
    }
}

/// A region that has come as far as upstream, at 1.9.
async fn caught_up(datastore: &MemoryDatastore) -> Task {
    let upstream = Arc::new(Whole(Position::new(1, 9)));
    let mut task = task(datastore, &upstream, RegionalSettings::default());
    task.work_in([Event::Reset { partitions: 1 }]).await;
    settle(&mut task).await;
    assert_eq!(
        position(datastore, store(1)).await,
        Some(Position::new(1, 9))
    );
    task
}

#[tokio::test]
async fn a_reign_that_upstream_does_not_confirm_changes_nothing() {
    let datastore = MemoryDatastore::new();
    let mut task = caught_up(&datastore).await;
    task.work_in([heartbeat(u64::MAX)]).await;
    let bogus = ChangeSet {
        epoch: Epoch(u64::MAX),
        ..created(store(1)).await
    };
    task.work_in([record(bogus)]).await;
    let bogus = ChangeSet {
        epoch: Epoch(u64::MAX),
        ..created(store(7)).await
    };
    task.work_in([record(bogus)]).await;
    assert_eq!(position(&datastore, store(7)).await, None);
    settle(&mut task).await;
    assert_eq!(position(&datastore, store(7)).await, None);
    assert!(task.repairs.is_empty());
    assert_eq!(
        position(&datastore, store(1)).await,
        Some(Position::new(1, 9))
    );
    task.work_in([heartbeat(1)]).await;
    let passed_on = task.node.heartbeat.borrow().unwrap();
    assert_eq!((passed_on.epoch, passed_on.clock), (Epoch(1), Timestamp(5)));
}

#[tokio::test]
async fn a_newer_reign_is_vouched_for_once_what_came_before_it_was_compared() {
    let datastore = MemoryDatastore::new();
    let mut task = caught_up(&datastore).await;
    task.work_in([heartbeat(1)]).await;
    let of = |epoch| Comparison {
        behind: Vec::new(),
        heartbeat: Some((
            Heartbeat {
                epoch: Epoch(epoch),
                clock: Timestamp(6),
                generation: 0,
            },
            Duration::ZERO,
        )),
    };
    let passed_on = |task: &Task| task.node.heartbeat.borrow().map(|beat| beat.epoch);
    task.compared(task.now(), of(2));
    task.pass_on();
    assert!(task.compare, "the stores are compared again");
    assert_eq!(passed_on(&task), Some(Epoch(1)));

    task.compare = false;
    task.compared(task.now(), of(2));
    task.pass_on();
    assert_eq!(passed_on(&task), Some(Epoch(2)));
}

#[tokio::test]
async fn an_announced_revision_that_upstream_does_not_have_is_let_go() {
    let datastore = MemoryDatastore::new();
    let mut task = caught_up(&datastore).await;
    for (id, position) in [
        (store(1), Position::new(1, 900)),
        (store(1), Position::new(77, 1)),
        (store(7), Position::new(1, 900)),
        (store(7), Position::new(77, 1)),
    ] {
        task.work_in([announced(id, position)]).await;
        let settled = tokio::time::timeout(PATIENCE, settle(&mut task)).await;
        assert!(
            settled.is_ok() && task.repairs.is_empty(),
            "{id} {position}"
        );
    }
    assert_eq!(
        position(&datastore, store(1)).await,
        Some(Position::new(1, 9))
    );
    assert_eq!(position(&datastore, store(7)).await, None);
    task.work_in([heartbeat(1)]).await;
    assert_eq!(
        task.node.heartbeat.borrow().map(|beat| beat.clock),
        Some(Timestamp(5))
    );
}
