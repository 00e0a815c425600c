//! OpenFGA's conditions: CEL expressions over typed parameters that decide whether a tuple counts.
//!
//! A [`Condition`] is compiled once: parsed, checked and planned. It answers as OpenFGA does, whose CEL is cel-go: the
//! same types fit, the same errors occur, and an evaluation costs as much, so that the same limit stops it. Nothing
//! here does I/O or reads a clock; who wants to know what conditions take brings one ([`Observer`]). An expression's nesting, its types and its cost are bounded, so input decides
//! neither how deep nor how long anything runs.
//!
//! Modules in the order of their use: [`lex`], [`parse`], [`literal`] and [`macros`] make the tree ([`ast`]); [`compile`] checks it
//! with [`types`] and [`function`] and makes the [`plan`]; [`parameter`] casts a context to [`value`]s; [`eval`] runs
//! the plan with [`builtin`]s under a [`meter`].

mod ast;
mod builtin;
mod compile;
mod condition;
mod error;
mod eval;
mod function;
mod ip;
mod lex;
mod literal;
mod macros;
mod meter;
mod number;
mod observer;
mod parameter;
mod parse;
mod pattern;
mod plan;
mod time;
mod types;
mod value;

pub use condition::{Cast, Condition, Context, Evaluated, Outcome};
pub use error::{CompileError, ContextError, EvalError};
pub use observer::{Observer, observe};
pub use parameter::{InvalidParameterType, ParameterType};
