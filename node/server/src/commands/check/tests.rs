use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use meridian_model::ports::{Datastore, WriteOptions};
use meridian_model::{Timestamp, TupleKey, dsl};
use meridian_store::memory::MemoryDatastore;

use super::*;
use crate::calls::ServedBy;

const STORE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
const MODEL: &str = "model
  schema 1.1
type user
type group
  relations
    define member: [user, group#member]
";
/// Groups, each in the one before: as many rounds.
const GROUPS: usize = 600;

/// On one thread, as the tests' runtime is, over a datastore that never keeps anybody waiting.
#[tokio::test]
async fn between_rounds_others_have_their_turn() {
    let (datastore, store) = (MemoryDatastore::new(), STORE.parse().unwrap());
    let late = Instant::now() + Duration::from_secs(60);
    datastore.create_store(store, "shop", late).await.unwrap();
    let (id, model) = (STORE.parse().unwrap(), dsl::parse(MODEL).unwrap());
    datastore
        .write_model(store, id, &model, late)
        .await
        .unwrap();
    let link = |n: usize| Tuple {
        key: TupleKey::parse(
            &format!("group:{n}"),
            "member",
            &format!("group:{}#member", n + 1),
        )
        .unwrap(),
        condition: None,
        timestamp: Timestamp(0),
    };
    let links: Vec<_> = (0..GROUPS).map(link).collect();
    datastore
        .write_tuples(store, &[], &links, WriteOptions::default(), late)
        .await
        .unwrap();
    let name = ServedBy::new("central").unwrap();
    let local = Local::new(Arc::new(datastore), name, Limits::default(), Arc::default());
    let turns = Arc::new(AtomicUsize::new(0));
    let other = Arc::clone(&turns);
    let others = tokio::spawn(async move {
        loop {
            other.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
        }
    });
    let of = |user: &str| v1::CheckRequest {
        store_id: STORE.into(),
        tuple_key: Some(v1::CheckRequestTupleKey {
            user: user.into(),
            relation: "member".into(),
            object: "group:0".into(),
        }),
        ..Default::default()
    };
    let within = |deadline| Context {
        deadline,
        min_position: None,
        caller: None,
        model: Default::default(),
        why: Default::default(),
    };
    let decided = local
        .decide(&within(late), &of("user:nobody"))
        .await
        .unwrap();
    assert!(!decided.allowed);
    assert!(turns.load(Ordering::SeqCst) > 3);
    others.abort();

    let soon = Instant::now() + Duration::from_micros(500);
    let late = local
        .decide(&within(soon), &of("user:another"))
        .await
        .unwrap_err();
    assert_eq!(late.code, Code::DeadlineExceeded);
}
