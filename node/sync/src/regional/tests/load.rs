//! A store that is written to all the time, while its region repairs it.

use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use meridian_model::ports::WriteOptions;
use meridian_store::sql::SqlDatastore;
use meridian_store::{PoolSettings, Watcher, watched};
use tokio::sync::Semaphore;

use super::*;

/// Central, whose answers are of the moment it is asked and arrive when they are let through.
struct Far {
    central: MemoryDatastore,
    asked: Semaphore,
    answers: Semaphore,
    /// Of its heartbeats.
    clock: Mutex<i64>,
}

impl Far {
    async fn arrives<T>(&self, answer: T) -> T {
        self.asked.add_permits(1);
        self.answers.acquire().await.unwrap().forget();
        answer
    }
}

#[async_trait]
impl Upstream for Far {
    async fn positions(&self, _: Instant) -> Result<Standing, UpstreamError> {
        let heartbeat = Heartbeat {
            epoch: self.central.epoch(soon()).await.unwrap(),
            clock: Timestamp(*self.clock.lock().unwrap()),
            generation: 0,
        };
        let stores = self.central.positions(soon()).await.unwrap();
        let heartbeat = Some((heartbeat, Duration::ZERO));
        Ok(self.arrives(Standing { stores, heartbeat }).await)
    }

    async fn changes(
        &self,
        id: StoreId,
        after: Position,
        limit: u32,
        _: Instant,
    ) -> Result<Changes, UpstreamError> {
        let record = self.central.store(id, soon()).await.unwrap().unwrap();
        let change_sets = self
            .central
            .change_sets(id, after.revision, limit, soon())
            .await
            .unwrap();
        let position = record.position;
        Ok(self
            .arrives(Changes {
                change_sets,
                position,
            })
            .await)
    }

    async fn head(&self, _: StoreId, _: Position, _: Instant) -> Result<StoreHead, UpstreamError> {
        unreachable!("a region takes whole stores")
    }

    async fn fill(
        &self,
        _: StoreId,
        _: &str,
        _: Position,
        _: Duration,
    ) -> Result<(Position, Vec<Tuple>), UpstreamError> {
        unreachable!("a region takes whole stores")
    }

    async fn snapshot(
        &self,
        _: StoreId,
        _: Position,
        _: Duration,
    ) -> Result<Incoming, UpstreamError> {
        unreachable!("central keeps every change")
    }
}

/// A region below it, and store 2.
struct Busy {
    far: Arc<Far>,
    datastore: MemoryDatastore,
    task: Task,
    /// Central's last.
    written: Position,
}

impl Busy {
    /// Central has revision 1, the region nothing.
    async fn new() -> Self {
        let far = Arc::new(Far {
            central: MemoryDatastore::new(),
            asked: Semaphore::new(0),
            answers: Semaphore::new(0),
            clock: Mutex::new(1),
        });
        let created = far.central.create_store(store(2), "shop", soon());
        created.await.unwrap();
        let written = position(&far.central, store(2)).await.unwrap();
        let datastore = MemoryDatastore::new();
        let at_once = RegionalSettings {
            patience: Patience {
                first_pause: Duration::ZERO,
                ..Patience::default()
            },
            ..RegionalSettings::default()
        };
        let mut task = task(&datastore, &far, at_once);
        task.work_in([Event::Reset { partitions: 1 }]).await;
        Self {
            far,
            datastore,
            task,
            written,
        }
    }

    /// Central commits the next revision; its record.
    async fn write(&mut self) -> Event {
        let last = self.written.revision;
        self.written.revision = last.next();
        let tuple = tuple(usize::try_from(last.0).unwrap());
        let central = &self.far.central;
        central
            .write_tuples(store(2), &[], &[tuple], WriteOptions::default(), soon())
            .await
            .unwrap();
        let sets = central.change_sets(store(2), last, 1, soon()).await;
        record(sets.unwrap().remove(0))
    }

    /// As [`Self::write`], and the topic brings it.
    async fn write_through(&mut self) {
        let record = self.write().await;
        self.task.work_in([record]).await;
    }

    async fn beat(&mut self, clock: i64) {
        let epoch = self.written.epoch.0;
        self.task.work_in([heartbeat_of(epoch, clock)]).await;
    }

    /// Waits until central has been asked the next question.
    async fn asked(&mut self) {
        let asked = tokio::time::timeout(PATIENCE, self.far.asked.acquire()).await;
        asked.unwrap().unwrap().forget();
    }

    /// Lets the answer through, and the task work it in.
    async fn answered(&mut self) {
        self.far.answers.add_permits(1);
        let ended = tokio::time::timeout(PATIENCE, self.task.beside.join_next()).await;
        self.task.ended(ended.unwrap().unwrap()).await;
    }

    async fn compares(&mut self) {
        self.task.look_up();
        self.asked().await;
    }

    /// Starts the store's repair.
    async fn repairs(&mut self) {
        self.task.repair();
        self.asked().await;
    }

    fn passed_on(&self) -> Option<i64> {
        let heartbeat = self.task.node.heartbeat.borrow();
        heartbeat.map(|beat| beat.clock.0)
    }

