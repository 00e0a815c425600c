//! What explanations promise: they say what the check says, and what they name proves it.

mod written;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

use meridian_condition::Context;
use meridian_engine::explain::{Because, Explanation, NamedTuple, Verdict};
use meridian_engine::symbols::Symbols;
use meridian_engine::{
    Budget, Facts, Given, Limits, Outcome, Program, Question, RoundFacts, Scratch, View, check,
    check_again, explain,
};
use meridian_model::TupleKey;
use meridian_model::ports::Read;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::arbitrary::{World, world};
use crate::depth::chains;
use crate::evaluation::{ask_within, budget, config, count, error_is_error, given, read, view};

const ALL: usize = usize::MAX;

type Asked = (String, String, String);

fn explained(
    facts: &impl Facts,
    program: &Program,
    (object, relation, user): (&str, &str, &str),
    given: Given<'_>,
    budget: Budget<'_>,
    size: usize,
) -> Result<Explanation, Outcome> {
    let question = Question::parse(object, relation, user).unwrap();
    explain(facts, program, &question, given, budget, size).map_err(error_is_error)
}

fn of_world(view: &View, world: &World, asked: &Asked) -> Result<Explanation, Outcome> {
    let program = &view.model(None).unwrap().compiled.as_ref().unwrap().program;
    let asked = (&*asked.0, &*asked.1, &*asked.2);
    explained(view, program, asked, given(world), budget(), ALL)
}

/// Calls `visit` for each part of an explanation, those within others too.
fn for_each<'a>(explanation: &'a Explanation, visit: &mut impl FnMut(&'a Because)) {
    fn go<'a>(of: &'a Because, visit: &mut impl FnMut(&'a Because)) {
        visit(of);
        match of {
            Because::AnyOf { branches } | Because::AllOf { branches } => {
                branches.iter().for_each(|of| go(of, visit));
            }
            Because::ButNot { base, subtract } => {
                base.iter().chain(subtract).for_each(|of| go(of, visit));
            }
            _ => {}
        }
    }
    explanation
        .steps
        .iter()
        .for_each(|step| go(&step.because, visit));
}

fn tuple_of(of: &Because) -> Option<&NamedTuple> {
    match of {
        Because::Tuple { tuple }
        | Because::Wildcard { tuple }
        | Because::ConditionNotMet { tuple }
        | Because::Userset { tuple, .. }
        | Because::Parent { tuple, .. } => Some(tuple),
        _ => None,
    }
}

/// The stored tuples that an explanation names.
fn tuples(explanation: &Explanation) -> BTreeSet<TupleKey> {
    let mut named = BTreeSet::new();
    for_each(explanation, &mut |of| {
        if let Some(of) = tuple_of(of).filter(|of| !of.contextual) {
            named.insert(TupleKey::parse(&of.object, &of.relation, &of.user).unwrap());
        }
    });
    named
}

/// The sets whose tuples an explanation is about.
fn sets(explanation: &Explanation) -> BTreeSet<String> {
    let steps = explanation.steps.iter().map(|step| step.set.clone());
    let mut sets: BTreeSet<_> = steps.collect();
    for_each(explanation, &mut |of| {
        if let Because::NoTuple { of } = of {
            sets.insert(of.clone());
        }
        if let Some(of) = tuple_of(of) {
            sets.insert(format!("{}#{}", of.object, of.relation));
        }
    });
    sets
}

fn is_well_formed(explanation: &Explanation, asked: &Asked) -> Result<(), String> {
    let steps = &explanation.steps;
    // A set that is met again on the path to it is a cycle there, whatever comes of it.
    let verdict = |set: &String| {
        let step = steps.iter().find(|step| step.set == *set);
        step.map(|step| step.verdict)
    };
    let names: BTreeSet<_> = steps.iter().map(|step| &step.set).collect();
    if names.len() != steps.len() {
        return Err("a set stands there twice".into());
    }
    let first = steps.first().ok_or("no step")?;
    if first.set != format!("{}#{}", asked.0, asked.1)
        || (first.verdict == Verdict::Holds) != explanation.allowed
    {
        return Err("the first step does not answer".into());
    }
    let mut wrong = None;
    for_each(explanation, &mut |of| match of {
        Because::Computed {
            leads_to,
            verdict: said,
        }
        | Because::Userset {
            leads_to,
            verdict: said,
            ..
        }
        | Because::Parent {
            leads_to,
            verdict: said,
            ..
        } if *said != Verdict::NoAnswer
            && !matches!(
                (said, verdict(leads_to)),
                (Verdict::Cycle, Some(Verdict::NoAnswer))
            )
            && verdict(leads_to) != Some(*said) =>
        {
            wrong = Some(format!("{leads_to} is not as it is said to be"));
        }
        Because::LeftOut => wrong = Some("something is left out".into()),
        _ => {}
    });
    wrong.map_or(Ok(()), Err)
}

