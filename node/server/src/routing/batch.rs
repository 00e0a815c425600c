//! BatchCheck and its stream at every role: equal checks of a batch are one, whoever decides them.

mod in_time;
mod told;

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use meridian_model::{Code, ModelId, Position};
use meridian_proto::openfga::v1;
use meridian_proto::openfga::v1::batch_check_single_result::CheckResult;
use tokio::sync::mpsc;

use crate::answers::Asked;
use crate::api::CheckDurations;
use crate::calls::{Answer, Context, Refusal, ServedBy};
use crate::commands::decisions::Outcome;
use in_time::decide_in_time;
pub(crate) use told::{Told, lifting, tell_at};

/// Takes a check's outcome, by its place in the batch, as it is decided, and who decided it.
pub type Tell<'a> = dyn FnMut(usize, Outcome, &ServedBy) + Send + 'a;

/// What a whole batch holds at, and who decided it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// No answer is of an earlier position.
    pub position: Position,
    /// The model.
    pub model: ModelId,
    /// The node.
    pub served_by: ServedBy,
}

/// Decides many checks at once.
#[async_trait]
pub trait DecideAll: Send + Sync {
    /// Decides different checks of one store, model and consistency at the asked position or later, each told exactly once.
    ///
    /// # Errors
    /// What is wrong with all of them. What was told until then is decided nonetheless.
    async fn decide_all(
        &self,
        cx: &Context,
        checks: &[v1::CheckRequest],
        tell: &mut Tell<'_>,
    ) -> Result<Standing, Refusal>;
}

/// The different checks of a batch, and the correlation ids of each.
struct Batch {
    checks: Vec<v1::CheckRequest>,
    names: Vec<Vec<String>>,
}

impl Batch {
    fn new(request: v1::BatchCheckRequest) -> Self {
        let mut places = HashMap::new();
        let (mut checks, mut names): (Vec<_>, Vec<Vec<_>>) = Default::default();
        for check in request.checks {
            let request = v1::CheckRequest {
                store_id: request.store_id.clone(),
                tuple_key: check.tuple_key,
                contextual_tuples: check.contextual_tuples,
                authorization_model_id: request.authorization_model_id.clone(),
                trace: false,
                context: check.context,
                consistency: request.consistency,
            };
            let asked = Asked::new(&request, &request.authorization_model_id);
            let at = *places.entry(asked).or_insert(checks.len());
            match names.get_mut(at) {
                Some(names) => names.push(check.correlation_id),
                None => {
                    checks.push(request);
                    names.push(vec![check.correlation_id]);
                }
            }
        }
        Self { checks, names }
    }
}

/// Answers a BatchCheck at the node `name`.
pub async fn answer(
    (node, name): (&impl DecideAll, &ServedBy),
    cx: &Context,
    request: v1::BatchCheckRequest,
) -> Answer<v1::BatchCheckResponse> {
    let Batch { checks, names } = Batch::new(request);
    let (mut result, mut durations) = (BTreeMap::new(), CheckDurations::begin());
    let mut tell = |at: usize, outcome, _: &ServedBy| {
        let single = single_result(outcome);
        durations.decided(names.get(at).map_or(0, Vec::len));
        for name in names.get(at).into_iter().flatten() {
            result.insert(name.clone(), single.clone());
        }
    };
    let decided = decide_in_time((node, name), cx, &checks, &mut tell).await?;
    Ok(decided.map(|()| v1::BatchCheckResponse { result }))
}

/// A result of a streamed batch: a check's correlation id, and what it was decided.
pub type BatchResult = (String, v1::BatchCheckSingleResult);

/// Answers a batch at the node `name`, result by result. `found` must have room for one of each check, so that a slow client keeps nobody waiting.
pub async fn stream(
    (node, name): (&impl DecideAll, &ServedBy),
    cx: &Context,
    request: v1::BatchCheckRequest,
    found: &mpsc::Sender<BatchResult>,
) -> Answer<()> {
    let Batch { checks, names } = Batch::new(request);
    let mut durations = CheckDurations::begin();
    let mut tell = |at: usize, outcome, _: &ServedBy| {
        let single = single_result(outcome);
        durations.decided(names.get(at).map_or(0, Vec::len));
        for name in names.get(at).into_iter().flatten() {
            // An error means that nobody listens any more; the call is then about to be dropped.
            let _sent = found.try_send((name.clone(), single.clone()));
        }
    };
    decide_in_time((node, name), cx, &checks, &mut tell).await
}

/// One check's answer as a batch names it, errors in upstream's words. One of the request is the asker's, any other the
/// server's.
fn single_result(decided: Outcome) -> v1::BatchCheckSingleResult {
    let check_result = match decided {
        Ok(decision) => CheckResult::Allowed(decision.allowed),
        Err(error) => {
            let number = i32::from(error.code.number());
            let code = match number {
                2000..4000 => v1::check_error::Code::InputError(number),
                _ => v1::check_error::Code::InternalError(number),
            };
            let message = match error.code {
                Code::InvalidTuple => format!("invalid tuple: {}", error.message),
                _ => error.message,
            };
            CheckResult::Error(v1::CheckError {
                message,
                code: Some(code),
            })
        }
    };
    v1::BatchCheckSingleResult {
        check_result: Some(check_result),
    }
}
