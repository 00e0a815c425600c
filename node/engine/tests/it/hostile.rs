//! Graphs and models made to take for ever.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use meridian_condition::Context;
use meridian_engine::{Budget, Given, Limits, Outcome, Question, Scratch, View, check};
use meridian_model::change::StoredModel;
use meridian_model::{Position, TupleCondition, TupleKey, dsl};

fn view(model: &str, object_type: &str, tuples: impl IntoIterator<Item = String>) -> View {
    let key = |text: String| {
        let (object, rest) = text.split_once('#').unwrap();
        let (relation, user) = rest.split_once('@').unwrap();
        (TupleKey::parse(object, relation, user).unwrap(), None)
    };
    let model = StoredModel {
        id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
        model: Arc::new(dsl::parse(model).unwrap()),
    };
    View::new(Position::new(1, 1))
        .with_models([model])
        .cover(object_type, tuples.into_iter().map(key))
}

fn ask(view: &View, object: &str, relation: &str, budget: Budget<'_>) -> Outcome {
    let model = view.model(None).unwrap();
    let question = Question::parse(object, relation, "user:nobody").unwrap();
    check(
        view,
        &model.compiled.as_ref().unwrap().program,
        &question,
        Given {
            tuples: &[],
            context: &Context::new(),
        },
        budget,
        &mut Scratch::default(),
    )
}

const GROUPS: &str = "model\n  schema 1.1\ntype user\ntype group\n  relations\n    define member: [user, group#member]\n";

/// Every group a member of every other: the number of paths is beyond counting.
fn tangle(groups: usize) -> View {
    let edges = (0..groups).flat_map(|a| {
        (0..groups)
            .filter(move |b| a != *b)
            .map(move |b| format!("group:{a}#member@group:{b}#member"))
    });
    view(GROUPS, "group", edges)
}

#[test]
fn a_tangle_of_groups_takes_work_in_proportion_to_its_edges() {
    let limits = Limits {
        depth: 1000,
        work: 60 * 60 * 60,
        ..Limits::default()
    };
    assert_eq!(
        ask(&tangle(60), "group:0", "member", Budget::of(limits)),
        Outcome::Denied
    );
}

#[test]
fn the_budget_of_work_ends_it() {
    let limits = Limits {
        work: 100,
        ..Limits::default()
    };
    assert_eq!(
        ask(&tangle(30), "group:0", "member", Budget::of(limits)),
        Outcome::OutOfWork
    );
}

#[test]
fn the_callers_interrupt_ends_it_along_the_way() {
    let polls = Cell::new(0_u32);
    let interrupted = || {
        polls.set(polls.get() + 1);
        polls.get() == 3
    };
    let limits = Limits {
        depth: 1000,
        ..Limits::default()
    };
    assert_eq!(
        ask(
            &tangle(100),
            "group:0",
            "member",
            Budget {
                limits,
                interrupted: &interrupted
            }
        ),
        Outcome::Interrupted
    );
    assert_eq!(polls.get(), 3);
}

#[test]
fn a_long_chain_of_computed_relations_does_not_overflow_the_stack() {
    let relations: BTreeMap<_, _> = (0..9_000)
        .map(|n| {
            (
                n,
                if n == 0 {
                    "[user]".to_owned()
                } else {
                    format!("r{}", n - 1)
                },
            )
        })
        .collect();
    let defined: String = relations
        .iter()
        .map(|(n, how)| format!("    define r{n}: {how}\n"))
        .collect();
    let model = format!("model\n  schema 1.1\ntype user\ntype doc\n  relations\n{defined}");
    let view = view(&model, "doc", ["doc:1#r0@user:anne".to_owned()]);
    assert_eq!(
        ask(&view, "doc:1", "r8999", Budget::of(Limits::default())),
        Outcome::TooDeep
    );
}

#[test]
fn a_long_chain_of_recursions_does_not_overflow_the_stack() {
    let relations: String = (1..2_000)
        .map(|n| format!("    define r{n}: [user, doc#r{n}] or r{}\n", n - 1))
        .collect();
    let model = format!(
        "model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define r0: [user]\n{relations}"
    );
    let view = view(&model, "doc", ["doc:1#r0@user:nobody".to_owned()]);
    for (relation, expected) in [("r1999", Outcome::TooDeep), ("r400", Outcome::Allowed)] {
        let asked = ask(&view, "doc:1", relation, Budget::of(Limits::default()));
        assert_eq!(asked, expected, "{relation}");
    }
}

