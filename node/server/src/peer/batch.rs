//! Many checks, decided above: results come as they are decided there.

use meridian_model::{ApiError, Code, ModelId};
use meridian_proto::meridian::v1 as wire;
use meridian_proto::openfga::v1;
use meridian_sync::envelope::{position_from_wire, position_to_wire};

use super::api::{api_error, timely, unreadable};
use super::origin::Origin;
use super::stream::Part;
use super::{Client, Peers};
use crate::calls::{Context, Refusal, ServedBy};
use crate::commands::check::Decision;
use crate::commands::decisions::Outcome;
use crate::routing::batch::{Standing, Tell, Told, tell_at};

impl Peers {
    /// Has different checks of one store, model and consistency decided above, in one call, and tells each as it is decided.
    /// Where the answer breaks off, or a node cannot decide all for want of others, what is left is asked again.
    ///
    /// # Errors
    /// The deciding node's refusal of all that are not told, or `unavailable` when none can be reached.
    pub async fn decide_all(
        &self,
        cx: &Context,
        checks: &[v1::CheckRequest],
        tell: &mut Tell<'_>,
    ) -> Result<Standing, Refusal> {
        let mut told = Told::default();
        loop {
            let (before, (places, left)) = (told.count(), told.rest(checks));
            let decided = {
                let mut noting = |at: usize, outcome: Outcome, by: &ServedBy| {
                    told.pass(at, outcome, by, tell);
                };
                let mut telling = tell_at(&places, &mut noting);
                self.decide_some(cx, &left, &mut telling).await
            };
            let (is_left, went_on) = (told.count() < checks.len(), told.count() > before);
            match decided {
                Err(refusal) if is_left && went_on && is_lacking(&refusal) => {}
                Ok(_) if is_left => {
                    return Err(unreadable("an EvaluateBatch answer of another size").into());
                }
                decided => return decided.map(|standing| told.with(standing)),
            }
        }
    }

    async fn decide_some(
        &self,
        cx: &Context,
        checks: &[v1::CheckRequest],
        tell: &mut Tell<'_>,
    ) -> Result<Standing, Refusal> {
        let request = wire::EvaluateBatchRequest {
            batch: Some(batch_of(checks)),
            min_position: cx.min_position.map(position_to_wire),
        };
        let call = async |client: Client| {
            let request = timely(cx, request.clone());
            client.nodes().evaluate_batch(request).await
        };
        let mut parts = self.begin(cx, call).await?;
        loop {
            let (part, model) = parts.next(cx, cx.deadline).await?;
            for result in part.results {
                let (at, outcome, by) = result_of(result, model)?;
                tell(at, outcome, &by);
            }
            if let Some(end) = part.end {
                let origin = Origin::new(end.position, model, &end.served_by);
                return match end.error {
                    Some(error) => Err(origin.refused(error)),
                    None => origin.whole("an EvaluateBatch answer"),
                };
            }
        }
    }
}

impl Part for wire::EvaluateBatchPart {
    fn model(&self) -> &str {
        &self.authorization_model_id
    }

    /// None where results stand before it: those count.
    fn error(&self) -> Option<&wire::NodeError> {
        let end = self.end.as_ref().filter(|_| self.results.is_empty())?;
        end.error.as_ref()
    }
}

/// Whether a refusal says nothing of the checks, but of the node or the way there.
fn is_lacking(refusal: &Refusal) -> bool {
    let code = refusal.error.code;
    matches!(code, Code::Unavailable | Code::ResourceExhausted)
}

/// Checks as one message: what they have in common is the first's.
fn batch_of(checks: &[v1::CheckRequest]) -> v1::BatchCheckRequest {
    let first = checks.first().cloned().unwrap_or_default();
    let item = |check: &v1::CheckRequest| v1::BatchCheckItem {
        tuple_key: check.tuple_key.clone(),
        contextual_tuples: check.contextual_tuples.clone(),
        context: check.context.clone(),
        correlation_id: String::new(),
    };
    v1::BatchCheckRequest {
        store_id: first.store_id,
        checks: checks.iter().map(item).collect(),
        authorization_model_id: first.authorization_model_id,
        consistency: first.consistency,
    }
}

/// One result: of which check, what was decided, and by whom.
fn result_of(
    result: wire::evaluate_batch_part::Result,
    model: Option<ModelId>,
) -> Result<(usize, Outcome, ServedBy), ApiError> {
    use wire::evaluate_batch_part::result::Outcome as Wire;
    let by = ServedBy::new(&result.served_by)
        .map_err(|_| unreadable("an EvaluateBatch result without a node"))?;
    let outcome = match (result.outcome, result.position, model) {
        (Some(Wire::Allowed(allowed)), Some(position), Some(model)) => Ok(Decision {
            allowed,
            position: position_from_wire(position),
            model,
            reads: result.reads,
        }),
        (Some(Wire::Error(error)), ..) => Err(api_error(error)),
        _ => {
            return Err(unreadable(
                "an EvaluateBatch result without outcome, position or model",
            ));
        }
    };
    Ok((result.check as usize, outcome, by))
}
