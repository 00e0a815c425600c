use std::sync::atomic::{AtomicUsize, Ordering};

use meridian_model::Tiers;
use meridian_store::memory::MemoryDatastore;
use meridian_store::{DatastoreSettings, PoolSettings, Watcher, watched};

use super::*;
use crate::watch::feed::{Behind, Seat};

const LONG: Duration = Duration::from_secs(60);

fn soon() -> Instant {
    Instant::now() + LONG
}

fn ids() -> [StoreId; 2] {
    ["01ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FAW"].map(|id| id.parse().unwrap())
}

/// Counts statements.
#[derive(Default)]
struct Statements(AtomicUsize);

impl Statements {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Watcher for Statements {
    fn statement(&self, _: &str, _: Duration) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A node whose database another writes, and its statements.
async fn behind(folder: &tempfile::TempDir) -> (Following, Arc<Statements>) {
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("a.db").display());
    let settings = DatastoreSettings {
        url,
        pool: PoolSettings::default(),
    };
    let datastore = meridian_store::open(&settings).unwrap();
    datastore.migrate().await.unwrap();
    let feeds = Arc::new(Feeds::new(10, 1024));
    (Following::new(datastore, None, feeds, true), Arc::default())
}

#[tokio::test]
async fn however_many_want_a_store_that_is_not_here_it_is_looked_for_once() {
    let folder = tempfile::tempdir().unwrap();
    let (following, statements) = behind(&folder).await;
    let [store, other] = ids();
    let timeout = Duration::from_millis(700);
    let work = async {
        let wanted = (0..100).map(|_| following.follow(store, timeout));
        for found in futures::future::join_all(wanted).await {
            assert_eq!(found, Err(NotFollowed::NoStore));
        }
        // After 0, 50, 150, 350 and, were there time, 750 ms.
        let looked = statements.count();
        assert!((1..=4).contains(&looked), "{looked} statements");
        let again = following.follow(store, timeout).await;
        assert_eq!(again, Err(NotFollowed::NoStore));
        assert_eq!(statements.count(), looked, "that is remembered");
        let other = following.follow(other, timeout).await;
        assert_eq!(other, Err(NotFollowed::NoStore));
        assert!(statements.count() > looked, "of that store");
    };
    watched(Arc::clone(&statements) as _, work).await;
}

#[tokio::test]
async fn a_store_that_comes_meanwhile_is_followed_by_all_who_wait() {
    let folder = tempfile::tempdir().unwrap();
    let (following, statements) = behind(&folder).await;
    let [store, _] = ids();
    let given_up = async {
        // Who looked for it for all may be the one who goes.
        let gone = following.follow(store, LONG);
        let gone = tokio::time::timeout(Duration::from_millis(100), gone).await;
        assert!(gone.is_err());
    };
    let wanting = async {
        let wanted = (0..10).map(|_| following.follow(store, LONG));
        futures::future::join_all(wanted).await
    };
    let coming = async {
        while statements.count() < 3 {
            tokio::task::yield_now().await;
        }
        let created = following.datastore().create_store(store, "shop", soon());
        created.await.unwrap().position
    };
    let work = async { tokio::join!(given_up, wanting, coming) };
    let ((), found, created) = watched(Arc::clone(&statements) as _, work).await;
    assert_eq!(found, vec![Ok(created); 10]);
    assert_eq!(following.follow(store, LONG).await, Ok(created));
}

/// Two stores that are followed and watched, in a feed that keeps so many changes.
async fn two(keeps: usize) -> (Arc<Following>, [(StoreId, Seat); 2]) {
    let datastore = Arc::new(MemoryDatastore::new());
    let feeds = Arc::new(Feeds::new(keeps, 1024 * 1024));
    let following = Following::new(datastore, None, feeds, false);
    let mut stores = Vec::new();
    for store in ids() {
        let record = following
            .datastore
            .create_store(store, "shop", soon())
            .await;
        let head = record.unwrap().position;
        assert_eq!(following.follow(store, LONG).await, Ok(head));
        stores.push((store, following.feeds.join(store, head)));
    }
    let stores = <[_; 2]>::try_from(stores).ok().unwrap();
    (Arc::new(following), stores)
}

async fn revise(following: &Following, store: StoreId, revisions: u64) {
    let tiers = Tiers::default();
    for _ in 0..revisions {
        let revised = following.datastore.assign_tiers(store, &tiers, soon());
        revised.await.unwrap();
    }
}

/// The revisions that a feed has behind one, in order; what it says when there are no more.
async fn told(following: &Following, seat: &(StoreId, Seat), after: u64) -> (Vec<u64>, String) {
    let epoch = following.datastore.epoch(soon()).await.unwrap();
    let mut told = Vec::new();
    loop {
        let last = told.last().copied().unwrap_or(after);
        match seat.1.behind(Position::new(epoch.0, last)) {
            Behind::Sets(sets) => told.extend(sets.iter().map(|set| set.revision.0)),
            other => return (told, format!("{other:?}")),
        }
    }
}

fn nothing_behind(revisions: impl Iterator<Item = u64>) -> (Vec<u64>, String) {
    (revisions.collect(), "Nothing".to_owned())
}

#[tokio::test]
async fn what_is_new_is_told_while_a_long_stretch_is_read_for_those_who_watch() {
    let (following, [a, b]) = two(1000).await;
    let used = [a.0, b.0];
    revise(&following, a.0, 300).await;
    revise(&following, b.0, 1).await;
    let mut long = following.catch_up(&used).await.unwrap();
    assert_eq!(long.len(), 1);
    assert_eq!(told(&following, &b, 1).await, nothing_behind(2..=2));
    assert_eq!(told(&following, &a, 1).await, nothing_behind(1..1));

    // It has not been read yet, and more comes: neither before it nor with a gap.
    revise(&following, a.0, 3).await;
    revise(&following, b.0, 1).await;
    assert!(following.catch_up(&used).await.unwrap().is_empty());
    assert_eq!(told(&following, &b, 2).await, nothing_behind(3..=3));
    assert_eq!(told(&following, &a, 1).await, nothing_behind(1..1));
    Arc::clone(&following).fill(long.remove(0)).await;
    assert_eq!(told(&following, &a, 1).await, nothing_behind(2..=304));

    // From here on as before.
    revise(&following, a.0, 2).await;
    assert!(following.catch_up(&used).await.unwrap().is_empty());
    assert_eq!(told(&following, &a, 304).await, nothing_behind(305..=306));
}

#[tokio::test]
async fn what_outgrows_the_feed_while_it_is_read_is_left_to_those_who_watch() {
    let (following, [a, b]) = two(100).await;
    let used = [a.0, b.0];
    revise(&following, a.0, 80).await;
    let mut long = following.catch_up(&used).await.unwrap();
    revise(&following, a.0, 200).await;
    assert!(following.catch_up(&used).await.unwrap().is_empty());
    Arc::clone(&following).fill(long.remove(0)).await;
    let more = "More { made_room: false }".to_owned();
    assert_eq!(told(&following, &a, 1).await, (Vec::new(), more));
    revise(&following, a.0, 1).await;
    assert!(following.catch_up(&used).await.unwrap().is_empty());
    assert_eq!(told(&following, &a, 281).await, nothing_behind(282..=282));
}

#[tokio::test]
async fn of_many_stores_each_is_told_of() {
    let (following, [a, b]) = two(100).await;
    let mut used = vec![a.0, b.0];
    let mut seats = vec![a, b];
    for number in 0..20 {
        let store: StoreId = format!("01ARZ3NDEKTSV4RRFFQ69G{number:04}")
            .parse()
            .unwrap();
        let datastore = following.datastore();
        let record = datastore.create_store(store, "shop", soon()).await.unwrap();
        assert!(following.follow(store, LONG).await.is_ok());
        seats.push((store, following.feeds.join(store, record.position)));
        used.push(store);
    }
    for store in &used {
        revise(&following, *store, 2).await;
    }
    assert!(following.catch_up(&used).await.unwrap().is_empty());
    for seat in &seats {
        assert_eq!(told(&following, seat, 1).await, nothing_behind(2..=3));
    }
}
