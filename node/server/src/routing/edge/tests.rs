pub(super) mod above;

use std::sync::Mutex;

use async_trait::async_trait;
use meridian_model::change::StoreInfo;
use meridian_model::ports::StoreHead;
use meridian_model::{Position, Revision, Tiers, Timestamp, Tuple};
use meridian_sync::edge::Touched;
use meridian_sync::edge_driver::{DriverSettings, EdgeDriver};
use meridian_sync::upstream::{Changes, Incoming, Standing, Upstream, UpstreamError};
use meridian_sync::views::{Observer, Shown};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::calls::Calls;
use crate::peer::Peers;

pub(super) const STORE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
pub(super) const MODEL: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAW";

/// An edge that holds nothing, and keeps one answer, under [`MODEL`], of `at`.
fn edge_with_answer(at: Position, question: &v1::CheckRequest) -> Edge {
    let store = STORE.parse().unwrap();
    let answers = Arc::new(Answers::new(100, Duration::from_secs(60)));
    answers.publish(store, &View::new(Position::new(1, 1)), &Touched::All);
    answers.keep(
        Asked::new(question, MODEL),
        Decision {
            allowed: true,
            position: at,
            model: MODEL.parse().unwrap(),
            reads: Vec::new(),
        },
    );
    edge_of(Arc::new(Views::new(Instant::now(), None)), answers)
}

pub(super) fn edge_of(views: Arc<Views>, answers: Arc<Answers>) -> Edge {
    edge_below(&[], views, answers, Limits::default())
}

fn edge_below(
    addresses: &[String],
    views: Arc<Views>,
    answers: Arc<Answers>,
    limits: Limits,
) -> Edge {
    Edge::new(Parts {
        views,
        answers,
        upwards: Upwards::new(Peers::new(addresses).unwrap()),
        name: ServedBy::new("edge/test").unwrap(),
        limits,
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

/// A node above that has an empty [`STORE`] at this position, and keeps no changes.
struct Above(Mutex<Position>);

impl Above {
    fn at(&self) -> Position {
        *self.0.lock().unwrap()
    }
}

#[async_trait]
impl Upstream for Above {
    async fn positions(&self, _: Instant) -> Result<Standing, UpstreamError> {
        Ok(Standing {
            stores: vec![(STORE.parse().unwrap(), self.at())],
            heartbeat: None,
        })
    }

    async fn changes(
        &self,
        _: StoreId,
        _: Position,
        _: u32,
        _: Instant,
    ) -> Result<Changes, UpstreamError> {
        Err(UpstreamError::Trimmed)
    }

    async fn head(&self, id: StoreId, _: Position, _: Instant) -> Result<StoreHead, UpstreamError> {
        Ok(StoreHead {
            info: StoreInfo {
                id,
                name: "shop".into(),
                created_at: Timestamp(0),
            },
            position: self.at(),
            models: Vec::new(),
            tiers: Tiers::default(),
            deleted_at: None,
        })
    }

    async fn fill(
        &self,
        _: StoreId,
        _: &str,
        _: Position,
        _: Duration,
    ) -> Result<(Position, Vec<Tuple>), UpstreamError> {
        unreachable!("no type is Critical")
    }

    async fn snapshot(
        &self,
        _: StoreId,
        _: Position,
        _: Duration,
    ) -> Result<Incoming, UpstreamError> {
        unreachable!("an edge fills type by type")
    }
}

/// The topic is silent, and neither silence nor the regular comparison is what helps: else every check would go up until then.
#[tokio::test]
async fn a_position_that_upstream_has_shown_is_asked_for_when_a_check_waits_for_it_in_vain() {
    let (first, later) = (Position::new(1, 5), Position::new(1, 9));
    let (store, start): (StoreId, _) = (STORE.parse().unwrap(), Instant::now());
    let (views, above) = (
        Arc::new(Views::new(start, None)),
        Arc::new(Above(Mutex::new(first))),
    );
    let driver = EdgeDriver {
        upstream: Arc::clone(&above) as _,
        views: Arc::clone(&views),
        kept: Vec::new(),
        settings: DriverSettings {
            silence: Duration::from_secs(3600),
            compare: Duration::from_secs(3600),
            ..DriverSettings::default()
        },
        start,
    };
    let (stop, (_events, received)) = (CancellationToken::new(), tokio::sync::mpsc::channel(1));
    let driven = tokio::spawn(driver.run(received, stop.clone()));
    let stands_at = async |position: Position| {
        let reached = |shown: Arc<Shown>| shown.view.position() == position;
        while !views.get(store).is_some_and(reached) {
            tokio::task::yield_now().await;
        }
    };
    let soon = Duration::from_secs(60);
    tokio::time::timeout(soon, stands_at(first)).await.unwrap();

    *above.0.lock().unwrap() = later;
    let edge = edge_of(Arc::clone(&views), Arc::new(Answers::new(1, soon)));
    edge.upwards.floors().lift(store, later);
    let cx = Context {
        deadline: Instant::now() + soon,
        min_position: Some(later),
        caller: None,
        model: Default::default(),
        why: Default::default(),
    };
    // Nothing above takes the question itself.
    assert!(edge.check(&cx, question("")).await.is_err());
    tokio::time::timeout(soon, stands_at(later)).await.unwrap();
    stop.cancel();
    driven.await.unwrap();
}
