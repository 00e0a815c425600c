//! Long chains, and the depth limit.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use meridian_condition::Context;
use meridian_engine::symbols::Symbols;
use meridian_engine::{
    Budget, Given, Limits, ListObjects, ListUsers, Outcome, Program, Progress, Question,
    RoundFacts, Scratch, User, UserFilter, View, check, check_again,
};
use meridian_model::change::StoredModel;
use meridian_model::{Position, TupleCondition, TupleKey, TypeSystem, dsl};

use crate::evaluation::read;

/// Recursions by usersets, by parents, of two types by turns, with an operator beside the recursion, and in it.
const MODEL: &str = "model
  schema 1.1
type user
type team
  relations
    define member: [user, group#any]
type group
  relations
    define member: [user, group#member]
    define any: [user, group#any, team#member]
type folder
  relations
    define parent: [folder]
    define blocked: [user]
    define owner: [user] or owner from parent
    define visitor: [user] but not owner
    define viewer: [user] or owner or viewer from parent or (owner but not blocked)
    define can: viewer but not blocked
    define loose: [user] or (loose from parent but not blocked)
";

fn key(text: &str) -> (TupleKey, Option<TupleCondition>) {
    let (object, rest) = text.split_once('#').unwrap();
    let (relation, user) = rest.split_once('@').unwrap();
    (TupleKey::parse(object, relation, user).unwrap(), None)
}

pub(crate) fn view(model: &str, types: &[&str], tuples: &[String]) -> View {
    let model = StoredModel {
        id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
        model: Arc::new(dsl::parse(model).unwrap()),
    };
    let view = View::new(Position::new(1, 1)).with_models([model]);
    types.iter().fold(view, |view, name| {
        let is_of = |text: &&String| text.starts_with(&format!("{name}:"));
        view.cover(name, tuples.iter().filter(is_of).map(|text| key(text)))
    })
}

/// Chains from 0 to `length`, with anne at the end of each.
pub(crate) fn chains(length: usize) -> View {
    let mut tuples = Vec::new();
    for n in 0..length {
        let next = n + 1;
        tuples.push(format!("group:{n}#member@group:{next}#member"));
        tuples.push(format!("group:{n}#any@team:{n}#member"));
        tuples.push(format!("team:{n}#member@group:{next}#any"));
        tuples.push(format!("folder:{n}#parent@folder:{next}"));
    }
    for set in [
        "group:L#member",
        "group:L#any",
        "folder:L#owner",
        "folder:L#loose",
    ] {
        tuples.push(format!(
            "{}@user:anne",
            set.replace('L', &length.to_string())
        ));
    }
    view(MODEL, &["group", "team", "folder"], &tuples)
}

fn ask(view: &View, set: (&str, &str), user: &str, depth: u32) -> Outcome {
    let program = &view.model(None).unwrap().compiled.as_ref().unwrap().program;
    let question = Question::parse(set.0, set.1, user).unwrap();
    let limits = Limits {
        depth,
        ..Limits::default()
    };
    let given = Given {
        tuples: &[],
        context: &Context::new(),
    };
    check(
        view,
        program,
        &question,
        given,
        Budget::of(limits),
        &mut Scratch::default(),
    )
}

fn objects(view: &View, kind: &str, relation: &str) -> (Progress, BTreeSet<String>) {
    let program = &view.model(None).unwrap().compiled.as_ref().unwrap().program;
    let (user, mut scratch) = (User::parse("user:anne").unwrap(), Scratch::default());
    let mut listing =
        ListObjects::new(view, program, (kind, relation), &user, &[], &mut scratch).unwrap();
    let mut listed = BTreeSet::new();
    let progress = listing.go(
        view,
        program,
        &user,
        &Context::new(),
        Budget::of(Limits::default()),
        &mut scratch,
        &mut |name| listed.insert(name.to_owned()),
    );
    (progress, listed)
}

fn users(view: &View, object: &str, relation: &str) -> (Progress, BTreeSet<String>) {
    let program = &view.model(None).unwrap().compiled.as_ref().unwrap().program;
    let mut scratch = Scratch::default();
    let filter = UserFilter {
        object_type: "user",
        relation: None,
    };
    let of = (object, object.split_once(':').unwrap().0, relation);
    let mut listing = ListUsers::new(view, program, of, filter, &[], &mut scratch).unwrap();
    let mut listed = BTreeSet::new();
    let progress = listing.go(
        view,
        program,
        &Context::new(),
        Budget::of(Limits::default()),
        &mut scratch,
        &mut |name| listed.insert(name.to_owned()),
    );
    (progress, listed)
}

const PLAIN: [(&str, &str); 6] = [
    ("group:0", "member"),
    ("group:0", "any"),
    ("team:0", "member"),
    ("folder:0", "owner"),
    ("folder:0", "viewer"),
    ("folder:0", "can"),
];

#[test]
fn a_recursion_by_unions_alone_has_no_depth_limit() {
    let view = chains(20_000);
    for set in PLAIN {
        assert_eq!(ask(&view, set, "user:anne", 1), Outcome::Allowed, "{set:?}");
        assert_eq!(
            ask(&view, set, "user:nobody", 1),
            Outcome::Denied,
            "{set:?}"
        );
    }
}

#[test]
fn lists_of_a_recursion_have_no_depth_limit() {
    let length = 2_000;
    let view = chains(length);
    for (object, relation) in PLAIN {
        let kind = object.split_once(':').unwrap().0;
        let (progress, listed) = objects(&view, kind, relation);
        let last = usize::from(kind != "team");
        assert_eq!(
            (progress, listed.len()),
            (Progress::Done, length + last),
            "{kind} {relation}"
        );
        let anne = BTreeSet::from(["user:anne".to_owned()]);
        assert_eq!(
            users(&view, object, relation),
            (Progress::Done, anne),
            "{object} {relation}"
        );
    }
}

/// As upstream, where the limit is counted by sets, and of the last one no more is asked than its own tuples.
#[test]
fn a_recursion_through_an_operator_has_upstreams_limit_of_25() {
    for (length, anne) in [(25, Outcome::Allowed), (26, Outcome::TooDeep)] {
        let view = chains(length);
        let set = ("folder:0", "loose");
        assert_eq!(ask(&view, set, "user:anne", 25), anne, "{length}");
        let (progress, listed) = objects(&view, "folder", "loose");
        assert_eq!((progress, listed.len()), (Progress::Done, length + 1));
    }
    assert_eq!(users(&chains(26), "folder:0", "loose").0, Progress::TooDeep);
    assert_eq!(objects(&chains(400), "folder", "loose").1.len(), 401);
    // Longer ones are not walked to their end: the stack has one, too.
    assert_eq!(
        objects(&chains(600), "folder", "loose").0,
        Progress::TooDeep
    );
}

#[test]
fn relations_one_below_the_other_have_upstreams_limit_of_25() {
    let mut model =
        "model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define r0: [user]\n".to_owned();
    let mut tuples = vec!["doc:1#r0@user:anne".to_owned()];
    for n in 1..=30 {
        let below = n - 1;
        writeln!(model, "    define r{n}: [doc#r{below}]").unwrap();
        tuples.push(format!("doc:1#r{n}@doc:1#r{below}"));
    }
    let view = view(&model, &["doc"], &tuples);
    for (relation, expected) in [("r25", Outcome::Allowed), ("r26", Outcome::TooDeep)] {
        assert_eq!(
            ask(&view, ("doc:1", relation), "user:anne", 25),
            expected,
            "{relation}"
        );
    }
    let anne = BTreeSet::from(["user:anne".to_owned()]);
    assert_eq!(users(&view, "doc:1", "r25"), (Progress::Done, anne));
    assert_eq!(users(&view, "doc:1", "r26").0, Progress::TooDeep);
    assert_eq!(
        objects(&view, "doc", "r30"),
        (Progress::Done, ["doc:1".to_owned()].into())
    );
}

/// Cycles far away are cycles, which deny where they are subtracted.
#[test]
fn a_cycle_far_away_denies_what_it_is_subtracted_from() {
    let model = "model\n  schema 1.1\ntype user\ntype group\n  relations\n    define all: [user]\n    define member: [user, group#member]\n    define rest: all but not member\n";
    let mut tuples: Vec<_> = (0..1_000)
        .map(|n| format!("group:{n}#member@group:{}#member", n + 1))
        .collect();
    tuples.push("group:0#all@user:anne".into());
    let open = view(model, &["group"], &tuples);
    assert_eq!(
        ask(&open, ("group:0", "rest"), "user:anne", 25),
        Outcome::Allowed
    );
    tuples.push("group:1000#member@group:900#member".into());
    let closed = view(model, &["group"], &tuples);
    assert_eq!(
        ask(&closed, ("group:0", "rest"), "user:anne", 25),
        Outcome::Denied
    );
}

/// Asks over a datastore: what came out, in how many rounds, each of which may take so much `work`.
fn in_rounds(tuples: &[String], set: (&str, &str), user: &str, work: u64) -> (Outcome, usize) {
    let tuples: BTreeMap<TupleKey, Option<TupleCondition>> =
        tuples.iter().map(|text| key(text)).collect();
    let types = TypeSystem::new(Arc::new(dsl::parse(MODEL).unwrap())).unwrap();
    let mut symbols = Symbols::default();
    let program = Program::compile(&types, &mut symbols).unwrap();
    let mut facts = RoundFacts::new(&Arc::new(symbols));
    facts.know(set.0, &[]);
    facts.know(user, &[]);
    let question = Question::parse(set.0, set.1, user).unwrap();
    let (context, mut scratch) = (Context::new(), Scratch::default());
    let given = Given {
        tuples: &[],
        context: &context,
    };
    let budget = Budget::of(Limits {
        work,
        ..Limits::default()
    });
    let mut outcome = check(&facts, &program, &question, given, budget, &mut scratch);
    let mut rounds = 1;
    while outcome == Outcome::Unknown {
        facts.add(scratch.missed(), &read(&tuples, scratch.missed()));
        outcome = check_again(&facts, &program, &question, &context, budget, &mut scratch);
        rounds += 1;
    }
    (outcome, rounds)
}

/// However long the way to it, a round goes on where the last one ended.
#[test]
fn a_round_over_a_datastore_takes_no_more_work_for_what_is_behind_it() {
    const LENGTH: usize = 300;
    let to = |from: &str, to: &str| format!("group:{from}#member@group:{to}#member");
    let chain = |name: &str| {
        let name = name.to_owned();
        (0..LENGTH).map(move |n| to(&format!("{name}{n}"), &format!("{name}{}", n + 1)))
    };
    // Two chains from one group, groups beside the one, a way back from the other to its beginning, and anne at its end.
    let mut tuples = vec![to("start", "a0"), to("start", "b0")];
    tuples.extend(chain("a").chain(chain("b")));
    tuples.extend((0..LENGTH).map(|n| to(&format!("a{n}"), &format!("beside{n}"))));
    tuples.extend((0..LENGTH).map(|n| format!("group:a{n}#member@user:carl{n}")));
    tuples.push(to(&format!("b{LENGTH}"), "b0"));
    tuples.push(format!("group:b{LENGTH}#member@user:anne"));
    let start = ("group:start", "member");
    for (user, outcome) in [
        ("user:anne", Outcome::Allowed),
        ("user:bob", Outcome::Denied),
    ] {
        let (found, rounds) = in_rounds(&tuples, start, user, 30);
        assert_eq!(found, outcome, "{user}");
        assert!(rounds > LENGTH, "{rounds}");
    }
    // A cycle is met as well: what it is subtracted from is denied.
    let parent = |n: usize| format!("folder:{n}#parent@folder:{}", n + 1);
    let mut tuples: Vec<_> = (0..LENGTH).map(parent).collect();
    tuples.push("folder:0#visitor@user:bob".to_owned());
    let visitor = ("folder:0", "visitor");
    let (found, _) = in_rounds(&tuples, visitor, "user:bob", 30);
    assert_eq!(found, Outcome::Allowed);
    tuples.push(format!("folder:{LENGTH}#parent@folder:0"));
    let (found, _) = in_rounds(&tuples, visitor, "user:bob", 30);
    assert_eq!(found, Outcome::Denied);
}
