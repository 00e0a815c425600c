//! What a check was decided by, kept to be explained.

use std::sync::Arc;

use meridian_condition::Context as Values;
use meridian_engine::{Budget, Explanation, Given, Outcome, Question, RoundFacts, explain};
use meridian_model::Tuple;

use super::Evaluation;
use crate::commands::Compiled;

/// An evaluation that has decided: what it read, and what was asked.
pub(crate) struct Finished {
    model: Arc<Compiled>,
    asked: [String; 3],
    contextual: Vec<Tuple>,
    context: Values,
    facts: RoundFacts,
}

impl From<Evaluation> for Finished {
    /// Gives up the slot that it may have kept.
    fn from(evaluation: Evaluation) -> Self {
        Self {
            model: evaluation.model,
            asked: evaluation.asked,
            contextual: evaluation.contextual,
            context: evaluation.context,
            facts: evaluation.facts,
        }
    }
}

impl Finished {
    /// Explains the decision in at most `size` parts; the outcome where there is none within the budget.
    pub(crate) fn explain(
        &self,
        budget: Budget<'_>,
        size: usize,
    ) -> Option<Result<Explanation, Outcome>> {
        let [object, relation, user] = &self.asked;
        let question = Question::parse(object, relation, user).ok()?;
        let given = Given {
            tuples: &self.contextual,
            context: &self.context,
        };
        let program = &self.model.program;
        Some(explain(
            &self.facts,
            program,
            &question,
            given,
            budget,
            size,
        ))
    }
}
