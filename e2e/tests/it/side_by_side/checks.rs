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
