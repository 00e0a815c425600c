use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{Extensions, HeaderMap};
use meridian_model::ports::{Datastore, WriteOptions};
use meridian_model::{Timestamp, Tuple, TupleKey, dsl};
use meridian_proto::openfga::v1::batch_check_single_result::CheckResult;
use meridian_store::memory::MemoryDatastore;

use super::*;
use crate::api::{self, Api, operations};
use crate::calls::{Calls, ServedBy};
use crate::commands::long_checks::Slot;
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
        why: Default::default(),
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

/// A node of which all slots for long checks are taken, and so every check is left that takes more than a little work.
async fn without_slots() -> (Arc<Local>, Vec<Slot>) {
    let text = "model
  schema 1.1
type user
type team
  relations
    define member: [user, team#member]
type doc
  relations
    define reader: [user, team#member]
";
    let datastore = MemoryDatastore::new();
    let limits = Limits {
        check_inline_work: 20,
        ..Limits::default()
    };
    let local = Arc::new(local_with(datastore.clone(), text, limits).await);
    let tuple = |(object, relation, user): (&str, &str, String)| Tuple {
        key: TupleKey::parse(object, relation, &user).unwrap(),
        condition: None,
        timestamp: Timestamp(0),
    };
    let crowded = ["doc:1", "doc:4"].into_iter();
    let teams =
        crowded.flat_map(|doc| (0..50).map(move |at| (doc, "reader", format!("team:{at}#member"))));
    let one = ("doc:2", "reader", "user:anne".to_owned());
    let tuples: Vec<_> = teams.chain([one]).map(tuple).collect();
    let (store, late) = (STORE.parse().unwrap(), context().deadline);
    let options = WriteOptions::default();
    let written = datastore.write_tuples(store, &[], &tuples, options, late);
    written.await.unwrap();
    let slots = std::iter::from_fn(|| local.long_checks.slot_now(store));
    let mut slots: Vec<_> = slots.collect();
    let other = "01ARZ3NDEKTSV4RRFFQ69G5FAW".parse().unwrap();
    slots.extend(std::iter::from_fn(|| local.long_checks.slot_now(other)));
    (local, slots)
}

fn batch_of(numbers: &[usize]) -> v1::BatchCheckRequest {
    let item = |number: &usize| v1::BatchCheckItem {
        tuple_key: check(*number).tuple_key,
        correlation_id: number.to_string(),
        ..Default::default()
    };
    v1::BatchCheckRequest {
        store_id: STORE.into(),
        checks: numbers.iter().map(item).collect(),
        ..Default::default()
    }
}

fn allowed(allowed: bool) -> v1::BatchCheckSingleResult {
    v1::BatchCheckSingleResult {
        check_result: Some(CheckResult::Allowed(allowed)),
    }
}

fn late() -> v1::BatchCheckSingleResult {
    v1::BatchCheckSingleResult {
        check_result: Some(CheckResult::Error(v1::CheckError {
            message: "Request Deadline Exceeded".into(),
            code: Some(v1::check_error::Code::InternalError(4004)),
        })),
    }
}

#[tokio::test]
async fn a_batch_whose_time_ends_has_what_was_decided_and_an_error_for_each_other_check() {
    let (local, _slots) = without_slots().await;
    let limits = Limits {
        request_timeout: Duration::from_secs(1),
        ..Limits::default()
    };
    let api = Api::new(local.clone(), local.name().clone(), limits);
    let asked = async |numbers: &[usize]| {
        let (headers, nothing) = (HeaderMap::new(), Extensions::new());
        let batch = api.call::<operations::BatchCheck>(&headers, &nothing, batch_of(numbers));
        let api::Outcome { result, headers } = batch.await;
        (result.unwrap().result, headers)
    };
    // Nothing of the second is decided; but the model was found.
    let (some, none) = (asked(&[1, 2, 3]), asked(&[4]));
    let ((some, headers), (none, of_none)) = tokio::join!(some, none);
    let expected = [("1", late()), ("2", allowed(true)), ("3", allowed(false))];
    let expected = expected.map(|(id, result)| (id.to_owned(), result));
    assert_eq!(some, BTreeMap::from(expected));
    assert!(headers.contains_key("meridian-revision"), "{headers:?}");
    assert_eq!(none, BTreeMap::from([("4".to_owned(), late())]));
    assert_eq!(of_none["openfga-authorization-model-id"], STORE);
}

/// The error that a batch gives such a check.
#[tokio::test]
async fn a_check_alone_whose_time_ends_has_the_same_error() {
    let (local, _slots) = without_slots().await;
    let soon = Context {
        deadline: Instant::now() + Duration::from_millis(100),
        ..context()
    };
    let refused = local.check(&soon, check(1)).await.unwrap_err();
    let Some(CheckResult::Error(of_batch)) = late().check_result else {
        panic!("no error");
    };
    assert_eq!(refused.error.message, of_batch.message);
    assert_eq!(refused.error.code.number(), 4004);
}

#[tokio::test]
async fn a_streamed_batch_whose_time_ends_sends_an_error_for_each_check_that_is_not_decided() {
    let (local, _slots) = without_slots().await;
    let (found, mut results) = tokio::sync::mpsc::channel(3);
    let soon = Context {
        deadline: Instant::now() + Duration::from_secs(1),
        ..context()
    };
    let asked = local.streamed_batch_check(&soon, batch_of(&[1, 2, 3]), found);
    asked.await.unwrap();
    let mut told: Vec<_> = std::iter::from_fn(|| results.try_recv().ok()).collect();
    assert_eq!(told.pop(), Some(("1".to_owned(), late())));
    told.sort_by(|one, other| one.0.cmp(&other.0));
    let decided = [("2", allowed(true)), ("3", allowed(false))];
    assert_eq!(told, decided.map(|(id, result)| (id.to_owned(), result)));
}

/// They differ in what they bring, not in what they read.
#[tokio::test]
async fn what_several_checks_of_a_batch_miss_is_read_once() {
    let local = local_with(MemoryDatastore::new(), MODEL, Limits::default()).await;
    let given = |number: usize| v1::CheckRequest {
        contextual_tuples: Some(v1::ContextualTupleKeys {
            tuple_keys: vec![v1::TupleKey {
                user: "user:bob".into(),
                relation: "reader".into(),
                object: format!("doc:{number}"),
                condition: None,
            }],
        }),
        ..check(0)
    };
    let (cx, checks) = (context(), [given(1), given(2), check(3)]);
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
    let open = (0..checks.len()).map(|at| Open { at, lead: None });
    let mut tell = |_: usize, outcome: Outcome, _: &ServedBy| panic!("{outcome:?}");
    let begun = batch
        .begin(open.collect(), &model.unwrap(), &mut tell)
        .await;
    let (mut long, mut together) = (Vec::new(), batch.most_together(checks.len()));
    let position = snapshot.position();
    let round = batch.round(begun, position, &mut together, &mut long, &mut tell);
    let (unknown, reads) = round.await;
    let places: Vec<_> = unknown.iter().map(|(_, places)| &**places).collect();
    assert_eq!((places, reads.len()), (vec![&[0][..], &[0], &[1]], 2));
}
