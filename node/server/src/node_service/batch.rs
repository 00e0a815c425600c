//! Checks that are decided together for a node below: results go on as they are decided, as many in a part as are there.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use meridian_proto::meridian::v1 as wire;
use meridian_proto::openfga::v1;
use meridian_sync::envelope::position_to_wire;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use super::{model_to_wire, name_of, node_error};
use crate::api::deadline_exceeded;
use crate::calls::{Context, Refusal, Resolved, ServedBy};
use crate::commands::decisions::Outcome;
use crate::routing::Decide;
use crate::routing::batch::Standing;
use crate::telemetry::request::onward;

/// Results, and behind them how it ended.
pub(super) type Parts = BoxStream<'static, Result<wire::EvaluateBatchPart, Status>>;

type Decided = Result<Standing, Refusal>;
type Results = mpsc::Receiver<wire::evaluate_batch_part::Result>;

/// Begins to decide a batch. Dropped, it ends.
pub(super) fn parts(
    decide: Arc<dyn Decide>,
    cx: Context,
    batch: v1::BatchCheckRequest,
    this: ServedBy,
) -> Parts {
    let checks = checks_of(batch);
    let most = checks.len().max(1);
    // Room for each, so that nobody waits for the node below while holding a snapshot.
    let (found, results) = mpsc::channel(most);
    let model = cx.model.clone();
    let deciding = AbortOnDropHandle::new(tokio::spawn(onward(async move {
        let mut tell = |at: usize, outcome, by: &ServedBy| {
            // An error means that nobody listens any more; the work is then about to be dropped.
            let _sent = found.try_send(result(at, outcome, by));
        };
        let deciding = decide.decide_all(&cx, &checks, &mut tell);
        let decided = tokio::time::timeout_at(cx.deadline.into(), deciding).await;
        decided.unwrap_or_else(|_| Err(deadline_exceeded().into()))
    })));
    let next = move |under_way: Option<(Results, AbortOnDropHandle<Decided>)>| {
        let (this, model) = (this.clone(), model.clone());
        async move {
            let (mut results, deciding) = under_way?;
            let mut part = wire::EvaluateBatchPart::default();
            if results.recv_many(&mut part.results, most).await > 0 {
                part.authorization_model_id = model_to_wire(model.get());
                return Some((Ok(part), Some((results, deciding))));
            }
            let end = match deciding.await {
                Ok(decided) => Ok(last(decided, &model, &this)),
                Err(_) => Err(Status::internal("a batch ended unexpectedly")),
            };
            Some((end, None))
        }
    };
    futures::stream::unfold(Some((results, deciding)), next).boxed()
}

/// The last part: how it ended.
fn last(decided: Decided, resolved: &Resolved, this: &ServedBy) -> wire::EvaluateBatchPart {
    let (model, end) = match decided.map_err(|refusal| refusal.under(resolved)) {
        Ok(standing) => (
            Some(standing.model),
            wire::EvaluateBatchEnd {
                error: None,
                position: Some(position_to_wire(standing.position)),
                served_by: standing.served_by.as_str().to_owned(),
            },
        ),
        Err(refusal) => (
            refusal.model.as_deref().copied(),
            wire::EvaluateBatchEnd {
                error: Some(node_error(&refusal.error)),
                position: refusal.position.map(position_to_wire),
                served_by: name_of(&refusal, this),
            },
        ),
    };
    wire::EvaluateBatchPart {
        results: Vec::new(),
        end: Some(end),
        authorization_model_id: model_to_wire(model),
    }
}

fn checks_of(batch: v1::BatchCheckRequest) -> Vec<v1::CheckRequest> {
    let check = |item: v1::BatchCheckItem| v1::CheckRequest {
        store_id: batch.store_id.clone(),
        tuple_key: item.tuple_key,
        contextual_tuples: item.contextual_tuples,
        authorization_model_id: batch.authorization_model_id.clone(),
        trace: false,
        context: item.context,
        consistency: batch.consistency,
    };
    batch.checks.into_iter().map(check).collect()
}

fn result(at: usize, outcome: Outcome, by: &ServedBy) -> wire::evaluate_batch_part::Result {
    use wire::evaluate_batch_part::Result;
    use wire::evaluate_batch_part::result::Outcome as Wire;
    let result = Result {
        check: u32::try_from(at).unwrap_or(u32::MAX),
        served_by: by.as_str().to_owned(),
        ..Result::default()
    };
    match outcome {
        Ok(decision) => Result {
            outcome: Some(Wire::Allowed(decision.allowed)),
            reads: decision.reads,
            position: Some(position_to_wire(decision.position)),
            ..result
        },
        Err(error) => Result {
            outcome: Some(Wire::Error(node_error(&error))),
            ..result
        },
    }
}
