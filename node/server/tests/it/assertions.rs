//! Assertions: kept as they were written, and refused as OpenFGA refuses them.

use bytes::Bytes;
use http::{Method, StatusCode};
use meridian_proto::google::struct_from_json;
use meridian_proto::openfga::v1;
use serde_json::{Value, json};

use crate::harness::{JsonReply, NOBODY, Node, github_model};

struct Shop {
    node: Node,
    store: String,
    model: String,
}

impl Shop {
    async fn open() -> Self {
        let node = Node::start().await;
        let store = node.store().await;
        let models = format!("/stores/{store}/authorization-models");
        let models = node.get(&models).await.body;
        let model = models["authorization_models"][0]["id"].as_str().unwrap();
        Self {
            model: model.to_owned(),
            node,
            store,
        }
    }

    fn path(&self) -> String {
        format!("/stores/{}/assertions/{}", self.store, self.model)
    }

    async fn put(&self, assertions: &[Value]) -> JsonReply {
        put(&self.node, &self.path(), &json!({"assertions": assertions})).await
    }

    async fn kept(&self) -> Value {
        let reply = self.node.get(&self.path()).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
        assert_eq!(reply.body["authorization_model_id"], *self.model);
        let header = &reply.headers["openfga-authorization-model-id"];
        assert_eq!(header, &*self.model);
        reply.body["assertions"].clone()
    }
}

async fn put(node: &Node, path: &str, body: &Value) -> JsonReply {
    node.send(Method::PUT, path, &[], body.to_string().into())
        .await
}

fn key(user: &str, relation: &str, object: &str) -> Value {
    json!({"user": user, "relation": relation, "object": object})
}

fn asserted(user: &str, relation: &str, object: &str) -> Value {
    json!({"tuple_key": key(user, relation, object), "expectation": true})
}

fn with(contextual: &[Value]) -> Value {
    let mut assertion = asserted("user:anne", "reader", "repo:1");
    assertion["contextual_tuples"] = contextual.into();
    assertion
}

#[tokio::test]
async fn are_read_as_they_were_written() {
    let shop = Shop::open().await;
    assert_eq!(shop.kept().await, json!([]));
    let reply = shop.put(&[asserted("user:anne", "reader", "repo:1")]).await;
    assert_eq!((reply.status.as_u16(), reply.body), (204, Value::Null));
    let first = json!({
        "tuple_key": {"object": "repo:1", "relation": "reader", "user": "user:anne"},
        "expectation": true, "contextual_tuples": [], "context": null
    });
    assert_eq!(shop.kept().await, json!([first]));

    // Over gRPC they are the same ones, and take the place of those before.
    let tuple = v1::TupleKey {
        user: "team:core#member".into(),
        relation: "member".into(),
        object: "team:core".into(),
        condition: None,
    };
    let context = json!({"n": 1, "list": [true, null]});
    let assertion = v1::Assertion {
        tuple_key: Some(v1::AssertionTupleKey {
            object: "repo:1".into(),
            relation: "admin".into(),
            user: "team:core#member".into(),
        }),
        expectation: false,
        contextual_tuples: vec![tuple],
        context: Some(struct_from_json(context.as_object().unwrap().clone())),
    };
    let mut client = shop.node.client().await;
    let request = v1::WriteAssertionsRequest {
        store_id: shop.store.clone(),
        authorization_model_id: shop.model.clone(),
        assertions: vec![assertion.clone()],
    };
    client.write_assertions(request).await.unwrap();
    let request = v1::ReadAssertionsRequest {
        store_id: shop.store.clone(),
        authorization_model_id: shop.model.clone(),
    };
    let read = client.read_assertions(request).await.unwrap().into_inner();
    assert_eq!(read.assertions, [assertion]);
    let kept = shop.kept().await;
    assert_eq!(
        (kept.as_array().unwrap().len(), &kept[0]["context"]),
        (1, &context)
    );

    // Each model has its own, and none are written by an empty list.
    let models = format!("/stores/{}/authorization-models", shop.store);
    let other = shop.node.post(&models, &github_model()).await.body;
    let other = other["authorization_model_id"].as_str().unwrap();
    let other = format!("/stores/{}/assertions/{other}", shop.store);
    assert_eq!(shop.node.get(&other).await.body["assertions"], json!([]));
    assert_eq!(put(&shop.node, &other, &json!({})).await.status, 204);
    assert_eq!(shop.kept().await, kept);
    assert_eq!(shop.put(&[]).await.status, 204);
    assert_eq!(shop.kept().await, json!([]));
}

