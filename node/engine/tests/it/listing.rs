//! Listings say what checks of every object, or user, would allow: over random models, tuples, contextual tuples and
//! coverage.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

use meridian_engine::symbols::Symbols;
use meridian_engine::{
    Budget, Limits, ListObjects, ListUsers, Outcome, Program, Progress, RoundFacts, Scratch, User,
    UserFilter, View,
};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::arbitrary::{OBJECTS, RELATIONS, TYPES, World, world};
use crate::evaluation::{DEPTH, ask_within, budget, config, count, read, view};

type Listed = (Progress, BTreeSet<String>);

/// Every finding once.
fn said(listed: &mut BTreeSet<String>) -> impl FnMut(&str) -> bool {
    |name| {
        assert!(listed.insert(name.to_owned()), "{name} is said twice");
        true
    }
}

fn objects(view: &View, world: &World, of: (&str, &str), user: &str) -> Listed {
    let program = &view.model(None).unwrap().compiled.as_ref().unwrap().program;
    let (user, mut scratch) = (User::parse(user).unwrap(), Scratch::default());
    let mut listed = BTreeSet::new();
    let listing = ListObjects::new(view, program, of, &user, &world.contextual, &mut scratch);
    let Some(mut listing) = listing else {
        return (Progress::Done, listed);
    };
    let mut receiver = said(&mut listed);
    let progress = listing.go(
        view,
        program,
        &user,
        &world.context,
        budget(),
        &mut scratch,
        &mut receiver,
    );
    drop(receiver);
    assert_eq!(progress == Progress::Unknown, !scratch.missed().is_empty());
    (progress, listed)
}

fn objects_in_rounds(world: &World, of: (&str, &str), user: &str) -> Listed {
    let mut symbols = Symbols::default();
    let program = Program::compile(&world.types(), &mut symbols).unwrap();
    let mut facts = RoundFacts::new(&Arc::new(symbols));
    facts.know(user, &world.contextual);
    let (user, mut scratch) = (User::parse(user).unwrap(), Scratch::default());
    let mut listed = BTreeSet::new();
    let listing = ListObjects::new(&facts, &program, of, &user, &world.contextual, &mut scratch);
    let Some(mut listing) = listing else {
        return (Progress::Done, listed);
    };
    let mut receiver = said(&mut listed);
    let progress = to_the_end(world, facts, scratch, |facts, scratch| {
        let context = &world.context;
        listing.go(
            facts,
            &program,
            &user,
            context,
            budget(),
            scratch,
            &mut receiver,
        )
    });
    drop(receiver);
    (progress, listed)
}

/// Goes on in rounds, with what was missed read in between.
fn to_the_end(
    world: &World,
    mut facts: RoundFacts,
    mut scratch: Scratch,
    mut go: impl FnMut(&RoundFacts, &mut Scratch) -> Progress,
) -> Progress {
    for _ in 0..100 {
        let progress = go(&facts, &mut scratch);
        if progress != Progress::Unknown {
            return progress;
        }
        facts.add(scratch.missed(), &read(&world.tuples, scratch.missed()));
    }
    panic!("not listed after 100 rounds");
}

fn users(
    view: &View,
    world: &World,
    (object, relation): (&str, &str),
    filter: UserFilter<'_>,
) -> Listed {
    let program = &view.model(None).unwrap().compiled.as_ref().unwrap().program;
    let mut scratch = Scratch::default();
    let mut listed = BTreeSet::new();
    let of = (object, object.split_once(':').unwrap().0, relation);
    let listing = ListUsers::new(view, program, of, filter, &world.contextual, &mut scratch);
    let Some(mut listing) = listing else {
        return (Progress::Done, listed);
    };
    let mut receiver = said(&mut listed);
    let progress = listing.go(
        view,
        program,
        &world.context,
        budget(),
        &mut scratch,
        &mut receiver,
    );
    drop(receiver);
    assert_eq!(progress == Progress::Unknown, !scratch.missed().is_empty());
    (progress, listed)
}

fn users_in_rounds(
    world: &World,
    (object, relation): (&str, &str),
    filter: UserFilter<'_>,
) -> Listed {
    let mut symbols = Symbols::default();
    let program = Program::compile(&world.types(), &mut symbols).unwrap();
    let mut facts = RoundFacts::new(&Arc::new(symbols));
    facts.know(object, &world.contextual);
    let mut scratch = Scratch::default();
    let mut listed = BTreeSet::new();
    let of = (object, object.split_once(':').unwrap().0, relation);
    let listing = ListUsers::new(
        &facts,
        &program,
        of,
        filter,
        &world.contextual,
        &mut scratch,
    );
    let Some(mut listing) = listing else {
        return (Progress::Done, listed);
    };
    let mut receiver = said(&mut listed);
    let progress = to_the_end(world, facts, scratch, |facts, scratch| {
        let context = &world.context;
        listing.go(facts, &program, context, budget(), scratch, &mut receiver)
    });
    drop(receiver);
    (progress, listed)
}

