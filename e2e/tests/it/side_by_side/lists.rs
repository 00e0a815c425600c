//! ListObjects, StreamedListObjects, ListUsers and Expand.

use serde_json::{Value, json};

use super::talk::tuple;
use super::tuples::MODEL;
use super::{Case, Pair, Talk, call};

const NOWHERE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

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

/// Both ways of listing objects.
fn objects(kind: &str, relation: &str, user: &str, more: &Value) -> [Case; 2] {
    let mut request = json!({"type": kind, "relation": relation, "user": user});
    for (name, value) in more.as_object().unwrap() {
        request[name] = value.clone();
    }
    ["ListObjects", "StreamedListObjects"].map(|method| call(method, request.clone()))
}

fn users(object: &str, relation: &str, filters: Value, more: &Value) -> Case {
    let (kind, id) = object.split_once(':').unwrap();
    let mut request =
        json!({"object": {"type": kind, "id": id}, "relation": relation, "user_filters": filters});
    for (name, value) in more.as_object().unwrap() {
        request[name] = value.clone();
    }
    call("ListUsers", request)
}

#[tokio::test]
async fn side_by_side_lists_of_objects() {
    let pair = Pair::start(&[]).await;
    let mut talk = talk(&pair).await;
    let none = json!({});
    for (kind, relation, user) in [
        ("document", "viewer", "user:anne"),
        ("document", "viewer", "user:bob"),
        ("document", "reader", "user:bob"),
        ("document", "auditor", "user:bob"),
        ("document", "viewer", "user:zoe"),
        ("document", "viewer", "user:*"),
        ("document", "viewer", "group:2#member"),
        ("document", "parent", "folder:2"),
        ("folder", "viewer", "user:anne"),
        ("group", "member", "group:1#member"),
        ("user", "viewer", "user:anne"),
        ("nothing", "viewer", "user:anne"),
        ("document", "nothing", "user:anne"),
        ("document", "a b", "user:anne"),
        ("", "viewer", "user:anne"),
        ("document", "", "user:anne"),
        ("document", "viewer", ""),
        ("document:1", "viewer", "user:anne"),
        ("document", "viewer", "group:1#nothing"),
        ("document", "viewer", &format!("user:{}", "x".repeat(508))),
    ] {
        for case in objects(kind, relation, user, &none) {
            talk.ask(case).await;
        }
    }
    for user in ["user:a b", "anne"] {
        for case in objects("document", "viewer", user, &none) {
            talk.ask(case.other_words("Error messages")).await;
        }
    }
    for more in [
        json!({"context": {"hour": 10}}),
        json!({"context": {"hour": 20}}),
        json!({"consistency": "HIGHER_CONSISTENCY", "context": {"hour": 10}}),
        json!({"authorization_model_id": "{model}", "context": {"hour": 10}}),
        json!({"authorization_model_id": NOWHERE}),
        json!({"authorization_model_id": "abc"}),
        json!({"store_id": NOWHERE}),
        json!({"store_id": "abc"}),
        json!({"contextual_tuples": {"tuple_keys": [tuple("document:9#owner@user:carl")]}, "context": {"hour": 10}}),
        json!({"contextual_tuples": {"tuple_keys": [tuple("document:9#nothing@user:carl")]}}),
        json!({"contextual_tuples": {"tuple_keys": [tuple("document:9#reader@user:carl")]}}),
    ] {
        for case in objects("document", "viewer", "user:carl", &more) {
            talk.ask(case).await;
        }
    }
    // How far a stream gets before an error is open.
    for context in [json!({}), json!({"hour": "x"})] {
        let [list, _] = objects(
            "document",
            "viewer",
            "user:carl",
            &json!({"context": context}),
        );
        talk.ask(list).await;
    }
    talk.end();
}

#[tokio::test]
async fn side_by_side_lists_of_users() {
    let pair = Pair::start(&[]).await;
    let mut talk = talk(&pair).await;
    let (none, user) = (json!({}), json!([{"type": "user"}]));
    for (object, relation) in [
        ("document:1", "viewer"),
        ("document:1", "reader"),
        ("document:1", "auditor"),
        ("document:2", "viewer"),
        ("document:2", "reader"),
        ("document:9", "viewer"),
        ("group:2", "member"),
        ("nothing:1", "viewer"),
        ("document:1", "nothing"),
        ("document:1", "a b"),
        ("document:1", ""),
        ("document:", "viewer"),
        (":1", "viewer"),
        ("document:*", "viewer"),
    ] {
        talk.ask(users(object, relation, user.clone(), &none)).await;
    }
    for filters in [
        json!([]),
        json!([{"type": "nothing"}]),
        json!([{"type": ""}]),
        json!([{"type": "a b"}]),
        json!([{"type": "group", "relation": "member"}]),
        json!([{"type": "group", "relation": "nothing"}]),
        json!([{"type": "folder"}]),
        json!([{"type": "user"}, {"type": "group"}]),
    ] {
        talk.ask(users("document:1", "viewer", filters, &none))
            .await;
    }
    for more in [
        json!({"context": {"hour": 10}}),
        json!({"context": {"hour": 20}}),
        json!({"authorization_model_id": NOWHERE}),
        json!({"authorization_model_id": "abc"}),
        json!({"store_id": NOWHERE}),
        json!({"store_id": "abc"}),
        json!({"contextual_tuples": [tuple("document:3#owner@user:zoe")], "context": {"hour": 10}}),
        json!({"contextual_tuples": [tuple("document:3#reader@user:zoe")], "context": {"hour": 10}}),
    ] {
        talk.ask(users("document:3", "viewer", user.clone(), &more))
            .await;
    }
    talk.end();
}

#[tokio::test]
async fn side_by_side_expansions() {
    let pair = Pair::start(&[]).await;
    let mut talk = talk(&pair).await;
    for (object, relation) in [
        ("document:1", "viewer"),
        ("document:1", "reader"),
        ("document:1", "auditor"),
        ("document:1", "owner"),
        ("document:2", "viewer"),
        ("document:3", "editor"),
        ("document:9", "viewer"),
        ("group:2", "member"),
        ("folder:2", "viewer"),
        ("nothing:1", "viewer"),
        ("document:1", "nothing"),
        ("document:1", ""),
        ("", "viewer"),
        ("document", "viewer"),
        ("document:", "viewer"),
    ] {
        let key = json!({"object": object, "relation": relation});
        talk.ask(call("Expand", json!({"tuple_key": key}))).await;
    }
    talk.ask(call("Expand", json!({}))).await;
    let key = json!({"object": "document:1", "relation": "owner"});
    for more in [
        json!({"store_id": NOWHERE}),
        json!({"store_id": "abc"}),
        json!({"authorization_model_id": NOWHERE}),
        json!({"authorization_model_id": "abc"}),
        json!({"contextual_tuples": {"tuple_keys": [tuple("document:1#owner@user:zoe")]}}),
        json!({"contextual_tuples": {"tuple_keys": [tuple("document:1#reader@user:zoe")]}}),
        json!({"consistency": "HIGHER_CONSISTENCY"}),
    ] {
        let mut request = more;
        request["tuple_key"] = key.clone();
        talk.ask(call("Expand", request)).await;
    }
    talk.end();
}
