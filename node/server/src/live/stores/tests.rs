use std::sync::atomic::{AtomicUsize, Ordering};

use meridian_model::ports::Datastore;
use meridian_store::{DatastoreSettings, PoolSettings, Watcher, watched};
use tokio::sync::Notify;

use super::*;
use crate::calls::ServedBy;
use crate::commands::Local;
use crate::limits::Limits;

/// Counts statements.
#[derive(Default)]
struct Statements(AtomicUsize);

impl Watcher for Statements {
    fn statement(&self, _: &str, _: Duration) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn of(url: String) -> (Arc<dyn Datastore>, Stores) {
    let settings = DatastoreSettings {
        url,
        pool: PoolSettings::default(),
    };
    let datastore = meridian_store::open(&settings).unwrap();
    let local = Local::new(
        Arc::clone(&datastore),
        ServedBy::new("central/one").unwrap(),
        Limits::default(),
        Arc::new(Notify::new()),
    );
    (datastore, Stores::new(Arc::new(local)))
}

#[tokio::test]
async fn what_is_known_of_a_store_is_not_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.db");
    let (datastore, stores) = of(format!("sqlite://{}?mode=rwc", file.display()));
    datastore.migrate().await.unwrap();
    let [there, missing]: [StoreId; 2] =
        ["01ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FAW"].map(|id| id.parse().unwrap());
    let deadline = Instant::now() + Duration::from_secs(60);
    let created = datastore.create_store(there, "shop", deadline).await;
    created.unwrap();
    let statements = Arc::new(Statements::default());
    let finding = async {
        for (store, expected) in [(there, Found::There), (missing, Found::Missing)] {
            let before = statements.0.load(Ordering::SeqCst);
            assert_eq!(stores.find(store).await, expected);
            let asked = statements.0.load(Ordering::SeqCst);
            assert!(asked > before, "{store}");
            let all = (0..100).map(|_| stores.find(store));
            for found in futures::future::join_all(all).await {
                assert_eq!(found, expected);
            }
            assert_eq!(statements.0.load(Ordering::SeqCst), asked, "{store}");
        }
    };
    watched(Arc::clone(&statements) as _, finding).await;
    // That there is none is forgotten soon.
    let created = datastore.create_store(missing, "shop", deadline).await;
    created.unwrap();
    while stores.find(missing).await == Found::Missing {
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    assert_eq!(stores.find(missing).await, Found::There);
}

#[tokio::test]
async fn while_nobody_can_say_nobody_says_that_there_is_none() {
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (_, stores) = of(format!(
        "postgres://nobody@{}/none",
        nowhere.local_addr().unwrap()
    ));
    let store = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
    // It takes connections, and says nothing.
    assert_eq!(stores.find(store).await, Found::Unknown);
    let again = Instant::now();
    assert_eq!(stores.find(store).await, Found::Unknown);
    assert!(again.elapsed() < TIMEOUT, "the next one does not wait");
}