/// What checks of each of `candidates` come to, by no more than `depth` steps: those allowed, and whether one had no answer.
fn by_checks(
    view: &View,
    world: &World,
    depth: u32,
    candidates: impl Iterator<Item = (String, (String, String, String))>,
) -> (bool, BTreeSet<String>) {
    let (mut unanswered, mut allowed) = (false, BTreeSet::new());
    for (name, question) in candidates {
        let limits = Limits {
            depth,
            ..Limits::default()
        };
        let budget = Budget::of(limits);
        match ask_within(view, world, &question, budget, &mut Scratch::default()) {
            Outcome::Allowed => {
                allowed.insert(name);
            }
            Outcome::TooDeep | Outcome::Unclear => unanswered = true,
            Outcome::Denied => {}
            other => panic!("{question:?}: {other:?}"),
        }
    }
    (unanswered, allowed)
}

/// A view of the types whose tuples an answer about the relation may depend on, and of no others.
fn enough(world: &World, object_type: &str, relation: &str) -> View {
    let types = world.types();
    let closure = types.closure_types(object_type, relation);
    view(world, |name| closure.contains(name))
}

/// Whether a tuple is bound to a condition that nothing gives a value to.
fn lacks_a_value(world: &World) -> bool {
    let given = world.contextual.iter().map(|tuple| &tuple.condition);
    let mut conditions = world.tuples.values().chain(given).flatten();
    conditions.any(|condition| &*condition.context == "{}") && world.context.is_empty()
}

#[derive(Debug, Default)]
struct Seen {
    listings: Cell<u32>,
    empty: Cell<u32>,
    unanswered: Cell<u32>,
    decided_by_a_part: Cell<u32>,
}

#[test]
fn objects_are_those_that_checks_allow() {
    let seen = Seen::default();
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 1500,
        ..config()
    });
    let run = runner.run(&world(), |world| {
        let (whole, part) = (
            view(&world, |_| true),
            view(&world, |name| world.covered.contains(name)),
        );
        for (object, relation, user) in &world.questions {
            let object_type = object.split_once(':').unwrap().0;
            // What only a tuple names can be listed too.
            let ids = (0..OBJECTS).map(|id| id.to_string());
            let candidates = ids.map(|id| {
                let object = format!("{object_type}:{id}");
                (object.clone(), (object, relation.clone(), user.clone()))
            });
            // What is far away is listed too.
            let (unanswered, expected) = by_checks(&whole, &world, u32::MAX, candidates);
            let of = (object_type, relation.as_str());
            count(&seen.listings);
            let what_it_takes = enough(&world, object_type, relation);
            for (progress, listed) in [
                objects(&whole, &world, of, user),
                objects(&what_it_takes, &world, of, user),
                objects_in_rounds(&world, of, user),
            ] {
                prop_assert_eq!(&listed, &expected, "{:?} {:?}", of, user);
                // Objects that nothing leads to are not looked at, whatever their checks would meet.
                prop_assert!(
                    progress == Progress::Done
                        || (unanswered
                            && matches!(progress, Progress::TooDeep | Progress::Unclear)),
                    "{:?}",
                    progress
                );
            }
            let (progress, listed) = objects(&part, &world, of, user);
            prop_assert!(listed.is_subset(&expected), "{:?}: {:?}", of, listed);
            if progress != Progress::Unknown {
                prop_assert_eq!(&listed, &expected);
                count(&seen.decided_by_a_part);
            }
            count(if unanswered {
                &seen.unanswered
            } else if expected.is_empty() {
                &seen.empty
            } else {
                continue;
            });
        }
        Ok(())
    });
    println!("{seen:?}");
    run.unwrap();
    assert!(seen.listings.get() - seen.empty.get() > 1000, "{seen:?}");
    assert!(seen.decided_by_a_part.get() > 1000, "{seen:?}");
}

