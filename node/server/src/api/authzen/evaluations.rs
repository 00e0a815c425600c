//! Evaluation and Evaluations: one question, and several.

use std::collections::BTreeMap;

use meridian_model::{ApiError, Code};
use meridian_proto::authzen::v1;
use meridian_proto::authzen::v1::EvaluationsSemantic;
use meridian_proto::google::value::Kind;
use meridian_proto::google::{Struct, Value};
use meridian_proto::openfga::v1 as openfga;
use meridian_proto::openfga::v1::batch_check_single_result::CheckResult;

use super::{Question, check_batch, invalid_argument};
use crate::api::operations::Asked;
use crate::calls::{Answer, Reply};

/// Evaluation: a Check.
pub async fn one(
    asked: Asked<'_>,
    request: v1::EvaluationRequest,
) -> Answer<v1::EvaluationResponse> {
    let question = Question::new(
        request.subject.as_ref(),
        request.resource.as_ref(),
        request.action.as_ref(),
        request.context.as_ref(),
    )
    .map_err(invalid_argument)?;
    let reply = check(asked, request.store_id, question).await?;
    Ok(reply.map(|checked| decided(checked.allowed)))
}

/// Evaluations: all of them are a BatchCheck; up to the first of a kind, they are Checks one after the other.
pub async fn several(
    asked: Asked<'_>,
    request: v1::EvaluationsRequest,
) -> Answer<v1::EvaluationsResponse> {
    if request.evaluations.is_empty() {
        let alone = v1::EvaluationRequest {
            store_id: request.store_id,
            subject: request.subject,
            resource: request.resource,
            action: request.action,
            context: request.context,
        };
        let reply = one(asked, alone).await?;
        return Ok(reply.map(|evaluation| v1::EvaluationsResponse {
            evaluations: vec![evaluation],
        }));
    }
    let semantic = request.options.unwrap_or_default().evaluations_semantic();
    match semantic {
        EvaluationsSemantic::ExecuteAll => all(asked, &request).await,
        EvaluationsSemantic::DenyOnFirstDeny => up_to_first(asked, &request, false).await,
        EvaluationsSemantic::PermitOnFirstPermit => up_to_first(asked, &request, true).await,
    }
}

/// One of several questions: what it leaves out is the request's.
fn question(
    request: &v1::EvaluationsRequest,
    item: &v1::EvaluationsItemRequest,
) -> Result<Question, &'static str> {
    Question::new(
        item.subject.as_ref().or(request.subject.as_ref()),
        item.resource.as_ref().or(request.resource.as_ref()),
        item.action.as_ref().or(request.action.as_ref()),
        item.context.as_ref().or(request.context.as_ref()),
    )
}

async fn check(
    asked: Asked<'_>,
    store_id: String,
    question: Question,
) -> Answer<openfga::CheckResponse> {
    let request = openfga::CheckRequest {
        store_id,
        authorization_model_id: asked.model_id(),
        tuple_key: Some(question.key),
        context: question.context,
        ..Default::default()
    };
    asked.calls.check(asked.cx, request).await
}

async fn all(
    asked: Asked<'_>,
    request: &v1::EvaluationsRequest,
) -> Answer<v1::EvaluationsResponse> {
    let mut checks = Vec::with_capacity(request.evaluations.len());
    for (at, item) in request.evaluations.iter().enumerate() {
        let question = question(request, item)
            .map_err(|why| invalid_argument(format!("evaluation {at}: {why}")))?;
        checks.push(openfga::BatchCheckItem {
            tuple_key: Some(question.key),
            context: question.context,
            correlation_id: at.to_string(),
            contextual_tuples: None,
        });
    }
    check_batch(asked, checks.len())?;
    let count = checks.len();
    let batch = openfga::BatchCheckRequest {
        store_id: request.store_id.clone(),
        authorization_model_id: asked.model_id(),
        checks,
        ..Default::default()
    };
    let reply = asked.calls.batch_check(asked.cx, batch).await?;
    Ok(reply.map(|mut batch| {
        let result = |at: usize| batch.result.remove(&at.to_string());
        let evaluations = (0..count).map(result).map(of_batch).collect();
        v1::EvaluationsResponse { evaluations }
    }))
}

fn of_batch(result: Option<openfga::BatchCheckSingleResult>) -> v1::EvaluationResponse {
    match result.and_then(|result| result.check_result) {
        Some(CheckResult::Allowed(allowed)) => decided(allowed),
        Some(CheckResult::Error(error)) => {
            let status = match error.code {
                Some(openfga::check_error::Code::InputError(number)) => u32::try_from(number)
                    .ok()
                    .and_then(Code::from_number)
                    .map_or(400, Code::http_status),
                _ => 500,
            };
            failed(status, error.message)
        }
        None => failed(500, "no result for this evaluation".to_owned()),
    }
}

/// Asks one after the other, until one is decided as `last`. A failed one counts as denied.
async fn up_to_first(
    asked: Asked<'_>,
    request: &v1::EvaluationsRequest,
    last: bool,
) -> Answer<v1::EvaluationsResponse> {
    let mut evaluations = Vec::with_capacity(request.evaluations.len());
    // Positions do not go back, so the last answer's holds for all of them.
    let mut answered = Reply {
        body: (),
        position: None,
        model: None,
        served_by: asked.name.clone(),
        truncated: false,
    };
    for item in &request.evaluations {
        let evaluation = match question(request, item) {
            Ok(question) => match check(asked, request.store_id.clone(), question).await {
                Ok(reply) => {
                    let evaluation = decided(reply.body.allowed);
                    answered = reply.map(drop);
                    evaluation
                }
                Err(refusal) => {
                    let model = refusal.model.as_deref();
                    model.into_iter().for_each(|id| asked.cx.model.note(*id));
                    failed(
                        refusal.error.code.http_status(),
                        upstream_words(&refusal.error),
                    )
                }
            },
            Err(why) => failed(Code::InvalidArgument.http_status(), why.to_owned()),
        };
        let is_last = evaluation.decision == last;
        evaluations.push(evaluation);
        if is_last {
            break;
        }
    }
    answered.model = answered.model.or_else(|| asked.cx.model.get());
    Ok(answered.map(|()| v1::EvaluationsResponse { evaluations }))
}

/// An error as OpenFGA's server prints its own, which is what it puts here.
fn upstream_words(error: &ApiError) -> String {
    let ApiError { code, message } = error;
    format!("rpc error: code = Code({}) desc = {message}", code.number())
}

fn decided(decision: bool) -> v1::EvaluationResponse {
    v1::EvaluationResponse {
        decision,
        context: None,
    }
}

/// The denial of a question that could not be decided.
fn failed(status: u16, message: String) -> v1::EvaluationResponse {
    let object = |fields: Vec<(&str, Kind)>| {
        let fields = fields
            .into_iter()
            .map(|(name, kind)| (name.to_owned(), Value { kind: Some(kind) }));
        Struct {
            fields: fields.collect::<BTreeMap<_, _>>(),
        }
    };
    let error = object(vec![
        ("status", Kind::NumberValue(status.into())),
        ("message", Kind::StringValue(message)),
    ]);
    v1::EvaluationResponse {
        decision: false,
        context: Some(object(vec![("error", Kind::StructValue(error))])),
    }
}
