//! Where in a model's text its parts stand, so that a rule that [`TypeSystem`](crate::TypeSystem) finds broken can be
//! shown there.

use std::collections::BTreeMap;

use meridian_condition::CompileError;

use crate::typesystem::{MAX_TYPES, ModelError};

/// A part of a model, by names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// A type's definition.
    Type(String),
    /// A relation's definition: type and relation.
    Relation(String, String),
    /// A relation of its own type that a definition names: type and relation.
    Use(String, String),
    /// A relation named behind `from`: type and relation.
    Tupleset(String, String),
    /// `computed from tupleset`: type, computed relation and tupleset.
    From(String, String, String),
    /// A type restriction: type, relation and restriction.
    Restriction(String, String, String),
    /// A condition's definition, or a mention of it.
    Condition(String),
}

/// The byte at which each part first stands.
#[derive(Debug, Default)]
pub(super) struct Places {
    first: BTreeMap<Part, usize>,
    /// Of each type's definition, in the order of the text.
    types: Vec<usize>,
}

impl Places {
    pub(super) fn note(&mut self, part: Part, at: usize) {
        if matches!(part, Part::Type(_)) {
            self.types.push(at);
        }
        self.first.entry(part).or_insert(at);
    }

    /// Where the text breaks the rule; its beginning when the rule is about no part of it.
    pub(super) fn of(&self, error: &ModelError) -> usize {
        let at = match error {
            ModelError::TooManyTypes => self.types.get(MAX_TYPES),
            error => part(error.clone()).and_then(|part| self.first.get(&part)),
        };
        at.copied().unwrap_or_default()
    }
}

/// The part that breaks the rule.
fn part(error: ModelError) -> Option<Part> {
    Some(match error {
        ModelError::SchemaVersion(_) | ModelError::TooManyTypes | ModelError::EmptyType => {
            return None;
        }
        ModelError::DuplicateType(name)
        | ModelError::EmptyRelation(name)
        | ModelError::InvalidType { name, .. } => Part::Type(name),
        ModelError::UndefinedRelation {
            object_type,
            relation,
        } => Part::Use(object_type, relation),
        ModelError::IndirectTupleset {
            object_type,
            relation,
        } => Part::Tupleset(object_type, relation),
        ModelError::NoParentDefines {
            object_type,
            tupleset,
            computed,
            ..
        } => Part::From(object_type, computed, tupleset),
        ModelError::InvalidRestriction {
            object_type,
            relation,
            restriction,
        }
        | ModelError::EmptyRestriction {
            object_type,
            relation,
            restriction,
        } => Part::Restriction(object_type, relation, restriction),
        ModelError::InvalidRelation {
            object_type,
            relation,
            ..
        }
        | ModelError::TooFewChildren {
            object_type,
            relation,
            ..
        }
        | ModelError::Assignable {
            object_type,
            relation,
        }
        | ModelError::NonAssignable {
            object_type,
            relation,
        } => Part::Relation(object_type, relation),
        ModelError::UndefinedCondition {
            condition: name, ..
        }
        | ModelError::ConditionParameter {
            condition: name, ..
        }
        | ModelError::ConditionKey { name, .. } => Part::Condition(name),
        ModelError::Condition(
            CompileError::Expression { condition, .. } | CompileError::NotBool { condition, .. },
        ) => Part::Condition(condition),
        // Of inline conditions, which no model has.
        ModelError::Condition(_) => return None,
    })
}
