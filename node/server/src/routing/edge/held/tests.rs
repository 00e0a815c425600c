use meridian_engine::explain::Because;
use meridian_model::change::StoredModel;
use meridian_model::{TupleKey, dsl};

use super::*;
use crate::explanations::{Explained, Explainer, Size};
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

#[tokio::test]
async fn what_the_view_decides_is_explained_by_it() {
    let model = StoredModel {
        id: MODEL.parse().unwrap(),
        model: Arc::new(dsl::parse(TYPES).unwrap()),
    };
    let member = TupleKey::parse("team:core", "member", "user:anne").unwrap();
    let view = View::new(Position::new(1, 5))
        .with_models([model])
        .cover("team", [(member, None)]);
    let edge = edge_of(
        Arc::new(Views::new(Instant::now(), None)),
        Arc::new(crate::answers::Answers::new(1, Duration::from_secs(60))),
    );
    let size = Size {
        parts: 100,
        bytes: 100_000,
    };
    let explainer = Explainer::new(Limits::default(), size);
    let late = Instant::now() + Duration::from_secs(60);
    for (object, relation, steps) in [
        ("team:core", "member", Some(true)),
        ("team:other", "member", Some(false)),
        ("doc:1", "reader", None),
    ] {
        let request = v1::CheckRequest {
            store_id: STORE.into(),
            tuple_key: Some(v1::CheckRequestTupleKey {
                user: "user:anne".into(),
                relation: relation.into(),
                object: object.into(),
            }),
            ..Default::default()
        };
        let why = Why::wanted();
        let found = edge.held.decide(&view, &request, edge.held.inline_budget());
        found.leave(&why, &view, &request);
        match (explainer.explanation(why, late).await, steps) {
            (Explained::Because(of), Some(allowed)) => {
                assert_eq!(of.allowed, allowed, "{object}");
                let because = &of.steps.first().unwrap().because;
                let by_a_tuple = matches!(because, Because::Tuple { .. });
                assert_eq!(by_a_tuple, allowed, "{because:?}");
            }
            // Upstream decides it.
            (explained, steps) => assert_eq!((explained, steps), (Explained::NotHere, None)),
        }
    }
}
