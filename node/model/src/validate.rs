//! Whether a tuple fits a model, with OpenFGA's codes and words.
//!
//! A tuple reaches a node in four ways, each with rules of its own: written ([`write`]), brought along by a question
//! ([`contextual`]), asked about ([`question`]) and deleted ([`delete`]). A fifth rule, [`holds`], says whether a stored
//! tuple still counts under a model that may be newer than the tuple.
//!
//! The `parse_` functions stand before them where the tuple is still text, so that a malformed field is reported the
//! way its caller reports everything else.

mod context;

use meridian_condition::Condition;

use crate::error::{ApiError, Code};
use crate::tuple::{InvalidTuple, Subject, Tuple, TupleCondition, TupleKey, split_object};
use crate::typesystem::{Relation, TypeSystem};
pub use context::context;

/// Parses a tuple to be written.
///
/// # Errors
/// 2000, naming the malformed field.
pub fn parse_write(object: &str, relation: &str, user: &str) -> Result<TupleKey, ApiError> {
    TupleKey::parse(object, relation, user)
        .map_err(|error| malformed(Code::ValidationError, object, relation, user, &error))
}

/// Parses a contextual tuple.
///
/// # Errors
/// 2027, naming the malformed field.
pub fn parse_contextual(object: &str, relation: &str, user: &str) -> Result<TupleKey, ApiError> {
    TupleKey::parse(object, relation, user)
        .map_err(|error| malformed(Code::InvalidTuple, object, relation, user, &error))
}

/// Parses the tuple a Check asks about.
///
/// # Errors
/// 2000, naming the malformed field.
pub fn parse_question(object: &str, relation: &str, user: &str) -> Result<TupleKey, ApiError> {
    TupleKey::parse(object, relation, user).map_err(unanswerable)
}

/// Checks a tuple to be written.
///
/// # Errors
/// 2000, naming the tuple and the rule.
pub fn write(
    types: &TypeSystem,
    key: &TupleKey,
    condition: Option<&TupleCondition>,
) -> Result<(), ApiError> {
    fits(types, key, condition)
        .map_err(|fault| ApiError::validation(fault.describe(key, condition)))?;
    match &key.subject {
        Subject::Userset(object, relation)
            if *object == key.object && *relation == key.relation =>
        {
            Err(ApiError::validation(invalid(
                key,
                "cannot write a tuple that is implicit",
            )))
        }
        _ => Ok(()),
    }
}

/// Checks a contextual tuple.
///
/// # Errors
/// 2027, naming the tuple and the rule; 2000 when it is the condition that does not fit.
pub fn contextual(
    types: &TypeSystem,
    key: &TupleKey,
    condition: Option<&TupleCondition>,
) -> Result<(), ApiError> {
    fits(types, key, condition).map_err(|fault| {
        let code = match fault {
            Fault::Condition(_) => Code::ValidationError,
            Fault::Key(_) => Code::InvalidTuple,
        };
        ApiError::new(code, fault.describe(key, condition))
    })
}

/// Checks the tuple a Check asks about: its types and relations exist. Whether it could be written is no matter.
///
/// # Errors
/// 2000, naming what does not exist.
pub fn question(types: &TypeSystem, key: &TupleKey) -> Result<(), ApiError> {
    known(types, key).map_err(unanswerable)
}

/// Parses and checks the tuple an assertion asks about, as [`question`] does and in a Write's words.
///
/// # Errors
/// 2000, naming the malformed field or what does not exist.
pub fn asserted(
    types: &TypeSystem,
    object: &str,
    relation: &str,
    user: &str,
) -> Result<(), ApiError> {
    let key = TupleKey::parse(object, relation, user);
    let key = key.map_err(|error| ApiError::validation(error.to_string()))?;
    known(types, &key).map_err(ApiError::validation)
}

/// A relation of a type.
///
/// # Errors
/// 2000, naming what does not exist.
pub fn relation<'a>(
    types: &'a TypeSystem,
    object_type: &str,
    relation: &str,
) -> Result<&'a Relation, ApiError> {
    if !types.has_type(object_type) {
        return Err(ApiError::validation(type_not_found(object_type)));
    }
    let found = types.relation(object_type, relation);
    found.ok_or_else(|| ApiError::validation(relation_not_found(object_type, relation)))
}

/// Parses a tuple to be deleted. Any user OpenFGA has ever accepted may be named, `anne` and `*` included; `None` when
/// no stored tuple can have this key.
///
/// # Errors
/// 2000 when the user is malformed.
pub fn delete(object: &str, relation: &str, user: &str) -> Result<Option<TupleKey>, ApiError> {
    match TupleKey::parse(object, relation, user) {
        Ok(key) => Ok(Some(key)),
        Err(error @ (InvalidTuple::User(_) | InvalidTuple::LongUser(_)))
            if !is_plain_user(user) =>
        {
            Err(malformed(
                Code::ValidationError,
                object,
                relation,
                user,
                &error,
            ))
        }
        Err(_) => Ok(None),
    }
}

/// Whether a stored tuple counts under the model: one that does not is as if it were not there.
pub fn holds(types: &TypeSystem, tuple: &Tuple) -> bool {
    let name = tuple.condition.as_ref().map(|condition| &condition.name);
    types
        .relation(tuple.key.object.object_type(), &tuple.key.relation)
        .is_some_and(|relation| {
            let mut admitting = relation
                .restrictions
                .iter()
                .filter(|restriction| restriction.admits(&tuple.key.subject));
            admitting.any(|restriction| restriction.condition.as_ref() == name)
        })
}

