//! Records, from Kafka to the database: each is read by one of the nodes that share the database, and done only once it is there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_live_channel::Record;
use meridian_live_channel::durable::Keeper;
use meridian_model::StoreId;
use meridian_model::ports::Datastore;
use meridian_sync::kafka::group::work::Worker;
use tokio_util::sync::CancellationToken;

use super::records::raw;
use crate::lease::{self, TIMEOUT};

/// What goes to the database at once.
const BATCH_RECORDS: usize = 1000;
const BATCH_BYTES: usize = 1024 * 1024;
/// How long a batch waits for more.
const LINGER: Duration = Duration::from_millis(20);

/// How often what is old is looked for.
const PURGE_INTERVAL: Duration = Duration::from_secs(60);
/// How long one node does it before another may, unless it takes the lease again; the next node takes over when the one that
/// has it is gone for so long.
const LEASE: Duration = Duration::from_secs(150);
const LEASE_NAME: &str = "live-records";

/// Writes what the topic brings, until `stop`. `store` is that of records that name none.
pub async fn write(
    mut worker: Worker,
    keeper: &Keeper,
    store: Option<StoreId>,
    stop: &CancellationToken,
) {
    let writing = async {
        loop {
            let (mut records, mut bytes) = (Vec::<Record>::new(), 0);
            let batch = worker.batch(LINGER, |message| {
                let (raw, place) = raw(&message);
                // The fan-out counts what cannot be read.
                if let Ok(record) = raw.read(store, message.at, place) {
                    bytes += message.value.len();
                    records.push(record);
                }
                records.len() < BATCH_RECORDS && bytes < BATCH_BYTES
            });
            batch.await;
            keeper.keep(records).await;
            worker.done();
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = writing => {}
    }
    worker.leave().await;
}

/// Forgets what was stored longer ago than `retention`, until `stop`: one node at a time, which `holder` names.
pub async fn purge(
    datastore: Arc<dyn Datastore>,
    keeper: &Keeper,
    holder: &str,
    retention: Duration,
    stop: &CancellationToken,
) {
    loop {
        let mut pause = PURGE_INTERVAL;
        let deadline = Instant::now() + TIMEOUT;
        let leading = datastore.acquire_lease(LEASE_NAME, holder, LEASE, deadline);
        // A database that is away is told by whoever writes.
        if matches!(leading.await, Ok(true)) {
            // Its last statement ends before anybody else may begin.
            let until = tokio::time::Instant::now() + LEASE / 2;
            let purged = tokio::select! {
                () = stop.cancelled() => break,
                purged = keeper.purge(retention, until) => purged,
            };
            match purged {
                Ok(purged) if purged.more => pause = Duration::ZERO,
                Ok(_) => {}
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(
                        error,
                        "old records of the live channel could not be deleted; trying again later"
                    );
                }
            }
        }
        if tokio::time::timeout(pause, stop.cancelled()).await.is_ok() {
            break;
        }
    }
    lease::give_back(&*datastore, LEASE_NAME, holder).await;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::SystemTime;

    use async_trait::async_trait;
    use meridian_live_channel::durable::{NotStored, RecordRepository};
    use meridian_store::memory::MemoryDatastore;

    use super::*;

    const TICK: Duration = Duration::from_millis(5);

    /// So many old records, and how often somebody deleted some.
    #[derive(Default)]
    struct Old {
        left: AtomicU64,
        deletions: AtomicU64,
    }

    #[async_trait]
    impl RecordRepository for Old {
        async fn insert(&self, _: &str, _: &[Record], _: Instant) -> Result<(), NotStored> {
            Ok(())
        }

        async fn purge(&self, _: SystemTime, limit: u32, _: Instant) -> Result<u64, NotStored> {
            self.deletions.fetch_add(1, Ordering::Relaxed);
            let gone = self.left.load(Ordering::Relaxed).min(u64::from(limit));
            self.left.fetch_sub(gone, Ordering::Relaxed);
            Ok(gone)
        }
    }

    #[tokio::test]
    async fn one_node_at_a_time_deletes_a_few_with_each_statement() {
        let datastore: Arc<dyn Datastore> = Arc::new(MemoryDatastore::new());
        let (old, idle) = (Arc::new(Old::default()), Arc::new(Old::default()));
        old.left.store(1200, Ordering::Relaxed);
        let stop = CancellationToken::new();
        let node = |repository: &Arc<Old>| Keeper::new(repository.clone(), "live".to_owned());
        let (leader, other) = (node(&old), node(&idle));
        let month = Duration::from_secs(30 * 24 * 60 * 60);
        let deleted = async {
            while old.left.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(TICK).await;
            }
            stop.cancel();
        };
        tokio::join!(
            purge(Arc::clone(&datastore), &leader, "one", month, &stop),
            purge(Arc::clone(&datastore), &other, "other", month, &stop),
            deleted
        );
        assert_eq!(old.deletions.load(Ordering::Relaxed), 3);
        assert_eq!(idle.deletions.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_node_that_stops_leaves_the_lease_to_the_next() {
        let datastore: Arc<dyn Datastore> = Arc::new(MemoryDatastore::new());
        let old = Arc::new(Old::default());
        old.left.store(10, Ordering::Relaxed);
        let keeper = Keeper::new(old.clone(), "live".to_owned());
        let stop = CancellationToken::new();
        let month = Duration::from_secs(30 * 24 * 60 * 60);
        let take = async |holder: &str| {
            let deadline = Instant::now() + TIMEOUT;
            let taken = datastore.acquire_lease(LEASE_NAME, holder, LEASE, deadline);
            taken.await.unwrap()
        };
        let leading = async {
            while old.left.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(TICK).await;
            }
            assert!(!take("next").await, "the first node has it");
            stop.cancel();
        };
        tokio::join!(
            purge(Arc::clone(&datastore), &keeper, "first", month, &stop),
            leading
        );
        assert!(take("next").await);
    }

    const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60);

    /// More old records than can ever be deleted.
    fn endless() -> (Arc<dyn Datastore>, Arc<Old>, Keeper) {
        let old = Arc::new(Old::default());
        old.left.store(u64::MAX, Ordering::Relaxed);
        let keeper = Keeper::new(old.clone(), "live".to_owned());
        (Arc::new(MemoryDatastore::new()), old, keeper)
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_stops_leaves_the_rest_undone() {
        let (datastore, old, keeper) = endless();
        let (stop, month) = (CancellationToken::new(), MONTH);
        let begun = async {
            while old.deletions.load(Ordering::Relaxed) == 0 {
                tokio::time::sleep(TICK).await;
            }
            stop.cancel();
            tokio::time::Instant::now()
        };
        let ((), stopped) = tokio::join!(
            purge(Arc::clone(&datastore), &keeper, "first", month, &stop),
            begun
        );
        assert!(stopped.elapsed() < TICK);
        let deadline = Instant::now() + TIMEOUT;
        let next = datastore.acquire_lease(LEASE_NAME, "next", LEASE, deadline);
        assert!(next.await.unwrap());
    }

    /// Whoever is at it for longer than the lease has it renewed, and is not waited for.
    #[tokio::test(start_paused = true)]
    async fn a_long_look_goes_on_at_once_for_as_long_as_the_lease_is_ours() {
        let (datastore, old, keeper) = endless();
        let (stop, month) = (CancellationToken::new(), MONTH);
        let (start, deletions) = (tokio::time::Instant::now(), || {
            old.deletions.load(Ordering::Relaxed)
        });
        let take = async |holder: &str, time: Duration| {
            let deadline = Instant::now() + TIMEOUT;
            let taken = datastore.acquire_lease(LEASE_NAME, holder, time, deadline);
            taken.await.unwrap()
        };
        let watching = async {
            tokio::time::sleep_until(start + LEASE).await;
            let after = LEASE.as_millis() / 25;
            assert!(u128::from(deletions()) > after, "it never paused");
            // Somebody else gets it.
            assert!(take("first", Duration::ZERO).await && take("next", 1000 * LEASE).await);
            tokio::time::sleep_until(start + LEASE * 2).await;
            let before = deletions();
            tokio::time::sleep_until(start + LEASE * 4).await;
            assert_eq!(deletions(), before, "that one is at it");
            stop.cancel();
        };
        tokio::join!(
            purge(Arc::clone(&datastore), &keeper, "first", month, &stop),
            watching
        );
    }
}
