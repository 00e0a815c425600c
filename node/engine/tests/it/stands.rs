//! Where the model lets no such user stand, nothing is looked at.

use std::sync::Arc;

use meridian_condition::Context;
use meridian_engine::{
    Budget, Given, Limits, ListUsers, Outcome, Progress, Question, Scratch, UserFilter, View, check,
};
use meridian_model::change::StoredModel;
use meridian_model::{Position, Tuple, TupleCondition, TupleKey};

const MODEL: &str = "model
  schema 1.1
type user
type robot
type team
  relations
    define part: [team]
    define member: [user, user with office, team#member]
    define owner: [robot]
    define machine: [robot, team#machine, team#owner] or machine from part
type doc
  relations
    define parent: [team]
    define hired: [team, team with office]
    define blocked: [robot:*, team#machine] or machine from parent
    define viewer: [user] but not blocked
    define editor: [user] or machine from hired
    define keeper: [user, team#machine with office]
    define both: [user] and blocked
    define near: [user] or machine from parent
condition office(hour: int) {
  hour >= 8
}
";

fn tuple(text: &str) -> (TupleKey, Option<TupleCondition>) {
    let (text, condition) = match text.split_once(" with ") {
        Some((text, name)) => (text, Some(name)),
        None => (text, None),
    };
    let (object, rest) = text.split_once('#').unwrap();
    let (relation, user) = rest.split_once('@').unwrap();
    let condition = condition.map(|name| TupleCondition {
        name: name.into(),
        context: "{}".into(),
    });
    (TupleKey::parse(object, relation, user).unwrap(), condition)
}

/// Of the docs alone everything is known.
fn view(tuples: &[&str]) -> View {
    let model = StoredModel {
        id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
        model: Arc::new(meridian_model::dsl::parse(MODEL).unwrap()),
    };
    View::new(Position::new(1, 1))
        .with_models([model])
        .cover("doc", tuples.iter().map(|text| tuple(text)))
}

fn ask(view: &View, question: &str, depth: u32) -> Outcome {
    let (key, _) = tuple(question);
    let program = &view.model(None).unwrap().compiled.as_ref().unwrap().program;
    let (object, user) = (key.object.as_str(), key.subject.to_string());
    let question = Question::parse(object, &key.relation, &user).unwrap();
    let budget = Budget::of(Limits {
        depth,
        ..Limits::default()
    });
    let given = Given {
        tuples: &[] as &[Tuple],
        context: &Context::new(),
    };
    check(
        view,
        program,
        &question,
        given,
        budget,
        &mut Scratch::default(),
    )
}

#[test]
fn a_branch_that_can_hold_no_such_user_needs_no_coverage() {
    let view = view(&[
        "doc:1#viewer@user:anne",
        "doc:1#both@user:anne",
        "doc:1#editor@user:anne",
        "doc:1#parent@team:core",
        "doc:1#blocked@team:core#machine",
    ]);
    for (question, expected) in [
        ("doc:1#viewer@user:anne", Outcome::Allowed),
        ("doc:1#viewer@user:bob", Outcome::Denied),
        ("doc:1#both@user:anne", Outcome::Denied),
        ("doc:1#blocked@user:anne", Outcome::Denied),
        ("doc:1#blocked@user:*", Outcome::Denied),
        ("doc:1#blocked@robot:r2", Outcome::Unknown),
        ("doc:1#viewer@robot:r2", Outcome::Denied),
        ("doc:1#editor@user:bob", Outcome::Denied),
        // Usersets can stand where they lead to.
        ("doc:1#blocked@team:web#machine", Outcome::Unknown),
        ("doc:1#blocked@team:web#owner", Outcome::Unknown),
        ("doc:1#blocked@team:core#machine", Outcome::Allowed),
        ("doc:1#blocked@team:web#member", Outcome::Denied),
        ("doc:1#blocked@doc:2#blocked", Outcome::Denied),
        ("doc:1#viewer@doc:1#viewer", Outcome::Allowed),
    ] {
        assert_eq!(ask(&view, question, 25), expected, "{question}");
    }
}

#[test]
fn a_tuple_on_the_way_is_looked_at_where_it_may_have_a_condition() {
    let bound = view(&[
        "doc:1#hired@team:core with office",
        "doc:2#keeper@team:core#machine with office",
        "doc:3#hired@team:core",
    ]);
    assert_eq!(ask(&bound, "doc:1#editor@user:bob", 25), Outcome::Unclear);
    assert_eq!(ask(&bound, "doc:2#keeper@user:bob", 25), Outcome::Unclear);
    assert_eq!(ask(&bound, "doc:3#editor@user:bob", 25), Outcome::Denied);
}

#[test]
fn the_depth_limit_is_not_met_where_nobody_can_stand() {
    let view = view(&["doc:1#parent@team:core"]);
    assert_eq!(ask(&view, "doc:1#near@user:anne", 0), Outcome::Denied);
}

fn list(view: &View, object: &str, relation: &str, object_type: &str) -> Progress {
    let program = &view.model(None).unwrap().compiled.as_ref().unwrap().program;
    let filter = UserFilter {
        object_type,
        relation: None,
    };
    let mut scratch = Scratch::default();
    let of = (object, "doc", relation);
    let listing = ListUsers::new(view, program, of, filter, &[], &mut scratch);
    let budget = Budget::of(Limits::default());
    listing.unwrap().go(
        view,
        program,
        &Context::new(),
        budget,
        &mut scratch,
        &mut |_| true,
    )
}

#[test]
fn a_listing_of_users_goes_where_they_can_stand_or_a_condition_may_fail_it() {
    let view = view(&[
        "doc:1#viewer@user:anne",
        "doc:1#parent@team:core",
        "doc:1#blocked@team:core#machine",
        "doc:2#keeper@team:core#machine with office",
    ]);
    assert_eq!(list(&view, "doc:1", "viewer", "user"), Progress::Done);
    assert_eq!(list(&view, "doc:1", "blocked", "robot"), Progress::Unknown);
    assert_eq!(list(&view, "doc:1", "blocked", "user"), Progress::Done);
    assert_eq!(list(&view, "doc:2", "keeper", "user"), Progress::Unclear);
    assert_eq!(list(&view, "doc:1", "editor", "user"), Progress::Done);
}
