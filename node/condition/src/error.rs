//! Why a condition cannot be compiled, cast or evaluated.

use crate::parameter::InvalidParameterType;

/// A user's text for a message: its beginning where it is long.
pub(crate) fn short(text: &str) -> String {
    const MAX: usize = 80;
    let beginning: String = text.chars().take(MAX).collect();
    if beginning.len() < text.len() {
        beginning + "…"
    } else {
        beginning
    }
}

/// What is wrong with an expression, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Bytes from the beginning.
    pub(crate) at: usize,
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn new(at: usize, message: impl Into<String>) -> Self {
        Self {
            at,
            message: message.into(),
        }
    }
}

/// Why a condition cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The expression is not CEL, or its types do not fit.
    #[error(
        "failed to compile expression on condition '{condition}' - ERROR: {condition}:{line}:{column}: {message}"
    )]
    Expression {
        /// The condition's name.
        condition: String,
        /// The line, from 1.
        line: usize,
        /// The character in the line, from 1.
        column: usize,
        /// What was found.
        message: String,
    },
    /// The expression's value is not true or false.
    #[error(
        "failed to compile expression on condition '{condition}' - expected a bool condition expression output, but \
         got '{found}'"
    )]
    NotBool {
        /// The condition's name.
        condition: String,
        /// The expression's type.
        found: String,
    },
    /// An inline expression's `parameters` name something that is no type.
    #[error("$expression: invalid parameter type for parameter '{parameter}': {source}")]
    InlineParameter {
        /// The parameter's name.
        parameter: String,
        /// What is wrong with its type.
        source: InvalidParameterType,
    },
    /// A field of an inline expression's context is missing or of the wrong kind.
    #[error("$expression: context field '{field}' must be {wanted}")]
    InlineField {
        /// The field.
        field: &'static str,
        /// What it must be.
        wanted: &'static str,
    },
}

impl CompileError {
    pub(crate) fn of(condition: &str, source: &str, fault: Fault) -> Self {
        let before = source.get(..fault.at).unwrap_or(source);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self::Expression {
            condition: condition.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            message: fault.message,
        }
    }
}

/// Why a context does not fit a condition's parameters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// The condition takes no parameters.
    #[error(
        "parameter type error on condition '{condition}' - no parameters defined for the condition; leave the context \
         empty"
    )]
    NoParameters {
        /// The condition's name.
        condition: String,
    },
    /// A value is not of its parameter's type.
    #[error(
        "parameter type error on condition '{condition}' - failed to convert context parameter '{parameter}': {cause}"
    )]
    Type {
        /// The condition's name.
        condition: String,
        /// The parameter.
        parameter: String,
        /// What was expected and what was found.
        cause: String,
    },
    /// The condition has no such parameter.
    #[error(
        "found invalid context parameter: {parameter}; condition '{condition}' declares no such parameter, so leave it \
         out"
    )]
    Undeclared {
        /// The condition's name.
        condition: String,
        /// The context's key.
        parameter: String,
    },
}

/// Why a condition has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The context does not fit.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// An operation failed: a division by zero, a missing key.
    #[error("'{condition}' - failed to evaluate condition expression: {cause}")]
    Failed {
        /// The condition's name.
        condition: String,
        /// What failed.
        cause: String,
    },
    /// It took more than it may.
    #[error(
        "'{condition}' - failed to evaluate condition expression: operation cancelled: actual cost limit exceeded \
         ({limit}); simplify the expression or shorten the values"
    )]
    TooCostly {
        /// The condition's name.
        condition: String,
        /// The limit.
        limit: u64,
    },
}
