//! AuthZEN on both transports, answered as OpenFGA v1.22.1 answers it.

mod evaluations;
mod searches;
mod validation;

use bytes::Bytes;
use http::Method;
use meridian_model::dsl;
use meridian_proto::authzen::v1;
use meridian_proto::authzen::v1::auth_zen_service_client::AuthZenServiceClient;
use meridian_server::api::authzen::AuthZen;
use meridian_server::api::convert::model_to_wire;
use meridian_server::limits::Limits;
use serde_json::{Value, json};

use crate::harness::{JsonReply, NOBODY, Node};

const MODEL_ID: &str = "openfga-authorization-model-id";

const MODEL: &str = "
model
  schema 1.1
type user
type service_account
type group
  relations
    define member: [user]
type document
  relations
    define reader: [user, service_account, group#member]
    define writer: [user]
    define blocked: [user]
    define public: [user, user:*]
    define viewer: reader but not blocked
    define both: reader and writer
    define same: [user with same]
    define level: [user with level]
condition same(subject_department: string, resource_department: string) {
  subject_department == resource_department
}
condition level(subject_level: int) {
  subject_level >= 5
}
";

const OLD_MODEL: &str = "
model
  schema 1.1
type user
type document
  relations
    define editor: [user]
";

/// A node that serves AuthZEN, with one store.
struct Pdp {
    node: Node,
    store: String,
    old_model: String,
    model: String,
}

impl Pdp {
    async fn start() -> Self {
        let authzen = AuthZen {
            enabled: true,
            base_url: "https://pdp.example/base/".parse().ok(),
        };
        let node = Node::serving(Limits::default(), authzen).await;
        let store = node.post("/stores", &json!({"name": "documents"})).await;
        let store = store.body["id"].as_str().unwrap().to_owned();
        let old_model = write_model(&node, &store, OLD_MODEL).await;
        write(&node, &store, &[("user:old", "editor", "document:1", "")]).await;
        let model = write_model(&node, &store, MODEL).await;
        let tuples = [
            ("user:alice", "reader", "document:1", ""),
            ("user:alice", "writer", "document:1", ""),
            ("user:alice", "reader", "document:3", ""),
            ("user:bob", "reader", "document:1", ""),
            ("user:bob", "blocked", "document:1", ""),
            ("service_account:sa", "reader", "document:1", ""),
            ("user:carl", "member", "group:g", ""),
            ("group:g#member", "reader", "document:1", ""),
            ("group:g#member", "reader", "document:2", ""),
            ("user:*", "public", "document:1", ""),
            ("user:dora", "public", "document:1", ""),
            ("user:alice", "same", "document:1", "same"),
            ("user:alice", "level", "document:1", "level"),
        ];
        write(&node, &store, &tuples).await;
        Self {
            node,
            store,
            old_model,
            model,
        }
    }

    async fn ask(&self, call: &str, body: &Value) -> JsonReply {
        self.ask_under(call, body, &[]).await
    }

    async fn ask_under(&self, call: &str, body: &Value, headers: &[(&str, &str)]) -> JsonReply {
        let path = format!("/stores/{}/access/v1/{call}", self.store);
        let body = body.to_string().into();
        self.node.send(Method::POST, &path, headers, body).await
    }

    /// The answer's body, once it is clear that there is one.
    #[track_caller]
    fn answered(reply: JsonReply) -> Value {
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.body
    }

    async fn client(&self) -> AuthZenServiceClient<tonic::transport::Channel> {
        let address = format!("http://{}", self.node.grpc);
        AuthZenServiceClient::connect(address).await.unwrap()
    }
}

async fn write_model(node: &Node, store: &str, text: &str) -> String {
    let model = model_to_wire("", dsl::compile(text).unwrap().model());
    let path = format!("/stores/{store}/authorization-models");
    let model = serde_json::to_value(model).unwrap();
    let written = node.post(&path, &model).await.body;
    written["authorization_model_id"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Writes tuples: user, relation, object, and a condition's name or nothing.
async fn write(node: &Node, store: &str, tuples: &[(&str, &str, &str, &str)]) {
    let key = |(user, relation, object, condition): &(&str, &str, &str, &str)| {
        let mut key = json!({"user": user, "relation": relation, "object": object});
        if !condition.is_empty() {
            key["condition"] = json!({"name": condition});
        }
        key
    };
    let keys: Vec<_> = tuples.iter().map(key).collect();
    let path = format!("/stores/{store}/write");
    let written = node
        .post(&path, &json!({"writes": {"tuple_keys": keys}}))
        .await;
    assert_eq!(written.status, 200, "{}", written.body);
}

fn subject(id: &str) -> Value {
    json!({"type": "user", "id": id})
}

fn document(id: &str) -> Value {
    json!({"type": "document", "id": id})
}

fn evaluation(user: &str, relation: &str, id: &str) -> Value {
    json!({"subject": subject(user), "action": {"name": relation}, "resource": document(id)})
}

fn wire_evaluation(store: &str, user: &str, relation: &str, id: &str) -> v1::EvaluationRequest {
    v1::EvaluationRequest {
        store_id: store.to_owned(),
        subject: Some(v1::Subject {
            r#type: "user".into(),
            id: user.into(),
            properties: None,
        }),
        resource: Some(v1::Resource {
            r#type: "document".into(),
            id: id.into(),
            properties: None,
        }),
        action: Some(v1::Action {
            name: relation.into(),
            properties: None,
        }),
        context: None,
    }
}

#[tokio::test]
async fn configuration_says_where_a_stores_calls_are() {
    let pdp = Pdp::start().await;
    let path = format!("/.well-known/authzen-configuration/{}", pdp.store);
    let headers = [
        ("x-forwarded-host", "attacker.example"),
        ("x-forwarded-proto", "http"),
    ];
    let told = pdp.node.send(Method::GET, &path, &headers, Bytes::new());
    let told = told.await;
    let store = format!("https://pdp.example/base/stores/{}", pdp.store);
    assert_eq!(told.status, 200);
    assert_eq!(told.headers["openfga-store-id"], *pdp.store);
    assert_eq!(told.headers["meridian-served-by"], "central");
    let expected = json!({
        "policy_decision_point": store,
        "access_evaluation_endpoint": format!("{store}/access/v1/evaluation"),
        "access_evaluations_endpoint": format!("{store}/access/v1/evaluations"),
        "search_subject_endpoint": format!("{store}/access/v1/search/subject"),
        "search_resource_endpoint": format!("{store}/access/v1/search/resource"),
        "search_action_endpoint": format!("{store}/access/v1/search/action"),
        "capabilities": [],
    });
    assert_eq!(told.body, expected);

    // As upstream, of any store.
    let nobodys = format!("/.well-known/authzen-configuration/{NOBODY}");
    assert_eq!(pdp.node.get(&nobodys).await.status, 200);
    let posted = pdp.node.post(&path, &json!({})).await;
    posted.assert_error(404, "unimplemented", "Method Not Allowed");
}

#[tokio::test]
async fn configuration_needs_a_base_url() {
    let authzen = AuthZen {
        enabled: true,
        base_url: None,
    };
    let node = Node::serving(Limits::default(), authzen).await;
    let path = format!("/.well-known/authzen-configuration/{NOBODY}");
    let refused = node.get(&path).await;
    let why = refused.message(500, "failed_precondition");
    assert!(
        why.starts_with("AuthZEN discovery base URL is not configured; set authzen.baseUrl"),
        "{why}"
    );
    let request = v1::GetConfigurationRequest {
        store_id: NOBODY.to_owned(),
    };
    let client = AuthZenServiceClient::connect(format!("http://{}", node.grpc));
    let refused = client.await.unwrap().get_configuration(request).await;
    assert_eq!(refused.unwrap_err().code(), tonic::Code::FailedPrecondition);
}

#[tokio::test]
async fn nothing_is_served_unless_it_is_enabled() {
    const WHY: &str = "AuthZEN endpoints are experimental. Enable with --experimentals=authzen";
    let node = Node::start().await;
    let of_store = |call: &str| format!("/stores/{NOBODY}/access/v1/{call}");
    let user = json!({"type": "user"});
    let (action, resource) = (json!({"name": "reader"}), document("1"));
    let full = evaluation("alice", "reader", "1");
    let who = json!({"resource": resource, "action": action, "subject": user});
    let what =
        json!({"subject": subject("alice"), "action": action, "resource": {"type": "document"}});
    for (call, body) in [
        ("evaluation", &full),
        ("evaluations", &full),
        ("evaluations", &json!({})),
        ("search/subject", &who),
        ("search/resource", &what),
        ("search/action", &full),
    ] {
        let refused = node.post(&of_store(call), body).await;
        refused.assert_error(404, "unimplemented", WHY);
    }
    let path = format!("/.well-known/authzen-configuration/{NOBODY}");
    node.get(&path)
        .await
        .assert_error(404, "unimplemented", WHY);
    // What breaks a rule is told first, as upstream.
    let refused = node.post(&of_store("evaluation"), &json!({})).await;
    refused.message(400, "validation_error");

    let client = AuthZenServiceClient::connect(format!("http://{}", node.grpc));
    let asked = wire_evaluation(NOBODY, "alice", "reader", "1");
    let refused = client.await.unwrap().evaluation(asked).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (tonic::Code::Unimplemented, WHY)
    );
}