#[test]
fn deep_rewrites_along_a_long_chain_do_not_overflow_the_stack() {
    let nested = |n: usize| {
        let (open, close) = ("(".repeat(29), " but not x)".repeat(29));
        format!("{open}r{}{close}", n - 1)
    };
    // Each of them alone, and each with a recursion of its own.
    for own in [
        |_: usize| String::new(),
        |n: usize| format!("[user, doc#r{n}] or "),
    ] {
        let relations: String = (1..450)
            .map(|n| format!("    define r{n}: {}({})\n", own(n), nested(n)))
            .collect();
        let model = format!(
            "model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define x: [user]\n    define r0: [user]\n{relations}"
        );
        let view = view(&model, "doc", ["doc:1#r0@user:nobody".to_owned()]);
        for (relation, expected) in [("r449", Outcome::TooDeep), ("r20", Outcome::Allowed)] {
            let asked = ask(&view, "doc:1", relation, Budget::of(Limits::default()));
            assert_eq!(asked, expected, "{relation}");
        }
    }
}

/// Twenty thousand usersets stand before what decides.
fn crowded(model: &str, others: &[&str]) -> View {
    let crowd = (0..20_000).map(|i| format!("doc:1#a@group:{i}#member"));
    let others = others.iter().map(|text| (*text).to_owned());
    view(model, "doc", crowd.chain(others)).cover("group", [])
}

/// What is asked with work enough, and with less than the crowd takes.
fn with_and_without(view: &View, relation: &str, user: &str) -> (Outcome, Outcome) {
    let model = view.model(None).unwrap();
    let program = &model.compiled.as_ref().unwrap().program;
    let question = Question::parse("doc:1", relation, user).unwrap();
    let ask = |work| {
        let limits = Limits {
            work,
            ..Limits::default()
        };
        let budget = Budget::of(limits);
        check(
            view,
            program,
            &question,
            Given {
                tuples: &[],
                context: &Context::new(),
            },
            budget,
            &mut Scratch::default(),
        )
    };
    (ask(20_000_000), ask(10_000))
}

#[test]
fn what_ran_out_of_work_decides_nothing_even_below_an_exclusion() {
    let model = "model\n  schema 1.1\ntype user\ntype group\n  relations\n    define member: [user, group#member]\ntype doc\n  relations\n    define a: [group#member, doc#b]\n    define b: [user]\n    define c: [doc#b]\n    define p: [doc#b]\n    define x: (a but not b) or c\n    define z: p but not x\n";
    let view = crowded(model, &["doc:1#c@doc:1#b", "doc:1#p@doc:1#b"]);
    for (relation, right) in [("x", Outcome::Allowed), ("z", Outcome::Denied)] {
        let (full, short) = with_and_without(&view, relation, "doc:1#b");
        assert_eq!((full, short), (right, Outcome::OutOfWork), "{relation}");
    }
}

#[test]
fn what_ran_out_of_work_decides_nothing_on_a_cycle() {
    let model = "model\n  schema 1.1\ntype user\ntype group\n  relations\n    define member: [user, group#member]\ntype doc\n  relations\n    define a: [user, group#member]\n    define x: [user, doc#y]\n    define y: a but not x\n";
    let others = ["doc:1#x@doc:1#y", "doc:1#x@doc:2#y", "doc:2#a@user:anne"];
    let view = crowded(model, &others);
    let (full, short) = with_and_without(&view, "x", "user:anne");
    assert_eq!((full, short), (Outcome::Allowed, Outcome::OutOfWork));
}

const CONDITIONED: &str = "model
  schema 1.1
type user
type group
  relations
    define member: [user]
