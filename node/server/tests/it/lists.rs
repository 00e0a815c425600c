//! The calls that ask many questions at once, and conditions: on both transports, with OpenFGA's codes.

mod streamed;
mod unstorable;

use std::collections::BTreeSet;

use bytes::Bytes;
use http::Method;
use meridian_proto::openfga::v1;
use meridian_server::limits::Limits;
use prost::Message;
use serde_json::{Value, json};

use crate::harness::{NOBODY, Node, raw};

const MODEL: &str = "model
  schema 1.1
type user
type team
  relations
    define member: [user, user:*, team#member]
type repo
  relations
    define org: [team with in_office, team]
    define owner: [user, team#member]
    define blocked: [user]
    define reader: (owner or member from org) but not blocked
condition in_office(hour: int) {
  hour >= 9 && hour < 17
}
";

const TUPLES: [(&str, &str, &str); 6] = [
    ("user:anne", "member", "team:core"),
    ("team:core#member", "member", "team:all"),
    ("team:all#member", "owner", "repo:1"),
    ("user:bob", "owner", "repo:1"),
    ("user:bob", "blocked", "repo:1"),
    ("user:bob", "owner", "repo:2"),
];

struct Shop {
    node: Node,
    store: String,
}

impl Shop {
    async fn with(limits: Limits) -> Self {
        let node = Node::with(limits).await;
        let store = node.post("/stores", &json!({"name": "shop"})).await;
        let store = store.body["id"].as_str().unwrap().to_owned();
        let model = meridian_model::dsl::compile(MODEL).unwrap();
        let model = serde_json::to_value(&**model.model()).unwrap();
        let models = format!("/stores/{store}/authorization-models");
        let written = node.post(&models, &model).await;
        assert_eq!(written.status.as_u16(), 201, "{}", written.body);
        let written = node.write(&store, &TUPLES).await;
        assert_eq!(written.status.as_u16(), 200, "{}", written.body);
        let bound = json!({"writes": {"tuple_keys": [{
            "user": "team:core", "relation": "org", "object": "repo:3", "condition": {"name": "in_office"}
        }]}});
        let shop = Self { node, store };
        let written = shop.ask("write", &bound).await;
        assert_eq!(written.0, 200, "{}", written.1);
        shop
    }

    async fn open() -> Self {
        Self::with(Limits::default()).await
    }

    async fn ask(&self, call: &str, body: &Value) -> (u16, Value) {
        let path = format!("/stores/{}/{call}", self.store);
        let reply = self.node.post(&path, body).await;
        (reply.status.as_u16(), reply.body)
    }

    async fn objects(&self, user: &str, context: Value) -> (u16, Value) {
        let asked = json!({"type": "repo", "relation": "reader", "user": user, "context": context});
        self.ask("list-objects", &asked).await
    }

    fn list_request(&self, user: &str) -> v1::ListObjectsRequest {
        v1::ListObjectsRequest {
            store_id: self.store.clone(),
            r#type: "repo".into(),
            relation: "owner".into(),
            user: user.into(),
            ..Default::default()
        }
    }
}

fn sorted(list: &Value) -> BTreeSet<String> {
    let items = list.as_array().unwrap().iter();
    items
        .map(|item| item.as_str().unwrap().to_owned())
        .collect()
}

fn set<const N: usize>(items: [&str; N]) -> BTreeSet<String> {
    items.map(str::to_owned).into()
}

#[tokio::test]
async fn a_condition_is_evaluated_with_what_the_request_brings() {
    let shop = Shop::open().await;
    let check = async |context: Value| {
        let key = json!({"user": "user:anne", "relation": "reader", "object": "repo:3"});
        shop.ask("check", &json!({"tuple_key": key, "context": context}))
            .await
    };
    assert_eq!(check(json!({"hour": 10})).await.1["allowed"], true);
    assert_eq!(check(json!({"hour": "20"})).await.1["allowed"], false);
    let (status, body) = check(json!({})).await;
    assert_eq!((status, &body["code"]), (400, &json!("validation_error")));
    assert_eq!(
        body["message"],
        "failed to evaluate relationship condition: 'in_office' - tuple 'repo:3#org@team:core' is missing context parameters '[hour]'"
    );
    let (status, body) = check(json!({"hour": "noon"})).await;
    assert_eq!(
        (status, &body["code"]),
        (400, &json!("validation_error")),
        "{body}"
    );
}

#[tokio::test]
async fn a_tuple_whose_condition_does_not_fit_is_refused() {
    let shop = Shop::open().await;
    let write = async |condition: Value| {
        let key = json!({"user": "team:x", "relation": "org", "object": "repo:9", "condition": condition});
        shop.ask("write", &json!({"writes": {"tuple_keys": [key]}}))
            .await
    };
    for (condition, part) in [
        (json!({"name": "nope"}), "undefined condition"),
        (
            json!({"name": "in_office", "context": {"minute": 3}}),
            "minute",
        ),
        (
            json!({"name": "in_office", "context": {"hour": "late"}}),
            "hour",
        ),
    ] {
        let (status, body) = write(condition).await;
        assert_eq!((status, &body["code"]), (400, &json!("validation_error")));
        assert!(body["message"].as_str().unwrap().contains(part), "{body}");
    }
    assert_eq!(
        write(json!({"name": "in_office", "context": {"hour": 10}}))
            .await
            .0,
        200
    );
}

#[tokio::test]
async fn objects_and_users_are_listed() {
    let shop = Shop::open().await;
    let (status, body) = shop.objects("user:anne", json!({"hour": 12})).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(sorted(&body["objects"]), set(["repo:1", "repo:3"]));
    let (_, body) = shop.objects("user:anne", json!({"hour": 3})).await;
    assert_eq!(sorted(&body["objects"]), set(["repo:1"]));
    let (_, body) = shop.objects("user:bob", json!({})).await;
    assert_eq!(
        sorted(&body["objects"]),
        set(["repo:2"]),
        "blocked from repo:1"
    );
    // What the answer would rest on has no answer.
    let (status, body) = shop.objects("user:anne", json!({})).await;
    assert_eq!((status, &body["code"]), (400, &json!("validation_error")));
    let message = body["message"].as_str().unwrap();
    assert!(
        message.ends_with("'repo:3#org@team:core' is missing context parameters '[hour]'"),
        "{message}"
    );

    let users = async |filter: Value| {
        let asked = json!({"object": {"type": "repo", "id": "1"}, "relation": "reader", "user_filters": [filter]});
        shop.ask("list-users", &asked).await
    };
    let (status, body) = users(json!({"type": "user"})).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(
        body["users"],
        json!([{"object": {"type": "user", "id": "anne"}}])
    );
    let (_, body) = users(json!({"type": "team", "relation": "member"})).await;
    let teams: BTreeSet<_> = body["users"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| user["userset"]["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(teams, set(["all", "core"]));
}

#[tokio::test]
async fn contextual_tuples_are_listed_through() {
    let shop = Shop::open().await;
    let given = json!([{"user": "user:carl", "relation": "member", "object": "team:core"}, {"user": "user:*", "relation": "member", "object": "team:all"}]);
    let asked = json!({"type": "repo", "relation": "owner", "user": "user:carl", "contextual_tuples": {"tuple_keys": given}});
    let (_, body) = shop.ask("list-objects", &asked).await;
    assert_eq!(sorted(&body["objects"]), set(["repo:1"]));
    let asked = json!({
        "object": {"type": "repo", "id": "1"}, "relation": "owner", "user_filters": [{"type": "user"}], "contextual_tuples": given
    });
    let (_, body) = shop.ask("list-users", &asked).await;
    let users = body["users"].as_array().unwrap();
    assert!(
        users.contains(&json!({"wildcard": {"type": "user"}})),
        "{body}"
    );
    assert!(
        users.contains(&json!({"object": {"type": "user", "id": "carl"}})),
        "{body}"
    );
}

#[tokio::test]
async fn a_listing_that_a_limit_cuts_short_says_so() {
    let shop = Shop::with(Limits {
        list_objects_results: 1,
        list_users_results: 1,
        ..Limits::default()
    })
    .await;
    let path = format!("/stores/{}/list-objects", shop.store);
    let list = async |user: &str| {
        let asked = json!({"type": "repo", "relation": "owner", "user": user});
        let reply = shop.node.post(&path, &asked).await;
        (
            sorted(&reply.body["objects"]).len(),
            reply.headers.get("meridian-truncated").cloned(),
        )
    };
    assert_eq!(list("user:anne").await, (1, None), "all there is");
    let (found, truncated) = list("user:bob").await;
    assert_eq!((found, truncated.unwrap()), (1, "true".parse().unwrap()));
    let reply = shop
        .node
        .rpc("ListObjects", &shop.list_request("user:bob"))
        .await;
    assert_eq!(reply.headers["meridian-truncated"], "true");
}

#[tokio::test]
async fn a_batch_answers_each_check_by_its_name() {
    let shop = Shop::open().await;
    let check = |id: &str, user: &str, object: &str, context: Value| {
        let key = json!({"user": user, "relation": "reader", "object": object});
        json!({"tuple_key": key, "correlation_id": id, "context": context})
    };
    let checks = json!([
        check("a", "user:anne", "repo:1", json!({})),
        check("same", "user:anne", "repo:1", json!({})),
        check("b", "user:bob", "repo:1", json!({})),
        check("day", "user:anne", "repo:3", json!({"hour": 10})),
        check("night", "user:anne", "repo:3", json!({"hour": 1})),
        check("unclear", "user:anne", "repo:3", json!({})),
        check("unknown", "user:anne", "nope:3", json!({})),
    ]);
    let (status, body) = shop.ask("batch-check", &json!({"checks": checks})).await;
    assert_eq!(status, 200, "{body}");
    let result = &body["result"];
    for (id, allowed) in [
        ("a", true),
        ("same", true),
        ("b", false),
        ("day", true),
        ("night", false),
    ] {
        assert_eq!(result[id], json!({"allowed": allowed}), "{id}");
    }
    for id in ["unclear", "unknown"] {
        assert_eq!(
            result[id]["error"]["input_error"], "validation_error",
            "{id}: {body}"
        );
    }

    let twice = json!([
        check("a", "user:anne", "repo:1", json!({})),
        check("a", "user:bob", "repo:1", json!({}))
    ]);
    let (status, body) = shop.ask("batch-check", &json!({"checks": twice})).await;
    assert_eq!((status, &body["code"]), (400, &json!("validation_error")));
    assert!(
        body["message"]
            .as_str()
            .unwrap()
            .contains("duplicate correlation id"),
        "{body}"
    );
    let many: Vec<_> = (0..51)
        .map(|n| check(&n.to_string(), "user:anne", "repo:1", json!({})))
        .collect();
    assert_eq!(
        shop.ask("batch-check", &json!({"checks": many})).await.0,
        400
    );
    assert_eq!(shop.ask("batch-check", &json!({"checks": []})).await.0, 400);
}

#[tokio::test]
async fn one_level_is_expanded() {
    let shop = Shop::open().await;
    let expand = async |relation: &str, object: &str| {
        shop.ask(
            "expand",
            &json!({"tuple_key": {"relation": relation, "object": object}}),
        )
        .await
    };
    let (status, body) = expand("reader", "repo:3").await;
    assert_eq!(status, 200, "{body}");
    let node = |value: Value| {
        let mut node = value;
        node["name"] = "repo:3#reader".into();
        node
    };
    let expected = node(json!({"difference": {
        "base": node(json!({"union": {"nodes": [
            node(json!({"leaf": {"computed": {"userset": "repo:3#owner"}}})),
            node(json!({"leaf": {"tupleToUserset": {"tupleset": "repo:3#org", "computed": [{"userset": "team:core#member"}]}}})),
        ]}})),
        "subtract": node(json!({"leaf": {"computed": {"userset": "repo:3#blocked"}}})),
    }}));
    assert_eq!(body["tree"]["root"], expected);
    let (_, body) = expand("owner", "repo:1").await;
    let users = &body["tree"]["root"]["leaf"]["users"]["users"];
    assert_eq!(sorted(users), set(["team:all#member", "user:bob"]));
    let (status, body) = expand("", "repo:1").await;
    assert_eq!(
        (status, &body["code"]),
        (400, &json!("invalid_expand_input"))
    );
    let (status, body) = expand("nope", "repo:1").await;
    assert_eq!((status, &body["code"]), (400, &json!("validation_error")));
}

#[tokio::test]
async fn what_the_model_does_not_know_has_a_code_of_its_own() {
    let shop = Shop::open().await;
    let list = |object_type: &str, relation: &str, user: &str| json!({"type": object_type, "relation": relation, "user": user});
    for (call, asked, code) in [
        (
            "list-objects",
            list("nope", "reader", "user:anne"),
            "type_not_found",
        ),
        (
            "list-objects",
            list("repo", "nope", "user:anne"),
            "relation_not_found",
        ),
        (
            "list-objects",
            list("repo", "reader", "nope:anne"),
            "validation_error",
        ),
        (
            "list-objects",
            list("", "reader", "user:anne"),
            "type_invalid_pattern",
        ),
        (
            "list-users",
            json!({"object": {"type": "nope", "id": "1"}, "relation": "reader", "user_filters": [{"type": "user"}]}),
            "type_not_found",
        ),
        (
            "list-users",
            json!({"object": {"type": "repo", "id": "1"}, "relation": "reader", "user_filters": [{"type": "nope"}]}),
            "type_not_found",
        ),
        (
            "list-users",
            json!({"object": {"type": "repo", "id": "1"}, "relation": "reader", "user_filters": []}),
            "validation_error",
        ),
    ] {
        let (status, body) = shop.ask(call, &asked).await;
        assert_eq!(
            (status, &body["code"]),
            (400, &json!(code)),
            "{call} {asked}: {body}"
        );
    }
    let path = format!("/stores/{NOBODY}/list-objects");
    let reply = shop
        .node
        .send(
            Method::POST,
            &path,
            &[],
            Bytes::from(list("repo", "reader", "user:anne").to_string()),
        )
        .await;
    assert_eq!(reply.body["code"], "latest_authorization_model_not_found");
}