/// Why a tuple does not fit.
enum Fault {
    Key(String),
    Condition(String),
}

impl Fault {
    fn describe(&self, key: &TupleKey, condition: Option<&TupleCondition>) -> String {
        let reason = match self {
            Self::Key(reason) => return invalid(key, reason),
            Self::Condition(reason) => reason,
        };
        match condition {
            None => invalid(key, reason),
            Some(condition) => {
                invalid(format_args!("{key} (condition {})", condition.name), reason)
            }
        }
    }
}

fn fits(
    types: &TypeSystem,
    key: &TupleKey,
    condition: Option<&TupleCondition>,
) -> Result<(), Fault> {
    known(types, key).map_err(Fault::Key)?;
    let (object_type, relation) = (key.object.object_type(), &key.relation);
    let Some(compiled) = types.relation(object_type, relation) else {
        return Err(Fault::Key(relation_not_found(object_type, relation)));
    };
    if !compiled
        .restrictions
        .iter()
        .any(|restriction| restriction.admits(&key.subject))
    {
        return Err(Fault::Key(refusal(types, key)));
    }
    fits_condition(types, compiled, &key.subject, condition)
}

fn fits_condition(
    types: &TypeSystem,
    relation: &Relation,
    subject: &Subject,
    condition: Option<&TupleCondition>,
) -> Result<(), Fault> {
    let name = condition.map(|condition| &condition.name);
    let mut admitting = relation
        .restrictions
        .iter()
        .filter(|restriction| restriction.admits(subject));
    let has_control = |condition: &TupleCondition| context::has_control(&condition.name);
    match condition {
        Some(_) if condition.is_some_and(has_control) => Err(Fault::Condition(
            "condition name contains forbidden characters".to_owned(),
        )),
        _ if admitting.any(|restriction| restriction.condition.as_ref() == name) => condition
            .map_or(Ok(()), |condition| {
                fits_context(types, condition).map_err(Fault::Condition)
            }),
        None => Err(Fault::Condition("condition is missing".to_owned())),
        Some(condition)
            if &*condition.name != Condition::INLINE
                && types.condition(&condition.name).is_none() =>
        {
            Err(Fault::Condition("undefined condition".to_owned()))
        }
        Some(_) => Err(Fault::Condition(
            "invalid condition for type restriction".to_owned(),
        )),
    }
}

/// Whether what the tuple fixes fits the condition's parameters; of an inline condition, whether it can be compiled.
fn fits_context(types: &TypeSystem, condition: &TupleCondition) -> Result<(), String> {
    let context = condition.parse().map_err(|why| why.to_string())?;
    context::context(&context)?;
    match types.condition(&condition.name) {
        Some(declared) => declared
            .check_context(&context)
            .map_err(|why| why.to_string()),
        None => Condition::inline(&context)
            .map(drop)
            .map_err(|why| why.to_string()),
    }
}

/// That the types and relations of all three parts exist.
fn known(types: &TypeSystem, key: &TupleKey) -> Result<(), String> {
    let subject = &key.subject;
    if !types.has_type(subject.subject_type()) {
        return Err(type_not_found(subject.subject_type()));
    }
    if let Subject::Userset(object, relation) = subject
        && types.relation(object.object_type(), relation).is_none()
    {
        return Err(relation_not_found(object.object_type(), relation));
    }
    let object_type = key.object.object_type();
    if !types.has_type(object_type) {
        return Err(type_not_found(object_type));
    }
    if types.relation(object_type, &key.relation).is_none() {
        return Err(relation_not_found(object_type, &key.relation));
    }
    Ok(())
}

/// Why the relation does not admit the subject.
fn refusal(types: &TypeSystem, key: &TupleKey) -> String {
    let (object_type, relation) = (key.object.object_type(), &key.relation);
    let tupleset = types.is_tupleset(object_type, relation);
    match &key.subject {
        Subject::Wildcard(_) if tupleset => format!(
            "unexpected wildcard relationship with tupleset relation '{object_type}#{relation}'"
        ),
        Subject::Userset(..) if tupleset => format!(
            "unexpected user '{}' with tupleset relation '{object_type}#{relation}'",
            key.subject
        ),
        Subject::Wildcard(_) => format!(
            "the typed wildcard '{}' is not an allowed type restriction for '{object_type}#{relation}'",
            key.subject
        ),
        Subject::Userset(object, of) => {
            format!(
                "'{}#{of}' is not an allowed type restriction for '{object_type}#{relation}'",
                object.object_type()
            )
        }
        Subject::Object(object) => format!(
            "type '{}' is not an allowed type restriction for '{object_type}#{relation}'",
            object.object_type()
        ),
    }
}

fn type_not_found(object_type: &str) -> String {
    format!("type '{object_type}' not found")
}

fn relation_not_found(object_type: &str, relation: &str) -> String {
    format!("relation '{object_type}#{relation}' not found")
}

fn unanswerable(reason: impl std::fmt::Display) -> ApiError {
    ApiError::validation(format!("invalid relation: {reason}"))
}

fn malformed(
    code: Code,
    object: &str,
    relation: &str,
    user: &str,
    error: &InvalidTuple,
) -> ApiError {
    ApiError::new(
        code,
        invalid(format_args!("{object}#{relation}@{user}"), error),
    )
}

fn invalid(tuple: impl std::fmt::Display, reason: impl std::fmt::Display) -> String {
    format!("Invalid tuple '{tuple}'. Reason: {reason}")
}

/// A user as OpenFGA's first schema wrote it: without a type.
fn is_plain_user(user: &str) -> bool {
    split_object(&format!("user:{user}")).is_some()
}
