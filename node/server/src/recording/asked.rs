//! What of a request and its answer is recorded. Contexts and contextual tuples are not, nor what a message says of them.

use std::any::Any;
use std::collections::BTreeMap;

use meridian_flow::{Asked, MAX_EXPLANATION_BYTES};
use meridian_model::Code;
use meridian_proto::authzen::v1 as authzen;
use meridian_proto::google::Struct;
use meridian_proto::google::value::Kind;
use meridian_proto::openfga::v1;
use meridian_proto::openfga::v1::batch_check_single_result::CheckResult;
use meridian_proto::openfga::v1::check_error;
use serde_json::{Map, Value, json};

use crate::api::Rejection;
use crate::routing::batch::BatchResult;

/// How many of a batch's checks are told one by one.
const CHECKS: usize = 50;

/// What was asked, and what is known of the answer.
pub(super) struct Question {
    pub(super) asked: Asked,
    counted: Counted,
}

/// What is told of an answer beside whether it was allowed.
enum Counted {
    Nothing,
    /// What a listing found: its name, and how many.
    Found(&'static str, usize),
    Checks(Checks),
}

/// A batch.
struct Checks {
    /// How many there are.
    all: usize,
    answered: usize,
    /// The first of them, by what names their results.
    told: BTreeMap<String, Checked>,
}

struct Checked {
    key: [String; 3],
    result: Option<Value>,
}

/// What a streamed call finds.
pub trait Finding: Send + 'static {
    /// Notes it.
    fn note(&self, to: &mut Noting<'_>);
}

/// Where findings are noted.
pub struct Noting<'a>(pub(super) &'a mut Question);

impl Finding for String {
    fn note(&self, Noting(question): &mut Noting<'_>) {
        if let Counted::Found(_, count) = &mut question.counted {
            *count += 1;
        }
    }
}

impl Finding for BatchResult {
    fn note(&self, Noting(question): &mut Noting<'_>) {
        let (id, result) = self;
        if let Counted::Checks(checks) = &mut question.counted {
            checks.answer(id, || of_check(result));
        }
    }
}

/// What was asked; `None` of a call that decides nothing.
pub(super) fn of(operation: &'static str, request: &dyn Any) -> Option<Question> {
    let mut question = of_openfga(request).or_else(|| of_authzen(request))?;
    operation.clone_into(&mut question.asked.operation);
    Some(question)
}