    async fn revision(&self) -> u64 {
        let position = position(&self.datastore, store(2)).await;
        position.unwrap_or_default().revision.0
    }
}

#[tokio::test]
async fn a_repair_ends_while_the_store_is_written_to() {
    let mut busy = Busy::new().await;
    busy.compares().await;
    busy.answered().await;
    busy.repairs().await;
    for _ in 0..5 {
        busy.write_through().await;
    }
    busy.beat(10).await;
    assert_eq!((busy.passed_on(), busy.revision().await), (None, 0));
    busy.answered().await;
    assert_eq!((busy.passed_on(), busy.revision().await), (Some(10), 6));
    assert!(busy.task.repairs.is_empty());
    busy.write_through().await;
    busy.beat(11).await;
    assert_eq!((busy.passed_on(), busy.revision().await), (Some(11), 7));
}

#[tokio::test]
async fn a_heartbeat_waits_for_what_was_missing_when_it_came_and_no_more() {
    let mut busy = Busy::new().await;
    busy.compares().await;
    busy.answered().await;
    busy.repairs().await;
    for round in 1..5 {
        // Too large for the topic, all of them.
        busy.write().await;
        busy.task.work_in([announced(store(2), busy.written)]).await;
        if round % 2 == 1 {
            busy.beat(10 * round).await;
        }
        busy.answered().await;
        if round % 2 == 0 {
            assert_eq!(busy.passed_on(), Some(10 * (round - 1)));
        }
        assert_eq!(busy.revision().await, busy.written.revision.0 - 1);
        assert!(!busy.task.repairs.is_empty());
        busy.repairs().await;
    }
}

#[tokio::test]
async fn what_the_topic_goes_on_with_is_not_asked_for() {
    let mut busy = Busy::new().await;
    busy.compares().await;
    busy.answered().await;
    busy.repairs().await;
    busy.answered().await;
    assert_eq!((busy.passed_on(), busy.revision().await), (Some(1), 1));

    // Central was silent; what it has by the time it answers is on its way.
    *busy.far.clock.lock().unwrap() = 7;
    let (second, third) = (busy.write().await, busy.write().await);
    busy.task.compare = true;
    busy.compares().await;
    busy.task.work_in([second]).await;
    // The region's own positions are read behind central's.
    busy.answered().await;
    assert!(busy.task.repairs.is_empty());
    assert_eq!(busy.passed_on(), Some(1));
    busy.task.work_in([third]).await;
    assert_eq!((busy.passed_on(), busy.revision().await), (Some(7), 3));
}

#[tokio::test]
async fn what_comes_at_once_is_all_worked_in() {
    let mut busy = Busy::new().await;
    busy.compares().await;
    busy.answered().await;
    busy.repairs().await;
    busy.answered().await;
    let mut events = Vec::new();
    for _ in 0..3 {
        events.push(busy.write().await);
    }
    let epoch = busy.written.epoch;
    let other = created(store(3)).await;
    events.push(record(ChangeSet { epoch, ..other }));
    events.push(busy.write().await);
    events.push(heartbeat_of(epoch.0, 10));
    events.push(busy.write().await);
    busy.task.work_in(events).await;
    assert_eq!((busy.passed_on(), busy.revision().await), (Some(10), 6));
    assert_eq!(
        position(&busy.datastore, store(3)).await,
        Some(Position::new(epoch.0, 1))
    );
    assert!(busy.task.repairs.is_empty());

    let (_lost, found) = (busy.write().await, busy.write().await);
    let last = busy.write().await;
    busy.task.work_in([found, last]).await;
    assert_eq!(busy.revision().await, 6);
    busy.repairs().await;
    busy.answered().await;
    assert_eq!(busy.revision().await, 9);
}

/// Counts how often a store is brought further.
#[derive(Default)]
struct Advances(AtomicUsize);

impl Watcher for Advances {
    fn statement(&self, text: &str, _: Duration) {
        if text.starts_with("UPDATE stores SET revision") {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test]
async fn revisions_that_follow_each_other_are_one_transaction() {
    let mut busy = Busy::new().await;
    busy.compares().await;
    busy.answered().await;
    busy.repairs().await;
    busy.answered().await;
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/region.db?mode=rwc", dir.path().display());
    let region = SqlDatastore::connect_lazy(&url, &PoolSettings::default()).unwrap();
    region.migrate().await.unwrap();
    let first = busy
        .far
        .central
        .change_sets(store(2), Revision(0), 1, soon());
    let applied = region.apply(&first.await.unwrap(), soon()).await.unwrap();
    assert_eq!(applied, Applied::Applied);
    let applier = &mut busy.task.node.applier;
    *applier = Applier::new(
        Arc::new(region.clone()),
        Arc::clone(&busy.far) as _,
        applier.settings.clone(),
    );
    let mut written = Vec::new();
    for _ in 0..3 {
        written.push(busy.write().await);
    }
    let advances = Arc::new(Advances::default());
    watched(Arc::clone(&advances) as _, busy.task.work_in(written)).await;
    let copy = region.store(store(2), soon()).await.unwrap().unwrap();
    assert_eq!(copy.position, busy.written);
    assert_eq!(advances.0.load(Ordering::Relaxed), 1);
}
