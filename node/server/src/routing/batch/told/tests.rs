use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use meridian_model::{ApiError, Code, ModelId};

use super::*;
use crate::commands::check::Decision;

const STORE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// Tells these outcomes, and ends so. Notes the objects it was asked of.
struct Played {
    outcomes: Vec<(usize, Outcome)>,
    ends: Result<u64, Code>,
    asked: Mutex<Vec<String>>,
}

impl Played {
    fn new(outcomes: Vec<(usize, Outcome)>, ends: Result<u64, Code>) -> Self {
        Self {
            outcomes,
            ends,
            asked: Mutex::default(),
        }
    }
}

#[async_trait]
impl DecideAll for Played {
    async fn decide_all(
        &self,
        _: &Context,
        checks: &[v1::CheckRequest],
        tell: &mut Tell<'_>,
    ) -> Result<Standing, Refusal> {
        let objects = checks
            .iter()
            .map(|check| check.tuple_key.clone().unwrap().object);
        self.asked.lock().unwrap().extend(objects);
        for (at, outcome) in self.outcomes.clone() {
            tell(at, outcome, &by());
        }
        let revision = self.ends.map_err(|code| ApiError::new(code, "it ends"))?;
        Ok(Standing {
            position: Position::new(1, revision),
            model: model(),
            served_by: by(),
        })
    }
}

fn by() -> ServedBy {
    ServedBy::new("central").unwrap()
}

fn model() -> ModelId {
    STORE.parse().unwrap()
}

fn allowed(revision: u64) -> Outcome {
    Ok(Decision {
        allowed: true,
        position: Position::new(1, revision),
        model: model(),
        reads: Vec::new(),
    })
}

fn failed(code: Code) -> Outcome {
    Err(ApiError::new(code, "of one check"))
}

fn checks() -> Vec<v1::CheckRequest> {
    let check = |object: &str| v1::CheckRequest {
        store_id: STORE.into(),
        tuple_key: Some(v1::CheckRequestTupleKey {
            object: object.into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    ["doc:a", "doc:b"].map(check).to_vec()
}

/// As a replica and a primary, or a region and central, decide the checks: what was told of each, how it ended, and the
/// revision that the floor is lifted to.
async fn decided(
    here: &Played,
    there: &Played,
) -> (Vec<(usize, Result<u64, Code>)>, Result<u64, Code>, u64) {
    let (store, floors) = (STORE.parse().unwrap(), Floors::default());
    let cx = Context {
        deadline: Instant::now() + Duration::from_secs(60),
        min_position: None,
        caller: None,
        model: Default::default(),
        why: Default::default(),
    };
    let mut all = Vec::new();
    let ended = {
        let mut note = |at: usize, outcome: Outcome, _: &ServedBy| {
            let outcome = outcome.map(|decision| decision.position.revision.0);
            all.push((at, outcome.map_err(|error| error.code)));
        };
        let (mut told, mut tell) = (Told::default(), lifting(&floors, Some(store), &mut note));
        match told.decide_here(here, &cx, &checks(), &mut tell).await {
            Ok(standing) => Ok(standing),
            Err(_) => told.decide_rest(there, &cx, &checks(), &mut tell).await,
        }
    };
    let ended = ended.map(|standing| standing.position.revision.0);
    let ended = ended.map_err(|refusal| refusal.error.code);
    (all, ended, floors.get(store).revision.0)
}

#[tokio::test]
async fn the_floor_is_lifted_to_the_latest_of_what_is_told_though_all_hold_at_the_earliest() {
    let here = Played::new(vec![(0, allowed(5))], Err(Code::Unavailable));
    let there = Played::new(vec![(0, allowed(9))], Ok(9));
    let (told, ended, floor) = decided(&here, &there).await;
    assert_eq!(told, [(0, Ok(5)), (1, Ok(9))]);
    assert_eq!((ended, floor), (Ok(5), 9));

    // Also where the rest is refused: what was told was told.
    let there = Played::new(Vec::new(), Err(Code::Unavailable));
    let (told, ended, floor) = decided(&here, &there).await;
    assert_eq!(told, [(0, Ok(5))]);
    assert_eq!((ended, floor), (Err(Code::Unavailable), 5));
}

#[tokio::test]
async fn what_a_datastore_says_of_itself_is_no_outcome_of_a_check() {
    for code in [Code::Unavailable, Code::ResourceExhausted] {
        let here = Played::new(vec![(0, failed(code)), (1, allowed(5))], Ok(5));
        let there = Played::new(vec![(0, allowed(9))], Ok(9));
        let (told, ended, _) = decided(&here, &there).await;
        assert_eq!(told, [(1, Ok(5)), (0, Ok(9))]);
        assert_eq!(ended, Ok(5));
        assert_eq!(*there.asked.lock().unwrap(), ["doc:a"]);

        // Where nobody else decides it either, the others are decided all the same.
        let there = Played::new(Vec::new(), Err(Code::Unavailable));
        let (told, ended, _) = decided(&here, &there).await;
        assert_eq!(told, [(1, Ok(5)), (0, Err(Code::Unavailable))]);
        assert_eq!(ended, Ok(5));
    }
    let of_the_check = failed(Code::ValidationError);
    let here = Played::new(vec![(0, of_the_check), (1, allowed(5))], Ok(5));
    let there = Played::new(Vec::new(), Ok(9));
    let (told, ..) = decided(&here, &there).await;
    assert_eq!(told, [(0, Err(Code::ValidationError)), (1, Ok(5))]);
    assert!(there.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_result_that_comes_twice_is_told_once() {
    let here = Played::new(
        vec![
            (0, allowed(5)),
            (0, failed(Code::Internal)),
            (1, allowed(5)),
        ],
        Ok(5),
    );
    let there = Played::new(Vec::new(), Ok(9));
    let (told, ..) = decided(&here, &there).await;
    assert_eq!(told, [(0, Ok(5)), (1, Ok(5))]);
}
