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

async fn local_with(datastore: MemoryDatastore, model: &str, limits: Limits) -> Local {
    let (store, id) = (STORE.parse().unwrap(), STORE.parse().unwrap());
    let (model, late) = (dsl::parse(model).unwrap(), context().deadline);
    datastore.create_store(store, "shop", late).await.unwrap();
    datastore
        .write_model(store, id, &model, late)
        .await
        .unwrap();
    let name = ServedBy::new("central").unwrap();
    Local::new(Arc::new(datastore), name, limits, Arc::default())
}

fn context() -> Context {
    Context {
        deadline: Instant::now() + Duration::from_secs(60),
        min_position: None,
        caller: None,
        model: Default::default(),
    }
}

fn check(number: usize) -> v1::CheckRequest {
    v1::CheckRequest {
        store_id: STORE.into(),
        tuple_key: Some(v1::CheckRequestTupleKey {
            user: "user:anne".into(),
            relation: "reader".into(),
            object: format!("doc:{number}"),
        }),
        ..Default::default()
    }
}

/// On one thread, as the tests' runtime is, over a datastore that never keeps anybody waiting.
#[tokio::test]
async fn while_a_batch_is_evaluated_others_have_their_turn() {
    let local = local_with(MemoryDatastore::new(), MODEL, Limits::default()).await;
    let turns = Arc::new(AtomicUsize::new(0));
    let other = Arc::clone(&turns);
    let others = tokio::spawn(async move {
        loop {
            other.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
        }
    });
    let checks: Vec<_> = (0..1000).map(check).collect();
    let cx = context();
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

/// Each check misses many sets at once; those of all would be far more than a node has room for.
#[tokio::test]
async fn no_more_sets_are_read_together_than_a_batch_may_read() {
    const READERS: usize = 30;
    let relations: Vec<_> = (0..READERS).map(|at| format!("r{at}")).collect();
    let mut text = "model\n  schema 1.1\ntype user\ntype doc\n  relations\n".to_owned();
    for relation in &relations {
        text.push_str(&format!("    define {relation}: [user]\n"));
    }
    text.push_str(&format!("    define reader: {}\n", relations.join(" or ")));
    let limits = Limits {
        check_reads: 2 * READERS,
        concurrent_long_checks: 2,
        ..Limits::default()
    };
    let local = local_with(MemoryDatastore::new(), &text, limits).await;
    let (cx, checks): (_, Vec<_>) = (context(), (0..10).map(check).collect());
    let batch = Batch {
        local: &local,
        cx: &cx,
        store: STORE.parse().unwrap(),
        checks: &checks,
        arrived: local.decisions.arrived(&cx, STORE.parse().unwrap(), ""),
    };
    let mut snapshot = batch.snapshot("").await.unwrap();
    let models = &local.models;
    let model = models.resolve_in(&mut *snapshot, batch.store, "").await;
    let open = (0..checks.len())
        .map(|at| Open { at, lead: None })
        .collect();
    let mut told = Vec::new();
    let mut tell = |at: usize, outcome: Outcome, _: &ServedBy| told.push((at, outcome));
    let begun = batch.begin(open, &model.unwrap(), &mut tell).await;
    let (mut long, mut together) = (Vec::new(), batch.most_together(checks.len()));
    let most = together;
    let round = batch.round(
        begun,
        snapshot.position(),
        &mut together,
        &mut long,
        &mut tell,
    );
    let (unknown, reads) = round.await;
    assert!((READERS..=most).contains(&reads.len()), "{}", reads.len());
    assert_eq!(together, most - reads.len());
    assert_eq!(unknown.len() + long.len(), checks.len());
    assert!(told.is_empty());

    // Those that found no room are decided all the same.
    let mut told = Vec::new();
    let mut tell = |at: usize, outcome: Outcome, _: &ServedBy| {
        told.push((at, outcome.map(|decision| decision.allowed)));
    };
    local.decide_all(&cx, &checks, &mut tell).await.unwrap();
    told.sort_by_key(|(at, _)| *at);
    let denied: Vec<_> = (0..checks.len()).map(|at| (at, Ok(false))).collect();
    assert_eq!(told, denied);
}
