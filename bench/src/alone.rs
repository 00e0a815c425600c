//! The evaluator by itself.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Context as _;
use meridian_engine::{Budget, Limits, Outcome, Question, Scratch, View};

use crate::data::Asked;
use crate::load::{Timing, histogram};

/// Answers the questions in this thread: how long it took, and what the answers are.
///
/// # Errors
/// When the view does not hold the whole store.
pub fn evaluate(view: &View, questions: &[Asked]) -> anyhow::Result<(Timing, Vec<bool>)> {
    let model = view.model(None).context("no model")?;
    let compiled = model
        .compiled
        .as_ref()
        .context("the model does not compile")?;
    let questions = questions
        .iter()
        .map(|asked| Question::parse(&asked.object, asked.relation, &asked.user))
        .collect::<Result<Vec<_>, _>>()?;
    let (budget, mut scratch) = (Budget::of(Limits::default()), Scratch::default());
    let nothing = meridian_condition::Context::new();
    let given = meridian_engine::Given {
        tuples: &[],
        context: &nothing,
    };
    let mut check = |question| {
        meridian_engine::check(
            view,
            &compiled.program,
            question,
            given,
            budget,
            &mut scratch,
        )
    };
    // The rate without a clock between the questions, the latencies with one.
    let start = Instant::now();
    for question in &questions {
        black_box(check(question));
    }
    let took = start.elapsed();
    let mut latencies = histogram()?;
    let mut answers = Vec::with_capacity(questions.len());
    for question in &questions {
        let start = Instant::now();
        let outcome = check(question);
        latencies.record(u64::try_from(start.elapsed().as_nanos())?)?;
        answers.push(match outcome {
            Outcome::Allowed => true,
            Outcome::Denied => false,
            other => anyhow::bail!("{question:?} came to {other:?}"),
        });
    }
    Ok((Timing { took, latencies }, answers))
}
