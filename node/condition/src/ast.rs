//! The syntax tree, macros expanded.

use crate::value::Value;

/// The accumulator of a comprehension; no identifier of an expression can be it.
pub(crate) const ACCUMULATOR: &str = "@result";

/// A node of the tree.
#[derive(Debug)]
pub(crate) struct Expr {
    /// Its number in the tree; the cost meter tells values apart by it.
    pub(crate) id: u32,
    /// Where it is in the source, in bytes.
    pub(crate) at: usize,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Literal(Value<'static>),
    Ident(String),
    Select(Box<Select>),
    Call(Box<Call>),
    List(Vec<Expr>),
    Map(Vec<(Expr, Expr)>),
    Fold(Box<Fold>),
}

/// `operand.field`, or the question whether it is there.
#[derive(Debug)]
pub(crate) struct Select {
    pub(crate) operand: Expr,
    pub(crate) field: String,
    pub(crate) test: bool,
}

/// A call of a function or operator.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// The receiver of `target.name(args)`.
    pub(crate) target: Option<Expr>,
    pub(crate) args: Vec<Expr>,
}

/// A comprehension, which only macros make.
#[derive(Debug)]
pub(crate) struct Fold {
    pub(crate) range: Expr,
    pub(crate) var: String,
    pub(crate) init: Expr,
    pub(crate) condition: Expr,
    pub(crate) step: Expr,
    pub(crate) result: Expr,
}
