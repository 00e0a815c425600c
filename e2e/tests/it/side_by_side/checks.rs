//! Check and BatchCheck.

use serde_json::{Value, json};

use super::talk::tuple;
use super::{Case, Pair, Talk, call};

const NOWHERE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

const MODEL: &str = "model
  schema 1.1
type user
type group
  relations
    define member: [user, user:*, group#member]
type folder
  relations
    define parent: [folder]
    define viewer: [user, group#member] or viewer from parent
type document
  relations
    define parent: [folder]
    define owner: [user]
    define editor: [user with in_office, user:* with in_office]
    define viewer: [user, user:*, group#member] or owner or editor or viewer from parent
    define blocked: [user, group#member]
    define reader: viewer but not blocked
    define auditor: owner and viewer
condition in_office(hour: int, days: list<string>) {
  hour >= 9 && hour < 18 && !('sunday' in days)
}
";

async fn talk(pair: &Pair) -> Talk<'_> {
    let mut talk = Talk::with_model(pair, MODEL).await;
    talk.write(&[
        "group:1#member@user:anne",
        "group:2#member@group:1#member",
        "folder:1#viewer@group:2#member",
        "folder:2#parent@folder:1",
        "document:1#parent@folder:2",
        "document:1#owner@user:bob",
        "document:1#blocked@user:bob",
        "document:2#viewer@user:*",
        "document:2#owner@user:bob",
    ])
    .await;
    let mut bound = tuple("document:3#editor@user:carl");
    bound["condition"] = json!({"name": "in_office", "context": {"days": ["monday"]}});
    talk.ask(call("Write", json!({"writes": {"tuple_keys": [bound]}})).grpc_only())
        .await;
    talk
}

fn check(question: &str) -> Case {
    call("Check", json!({"tuple_key": tuple(question)}))
}

fn with(question: &str, name: &str, value: Value) -> Case {
    let mut request = json!({"tuple_key": tuple(question)});
    request[name] = value;
    call("Check", request)
}

#[tokio::test]
async fn side_by_side_checks() {
    let pair = Pair::start(&[]).await;
    let mut talk = talk(&pair).await;
    for question in [
        "document:1#viewer@user:anne",
        "document:1#reader@user:anne",
        "document:1#reader@user:bob",
        "document:1#auditor@user:bob",
        "document:2#reader@user:zoe",
        "document:2#viewer@user:*",
        "document:1#viewer@group:2#member",
        "group:2#member@group:1#member",
        "group:2#member@group:2#member",
        "document:9#viewer@user:anne",
        "document:3#viewer@user:carl",
        "document:3#owner@user:carl",
        "document:1#viewer@folder:1",
        "nothing:1#viewer@user:anne",
        "document:1#nothing@user:anne",
        "document:1#viewer@nothing:anne",
        "document:1#viewer@group:1#nothing",
        "document:1#viewer@group:*#member",
        "document#viewer@user:anne",
        "document:1#viewer@user:",
    ] {
        talk.ask(check(question)).await;
    }
    for question in ["document:1#viewer@anne", "document:*#viewer@user:anne"] {
        talk.ask(check(question).other_words("Error messages"))
            .await;
    }
    talk.end();
}

#[tokio::test]
async fn side_by_side_checks_with_more() {
    let pair = Pair::start(&[]).await;
    let mut talk = talk(&pair).await;
    let carl = "document:3#viewer@user:carl";
    for context in [
        json!({"hour": 10}),
        json!({"hour": "10"}),
        json!({"hour": 20}),
        json!({"hour": 10, "days": ["sunday"]}),
        json!({"hour": 10, "other": 1}),
        json!({"days": []}),
        json!({}),
    ] {
        talk.ask(with(carl, "context", context)).await;
    }
    let null = with(carl, "context", json!({"hour": null}));
    talk.ask(null.other_words("Error messages")).await;
    for preference in ["UNSPECIFIED", "MINIMIZE_LATENCY", "HIGHER_CONSISTENCY"] {
        talk.ask(with(carl, "consistency", json!(preference))).await;
        talk.ask(with(
            "document:1#owner@user:bob",
            "consistency",
            json!(preference),
        ))
        .await;
    }
    for id in ["{model}", NOWHERE, "abc", ""] {
        talk.ask(with(
            "document:1#owner@user:bob",
            "authorization_model_id",
            json!(id),
        ))
        .await;
    }
    for id in [NOWHERE, "abc"] {
        talk.ask(with("document:1#owner@user:bob", "store_id", json!(id)))
            .await;
    }
    let question = "document:9#viewer@user:anne";
    for contextual in [
        "document:9#viewer@user:anne",
        "document:9#viewer@group:2#member",
        "document:9#parent@folder:2",
    ] {
        let tuples = json!({"tuple_keys": [tuple(contextual)]});
        talk.ask(with(question, "contextual_tuples", tuples)).await;
    }
    talk.ask(call("Check", json!({}))).await;
    talk.end();
}

/// Where contexts may hold none, and where they may.
#[tokio::test]
async fn side_by_side_control_characters() {
    let pair = Pair::start(&[]).await;
    let mut talk = talk(&pair).await;
    let carl = "document:3#viewer@user:carl";
    for context in [
        json!({"a": "a\nb"}),
        json!({"a\tb": 1}),
        json!({"hour": 10, "a": ["x", {"b": ["\u{7f}"]}]}),
        json!({"hour": 10, "a": {"b": {"\u{85}": null}}}),
        json!({"hour": "\u{0}1\u{7}\u{8}\u{b}\u{c}\u{1b}\r"}),
        json!({"a": "\n\"'\\\u{a0}\u{200b}e\u{301}\u{1f600}\u{e0001}\u{2028}"}),
        json!({"hour": 10, "days": ["\u{a0}\u{200b}\u{2028}"]}),
    ] {
        talk.ask(with(carl, "context", context.clone())).await;
        let mut bound = tuple("document:9#editor@user:zoe");
        bound["condition"] = json!({"name": "in_office", "context": context});
        let given = json!({"tuple_keys": [bound]});
        let question = "document:9#editor@user:zoe";
        talk.ask(with(question, "contextual_tuples", given.clone()))
            .await;
        talk.ask(call(
            "BatchCheck",
            json!({"checks": [
                {"correlation_id": "a", "tuple_key": tuple(carl), "context": context},
                {"correlation_id": "b", "tuple_key": tuple(question), "contextual_tuples": given},
                {"correlation_id": "c", "tuple_key": tuple("document:1#owner@user:bob")},
            ]}),
        ))
        .await;
        let hour = json!({"hour": 10, "a": context});
        let objects =
            json!({"type": "document", "relation": "editor", "user": "user:carl", "context": hour});
        talk.ask(call("ListObjects", objects.clone())).await;
        talk.ask(call("StreamedListObjects", objects)).await;
        let users = json!({
            "object": {"type": "document", "id": "3"}, "relation": "editor",
            "user_filters": [{"type": "user"}], "context": hour,
        });
        talk.ask(call("ListUsers", users)).await;
        let mut listed = json!({"type": "document", "relation": "editor", "user": "user:zoe"});
        listed["contextual_tuples"] = given;
        talk.ask(call("ListObjects", listed)).await;
        let asserted = json!({"tuple_key": tuple(carl), "expectation": true, "context": context});
        talk.ask(call(
            "WriteAssertions",
            json!({"authorization_model_id": "{model}", "assertions": [asserted]}),
        ))
        .await;
    }
    // What is wrong with the question comes first, then the context, then contextual tuples.
    let wrong = json!({"tuple_keys": [tuple("nothing:1#editor@user:zoe")]});
    for question in [carl, "nothing:1#viewer@user:carl"] {
        let request = json!({"tuple_key": tuple(question), "context": {"a": "\n"}, "contextual_tuples": wrong});
        talk.ask(call("Check", request)).await;
    }
    talk.end();
}
