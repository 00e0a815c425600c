use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use meridian_model::dsl;
use meridian_model::ports::Datastore;
use meridian_store::memory::MemoryDatastore;

use super::*;
use crate::calls::ServedBy;
use crate::limits::Limits;

const STORE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
const MODEL: &str = "model
  schema 1.1
type user
type doc
  relations
    define reader: [user]
";

/// On one thread, as the tests' runtime is, over a datastore that never keeps anybody waiting.
#[tokio::test]
async fn while_a_batch_is_evaluated_others_have_their_turn() {
    let (datastore, store) = (MemoryDatastore::new(), STORE.parse().unwrap());
    let late = Instant::now() + Duration::from_secs(60);
    datastore.create_store(store, "shop", late).await.unwrap();
    let (id, model) = (STORE.parse().unwrap(), dsl::parse(MODEL).unwrap());
    datastore
        .write_model(store, id, &model, late)
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
    let check = |number: usize| v1::CheckRequest {
        store_id: STORE.into(),
        tuple_key: Some(v1::CheckRequestTupleKey {
            user: "user:anne".into(),
            relation: "reader".into(),
            object: format!("doc:{number}"),
        }),
        ..Default::default()
    };
    let checks: Vec<_> = (0..1000).map(check).collect();
    let cx = Context {
        deadline: late,
        min_position: None,
        caller: None,
        model: Default::default(),
    };
    let mut seen = Vec::new();
    let mut tell = |_: usize, outcome: Outcome, _: &ServedBy| {
        assert!(!outcome.unwrap().allowed);
        seen.push(turns.load(Ordering::SeqCst));
    };
    local.decide_all(&cx, &checks, &mut tell).await.unwrap();
    others.abort();
    assert_eq!(seen.len(), checks.len());
    assert!(seen.first() < seen.last(), "{seen:?}");
}