type doc
  relations
    define viewer: [group#member with any_of, group#member with $expression]
condition any_of(words: list<string>, wanted: string) {
  words.exists(word, word == wanted)
}
";

/// So many usersets of `doc:1`, each bound to a condition that never holds, and no group has anybody.
fn bound(usersets: usize, condition: impl Fn(usize) -> TupleCondition) -> View {
    let tuple = |at: usize| {
        let key = TupleKey::parse("doc:1", "viewer", &format!("group:{at}#member"));
        (key.unwrap(), Some(condition(at)))
    };
    let view = view(CONDITIONED, "group", []);
    view.cover("doc", (0..usersets).map(tuple))
}

fn any_of(_: usize) -> TupleCondition {
    TupleCondition {
        name: "any_of".into(),
        context: "{}".into(),
    }
}

/// What is asked with so much work, and how often the interrupt was polled.
fn ask_with(view: &View, words: usize, work: u64) -> (Outcome, u32) {
    let context = serde_json::json!({"words": vec!["a"; words], "wanted": "b"});
    let model = view.model(None).unwrap();
    let question = Question::parse("doc:1", "viewer", "user:nobody").unwrap();
    let polls = Cell::new(0_u32);
    let interrupted = || {
        polls.set(polls.get() + 1);
        false
    };
    let limits = Limits {
        work,
        condition_cost: 1_000_000,
        ..Limits::default()
    };
    let outcome = check(
        view,
        &model.compiled.as_ref().unwrap().program,
        &question,
        Given {
            tuples: &[],
            context: context.as_object().unwrap(),
        },
        Budget {
            limits,
            interrupted: &interrupted,
        },
        &mut Scratch::default(),
    );
    (outcome, polls.get())
}

#[test]
fn conditions_that_do_not_hold_are_work() {
    let view = bound(20_000, any_of);
    assert_eq!(ask_with(&view, 0, 10_000), (Outcome::OutOfWork, 9));
    let (outcome, polls) = ask_with(&view, 0, 20_000_000);
    assert_eq!(outcome, Outcome::Denied);
    assert!(polls >= 20, "{polls}");
}

#[test]
fn a_condition_is_as_much_work_as_it_costs() {
    let view = bound(100, any_of);
    assert_eq!(ask_with(&view, 1, 10_000).0, Outcome::Denied);
    assert_eq!(ask_with(&view, 100, 10_000).0, Outcome::OutOfWork);
}

/// Casting the words is more work than all the evaluations may do, if it were done for each.
#[test]
fn what_a_request_brings_is_cast_once_for_all_tuples() {
    let large = "a".repeat(1 << 20);
    let never = |_: usize| TupleCondition {
        name: "any_of".into(),
        context: r#"{"words": []}"#.into(),
    };
    let view = bound(1_000, never);
    let model = view.model(None).unwrap();
    let question = Question::parse("doc:1", "viewer", "user:nobody").unwrap();
    let context = serde_json::json!({"words": [], "wanted": large});
    let limits = Limits {
        work: 100_000,
        ..Limits::default()
    };
    let outcome = check(
        &view,
        &model.compiled.as_ref().unwrap().program,
        &question,
        Given {
            tuples: &[],
            context: context.as_object().unwrap(),
        },
        Budget::of(limits),
        &mut Scratch::default(),
    );
    assert_eq!(outcome, Outcome::Denied);
}

/// A thousand tuples that are bound to a condition of so many parameters.
fn wide(parameters: usize) -> View {
    let declared: Vec<_> = (0..parameters).map(|n| format!("p{n}: string")).collect();
    let declared = declared.join(", ");
    let model = format!(
        "model\n  schema 1.1\ntype user\ntype group\n  relations\n    define member: [user]\ntype doc\n  relations\n    define viewer: [group#member with wide]\ncondition wide({declared}) {{\n  p0 == p1\n}}\n"
    );
    let tuple = |at: usize| {
        let key = TupleKey::parse("doc:1", "viewer", &format!("group:{at}#member"));
        let condition = TupleCondition {
            name: "wide".into(),
            context: "{}".into(),
        };
        (key.unwrap(), Some(condition))
    };
    view(&model, "group", []).cover("doc", (0..1_000).map(tuple))
}

/// Each is gathered for each tuple, whether it has a value or not.
#[test]
fn the_parameters_of_a_condition_are_work() {
    let outcome = |parameters| ask_with(&wide(parameters), 0, 100_000).0;
    assert_eq!(outcome(20_000), Outcome::OutOfWork);
    assert_eq!(outcome(2), Outcome::Unclear);
}

#[test]
fn compiling_what_tuples_bring_is_work_and_done_once() {
    let inline = |at: usize| TupleCondition {
        name: "$expression".into(),
        context: format!(r#"{{"expression": "'{at}' == 'x'"}}"#).into(),
    };
    let view = bound(100, inline);
    let ask = |work| ask_with(&view, 0, work).0;
    assert_eq!(ask(10_000), Outcome::OutOfWork);
    // A little goes further each time, for what is compiled stays so.
    assert_eq!(ask(1_000_000), Outcome::Denied);
    assert_eq!(ask(10_000), Outcome::Denied);
}
