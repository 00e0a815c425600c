use meridian_model::Revision;
use meridian_sync::edge::Touched;
use meridian_sync::views::Observer;

use super::*;
use crate::peer::Peers;

const STORE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
const MODEL: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAW";

/// An edge that holds nothing, and keeps one answer, under [`MODEL`], of `at`.
fn edge_with_answer(at: Position, question: &v1::CheckRequest) -> Edge {
    let store = STORE.parse().unwrap();
    let answers = Arc::new(Answers::new(100, Duration::from_secs(60)));
    answers.publish(store, &View::new(Position::new(1, 1)), &Touched::All);
    let key = answer_key(store, MODEL.parse().unwrap(), question).unwrap();
    answers.keep(
        key,
        KeptAnswer {
            allowed: true,
            position: at,
            reads: Vec::new(),
        },
    );
    Edge::new(Parts {
        views: Arc::new(Views::new(Instant::now(), None)),
        answers,
        upwards: Upwards::new(Peers::new(&[]).unwrap()),
        name: ServedBy::new("edge/test").unwrap(),
        limits: Limits::default(),
        max_staleness: Duration::from_secs(60),
        revision_wait: Duration::ZERO,
    })
}

fn question(model: &str) -> v1::CheckRequest {
    v1::CheckRequest {
        store_id: STORE.into(),
        authorization_model_id: model.into(),
        tuple_key: Some(v1::CheckRequestTupleKey {
            user: "user:anne".into(),
            relation: "reader".into(),
            object: "doc:1".into(),
        }),
        ..Default::default()
    }
}

/// Where another model may be the latest than the one in force here, only a question that names its model is answered.
#[test]
fn an_answer_from_ahead_of_the_view_is_for_those_who_name_its_model() {
    let (store, at) = (STORE.parse().unwrap(), Position::new(1, 12));
    let answered = |view: u64, model: &str| {
        let view = View::new(Position {
            revision: Revision(view),
            ..at
        });
        let request = question(model);
        let found = Found::Unknown(MODEL.parse().unwrap());
        edge_with_answer(at, &request)
            .settle(store, &view, &request, found)
            .map(|answer| answer.unwrap().position)
    };
    assert_eq!(answered(10, MODEL), Some(Some(at)));
    assert_eq!(answered(10, ""), None);
    assert_eq!(answered(12, ""), Some(Some(at)));
    assert_eq!(answered(14, ""), Some(Some(Position::new(1, 14))));
}