#[test]
fn users_are_those_that_checks_allow() {
    let seen = Seen::default();
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 1500,
        ..config()
    });
    let run = runner.run(&world(), |world| {
        let (whole, part) = (
            view(&world, |_| true),
            view(&world, |name| world.covered.contains(name)),
        );
        for (index, (object, relation, _)) in world.questions.iter().enumerate() {
            let of = (object.as_str(), relation.as_str());
            let filter = match index % 3 {
                0 => UserFilter {
                    object_type: TYPES[index % TYPES.len()],
                    relation: Some(RELATIONS[index % 4]),
                },
                1 => UserFilter {
                    object_type: TYPES[index % TYPES.len()],
                    relation: None,
                },
                _ => UserFilter {
                    object_type: "user",
                    relation: None,
                },
            };
            let ids = (0..OBJECTS)
                .map(|id| id.to_string())
                .chain(filter.relation.is_none().then(|| "*".into()));
            let candidates = ids.map(|id| {
                let of = filter
                    .relation
                    .map_or(String::new(), |relation| format!("#{relation}"));
                let user = format!("{}:{id}{of}", filter.object_type);
                (user.clone(), (object.clone(), relation.clone(), user))
            });
            let (unanswered, expected) = by_checks(&whole, &world, DEPTH, candidates);
            count(&seen.listings);
            let [(progress, listed), in_rounds] = [
                users(&whole, &world, of, filter),
                users_in_rounds(&world, of, filter),
            ];
            // A condition without an answer fails the whole listing wherever it is met, and what was said until then counts for
            // nothing.
            prop_assert_eq!(in_rounds.0, progress);
            if progress == Progress::Unclear {
                prop_assert!(lacks_a_value(&world));
                prop_assert!(matches!(
                    users(&part, &world, of, filter).0,
                    Progress::Unclear | Progress::Unknown
                ));
                count(&seen.unanswered);
                continue;
            }
            prop_assert_eq!(&in_rounds.1, &listed);
            let object_type = object.split_once(':').unwrap().0;
            let by_enough = users(&enough(&world, object_type, relation), &world, of, filter);
            prop_assert_eq!(by_enough, (progress, listed.clone()));
            prop_assert!(
                listed.is_subset(&expected),
                "{:?} {:?}: {:?}",
                of,
                filter,
                listed
            );
            // Whom a wildcard lets in is not named for it.
            for user in expected.difference(&listed) {
                let given = world.contextual.iter().map(|tuple| &tuple.key);
                let keys = world.tuples.keys().chain(given);
                let (named, by_wildcard) = keys.fold((false, false), |(named, wildcard), key| {
                    let subject = key.subject.to_string();
                    (named || subject == *user, wildcard || subject == "user:*")
                });
                prop_assert!(
                    !named || by_wildcard,
                    "{:?} {:?}: {:?} lacks {}",
                    of,
                    filter,
                    listed,
                    user
                );
            }
            prop_assert!(
                progress == Progress::Done || (unanswered && progress == Progress::TooDeep),
                "{:?}",
                progress
            );
            let (progress, listed_by_part) = users(&part, &world, of, filter);
            if progress != Progress::Unknown {
                prop_assert_eq!(&listed_by_part, &listed);
                count(&seen.decided_by_a_part);
            }
            count(if unanswered {
                &seen.unanswered
            } else if expected.is_empty() {
                &seen.empty
            } else {
                continue;
            });
        }
        Ok(())
    });
    println!("{seen:?}");
    run.unwrap();
    assert!(seen.listings.get() - seen.empty.get() > 1000, "{seen:?}");
    assert!(seen.decided_by_a_part.get() > 1000, "{seen:?}");
}

/// The stored tuple's condition is met, the given one's is not: a check sees only the latter.
#[test]
fn a_tuple_that_a_given_one_hides_is_not_listed() {
    let model = "model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define viewer: [user with is_one]\n\
                 condition is_one(x: int) {\n  x == 1\n}\n";
    let model = meridian_model::change::StoredModel {
        id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
        model: Arc::new(meridian_model::dsl::parse(model).unwrap()),
    };
    let key = meridian_model::TupleKey::parse("doc:1", "viewer", "user:anne").unwrap();
    let bound = |context: &str| {
        Some(meridian_model::TupleCondition {
            name: "is_one".into(),
            context: context.into(),
        })
    };
    let view = View::new(meridian_model::Position::new(1, 1))
        .with_models([model])
        .cover("doc", [(key.clone(), bound(r#"{"x":1}"#))]);
    let program = &view.model(None).unwrap().compiled.as_ref().unwrap().program;
    let list = |given: &[meridian_model::Tuple]| {
        let mut scratch = Scratch::default();
        let filter = UserFilter {
            object_type: "user",
            relation: None,
        };
        let of = ("doc:1", "doc", "viewer");
        let mut listing = ListUsers::new(&view, program, of, filter, given, &mut scratch).unwrap();
        let mut listed = BTreeSet::new();
        let mut receiver = said(&mut listed);
        let context = meridian_condition::Context::new();
        listing.go(
            &view,
            program,
            &context,
            budget(),
            &mut scratch,
            &mut receiver,
        );
        drop(receiver);
        listed
    };
    assert_eq!(list(&[]), ["user:anne".to_owned()].into());
    let hidden = crate::arbitrary::tuple((&key, &bound(r#"{"x":2}"#)));
    assert_eq!(list(&[hidden]), BTreeSet::new());
}
