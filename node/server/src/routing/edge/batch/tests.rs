use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use meridian_model::change::StoredModel;
use meridian_model::{Position, TupleKey, dsl};
use meridian_sync::views::Views;

use super::*;
use crate::answers::Answers;
use crate::limits::Limits;
use crate::routing::edge::tests::above::{Played, context};
use crate::routing::edge::tests::{MODEL, STORE, edge_of};

const TYPES: &str = "model
  schema 1.1
type user
type team
  relations
    define member: [user]
type doc
  relations
    define reader: [user]
";

/// Teams are held, documents are not.
fn view(at: Position) -> View {
    let model = StoredModel {
        id: MODEL.parse().unwrap(),
        model: Arc::new(dsl::parse(TYPES).unwrap()),
    };
    let member = TupleKey::parse("team:core", "member", "user:anne").unwrap();
    View::new(at)
        .with_models([model])
        .cover("team", [(member, None)])
}

fn check((object, relation): (&str, &str)) -> v1::CheckRequest {
    v1::CheckRequest {
        store_id: STORE.into(),
        tuple_key: Some(v1::CheckRequestTupleKey {
            user: "user:anne".into(),
            relation: relation.into(),
            object: object.into(),
        }),
        ..Default::default()
    }
}

fn checks<const N: usize>(of: [(&str, &str); N]) -> [v1::CheckRequest; N] {
    of.map(check)
}

fn batch<'a>(edge: &'a Edge, checks: &'a [v1::CheckRequest], tell: &'a mut Tell<'a>) -> Batch<'a> {
    Batch {
        edge,
        cx: context(),
        store: STORE.parse().unwrap(),
        checks,
        told: Mutex::new(Told {
            tell,
            standing: None,
        }),
    }
}

const MIXED: [(&str, &str); 4] = [
    ("doc:1", "reader"),
    ("team:core", "member"),
    ("doc:2", "reader"),
    ("team:other", "member"),
];

/// The node above allows only `doc:1`, so what it says of a team would differ.
#[tokio::test]
async fn what_the_view_proves_is_answered_here_and_all_the_rest_by_one_call_above() {
    let node = Played::start().await;
    node.leave.add_permits(1);
    let (edge, at) = (node.edge(), Position::new(1, 5));
    let (checks, view) = (checks(MIXED), view(at));
    let mut told = Vec::new();
    let mut tell = |place: usize, outcome: Outcome, by: &ServedBy| {
        told.push((place, outcome.unwrap().allowed, by.as_str().to_owned()));
    };
    let mut batch = batch(&edge, &checks, &mut tell);
    let (left, long) = batch.prove(&view, 0..checks.len()).await;
    assert_eq!((left.as_slice(), node.calls()), ([0, 2].as_slice(), 0));
    batch.decide_rest(Some(&view), left, long).await.unwrap();
    assert_eq!(node.calls(), 1);
    // The earlier of both: no answer is of one before it.
    let standing = batch.told().standing.take().unwrap();
    assert_eq!(
        (standing.position, standing.served_by.as_str()),
        (at, "regional/test")
    );
    drop(batch);
    let (here, above) = ("edge/test".to_owned(), "regional/test".to_owned());
    let expected = [
        (1, true, here.clone()),
        (3, false, here),
        (0, true, above.clone()),
        (2, false, above),
    ];
    assert_eq!(told, expected);
}

/// Nothing may be evaluated on the connection's task; what is not proven by a long evaluation either is asked above.
#[tokio::test]
async fn what_takes_long_is_decided_here_as_a_check_alone_is() {
    let node = Played::start().await;
    node.leave.add_permits(1);
    let edge = node.edge_within(Limits {
        check_inline_work: 0,
        concurrent_long_checks: 2 * MIXED.len(),
        ..Limits::default()
    });
    let (checks, view) = (checks(MIXED), view(Position::new(1, 5)));
    let mut told = Vec::new();
    let mut tell = |place: usize, outcome: Outcome, by: &ServedBy| {
        told.push((place, outcome.unwrap().allowed, by.as_str() == "edge/test"));
    };
    let mut batch = batch(&edge, &checks, &mut tell);
    let (left, long) = batch.prove(&view, 0..checks.len()).await;
    assert_eq!((left.len(), long.len()), (0, MIXED.len()));
    batch.decide_rest(Some(&view), left, long).await.unwrap();
    drop(batch);
    assert_eq!(node.calls(), 1);
    told.sort_unstable();
    let expected = [
        (0, true, false),
        (1, true, true),
        (2, false, false),
        (3, false, true),
    ];
    assert_eq!(told, expected);
}

/// On one thread, as the tests' runtime is.
#[tokio::test]
async fn while_a_batch_is_proven_others_have_their_turn() {
    let edge = edge_of(
        Arc::new(Views::new(Instant::now(), None)),
        Arc::new(Answers::new(1, Duration::ZERO)),
    );
    let checks = vec![check(("team:core", "member")); 1000];
    let turns = Arc::new(AtomicUsize::new(0));
    let other = Arc::clone(&turns);
    let others = tokio::spawn(async move {
        loop {
            other.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
        }
    });
    let mut seen = Vec::new();
    let mut tell = |_: usize, _: Outcome, _: &ServedBy| seen.push(turns.load(Ordering::SeqCst));
    let batch = batch(&edge, &checks, &mut tell);
    let (left, long) = batch
        .prove(&view(Position::new(1, 5)), 0..checks.len())
        .await;
    drop(batch);
    others.abort();
    assert!(left.is_empty() && long.is_empty());
    assert!(seen.first() < seen.last(), "{seen:?}");
}
