//! OpenFGA's modelling language.
//!
//! [`parse`] reads what OpenFGA's own tools read, but for modules (`module`, `extend type`), and a little more: type
//! restrictions may stand anywhere in a definition, so that [`print`] can write every model that
//! [`crate::TypeSystem`] accepts, and names may be OpenFGA's keywords wherever that leaves no doubt.

mod lexer;
mod parser;
mod places;
mod printer;
use std::fmt;
use std::sync::Arc;

use crate::authorization_model::AuthorizationModel;
use crate::typesystem::{self, ModelError, TypeSystem};

/// A mistake in a model's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DslError {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

impl DslError {
    /// A mistake at a byte of the text.
    fn at(text: &str, at: usize, message: String) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            message,
        }
    }
}

impl fmt::Display for DslError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}, column {}: {}",
            self.line, self.column, self.message
        )
    }
}

impl std::error::Error for DslError {}

/// Reads a model. It is well-formed; [`compile`] says besides whether it keeps the rules of models.
///
/// # Errors
/// Every mistake found, in the order of the text; at least one.
pub fn parse(text: &str) -> Result<AuthorizationModel, Vec<DslError>> {
    parser::parse(text).map(|(model, _)| model)
}

/// Reads a model, and checks and compiles it.
///
/// # Errors
/// Every mistake found as in [`parse`]; in a text without any, the rules of models that it breaks, and where. Whether
/// somebody can be related is looked at once all other rules are kept.
pub fn compile(text: &str) -> Result<TypeSystem, Vec<DslError>> {
    let (model, places) = parser::parse(text)?;
    let model = Arc::new(model);
    TypeSystem::new(Arc::clone(&model)).map_err(|first| {
        let mut broken = typesystem::broken_rules(&model, MAX_ERRORS);
        if broken.is_empty() {
            broken.push(first);
        }
        broken.sort_by_key(|rule| places.of(rule));
        // A rule broken by several definitions alike has one place.
        broken.dedup();
        broken
            .iter()
            .map(|rule| DslError::at(text, places.of(rule), message(&model, rule)))
            .collect()
    })
}

/// The rule in its own words, and which part of a restriction is missing.
fn message(model: &AuthorizationModel, rule: &ModelError) -> String {
    let ModelError::InvalidRestriction { restriction, .. } = rule else {
        return rule.to_string();
    };
    let name = restriction.split([':', '#']).next().unwrap_or_default();
    let defined = model.type_definitions.iter().any(|of| of.name == name);
    if defined {
        rule.to_string()
    } else {
        format!("{rule}: type '{name}' is not defined")
    }
}

/// Writes a model the way OpenFGA's tools do: relations and conditions in the order of their names, the type
/// restrictions first in a union or intersection.
pub fn print(model: &AuthorizationModel) -> String {
    printer::print(model)
}

/// Mistakes after this many are not looked for.
const MAX_ERRORS: usize = 20;

/// The names of parameter types and OpenFGA's enum names for them.
const PARAMETER_TYPES: [(&str, &str); 9] = [
    ("any", "TYPE_NAME_ANY"),
    ("bool", "TYPE_NAME_BOOL"),
    ("string", "TYPE_NAME_STRING"),
    ("int", "TYPE_NAME_INT"),
    ("uint", "TYPE_NAME_UINT"),
    ("double", "TYPE_NAME_DOUBLE"),
    ("duration", "TYPE_NAME_DURATION"),
    ("timestamp", "TYPE_NAME_TIMESTAMP"),
    ("ipaddress", "TYPE_NAME_IPADDRESS"),
];

/// Those that take an element type, `list<string>`.
const CONTAINER_TYPES: [(&str, &str); 2] = [("map", "TYPE_NAME_MAP"), ("list", "TYPE_NAME_LIST")];
