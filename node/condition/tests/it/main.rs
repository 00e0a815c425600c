//! Conditions as a node uses them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod corpus;
mod errors;
mod fuzz;

use meridian_condition::{Condition, Context, EvalError, Outcome};

/// Evaluates a condition; the last context is what the tuple fixes.
fn evaluate(
    condition: &Condition,
    contexts: &[&Context],
    max_cost: u64,
) -> Result<Outcome, EvalError> {
    let (fixed, asked) = contexts.split_last().unwrap();
    let asked = asked
        .iter()
        .flat_map(|context| (*context).clone())
        .collect();
    condition
        .evaluate(&condition.cast(&asked), fixed, max_cost)
        .outcome
}
