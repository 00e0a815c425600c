//! Why a check is allowed or denied: the path of relations to the user, or the branches that were exhausted.
//!
//! The question is evaluated once more by the evaluator itself, which tells a recorder what it does ([`crate::trace`]); so an
//! explanation says what the check says. What decides is kept of it: of a union that holds the one branch that does, of one
//! that fails all of them; of an intersection all that hold, or one that fails; of `base but not subtract` both where it
//! holds, else the one that denies. Of a cycle all is kept, since what it is subtracted from is denied by it.
//!
//! It is a list of sets, not a tree: each set stands there once, and others name it. So a chain of any length is a
//! list, and what many sets lead to is said once. What holds is proven by sets that held before it, never by itself.

mod named;
mod recorder;

use serde::Serialize;

use crate::budget::Budget;
use crate::check::{Given, Outcome, Scratch, evaluate};
use crate::facts::{Facts, SetKey};
use crate::program::Program;
use crate::question::Question;
use named::Naming;
use recorder::Recorder;

/// Why a check is allowed or denied. As JSON it is written as its fields are named here, which is documented in
/// `docs/architecture.md` and does not change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Whether the user has the relation.
    pub allowed: bool,
    /// The sets that the answer rests on, each once, the asked one first. Those that hold stand before those that fail, and
    /// nearer ones before others.
    pub steps: Vec<Step>,
    /// Whether more was to be said than was asked for. If not, the tuples named here prove the answer, unless it is denied and
    /// something in it is a cycle, which rests on the path to it.
    pub truncated: bool,
}

impl Explanation {
    /// As JSON.
    pub fn to_json(&self) -> String {
        // Names and lists of them: there is nothing in it that has no form in JSON.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A set, and what decides whether the user is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The set, `type:id#relation`.
    pub set: String,
    /// Whether the user is in it.
    pub verdict: Verdict,
    /// What decides that.
    pub because: Because,
}

/// Whether the user is in a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is.
    Holds,
    /// It is not.
    Fails,
    /// It is not, and the set leads back to itself. Subtracted, it denies as well.
    Cycle,
    /// The depth limit was met there, or a condition without an answer; which changes nothing.
    NoAnswer,
}

/// What decides a set, or a part of its relation's definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Because {
    /// The set is the very userset that is asked about.
    Itself,
    /// A tuple names the user.
    Tuple {
        /// That tuple.
        tuple: NamedTuple,
    },
    /// A tuple names all users of the type.
    Wildcard {
        /// That tuple.
        tuple: NamedTuple,
    },
    /// A tuple names another set.
    Userset {
        /// That tuple.
        tuple: NamedTuple,
        /// The other set.
        leads_to: String,
        /// Whether the user is in that one.
        verdict: Verdict,
    },
    /// The relation is computed from another one of the same object.
    Computed {
        /// The other set.
        leads_to: String,
        /// Whether the user is in that one.
        verdict: Verdict,
    },
    /// The relation is computed from one of a parent.
    Parent {
        /// The tuple that names the parent.
        tuple: NamedTuple,
        /// The parent's set.
        leads_to: String,
        /// Whether the user is in that one.
        verdict: Verdict,
    },
    /// A tuple does not count, since its condition is not met.
    ConditionNotMet {
        /// That tuple.
        tuple: NamedTuple,
    },
    /// No tuple of the set names the user or leads anywhere.
    NoTuple {
        /// The set: the step's own, or the tupleset that would name parents.
        of: String,
    },
    /// The model lets no such user stand there, whatever tuples there are.
    ImpossibleUser,
    /// The model does not define what was asked for.
    Undefined,
    /// A union: all branches fail.
    AnyOf {
        /// The branches.
        branches: Vec<Self>,
    },
    /// An intersection: all branches where it holds or is a cycle, else one that fails.
    AllOf {
        /// The branches.
        branches: Vec<Self>,
    },
    /// `base but not subtract`: both where it holds or is a cycle. Else the base where that fails, or what is subtracted and
    /// holds.
    ButNot {
        /// What decides the base.
        #[serde(skip_serializing_if = "Option::is_none")]
        base: Option<Box<Self>>,
        /// What decides what is subtracted.
        #[serde(skip_serializing_if = "Option::is_none")]
        subtract: Option<Box<Self>>,
    },
    /// The branch has no answer, which changes nothing.
    NoAnswer,
    /// It is left out, for the explanation would be too large.
    LeftOut,
}

/// A tuple by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedTuple {
    /// The object, `type:id`.
    pub object: String,
    /// The relation.
    pub relation: String,
    /// The user: `type:id`, `type:*` or `type:id#relation`.
    pub user: String,
    /// The name of the condition that it is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// Whether the request brought it along.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub contextual: bool,
}

/// Explains what [`crate::check()`] says of the same question, in at most `size` parts: steps, and branches within them.
/// The facts must decide it: a view, or what was read until it was decided.
///
/// Takes memory as it takes work, about a hundred bytes for each unit, so the budget should be smaller than a check's.
///
/// # Errors
/// The outcome, if it is neither allowed nor denied.
pub fn explain<F: Facts>(
    facts: &F,
    program: &Program,
    question: &Question<'_>,
    given: Given<'_>,
    budget: Budget<'_>,
    size: usize,
) -> Result<Explanation, Outcome> {
    let (mut scratch, recorder) = (Scratch::default(), Recorder::default());
    scratch.start(facts, given.tuples);
    let context = given.context;
    let outcome = evaluate(
        facts,
        program,
        question,
        context,
        budget,
        &mut scratch,
        &recorder,
    );
    let allowed = match outcome {
        Outcome::Allowed => true,
        Outcome::Denied => false,
        outcome => return Err(outcome),
    };
    let relation = facts.symbols().relation(question.relation());
    let object = scratch.overlay.object(facts, question.object());
    let naming = Naming::new(facts, &scratch.overlay, recorder.records(), size);
    let asked = object.zip(relation);
    let asked = asked.map(|(object, relation)| SetKey::new(object, relation));
    Ok(match asked.filter(|asked| naming.knows(*asked)) {
        Some(asked) => naming.explain(asked, allowed),
        None => undefined(question),
    })
}

/// Of a question whose names no model of the facts has.
fn undefined(question: &Question<'_>) -> Explanation {
    Explanation {
        allowed: false,
        steps: vec![Step {
            set: format!("{}#{}", question.object(), question.relation()),
            verdict: Verdict::Fails,
            because: Because::Undefined,
        }],
        truncated: false,
    }
}
