//! What a check asks, by the rules of its model.

use meridian_condition::Context as Values;
use meridian_engine::{Given, Question};
use meridian_model::tuple::InvalidTuple;
use meridian_model::{ApiError, Code, Timestamp, Tuple, TypeSystem, validate};
use meridian_proto::google::struct_to_json;
use meridian_proto::openfga::v1;

use crate::api::convert::condition_of_wire;

/// A Check request whose question and contextual tuples the model allows.
#[derive(Debug)]
pub struct CheckedRequest<'a> {
    /// The question.
    pub question: Question<'a>,
    /// The tuples to take as given.
    pub contextual: Vec<Tuple>,
    /// The values of conditions' parameters.
    pub context: Values,
}

impl<'a> CheckedRequest<'a> {
    /// Checks a request by a model.
    ///
    /// # Errors
    /// `validation_error` for a malformed question, one about unknown types and relations, or a context with control
    /// characters; `invalid_tuple` for a contextual tuple that the model does not allow, be it for its condition alone.
    pub fn new(types: &TypeSystem, request: &'a v1::CheckRequest) -> Result<Self, ApiError> {
        let key = request
            .tuple_key
            .as_ref()
            .ok_or_else(|| ApiError::validation("tuple_key: value is required"))?;
        let question = Question::parse(&key.object, &key.relation, &key.user)
            .map_err(|why| invalid_question(&why))?;
        known_names(types, &question)?;
        let context = request.context.as_ref().map(struct_to_json);
        let context = context.unwrap_or_default();
        validate::context(&context)
            .map_err(|why| ApiError::validation(format!("invalid context: {why}")))?;
        let given = request.contextual_tuples.as_ref();
        let contextual = contextual(types, given.map_or(&[][..], |tuples| &tuples.tuple_keys))
            .map_err(|error| ApiError::new(Code::InvalidTuple, error.message))?;
        Ok(Self {
            question,
            contextual,
            context,
        })
    }

    /// What it brings along.
    pub fn given(&self) -> Given<'_> {
        Given {
            tuples: &self.contextual,
            context: &self.context,
        }
    }
}

/// The contextual tuples of a request.
///
/// # Errors
/// `invalid_tuple` for one that the model does not allow, `validation_error` where it is the condition that does not fit.
pub(crate) fn contextual(
    types: &TypeSystem,
    tuples: &[v1::TupleKey],
) -> Result<Vec<Tuple>, ApiError> {
    let allowed = |wire: &v1::TupleKey| {
        let key = validate::parse_contextual(&wire.object, &wire.relation, &wire.user)?;
        let condition = condition_of_wire(wire);
        validate::contextual(types, &key, condition.as_ref())?;
        Ok(Tuple {
            key,
            condition,
            timestamp: Timestamp(0),
        })
    };
    tuples.iter().map(allowed).collect()
}

/// Refuses types and relations that the model does not define.
fn known_names(types: &TypeSystem, question: &Question<'_>) -> Result<(), ApiError> {
    let user = question.user();
    for object_type in [user.object_type(), question.object_type()] {
        if !types.has_type(object_type) {
            return Err(ApiError::validation(format!(
                "invalid relation: type '{object_type}' not found"
            )));
        }
    }
    let userset = user
        .userset()
        .map(|(_, relation)| (user.object_type(), relation));
    for (object_type, relation) in userset
        .into_iter()
        .chain([(question.object_type(), question.relation())])
    {
        if types.relation(object_type, relation).is_none() {
            return Err(ApiError::validation(format!(
                "invalid relation: relation '{object_type}#{relation}' not found"
            )));
        }
    }
    Ok(())
}

pub(super) fn invalid_question(why: &InvalidTuple) -> ApiError {
    ApiError::validation(format!("invalid relation: {why}"))
}
