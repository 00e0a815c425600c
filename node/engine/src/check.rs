//! The evaluator: one question over part of a store.
//!
//! It walks the model from the asked relation down, as OpenFGA's resolver does: a set that is already on the path is a
//! cycle and false; each step through a userset or a parent takes one from the depth limit of 25, unless it stays within a
//! recursion ([`crate::recursion`]); computed relations take none. What is outside the facts' coverage has every value ([`crate::value`]), and the read is noted.
//!
//! Within one evaluation values are kept and used again ([`crate::memory`]), or graphs with many paths would take
//! exponential time.
//!
//! **What ends it.** A budget of work, counted in sets visited, members walked and what conditions take, and the caller's
//! interrupt, polled along the way: a hostile model costs its own caller a bounded time and nobody else any.

use std::sync::Arc;

use meridian_condition::Context;
use meridian_model::ports::Read;
use meridian_model::{Subject, Tuple};

use crate::bound::Circumstances;
use crate::budget::{Budget, Meter};
use crate::evaluation::Evaluation;
use crate::facts::{Facts, SetKey};
use crate::memory::Memory;
use crate::missing::Missing;
use crate::overlay::Overlay;
use crate::program::Program;
use crate::question::Question;
use crate::recursion::Members;
use crate::stands::Stands;
use crate::trace::Trace;

/// What an evaluation came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The subject has the relation.
    Allowed,
    /// It has not.
    Denied,
    /// The facts do not decide it; [`Scratch::missed`] says what was missing.
    Unknown,
    /// The depth limit was met (OpenFGA's 2002).
    TooDeep,
    /// A condition that matters has no answer (OpenFGA's 2000); [`Scratch::fault`] says why.
    Unclear,
    /// The work budget was used up first.
    OutOfWork,
    /// The caller's interrupt ended it.
    Interrupted,
}

/// Memory that evaluations use again, so that none of them allocates once it is warm.
#[derive(Default)]
pub struct Scratch {
    pub(crate) overlay: Overlay,
    pub(crate) memory: Memory,
    pub(crate) members: Members,
    pub(crate) stands: Stands,
    pub(crate) missed: Vec<Missing>,
    pub(crate) reads: Vec<Read>,
    pub(crate) fault: Option<String>,
    pub(crate) steps: u32,
}

/// What a request brings along.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// Tuples to take as stored.
    pub tuples: &'a [Tuple],
    /// Values of conditions' parameters.
    pub context: &'a Context,
}

impl Scratch {
    /// After [`Outcome::Unclear`]: which condition has no answer, on which tuple, and why.
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// How many of the steps that the depth limit counts the evaluation went at its deepest.
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// After [`Outcome::Unknown`]: what was read outside coverage, each once.
    pub fn missed(&self) -> &[Read] {
        &self.reads
    }
}

/// Evaluates one question. The tuples `given` are laid over the facts; the caller has validated them and the question
/// against the model that `program` was compiled from.
pub fn check<F: Facts>(
    facts: &F,
    program: &Program,
    question: &Question<'_>,
    given: Given<'_>,
    budget: Budget<'_>,
    scratch: &mut Scratch,
) -> Outcome {
    scratch.start(facts, given.tuples);
    check_again(facts, program, question, given.context, budget, scratch)
}

/// Goes on with a question after [`Outcome::Unknown`], over the same facts that have grown, or with more work. All but the
/// facts and the budget are the same as ever; the facts must have known the question's and the tuples' names from the
/// beginning on ([`crate::RoundFacts::know`]).
pub fn check_again<F: Facts>(
    facts: &F,
    program: &Program,
    question: &Question<'_>,
    context: &Context,
    budget: Budget<'_>,
    scratch: &mut Scratch,
) -> Outcome {
    evaluate(facts, program, question, context, budget, scratch, ())
}

/// The same, telling `trace` of what it does.
pub(crate) fn evaluate<F: Facts, T: Trace>(
    facts: &F,
    program: &Program,
    question: &Question<'_>,
    context: &Context,
    budget: Budget<'_>,
    scratch: &mut Scratch,
    trace: T,
) -> Outcome {
    scratch.resume();
    let symbols = facts.symbols();
    let (Some(object_type), Some(relation)) = (
        symbols.object_type(question.object_type()),
        symbols.relation(question.relation()),
    ) else {
        return Outcome::Denied;
    };
    let overlay = &mut scratch.overlay;
    let (Some(asked), Some(object)) = (
        overlay.ask(facts, question.user()),
        overlay.object(facts, question.object()),
    ) else {
        return Outcome::Denied;
    };
    let userset = asked.userset.map(SetKey::relation);
    scratch.stands.find(program, asked.object_type, userset);
    let mut meter = Meter::new(budget);
    let circumstances = Circumstances::new(context, budget.limits.condition_cost);
    let around = &circumstances;
    let outcome = Evaluation::new(facts, program, asked, scratch, &mut meter, around, trace)
        .decide(object, object_type, relation, budget.limits.depth);
    if outcome == Outcome::Unknown {
        scratch.name_missed(facts, question.user().text());
    }
    outcome
}

impl Scratch {
    /// Forgets everything but the memory's room.
    pub(crate) fn start(&mut self, facts: &impl Facts, contextual: &[Tuple]) {
        self.overlay.clear();
        self.memory.clear();
        if !contextual.is_empty() {
            self.overlay.add(facts, contextual);
        }
    }

    /// Begins another round of the same question: the facts have grown.
    pub(crate) fn resume(&mut self) {
        self.memory.next_round();
        self.missed.clear();
        self.reads.clear();
        self.fault = None;
        self.steps = 0;
    }

    /// Says by name what was missed in checks for `user`.
    pub(crate) fn name_missed(&mut self, facts: &impl Facts, user: &str) {
        let user = user.parse::<Subject>().ok().map(Arc::new);
        self.missed.sort_unstable();
        self.missed.dedup();
        let names = |missing: &Missing| missing.name(&self.overlay, facts, user.as_ref());
        self.reads.extend(self.missed.iter().filter_map(names));
    }
}