/// Whether all of it holds or plainly fails. A cycle rests on the path to it, so what is said of it elsewhere may differ.
fn is_plain(explanation: &Explanation) -> bool {
    let plain = |verdict: Verdict| matches!(verdict, Verdict::Holds | Verdict::Fails);
    let mut all = explanation.steps.iter().all(|step| plain(step.verdict));
    for_each(explanation, &mut |of| {
        all &= match of {
            Because::Computed { verdict, .. }
            | Because::Userset { verdict, .. }
            | Because::Parent { verdict, .. } => plain(*verdict),
            of => *of != Because::NoAnswer,
        }
    });
    all
}

/// A store of whose sets only some can be read.
fn from_these_sets_alone(world: &World, asked: &Asked, sets: &BTreeSet<String>) -> Outcome {
    let (object, relation, user) = asked;
    let mut symbols = Symbols::default();
    let program = Program::compile(&world.types(), &mut symbols).unwrap();
    let mut facts = RoundFacts::new(&Arc::new(symbols));
    facts.know(object, &[]);
    facts.know(user, &world.contextual);
    let question = Question::parse(object, relation, user).unwrap();
    let (mut scratch, given) = (Scratch::default(), given(world));
    let mut outcome = check(&facts, &program, &question, given, budget(), &mut scratch);
    while outcome == Outcome::Unknown {
        let named = |read: &&Read| match read {
            Read::Direct {
                object, relation, ..
            }
            | Read::Parents { object, relation } => sets.contains(&format!("{object}#{relation}")),
            _ => false,
        };
        let reads: Vec<_> = scratch.missed().iter().filter(named).cloned().collect();
        if reads.is_empty() {
            return outcome;
        }
        facts.add(&reads, &read(&world.tuples, &reads));
        outcome = check_again(
            &facts,
            &program,
            &question,
            given.context,
            budget(),
            &mut scratch,
        );
    }
    let asked = (&**object, &**relation, &**user);
    let again = explained(&facts, &program, asked, given, budget(), ALL);
    let again = again.map(|again| (again.allowed, again.truncated));
    let expected = match error_is_error(outcome) {
        Outcome::Allowed => Ok((true, false)),
        Outcome::Denied => Ok((false, false)),
        outcome => Err(outcome),
    };
    assert_eq!(again, expected, "over what was read");
    outcome
}

#[derive(Debug, Default)]
struct Seen {
    allowed: Cell<u32>,
    by_several: Cell<u32>,
    denied: Cell<u32>,
    by_a_cycle: Cell<u32>,
}

