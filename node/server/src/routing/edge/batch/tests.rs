use meridian_model::change::StoredModel;
use meridian_model::{Position, TupleKey, dsl};

use super::*;
use crate::routing::edge::tests::above::{Played, context};
use crate::routing::edge::tests::{MODEL, STORE};

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
        model: std::sync::Arc::new(dsl::parse(TYPES).unwrap()),
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

/// The node above allows only `doc:1`, so what it says of a team would differ.
#[tokio::test]
async fn what_the_view_proves_is_answered_here_and_all_the_rest_by_one_call_above() {
    let node = Played::start().await;
    node.leave.add_permits(1);
    let (edge, at) = (node.edge(), Position::new(1, 5));
    let checks = [
        ("doc:1", "reader"),
        ("team:core", "member"),
        ("doc:2", "reader"),
        ("team:other", "member"),
    ]
    .map(check);
    let mut batch = Batch {
        edge: &edge,
        cx: context(),
        store: STORE.parse().unwrap(),
        checks: &checks,
        standing: None,
    };
    let mut told = Vec::new();
    let mut tell = |place: usize, outcome: Outcome| told.push((place, outcome.unwrap().allowed));
    let mut left = (0..checks.len()).collect();
    batch.prove(&view(at), &mut left, &mut tell);
    assert_eq!((left.as_slice(), node.calls()), ([0, 2].as_slice(), 0));
    batch.ask_or_join(left, &mut tell).await.unwrap();
    assert_eq!(node.calls(), 1);
    assert_eq!(told, [(1, true), (3, false), (0, true), (2, false)]);
    // The earlier of both: no answer is of one before it.
    assert_eq!(batch.standing.unwrap().position, at);
}
