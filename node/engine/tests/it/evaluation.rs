//! The evaluator's promises, as properties over random models, tuples, contextual tuples and coverage.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use meridian_engine::symbols::Symbols;
use meridian_engine::{
    Budget, Given, Limits, Outcome, Program, Question, RoundFacts, Scratch, View, check,
    check_again,
};
use meridian_model::authorization_model::{AuthorizationModel, Userset};
use meridian_model::ports::Read;
use meridian_model::{Position, Subject, Tuple, TupleCondition, TupleKey};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::arbitrary::{World, tuple, world};
use crate::reference::{Recursions, Reference, Value, Values};

/// Low, so that random graphs meet it, and the reference, which has no memory, ends.
pub(crate) const DEPTH: u32 = 5;

pub(crate) fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 4000,
        max_global_rejects: 1_000_000,
        ..ProptestConfig::default()
    }
}

pub(crate) fn budget() -> Budget<'static> {
    Budget::of(Limits {
        depth: DEPTH,
        ..Limits::default()
    })
}

pub(crate) fn view(world: &World, covered: impl Fn(&str) -> bool) -> View {
    let view = View::new(Position::new(1, 1)).with_models([world.stored_model()]);
    let types = ["user", "group", "folder", "doc"]
        .into_iter()
        .filter(|name| covered(name));
    types.fold(view, |view, name| {
        view.cover(
            name,
            world
                .tuples
                .iter()
                .filter(|(key, _)| key.object.object_type() == name)
                .map(|(key, condition)| (key.clone(), condition.clone())),
        )
    })
}

pub(crate) fn ask(
    view: &View,
    world: &World,
    question: &(String, String, String),
) -> (Outcome, Vec<Read>) {
    let mut scratch = Scratch::default();
    let outcome = ask_within(view, world, question, budget(), &mut scratch);
    (outcome, scratch.missed().to_vec())
}

pub(crate) fn ask_within(
    view: &View,
    world: &World,
    (object, relation, user): &(String, String, String),
    budget: Budget<'_>,
    scratch: &mut Scratch,
) -> Outcome {
    let model = view.model(None).unwrap();
    let program = &model.compiled.as_ref().unwrap().program;
    let question = Question::parse(object, relation, user).unwrap();
    error_is_error(check(
        view,
        program,
        &question,
        given(world),
        budget,
        scratch,
    ))
}

/// Where both a condition without an answer and the depth limit stand in the way, either may be said.
pub(crate) fn error_is_error(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Unclear => Outcome::TooDeep,
        outcome => outcome,
    }
}

pub(crate) fn given(world: &World) -> Given<'_> {
    Given {
        tuples: &world.contextual,
        context: &world.context,
    }
}

fn reference(
    world: &World,
    covered: &dyn Fn(&str) -> bool,
    (object, relation, user): &(String, String, String),
) -> Option<Values> {
    let types = world.types();
    let reference = Reference {
        types: &types,
        tuples: &world.tuples,
        contextual: &world.contextual,
        context: &world.context,
        covered,
        recursions: Recursions::of(&types),
        work: Cell::new(30_000),
    };
    reference.check(object, relation, user, DEPTH + 1)
}

fn outcome(values: &Values) -> Outcome {
    let only = |allowed: &[Value]| values.iter().all(|value| allowed.contains(value));
    if only(&[Value::True]) {
        Outcome::Allowed
    } else if only(&[Value::False, Value::Cycle]) {
        Outcome::Denied
    } else if only(&[Value::Error]) {
        Outcome::TooDeep
    } else {
        Outcome::Unknown
    }
}

/// How many questions came out how, so that it shows whether the worlds are worth asking about.
#[derive(Debug, Default)]
struct Seen {
    allowed: Cell<u32>,
    denied: Cell<u32>,
    denied_by_a_cycle: Cell<u32>,
    too_deep: Cell<u32>,
    too_large_for_the_reference: Cell<u32>,
}

pub(crate) fn count(of: &Cell<u32>) {
    of.set(of.get() + 1);
}