#[tokio::test]
async fn are_bounded() {
    let shop = Shop::open().await;
    let one = asserted("user:anne", "reader", "repo:1");
    assert_eq!(shop.put(&vec![one.clone(); 100]).await.status, 204);
    shop.put(&vec![one.clone(); 101]).await.assert_error(
        400,
        "assertions_too_many_items",
        "invalid WriteAssertionsRequest.Assertions: value must contain no more than 100 item(s)",
    );
    let contextual = key("user:anne", "owner", "repo:1");
    let reply = shop.put(&[with(&vec![contextual.clone(); 20])]).await;
    assert_eq!(reply.status, 204);
    let reply = shop.put(&[with(&vec![contextual; 21])]).await;
    reply.assert_error(
        400,
        "validation_error",
        "invalid Assertion.ContextualTuples: value must contain no more than 20 item(s)",
    );
    let mut large = one;
    large["context"] = json!({"x": "y".repeat(64_000)});
    shop.put(&[large]).await.assert_error(
        400,
        "exceeded_entity_limit",
        "The number of bytes exceeds the allowed limit of 64000",
    );
    assert_eq!(shop.kept().await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn fields_that_break_their_pattern() {
    let shop = Shop::open().await;
    shop.put(&[json!({})]).await.assert_error(
        400,
        "tuple_key_value_not_specified",
        "invalid Assertion.TupleKey: value is required",
    );
    let pattern = |field: &str, pattern: &str| {
        format!("invalid {field}: value does not match regex pattern \"{pattern}\"")
    };
    let sentences = [
        pattern("AssertionTupleKey.Object", r"^[^\\s]{2,256}$"),
        pattern("AssertionTupleKey.Relation", r"^[^:#@\\s]{1,50}$"),
        pattern("AssertionTupleKey.User", r"^[^\\s]{2,512}$"),
    ];
    let reply = shop.put(&[json!({"tuple_key": {}})]).await;
    reply.assert_error(400, "validation_error", &sentences.join("; "));
    let reply = shop
        .put(&[with(&[key("user:anne", "a:b", "repo:1")])])
        .await;
    let relation = pattern("TupleKey.Relation", r"^[^:#@\\s]{1,50}$");
    reply.assert_error(400, "validation_error", &relation);
    let id = "^[ABCDEFGHJKMNPQRSTVWXYZ0-9]{26}$";
    let both = [
        pattern("ReadAssertionsRequest.StoreId", id),
        pattern("ReadAssertionsRequest.AuthorizationModelId", id),
    ];
    let reply = shop.node.get("/stores/abc/assertions/def").await;
    reply.assert_error(400, "validation_error", &both.join("; "));
    let path = format!("/stores/{}/assertions/def", shop.store);
    let reply = put(&shop.node, &path, &json!({})).await;
    let model = pattern("WriteAssertionsRequest.AuthorizationModelId", id);
    reply.assert_error(400, "validation_error", &model);
    let reply = shop
        .node
        .rpc("ReadAssertions", &v1::ReadAssertionsRequest::default())
        .await;
    assert_eq!(reply.status, 3, "{reply:?}");
}

#[tokio::test]
async fn what_the_model_does_not_know_is_refused() {
    let shop = Shop::open().await;
    let refused = [
        (("user:anne", "reader", "nope:1"), "type 'nope' not found"),
        (
            ("user:anne", "nope", "repo:1"),
            "relation 'repo#nope' not found",
        ),
        (("nope:anne", "reader", "repo:1"), "type 'nope' not found"),
        (
            ("team:a#nope", "reader", "repo:1"),
            "relation 'team#nope' not found",
        ),
        (
            ("anne", "reader", "repo:1"),
            "the 'user' field is malformed: 'anne' must be 'type:id', 'type:*' or 'type:id#relation'",
        ),
        (
            ("user:anne", "reader", "repo"),
            "invalid 'object' field format: 'repo' must be 'type:id' without spaces, '#' or a second colon",
        ),
        (
            ("user:anne", "reader", "repo:*"),
            "invalid 'object' field format: 'repo:*' cannot be a wildcard; name one object",
        ),
    ];
    for ((user, relation, object), why) in refused {
        let reply = shop.put(&[asserted(user, relation, object)]).await;
        reply.assert_error(400, "validation_error", why);
    }
    // As in a Check, it is no matter what could be written.
    for user in ["user:*", "team:*", "repo:2"] {
        let reply = shop.put(&[asserted(user, "blocked", "repo:1")]).await;
        assert_eq!(reply.status, 204, "{}", reply.body);
    }

    let contextual = with(&[key("team:a", "blocked", "repo:1")]);
    shop.put(&[contextual]).await.assert_error(
        400,
        "validation_error",
        "Invalid tuple 'repo:1#blocked@team:a'. Reason: type 'team' is not an allowed type restriction for 'repo#blocked'",
    );
    let mut conditioned = key("user:anne", "blocked", "repo:1");
    conditioned["condition"] = json!({"name": "cond"});
    shop.put(&[with(&[conditioned])]).await.assert_error(
        400,
        "validation_error",
        "Invalid tuple 'repo:1#blocked@user:anne (condition cond)'. Reason: undefined condition",
    );
}

#[tokio::test]
async fn of_models_and_stores_that_are_not_there() {
    let shop = Shop::open().await;
    let one = json!({"assertions": [asserted("user:anne", "reader", "repo:1")]});
    for (store, model) in [(shop.store.as_str(), NOBODY), (NOBODY, &shop.model)] {
        let path = format!("/stores/{store}/assertions/{model}");
        let why = format!("Authorization Model '{model}' not found");
        let read = shop.node.get(&path).await;
        read.assert_error(400, "authorization_model_not_found", &why);
        let written = put(&shop.node, &path, &one).await;
        written.assert_error(400, "authorization_model_not_found", &why);
    }
    assert_eq!(put(&shop.node, &shop.path(), &one).await.status, 204);
    let store = format!("/stores/{}", shop.store);
    let deleted = shop.node.send(Method::DELETE, &store, &[], Bytes::new());
    assert_eq!(deleted.await.status, 204);
    let read = shop.node.get(&shop.path()).await;
    read.message(400, "authorization_model_not_found");
    let written = put(&shop.node, &shop.path(), &one).await;
    written.assert_error(404, "store_id_not_found", "Store ID not found");
}
