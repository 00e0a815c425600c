//! The form in which an explanation is written, as documented.

use meridian_engine::explain::Because;
use meridian_engine::{Budget, Given, Limits, View};
use meridian_model::{Timestamp, Tuple, TupleCondition, TupleKey};
use serde_json::{Value as Json, json};

use super::{ALL, NO_CONTEXT, ask, explained};
use crate::depth::view as view_of;

const DOCUMENTED: &str = "model
  schema 1.1
type user
type bot
type group
  relations
    define member: [user, user:*, group#member, user with on_call]
type folder
  relations
    define parent: [folder]
    define viewer: [user, group#member] or viewer from parent
type doc
  relations
    define folder: [folder]
    define blocked: [user]
    define approved: [user]
    define editor: [user]
    define viewer: editor or viewer from folder
    define reader: viewer but not blocked
    define signer: approved and viewer
condition on_call(on: bool) {
  on
}
";

fn documented() -> View {
    let tuples = [
        "doc:1#folder@folder:b",
        "folder:b#parent@folder:a",
        "folder:a#viewer@group:eng#member",
        "group:eng#member@user:anne",
        "group:eng#member@group:all#member",
        "group:all#member@group:eng#member",
        "doc:1#blocked@user:carl",
        "doc:1#editor@user:carl",
        "group:open#member@user:*",
    ];
    let view = view_of(DOCUMENTED, &["doc", "folder"], &tuples.map(str::to_owned));
    let groups = tuples.iter().filter(|of| of.starts_with("group:"));
    let groups = groups.map(|of| {
        let (object, rest) = of.split_once('#').unwrap();
        let (relation, user) = rest.split_once('@').unwrap();
        (TupleKey::parse(object, relation, user).unwrap(), None)
    });
    let on_call = TupleCondition {
        name: "on_call".into(),
        context: r#"{"on":false}"#.into(),
    };
    let bob = TupleKey::parse("group:eng", "member", "user:bob").unwrap();
    view.cover("group", groups.chain([(bob, Some(on_call))]))
}

fn steps(set: &str, user: &str) -> Json {
    let explanation = ask(&documented(), set, user, ALL);
    assert!(!explanation.truncated);
    serde_json::to_value(explanation).unwrap()["steps"].take()
}

#[test]
fn a_path_is_written_as_documented() {
    assert_eq!(
        steps("doc:1#reader", "user:anne"),
        json!([
            {"set": "doc:1#reader", "verdict": "holds", "because": {"by": "but_not",
                "base": {"by": "computed", "leads_to": "doc:1#viewer", "verdict": "holds"},
                "subtract": {"by": "computed", "leads_to": "doc:1#blocked", "verdict": "fails"}}},
            {"set": "doc:1#viewer", "verdict": "holds", "because": {"by": "parent",
                "tuple": {"object": "doc:1", "relation": "folder", "user": "folder:b"},
                "leads_to": "folder:b#viewer", "verdict": "holds"}},
            {"set": "folder:b#viewer", "verdict": "holds", "because": {"by": "parent",
                "tuple": {"object": "folder:b", "relation": "parent", "user": "folder:a"},
                "leads_to": "folder:a#viewer", "verdict": "holds"}},
            {"set": "folder:a#viewer", "verdict": "holds", "because": {"by": "userset",
                "tuple": {"object": "folder:a", "relation": "viewer", "user": "group:eng#member"},
                "leads_to": "group:eng#member", "verdict": "holds"}},
            {"set": "group:eng#member", "verdict": "holds", "because": {"by": "tuple",
                "tuple": {"object": "group:eng", "relation": "member", "user": "user:anne"}}},
            {"set": "doc:1#blocked", "verdict": "fails", "because": {"by": "no_tuple", "of": "doc:1#blocked"}},
        ])
    );
    let everyone = json!({"object": "group:open", "relation": "member", "user": "user:*"});
    assert_eq!(
        steps("group:open#member", "user:bob")[0]["because"],
        json!({"by": "wildcard", "tuple": everyone})
    );
    assert_eq!(
        steps("group:open#member", "group:open#member")[0]["because"],
        json!({"by": "itself"})
    );
}

#[test]
fn exhausted_branches_are_written_as_documented() {
    // Blocked, though an editor.
    assert_eq!(
        steps("doc:1#reader", "user:carl"),
        json!([
            {"set": "doc:1#reader", "verdict": "fails", "because": {"by": "but_not",
                "subtract": {"by": "computed", "leads_to": "doc:1#blocked", "verdict": "holds"}}},
            {"set": "doc:1#blocked", "verdict": "holds", "because": {"by": "tuple",
                "tuple": {"object": "doc:1", "relation": "blocked", "user": "user:carl"}}},
        ])
    );
    assert_eq!(
        steps("doc:1#signer", "user:anne"),
        json!([
            {"set": "doc:1#signer", "verdict": "fails", "because": {"by": "all_of", "branches": [
                {"by": "computed", "leads_to": "doc:1#approved", "verdict": "fails"}]}},
            {"set": "doc:1#approved", "verdict": "fails", "because": {"by": "no_tuple", "of": "doc:1#approved"}},
        ])
    );
    // A condition that is not met, and groups that lead to one another.
    let eng = json!({"object": "group:eng", "relation": "member", "user": "user:bob", "condition": "on_call"});
    assert_eq!(
        steps("group:eng#member", "user:bob"),
        json!([
            {"set": "group:eng#member", "verdict": "cycle", "because": {"by": "any_of", "branches": [
                {"by": "condition_not_met", "tuple": eng},
                {"by": "userset", "tuple": {"object": "group:eng", "relation": "member", "user": "group:all#member"},
                    "leads_to": "group:all#member", "verdict": "cycle"}]}},
            {"set": "group:all#member", "verdict": "cycle", "because": {"by": "userset",
                "tuple": {"object": "group:all", "relation": "member", "user": "group:eng#member"},
                "leads_to": "group:eng#member", "verdict": "cycle"}},
        ])
    );
    assert_eq!(
        steps("doc:1#viewer", "bot:x"),
        json!([{"set": "doc:1#viewer", "verdict": "fails", "because": {"by": "impossible_user"}}])
    );
}

#[test]
fn a_tuple_that_the_request_brings_is_said_to_be_one() {
    let view = documented();
    let program = &view.model(None).unwrap().compiled.as_ref().unwrap().program;
    let on_call = TupleCondition {
        name: "on_call".into(),
        context: r#"{"on":true}"#.into(),
    };
    let brought = Tuple {
        key: TupleKey::parse("group:new", "member", "user:new").unwrap(),
        condition: Some(on_call),
        timestamp: Timestamp(0),
    };
    let given = Given {
        tuples: &[brought],
        context: &NO_CONTEXT(),
    };
    let asked = ("group:new", "member", "user:new");
    let budget = Budget::of(Limits::default());
    let explained = explained(&view, program, asked, given, budget, ALL).unwrap();
    let Because::Tuple { tuple } = &explained.steps[0].because else {
        panic!("{explained:?}");
    };
    assert!(tuple.contextual);
    assert_eq!(tuple.condition.as_deref(), Some("on_call"));
}