#[test]
fn full_coverage_gives_the_full_answer() {
    let seen = Seen::default();
    let mut runner = TestRunner::new(config());
    let run = runner.run(&world(), |world| {
        let view = view(&world, |_| true);
        for question in &world.questions {
            let Some(values) = reference(&world, &|_| true, question) else {
                count(&seen.too_large_for_the_reference);
                continue;
            };
            let (got, _) = ask(&view, &world, question);
            prop_assert_eq!(got, outcome(&values), "{:?}: {:?}", question, values);
            count(match values.first() {
                Some(Value::True) => &seen.allowed,
                Some(Value::False) => &seen.denied,
                Some(Value::Cycle) => &seen.denied_by_a_cycle,
                _ => &seen.too_deep,
            });
        }
        Ok(())
    });
    println!("{seen:?}");
    run.unwrap();
    for (of, at_least) in [
        (&seen.allowed, 1000),
        (&seen.denied, 1000),
        (&seen.denied_by_a_cycle, 50),
        (&seen.too_deep, 50),
    ] {
        assert!(of.get() >= at_least, "{seen:?}");
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn part_of_it_decides_exactly_what_it_proves(world in world()) {
        let covered = |name: &str| world.covered.contains(name);
        let (part, whole) = (view(&world, covered), view(&world, |_| true));
        for question in &world.questions {
            let Some(values) = reference(&world, &covered, question) else { continue };
            let (got, missed) = ask(&part, &world, question);
            prop_assert_eq!(got, outcome(&values), "{:?}: {:?}", question, values);
            prop_assert_eq!(got == Outcome::Unknown, !missed.is_empty());
            if matches!(got, Outcome::Allowed | Outcome::Denied | Outcome::TooDeep) {
                prop_assert_eq!(got, ask(&whole, &world, question).0, "{:?}", question);
            }
        }
    }

    #[test]
    fn what_is_cut_short_decides_nothing(world in world(), work in 0_u64..40) {
        let (whole, limits) = (view(&world, |_| true), Limits { depth: DEPTH, work, ..Limits::default() });
        let mut scratch = Scratch::default();
        for question in &world.questions {
            let full = ask(&whole, &world, question).0;
            let short = ask_within(&whole, &world, question, Budget::of(limits), &mut scratch);
            prop_assert!(short == full || short == Outcome::OutOfWork, "{:?}: {:?}, not {:?}", question, short, full);
            // Nothing of it is remembered either.
            prop_assert_eq!(ask_within(&whole, &world, question, budget(), &mut scratch), full);
        }
    }

    #[test]
    fn the_order_of_branches_changes_nothing(world in world()) {
        let covered = |name: &str| world.covered.contains(name);
        let turned = World { model: reversed(&world.model), ..world.clone() };
        for question in &world.questions {
            prop_assert_eq!(ask(&view(&world, covered), &world, question).0, ask(&view(&turned, covered), &world, question).0);
        }
    }

    #[test]
    fn rounds_over_a_datastore_give_the_full_answer(world in world()) {
        let whole = view(&world, |_| true);
        for question in &world.questions {
            prop_assert_eq!(in_rounds(&world, question), ask(&whole, &world, question).0, "{:?}", question);
        }
    }
}

/// As a datastore would answer: of a set that is asked about for a user only what decides it.
pub(crate) fn read(
    tuples: &BTreeMap<TupleKey, Option<TupleCondition>>,
    reads: &[Read],
) -> Vec<Vec<Tuple>> {
    let answers = |read: &Read, key: &TupleKey| match read {
        Read::Direct {
            object,
            relation,
            user,
        } => {
            key.object == *object
                && key.relation == *relation
                && match &key.subject {
                    Subject::Userset(..) => true,
                    Subject::Wildcard(name) => **name == *user.subject_type(),
                    subject => *subject == **user,
                }
        }
        Read::Parents { object, relation } => {
            key.object == *object
                && key.relation == *relation
                && matches!(key.subject, Subject::Object(_))
        }
        Read::Members { object, relation } => key.object == *object && key.relation == *relation,
        Read::Objects {
            subject,
            object_type,
            relation,
        } => {
            key.subject == *subject
                && *key.object.object_type() == **object_type
                && key.relation == *relation
        }
    };
    reads
        .iter()
        .map(|read| {
            let found = tuples.iter().filter(|(key, _)| answers(read, key));
            found.map(tuple).collect()
        })
        .collect()
}

/// In rounds, each of which adds all or only some of what the last one missed.
fn in_rounds(world: &World, (object, relation, user): &(String, String, String)) -> Outcome {
    let mut symbols = Symbols::default();
    let program = Program::compile(&world.types(), &mut symbols).unwrap();
    let mut facts = RoundFacts::new(&Arc::new(symbols));
    facts.know(object, &[]);
    facts.know(user, &world.contextual);
    let (question, mut scratch) = (
        Question::parse(object, relation, user).unwrap(),
        Scratch::default(),
    );
    let mut outcome = check(
        &facts,
        &program,
        &question,
        given(world),
        budget(),
        &mut scratch,
    );
    for round in 0..500 {
        if outcome != Outcome::Unknown {
            return error_is_error(outcome);
        }
        let missed = scratch.missed();
        let some = match round % 3 {
            0 => missed,
            1 => &missed[..1],
            _ => &missed[missed.len() / 2..],
        };
        facts.add(some, &read(&world.tuples, some));
        let context = &world.context;
        outcome = check_again(&facts, &program, &question, context, budget(), &mut scratch);
    }
    panic!("not decided after 500 rounds");
}

fn reversed(model: &AuthorizationModel) -> AuthorizationModel {
    fn turn(rewrite: &mut Userset) {
        match rewrite {
            Userset::Union(of) | Userset::Intersection(of) => {
                of.child.reverse();
                of.child.iter_mut().for_each(turn);
            }
            Userset::Difference(of) => {
                turn(&mut of.base);
                turn(&mut of.subtract);
            }
            _ => {}
        }
    }
    let mut model = model.clone();
    model
        .type_definitions
        .iter_mut()
        .flat_map(|definition| definition.relations.values_mut())
        .for_each(turn);
    model
}

/// Whatever way leads to it: of a wildcard, of a userset, of a parent.
#[test]
fn a_given_tuple_stands_in_the_place_of_the_stored_one() {
    let model = "model\n  schema 1.1\ntype user\ntype group\n  relations\n    define member: [user, user:* with is_one]\n\
                 type doc\n  relations\n    define parent: [group with is_one]\n    define viewer: [group#member with is_one]\n\
                 \x20   define reader: member from parent\ncondition is_one(x: int) {\n  x == 1\n}\n";
    let model = meridian_model::change::StoredModel {
        id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
        model: Arc::new(meridian_model::dsl::parse(model).unwrap()),
    };
    let bound = |context: &str| {
        Some(TupleCondition {
            name: "is_one".into(),
            context: context.into(),
        })
    };
    let key = |object, relation, user| TupleKey::parse(object, relation, user).unwrap();
    let everyone = key("group:1", "member", "user:*");
    let parent = key("doc:1", "parent", "group:2");
    let members = key("doc:1", "viewer", "group:2#member");
    let met = |key: &TupleKey| (key.clone(), bound(r#"{"x":1}"#));
    let anne = (key("group:2", "member", "user:anne"), None);
    let view = View::new(Position::new(1, 1))
        .with_models([model])
        .cover("group", [met(&everyone), anne])
        .cover("doc", [met(&parent), met(&members)]);
    let program = &view.model(None).unwrap().compiled.as_ref().unwrap().program;
    let ask = |question: (&str, &str), tuples: &[Tuple]| {
        let question = Question::parse(question.0, question.1, "user:anne").unwrap();
        let context = &meridian_condition::Context::new();
        let given = Given { tuples, context };
        check(
            &view,
            program,
            &question,
            given,
            budget(),
            &mut Scratch::default(),
        )
    };
    for (question, stored) in [
        (("group:1", "member"), everyone),
        (("doc:1", "reader"), parent),
        (("doc:1", "viewer"), members),
    ] {
        assert_eq!(ask(question, &[]), Outcome::Allowed, "{stored}");
        let unmet = tuple((&stored, &bound(r#"{"x":2}"#)));
        assert_eq!(ask(question, &[unmet]), Outcome::Denied, "{stored}");
        let unclear = tuple((&stored, &bound("{}")));
        assert_eq!(ask(question, &[unclear]), Outcome::Unclear, "{stored}");
    }
}

/// In whichever order the branches come, what a view holds decides the same.
#[test]
fn a_cycle_below_an_exclusion_beside_what_is_not_held() {
    let text = |c: &str| {
        format!(
            "model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define a: [user, group#a]\ntype group\n  relations\n    define parent: [group]\n    define a: [user, doc#a]\n    define b: [user] or d from parent\n    define d: a but not b\n    define c: {c}\n"
        )
    };
    let key = |object, relation, user| (TupleKey::parse(object, relation, user).unwrap(), None);
    for c in ["b or d from parent", "d from parent or b"] {
        let model = meridian_model::change::StoredModel {
            id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
            model: Arc::new(meridian_model::dsl::parse(&text(c)).unwrap()),
        };
        let view = View::new(Position::new(1, 1)).with_models([model]).cover(
            "group",
            [
                key("group:1", "parent", "group:1"),
                key("group:1", "a", "doc:0#a"),
            ],
        );
        let program = &view.model(None).unwrap().compiled.as_ref().unwrap().program;
        let question = Question::parse("group:1", "c", "user:0").unwrap();
        let context = &meridian_condition::Context::new();
        let given = Given {
            tuples: &[],
            context,
        };
        let mut scratch = Scratch::default();
        let found = check(&view, program, &question, given, budget(), &mut scratch);
        assert_eq!(found, Outcome::Denied, "{c}");
    }
}
