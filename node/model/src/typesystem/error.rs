use meridian_condition::{CompileError, InvalidParameterType};

use crate::error::{ApiError, Code};

use super::{MAX_REWRITE_DEPTH, MAX_TYPES};

/// The rule an authorization model breaks, in OpenFGA's words where it has any.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// Neither 1.1 nor 1.2.
    #[error("invalid schema version: '{0}' must be 1.1 or 1.2")]
    SchemaVersion(String),
    /// More types than a model may define.
    #[error(
        "The number of type definitions in an authorization model exceeds the allowed limit of {MAX_TYPES}"
    )]
    TooManyTypes,
    /// Two definitions of one type.
    #[error(
        "an authorization model cannot contain duplicate types: '{0}' is defined more than once"
    )]
    DuplicateType(String),
    /// A type without a name.
    #[error("the type name of a type definition cannot be an empty string")]
    EmptyType,
    /// A type called `self` or `this`, or one whose name holds a separator.
    #[error("the definition of type '{name}' is invalid: {cause}")]
    InvalidType {
        /// The type.
        name: String,
        /// What is wrong with it.
        cause: Cause,
    },
    /// A relation without a name.
    #[error("type '{0}' defines a relation with an empty string for a name")]
    EmptyRelation(String),
    /// A relation that cannot be evaluated.
    #[error(
        "the definition of relation '{relation}' in object type '{object_type}' is invalid: {cause}"
    )]
    InvalidRelation {
        /// The type that defines it.
        object_type: String,
        /// The relation.
        relation: String,
        /// What is wrong with it.
        cause: Cause,
    },
    /// A rewrite names a relation that its type does not define.
    #[error("'{object_type}#{relation}' relation is undefined")]
    UndefinedRelation {
        /// The type.
        object_type: String,
        /// The relation it lacks.
        relation: String,
    },
    /// A union or intersection of fewer than two.
    #[error("invalid relation: '{object_type}#{relation}' as {operator} has less than 2 children")]
    TooFewChildren {
        /// The type that defines the relation.
        object_type: String,
        /// The relation.
        relation: String,
        /// `union` or `intersection`.
        operator: &'static str,
    },
    /// `x from tupleset` where the tupleset relation is not direct.
    #[error(
        "the '{object_type}#{relation}' relation is referenced in at least one tupleset and thus must be a direct relation"
    )]
    IndirectTupleset {
        /// The type that defines the tupleset relation.
        object_type: String,
        /// The tupleset relation.
        relation: String,
    },
    /// `computed from tupleset` where no type that the tupleset admits defines `computed`.
    #[error(
        "undefined relation: {computed} does not appear as a relation in any of the directly related user types [{parents}] of '{object_type}#{tupleset}'"
    )]
    NoParentDefines {
        /// The type that defines the tupleset relation.
        object_type: String,
        /// The tupleset relation.
        tupleset: String,
        /// The relation none of the parents has.
        computed: String,
        /// The parents' types, separated by commas.
        parents: String,
    },
    /// A relation with tuples of its own that admits nobody.
    #[error(
        "the assignable relation '{relation}' in object type '{object_type}' must contain at least one relation type"
    )]
    Assignable {
        /// The type that defines the relation.
        object_type: String,
        /// The relation.
        relation: String,
    },
    /// A relation without tuples of its own that admits somebody.
    #[error(
        "the non-assignable relation '{relation}' in object type '{object_type}' should not contain a relation type"
    )]
    NonAssignable {
        /// The type that defines the relation.
        object_type: String,
        /// The relation.
        relation: String,
    },
    /// A type restriction that names something undefined, or anything but plain objects on a tupleset relation.
    #[error(
        "the relation type '{restriction}' on '{relation}' in object type '{object_type}' is not valid"
    )]
    InvalidRestriction {
        /// The type that defines the relation.
        object_type: String,
        /// The relation.
        relation: String,
        /// The restriction as the DSL writes it.
        restriction: String,
    },
    /// A userset restriction with an empty relation.
    #[error(
        "the relation type '{restriction}' on '{relation}' in object type '{object_type}' has an empty relation reference: empty relation reference"
    )]
    EmptyRestriction {
        /// The type that defines the relation.
        object_type: String,
        /// The relation.
        relation: String,
        /// The restriction's type.
        restriction: String,
    },
    /// A type restriction names a condition that the model does not define.
    #[error("condition {condition} is undefined for relation {relation}")]
    UndefinedCondition {
        /// The relation whose restriction names it.
        relation: String,
        /// The condition.
        condition: String,
    },
    /// A condition under another key than its name.
    #[error("condition key '{key}' does not match condition name '{name}'")]
    ConditionKey {
        /// The key.
        key: String,
        /// The name.
        name: String,
    },
    /// A condition's parameter is of no known type.
    #[error(
        "failed to compile expression on condition '{condition}' - failed to decode parameter type for parameter '{parameter}': {source}"
    )]
    ConditionParameter {
        /// The condition.
        condition: String,
        /// The parameter.
        parameter: String,
        /// What is wrong with its type.
        source: InvalidParameterType,
    },
    /// A condition's expression cannot be compiled.
    #[error(transparent)]
    Condition(#[from] CompileError),
}

/// What is wrong with a type or relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// Called `self` or `this`.
    #[error("self and this are reserved keywords")]
    Reserved,
    /// Not a name.
    #[error(
        "a name must be free of ':', '#', '@' and spaces, and at most 254 bytes for a type, 50 for a relation"
    )]
    Name,
    /// A relation computed from itself.
    #[error("invalid userset rewrite definition")]
    Rewrite,
    /// Rewrites nested too deeply.
    #[error(
        "its rewrite is nested more than {MAX_REWRITE_DEPTH} levels deep; give a part of it a relation of its own"
    )]
    Depth,
    /// Nobody can ever be related.
    #[error("no entrypoints defined")]
    NoEntrypoints,
    /// Nobody can ever be related, since it is computed from itself in a roundabout way.
    #[error("potential loop")]
    NoEntrypointsLoop,
    /// Computed from itself in a roundabout way.
    #[error("an authorization model cannot contain a cycle")]
    Cycle,
}

impl ModelError {
    pub(super) fn relation(object_type: &str, relation: &str, cause: Cause) -> Self {
        Self::InvalidRelation {
            object_type: object_type.to_owned(),
            relation: relation.to_owned(),
            cause,
        }
    }

    /// The code a client sees.
    pub fn code(&self) -> Code {
        match self {
            Self::TooManyTypes => Code::ExceededEntityLimit,
            _ => Code::InvalidAuthorizationModel,
        }
    }
}

impl From<ModelError> for ApiError {
    fn from(error: ModelError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