fn of_openfga(request: &dyn Any) -> Option<Question> {
    if let Some(check) = request.downcast_ref::<v1::CheckRequest>() {
        return Some(Question::about(key(check.tuple_key.as_ref())));
    }
    if let Some(batch) = request.downcast_ref::<v1::BatchCheckRequest>() {
        let checks = batch.checks.iter().map(|check| {
            let id = check.correlation_id.clone();
            (id, key(check.tuple_key.as_ref()))
        });
        return Some(Question::of_all(checks));
    }
    if let Some(list) = request.downcast_ref::<v1::ListObjectsRequest>() {
        let about = [&list.r#type, &list.relation, &list.user];
        return Some(Question::listing("objects", about.map(String::clone)));
    }
    if let Some(list) = request.downcast_ref::<v1::StreamedListObjectsRequest>() {
        let about = [&list.r#type, &list.relation, &list.user];
        return Some(Question::listing("objects", about.map(String::clone)));
    }
    if let Some(list) = request.downcast_ref::<v1::ListUsersRequest>() {
        let object = list.object.as_ref();
        let object = object.map(|object| format!("{}:{}", object.r#type, object.id));
        let filters = list.user_filters.iter().map(|filter| {
            if filter.relation.is_empty() {
                filter.r#type.clone()
            } else {
                format!("{}#{}", filter.r#type, filter.relation)
            }
        });
        let filters: Vec<_> = filters.collect();
        let about = [
            object.unwrap_or_default(),
            list.relation.clone(),
            filters.join(","),
        ];
        return Some(Question::listing("users", about));
    }
    let expand = request.downcast_ref::<v1::ExpandRequest>()?;
    let about = expand.tuple_key.as_ref();
    let about = about.map(|key| [key.object.clone(), key.relation.clone(), String::new()]);
    Some(Question::about(about.unwrap_or_default()))
}

fn of_authzen(request: &dyn Any) -> Option<Question> {
    if let Some(one) = request.downcast_ref::<authzen::EvaluationRequest>() {
        let (resource, subject) = (one.resource.as_ref(), one.subject.as_ref());
        return Some(Question::about(evaluated(
            resource,
            one.action.as_ref(),
            subject,
        )));
    }
    if let Some(all) = request.downcast_ref::<authzen::EvaluationsRequest>() {
        let alone = [authzen::EvaluationsItemRequest::default()];
        let items = match all.evaluations.as_slice() {
            [] => alone.as_slice(),
            items => items,
        };
        let checks = items.iter().enumerate().map(|(at, item)| {
            let resource = item.resource.as_ref().or(all.resource.as_ref());
            let action = item.action.as_ref().or(all.action.as_ref());
            let subject = item.subject.as_ref().or(all.subject.as_ref());
            (at.to_string(), evaluated(resource, action, subject))
        });
        return Some(Question::of_all(checks));
    }
    if let Some(search) = request.downcast_ref::<authzen::SubjectSearchRequest>() {
        let (resource, action) = (search.resource.as_ref(), search.action.as_ref());
        let [object, relation, _] = evaluated(resource, action, None);
        let subject = search.subject.as_ref();
        let subject = subject.map(|subject| subject.r#type.clone());
        let about = [object, relation, subject.unwrap_or_default()];
        return Some(Question::listing("users", about));
    }
    if let Some(search) = request.downcast_ref::<authzen::ResourceSearchRequest>() {
        let (action, subject) = (search.action.as_ref(), search.subject.as_ref());
        let [_, relation, subject] = evaluated(None, action, subject);
        let resource = search.resource.as_ref();
        let resource = resource.map(|resource| resource.r#type.clone());
        let about = [resource.unwrap_or_default(), relation, subject];
        return Some(Question::listing("objects", about));
    }
    let search = request.downcast_ref::<authzen::ActionSearchRequest>()?;
    let (resource, subject) = (search.resource.as_ref(), search.subject.as_ref());
    let about = evaluated(resource, None, subject);
    Some(Question::listing("relations", about))
}

/// A check's object, relation and user.
fn key(key: Option<&v1::CheckRequestTupleKey>) -> [String; 3] {
    let key = key.map(|key| [&key.object, &key.relation, &key.user]);
    key.map(|key| key.map(String::clone)).unwrap_or_default()
}

/// The same of an evaluation.
fn evaluated(
    resource: Option<&authzen::Resource>,
    action: Option<&authzen::Action>,
    subject: Option<&authzen::Subject>,
) -> [String; 3] {
    let resource = resource.map(|resource| format!("{}:{}", resource.r#type, resource.id));
    let action = action.map(|action| action.name.clone());
    let subject = subject.map(|subject| format!("{}:{}", subject.r#type, subject.id));
    [resource, action, subject].map(Option::unwrap_or_default)
}

impl Question {
    fn about([object, relation, subject]: [String; 3]) -> Self {
        let asked = Asked {
            object,
            relation,
            subject,
            ..Asked::default()
        };
        Self {
            asked,
            counted: Counted::Nothing,
        }
    }

    fn listing(what: &'static str, about: [String; 3]) -> Self {
        Self {
            counted: Counted::Found(what, 0),
            ..Self::about(about)
        }
    }

    /// Of many checks, what all those told of have in common stands where it does of one.
    fn of_all(checks: impl ExactSizeIterator<Item = (String, [String; 3])>) -> Self {
        let all = checks.len();
        let told = checks.take(CHECKS).map(|(id, key)| {
            let result = None;
            (id, Checked { key, result })
        });
        let told: BTreeMap<_, _> = told.collect();
        let mut common = told.values().next().map(|first| first.key.clone());
        for (at, part) in common.iter_mut().flatten().enumerate() {
            let differs = |checked: &Checked| checked.key.get(at) != Some(&*part);
            if all > told.len() || told.values().any(differs) {
                part.clear();
            }
        }
        let checks = Checks {
            all,
            answered: 0,
            told,
        };
        Self {
            counted: Counted::Checks(checks),
            ..Self::about(common.unwrap_or_default())
        }
    }

    /// Takes in an answer's message. A stream's has none: its findings were noted.
    pub(super) fn answer(&mut self, body: &dyn Any) {
        if let Some(check) = body.downcast_ref::<v1::CheckResponse>() {
            self.asked.allowed = Some(check.allowed);
        } else if let Some(one) = body.downcast_ref::<authzen::EvaluationResponse>() {
            self.asked.allowed = Some(one.decision);
        }
        match &mut self.counted {
            Counted::Nothing => {}
            Counted::Found(_, count) => {
                if let Some(found) = found(body) {
                    *count = found;
                }
            }
            Counted::Checks(checks) => checks.answer_all(body),
        }
    }

    /// All of it; what there is beside stands in the explanation, as JSON.
    pub(super) fn into_asked(self) -> Asked {
        let details = match self.counted {
            Counted::Nothing => None,
            Counted::Found(what, count) => Some(json!({ what: count })),
            Counted::Checks(checks) => Some(checks.to_json()),
        };
        Asked {
            explanation: details.map(|details| details.to_string()),
            ..self.asked
        }
    }
}

/// How much a listing found.
fn found(body: &dyn Any) -> Option<usize> {
    let objects = || {
        Some(
            body.downcast_ref::<v1::ListObjectsResponse>()?
                .objects
                .len(),
        )
    };
    let users = || Some(body.downcast_ref::<v1::ListUsersResponse>()?.users.len());
    let subjects = || body.downcast_ref::<authzen::SubjectSearchResponse>();
    let resources = || body.downcast_ref::<authzen::ResourceSearchResponse>();
    let actions = || body.downcast_ref::<authzen::ActionSearchResponse>();
    objects()
        .or_else(users)
        .or_else(|| Some(subjects()?.results.len()))
        .or_else(|| Some(resources()?.results.len()))
        .or_else(|| Some(actions()?.results.len()))
}

impl Checks {
    fn answer(&mut self, id: &str, result: impl FnOnce() -> Value) {
        self.answered += 1;
        if let Some(checked) = self.told.get_mut(id) {
            checked.result = Some(result());
        }
    }

    fn answer_all(&mut self, body: &dyn Any) {
        if let Some(batch) = body.downcast_ref::<v1::BatchCheckResponse>() {
            for (id, result) in &batch.result {
                self.answer(id, || of_check(result));
            }
        } else if let Some(all) = body.downcast_ref::<authzen::EvaluationsResponse>() {
            for (at, one) in all.evaluations.iter().enumerate() {
                self.answer(&at.to_string(), || of_evaluation(one));
            }
        }
    }

    /// As many checks as there is room for.
    fn to_json(&self) -> Value {
        let mut results = Map::new();
        let mut room = MAX_EXPLANATION_BYTES.saturating_sub(128);
        for (id, Checked { key, result }) in &self.told {
            let [object, relation, user] = key;
            let mut told = json!({ "object": object, "relation": relation, "user": user });
            if let (Some(told), Some(Value::Object(result))) = (told.as_object_mut(), result) {
                told.extend(result.clone());
            }
            let takes = told.to_string().len() + json!(id).to_string().len() + 2;
            let Some(left) = room.checked_sub(takes) else {
                break;
            };
            room = left;
            results.insert(id.clone(), told);
        }
        json!({ "checks": self.all, "answered": self.answered, "results": results })
    }
}

fn of_check(result: &v1::BatchCheckSingleResult) -> Value {
    match &result.check_result {
        Some(CheckResult::Allowed(allowed)) => json!({ "allowed": allowed }),
        Some(CheckResult::Error(error)) => {
            let number = match error.code {
                Some(
                    check_error::Code::InputError(number)
                    | check_error::Code::InternalError(number),
                ) => u32::try_from(number).ok(),
                None => None,
            };
            let code = number.and_then(Code::from_number).unwrap_or(Code::Internal);
            json!({ "error": code.name() })
        }
        None => json!({}),
    }
}

/// A failed evaluation has an HTTP status and a message in its context.
fn of_evaluation(one: &authzen::EvaluationResponse) -> Value {
    let part = |of: &Struct, name: &str| of.fields.get(name)?.kind.clone();
    let error = one
        .context
        .as_ref()
        .and_then(|context| part(context, "error"));
    match error {
        Some(Kind::StructValue(error)) => match part(&error, "status") {
            Some(Kind::NumberValue(status)) => json!({ "error": status.to_string() }),
            _ => json!({ "error": Code::Internal.name() }),
        },
        _ => json!({ "allowed": one.decision }),
    }
}

/// What is kept instead of an error's message that may show more.
pub(crate) const PRIVATE: &str =
    "the request breaks a rule; what was said of it may show what is not kept";

/// Why a request got no answer, as far as that can be kept: what a rule of a check, its tuples or a condition says may show the
/// request's contextual tuples and context.
pub(super) fn kept_message(rejection: &Rejection) -> &str {
    match rejection {
        Rejection::Refused(refusal)
            if matches!(
                refusal.error.code,
                Code::ValidationError | Code::InvalidArgument | Code::InvalidTuple
            ) =>
        {
            PRIVATE
        }
        rejection => rejection.message(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(count: usize, size: usize) -> v1::BatchCheckRequest {
        let check = |number: usize| v1::BatchCheckItem {
            tuple_key: Some(v1::CheckRequestTupleKey {
                user: "user:anne".into(),
                relation: "viewer".into(),
                object: format!("document:{number:0size$}"),
            }),
            correlation_id: format!("c{number}"),
            ..v1::BatchCheckItem::default()
        };
        v1::BatchCheckRequest {
            checks: (0..count).map(check).collect(),
            ..v1::BatchCheckRequest::default()
        }
    }

    fn details(asked: &Asked) -> Value {
        serde_json::from_str(asked.explanation.as_deref().unwrap()).unwrap()
    }

    #[test]
    fn what_all_checks_of_a_batch_have_in_common_is_what_was_asked() {
        let asked = of("BatchCheck", &checks(3, 1)).unwrap().into_asked();
        assert_eq!(
            (&*asked.object, &*asked.relation, &*asked.subject),
            ("", "viewer", "user:anne")
        );
        // Of those that are not told of nothing is known.
        let asked = of("BatchCheck", &checks(CHECKS + 1, 1)).unwrap();
        assert_eq!(asked.asked.subject, "");
    }

    #[test]
    fn the_details_of_a_batch_fit() {
        let asked = of("BatchCheck", &checks(500, 500)).unwrap().into_asked();
        assert!(asked.explanation.as_ref().unwrap().len() <= MAX_EXPLANATION_BYTES);
        let details = details(&asked);
        assert_eq!(details["checks"], 500);
        let told = details["results"].as_object().unwrap().len();
        assert!((20..CHECKS).contains(&told), "{told}");
    }
}