#[test]
fn what_an_explanation_names_proves_what_the_check_says() {
    let seen = Seen::default();
    let run = TestRunner::new(config()).run(&world(), |world| {
        let whole = view(&world, |_| true);
        for asked in &world.questions {
            let said = ask_within(&whole, &world, asked, budget(), &mut Scratch::default());
            let explained = of_world(&whole, &world, asked);
            let explanation = match (&explained, said) {
                (Ok(of), Outcome::Allowed | Outcome::Denied) => of,
                (other, _) => {
                    prop_assert_eq!(other.as_ref().err(), Some(&said), "{:?}", asked);
                    continue;
                }
            };
            prop_assert_eq!(explanation.allowed, said == Outcome::Allowed, "{:?}", asked);
            prop_assert!(!explanation.truncated, "{:?}: {:?}", asked, explanation);
            let well_formed = is_well_formed(explanation, asked);
            prop_assert_eq!(well_formed, Ok(()), "{:?}: {:?}", asked, explanation);
            let plain = is_plain(explanation);
            prop_assert!(plain || said == Outcome::Denied, "{:?}", explanation);
            if !plain {
                count(&seen.by_a_cycle);
                continue;
            }
            // Without all other tuples it is the same.
            let mut named = world.clone();
            let tuples = tuples(explanation);
            named.tuples.retain(|key, _| tuples.contains(key));
            let alone = view(&named, |_| true);
            let alone = ask_within(&alone, &world, asked, budget(), &mut Scratch::default());
            prop_assert_eq!(alone, said, "{:?}: {:?}", asked, explanation);
            // And whatever the tuples of all other sets are.
            let alone = from_these_sets_alone(&world, asked, &sets(explanation));
            prop_assert_eq!(alone, said, "{:?}: {:?}", asked, explanation);
            count(match (explanation.allowed, explanation.steps.len()) {
                (true, 1) => &seen.allowed,
                (true, _) => &seen.by_several,
                (false, _) => &seen.denied,
            });
        }
        Ok(())
    });
    println!("{seen:?}");
    run.unwrap();
    for of in [
        &seen.allowed,
        &seen.by_several,
        &seen.denied,
        &seen.by_a_cycle,
    ] {
        assert!(of.get() >= 50, "{seen:?}");
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn an_explanation_has_as_many_parts_as_are_asked_for(world in world(), size in 0_usize..8) {
        let whole = view(&world, |_| true);
        let program = &whole.model(None).unwrap().compiled.as_ref().unwrap().program;
        for asked in &world.questions {
            let Ok(all) = of_world(&whole, &world, asked) else { continue };
            let question = (&*asked.0, &*asked.1, &*asked.2);
            let some = explained(&whole, program, question, given(&world), budget(), size).unwrap();
            let parts = |of: &Explanation| {
                let mut parts = 0;
                for_each(of, &mut |of| parts += usize::from(*of != Because::LeftOut));
                parts
            };
            prop_assert_eq!(some.allowed, all.allowed);
            prop_assert!(parts(&some) <= size && some.steps.len() <= size, "{:?}", some);
            prop_assert_eq!(some.truncated, parts(&all) > size, "{:?} of {:?}", some, all);
        }
    }
}

const NO_CONTEXT: fn() -> Context = Context::new;

fn ask(view: &View, set: &str, user: &str, size: usize) -> Explanation {
    let program = &view.model(None).unwrap().compiled.as_ref().unwrap().program;
    let (object, relation) = set.split_once('#').unwrap();
    let given = Given {
        tuples: &[],
        context: &NO_CONTEXT(),
    };
    let budget = Budget::of(Limits::default());
    explained(view, program, (object, relation, user), given, budget, size).unwrap()
}

#[test]
fn a_long_chain_is_explained_as_a_list() {
    const LENGTH: usize = 20_000;
    let view = chains(LENGTH);
    for set in [
        "group:0#member",
        "group:0#any",
        "team:0#member",
        "folder:0#owner",
    ] {
        let path = ask(&view, set, "user:anne", ALL);
        assert!(path.allowed && !path.truncated, "{set}");
        assert!(path.steps.len() > LENGTH, "{set}: {}", path.steps.len());
        let last = &path.steps.last().unwrap().because;
        assert_eq!(tuple_of(last).unwrap().user, "user:anne");
        let exhausted = ask(&view, set, "user:nobody", ALL);
        assert!(
            !exhausted.allowed && exhausted.steps.len() > LENGTH,
            "{set}"
        );
        let cut = ask(&view, set, "user:anne", 100);
        assert!(cut.allowed && cut.truncated);
        assert_eq!(cut.steps[..], path.steps[..100]);
    }
}

#[test]
fn an_explanation_that_takes_too_much_work_is_none() {
    let view = chains(1_000);
    let program = &view.model(None).unwrap().compiled.as_ref().unwrap().program;
    let given = Given {
        tuples: &[],
        context: &NO_CONTEXT(),
    };
    let limits = Limits {
        work: 100,
        ..Limits::default()
    };
    let asked = ("group:0", "member", "user:anne");
    let cut = explained(&view, program, asked, given, Budget::of(limits), ALL);
    assert_eq!(cut, Err(Outcome::OutOfWork));
}
