use meridian_model::ports::WriteOptions;
use meridian_model::{Timestamp, Tuple, TupleKey, dsl};
use meridian_store::{DatastoreSettings, PoolSettings, open};

use super::*;
use crate::calls::Calls;
use crate::limits::Limits;

const STORE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
const OBJECTS: usize = 100;

/// A node on a database to which there is one connection, with so many documents that anne reads.
async fn node(folder: &tempfile::TempDir) -> Arc<Local> {
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("t.db").display());
    let pool = PoolSettings {
        min_connections: 0,
        max_connections: 1,
        ..PoolSettings::default()
    };
    let datastore = open(&DatastoreSettings { url, pool }).unwrap();
    datastore.migrate().await.unwrap();
    let store = STORE.parse().unwrap();
    datastore.create_store(store, "s", late()).await.unwrap();
    let text = "model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define reader: [user]\n";
    let (id, model) = (STORE.parse().unwrap(), dsl::parse(text).unwrap());
    datastore
        .write_model(store, id, &model, late())
        .await
        .unwrap();
    let tuples: Vec<_> = (0..OBJECTS)
        .map(|number| Tuple {
            key: TupleKey::parse(&format!("doc:{number}"), "reader", "user:anne").unwrap(),
            condition: None,
            timestamp: Timestamp(0),
        })
        .collect();
    datastore
        .write_tuples(store, &[], &tuples, WriteOptions::default(), late())
        .await
        .unwrap();
    let name = ServedBy::new("central/test").unwrap();
    let limits = Limits {
        request_timeout: Duration::from_secs(20),
        ..Limits::default()
    };
    Arc::new(Local::new(datastore, name, limits, Arc::default()))
}

fn late() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn context() -> Context {
    Context {
        deadline: late(),
        min_position: None,
        caller: None,
        model: Default::default(),
        why: Default::default(),
    }
}

fn what_anne_reads() -> v1::StreamedListObjectsRequest {
    v1::StreamedListObjectsRequest {
        store_id: STORE.into(),
        r#type: "doc".into(),
        relation: "reader".into(),
        user: "user:anne".into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_slow_listener_keeps_no_connection_from_others() {
    let folder = tempfile::tempdir().unwrap();
    let local = node(&folder).await;
    let (found, mut names) = mpsc::channel(1);
    let listing = {
        let local = Arc::clone(&local);
        tokio::spawn(async move {
            local
                .streamed_list_objects(&context(), what_anne_reads(), found)
                .await
        })
    };
    names.recv().await.unwrap();
    let get = v1::GetStoreRequest {
        store_id: STORE.into(),
    };
    local.get_store(&context(), get).await.unwrap();

    let mut count = 1;
    while names.recv().await.is_some() {
        count += 1;
    }
    assert_eq!(count, OBJECTS);
    assert!(!listing.await.unwrap().unwrap().truncated);
}

#[tokio::test]
async fn a_listener_that_goes_away_or_takes_nothing_ends_the_listing() {
    let folder = tempfile::tempdir().unwrap();
    let local = node(&folder).await;
    let (found, names) = mpsc::channel(1);
    drop(names);
    let gone = local
        .streamed_list_objects(&context(), what_anne_reads(), found)
        .await;
    assert!(gone.is_err());

    let (found, _names) = mpsc::channel(1);
    found.send("one".into()).await.unwrap();
    let stalled = hand_on("two".into(), &found, Duration::from_millis(10)).await;
    assert_eq!(
        stalled.unwrap_err().code,
        meridian_model::Code::DeadlineExceeded
    );
}
