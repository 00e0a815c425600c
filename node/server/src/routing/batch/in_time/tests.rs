use std::time::{Duration, Instant};

use async_trait::async_trait;
use meridian_model::{ApiError, ModelId};

use super::*;
use crate::commands::check::Decision;

const MODEL: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
const CHECKS: usize = 3;

/// Tells these outcomes of the first checks, under the model if it knows one, and ends so; without an end it never does.
struct Played {
    outcomes: Vec<Outcome>,
    model: Option<ModelId>,
    ends: Option<Code>,
}

#[async_trait]
impl DecideAll for Played {
    async fn decide_all(
        &self,
        cx: &Context,
        _: &[v1::CheckRequest],
        tell: &mut Tell<'_>,
    ) -> Result<Standing, Refusal> {
        self.model.into_iter().for_each(|id| cx.model.note(id));
        for (at, outcome) in self.outcomes.iter().enumerate() {
            tell(at, outcome.clone(), &name("above"));
        }
        match self.ends {
            Some(code) => Err(ApiError::new(code, "it ends").into()),
            None => std::future::pending().await,
        }
    }
}

fn name(name: &str) -> ServedBy {
    ServedBy::new(name).unwrap()
}

fn known() -> Option<ModelId> {
    Some(MODEL.parse().unwrap())
}

fn allowed(revision: u64) -> Outcome {
    Ok(Decision {
        allowed: true,
        position: Position::new(1, revision),
        model: MODEL.parse().unwrap(),
        reads: Vec::new(),
    })
}

type Was = Result<u64, (Code, String)>;

/// What the batch comes to, and what is told of each check: where it holds, or its error.
async fn decided(
    outcomes: Vec<Outcome>,
    model: Option<ModelId>,
    ends: Option<Code>,
) -> (Answer<()>, Vec<(usize, Was)>) {
    let node = Played {
        outcomes,
        model,
        ends,
    };
    let cx = Context {
        deadline: Instant::now() + Duration::from_millis(100),
        min_position: None,
        caller: None,
        model: Default::default(),
        why: Default::default(),
    };
    let mut all = Vec::new();
    let mut tell = |at: usize, outcome: Outcome, _: &ServedBy| {
        let was = outcome.map(|decision| decision.position.revision.0);
        all.push((at, was.map_err(|error| (error.code, error.message))));
    };
    let checks = vec![v1::CheckRequest::default(); CHECKS];
    let here = name("edge");
    let decided = decide_in_time((&node, &here), &cx, &checks, &mut tell).await;
    (decided, all)
}

fn late() -> Was {
    Err((Code::DeadlineExceeded, "Request Deadline Exceeded".into()))
}

#[tokio::test]
async fn what_is_not_decided_in_time_has_that_as_its_own_error() {
    let (answer, told) = decided(vec![allowed(7), allowed(5)], known(), None).await;
    assert_eq!(told, [(0, Ok(7)), (1, Ok(5)), (2, late())]);
    let reply = answer.unwrap();
    assert_eq!(
        (reply.position, reply.model),
        (Some(Position::new(1, 5)), known())
    );
    assert_eq!(reply.served_by.as_str(), "above");

    // An error of a check's own is something decided.
    let invalid = Err(ApiError::validation("no such type"));
    let (answer, told) = decided(vec![invalid], None, None).await;
    let invalid = Err((Code::ValidationError, "no such type".into()));
    assert_eq!(told, [(0, invalid), (1, late()), (2, late())]);
    assert_eq!(answer.unwrap().position, None);
}

#[tokio::test]
async fn where_nothing_is_decided_in_time_it_is_whether_the_model_is_known_that_counts() {
    let (answer, told) = decided(Vec::new(), known(), None).await;
    assert_eq!(told, [(0, late()), (1, late()), (2, late())]);
    let reply = answer.unwrap();
    assert_eq!((reply.position, reply.model), (None, known()));
    assert_eq!(reply.served_by.as_str(), "edge");

    let (answer, told) = decided(Vec::new(), None, None).await;
    assert!(told.is_empty());
    assert_eq!(answer.unwrap_err().error, deadline_exceeded());
}

#[tokio::test]
async fn what_ends_all_for_another_reason_ends_the_batch() {
    let code = Code::Unavailable;
    let (answer, told) = decided(vec![allowed(5)], known(), Some(code)).await;
    assert_eq!(told, [(0, Ok(5))]);
    assert_eq!(answer.unwrap_err().error.code, code);

    // That somebody else's time was up is no other one.
    let (answer, told) = decided(vec![allowed(5)], known(), Some(Code::DeadlineExceeded)).await;
    let ended = Err((Code::DeadlineExceeded, "it ends".into()));
    assert_eq!(told, [(0, Ok(5)), (1, ended.clone()), (2, ended)]);
    assert!(answer.is_ok());
}
