//! AuthZEN through an edge: the calls it is made of are answered here where the edge holds what they need, and are the same
//! everywhere.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use meridian_proto::authzen::v1;
use meridian_proto::authzen::v1::auth_zen_service_client::AuthZenServiceClient;
use meridian_server::roles::Node;
use serde_json::{Value, json};

use crate::edge::{MEMBER, Trio, allowed_by};
use crate::harness::{JsonReply, send};

const MODEL_ID: &str = "openfga-authorization-model-id";

fn subject(id: &str) -> Value {
    json!({"type": "user", "id": id})
}

/// Whether somebody is a member of a team, which the edge holds all of.
fn member(user: &str, team: &str) -> Value {
    json!({
        "subject": subject(user), "action": {"name": "member"},
        "resource": {"type": "team", "id": team},
    })
}

/// Whether somebody reads an issue, of which the edge holds nothing.
fn reader(user: &str) -> Value {
    json!({
        "subject": subject(user), "action": {"name": "reader"},
        "resource": {"type": "issue", "id": "1"},
    })
}

/// The calls that teams alone decide: path, request, and what is answered.
fn about_teams() -> Vec<(&'static str, Value, Value)> {
    let both = |semantic: &str| {
        json!({
            "evaluations": [member("bob", "core"), member("anne", "core"), member("anne", "none")],
            "options": {"evaluations_semantic": semantic},
        })
    };
    let decided = |decisions: &[bool]| {
        let each = decisions
            .iter()
            .map(|decision| json!({"decision": decision}));
        json!({"evaluations": each.collect::<Vec<_>>()})
    };
    let core = json!({"type": "team", "id": "core"});
    let action = json!({"name": "member"});
    vec![
        (
            "evaluation",
            member("anne", "core"),
            json!({"decision": true}),
        ),
        (
            "evaluation",
            member("bob", "core"),
            json!({"decision": false}),
        ),
        (
            "evaluations",
            both("execute_all"),
            decided(&[false, true, false]),
        ),
        ("evaluations", both("deny_on_first_deny"), decided(&[false])),
        (
            "evaluations",
            both("permit_on_first_permit"),
            decided(&[false, true]),
        ),
        (
            "search/subject",
            json!({"subject": {"type": "user"}, "action": action, "resource": core}),
            json!({"results": [subject("anne")]}),
        ),
        (
            "search/resource",
            json!({"subject": subject("anne"), "action": action, "resource": {"type": "team"}}),
            json!({"results": [core]}),
        ),
        (
            "search/action",
            json!({"subject": subject("anne"), "resource": core}),
            json!({"results": [action]}),
        ),
    ]
}

async fn ask(trio: &Trio, node: &Node, call: &str, body: &Value) -> JsonReply {
    let path = format!("/stores/{}/access/v1/{call}", trio.store);
    send(node.http, Method::POST, &path, &[], body.to_string().into()).await
}

/// The fields that say something: AuthZEN's answers may carry empty ones.
fn told(body: &Value) -> Value {
    match body {
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), told(value)))
            .collect::<BTreeMap<_, _>>()
            .into_iter()
            .collect(),
        Value::Array(items) => items.iter().map(told).collect(),
        other => other.clone(),
    }
}

fn served_by(reply: &JsonReply) -> &str {
    reply.headers["meridian-served-by"].to_str().unwrap()
}

async fn trio() -> Trio {
    let trio = Trio::start(Duration::from_secs(60)).await;
    trio.until(MEMBER, allowed_by("edge/test")).await.unwrap();
    trio
}

#[tokio::test]
async fn an_edge_answers_authzen_as_central_does_and_by_itself_where_it_can() {
    let trio = trio().await;
    for (call, body, answer) in about_teams() {
        for (node, name) in [(&trio.edge, "edge/test"), (&trio.central, "central/test")] {
            let reply = ask(&trio, node, call, &body).await;
            assert_eq!(reply.status, 200, "{name} {call}: {}", reply.body);
            let mut shown = told(&reply.body);
            shown.as_object_mut().unwrap().remove("page");
            assert_eq!(shown, answer, "{name} {call}");
            assert_eq!(served_by(&reply), name, "{call} {body}");
        }
    }
    let path = format!("/.well-known/authzen-configuration/{}", trio.store);
    let at = async |node: &Node| send(node.http, Method::GET, &path, &[], "".into()).await;
    let (here, above) = (at(&trio.edge).await, at(&trio.central).await);
    assert_eq!((served_by(&here), &here.body), ("edge/test", &above.body));
    let own = &here.body["access_evaluation_endpoint"];
    let expected = format!(
        "https://pdp.example/stores/{}/access/v1/evaluation",
        trio.store
    );
    assert_eq!(own, &json!(expected));
}

#[tokio::test]
async fn what_an_edge_does_not_hold_of_authzens_questions_is_answered_above() {
    let trio = trio().await;
    let issue = json!({"type": "issue", "id": "1"});
    let action = json!({"name": "reader"});
    for (call, body) in [
        ("evaluation", reader("anne")),
        (
            "evaluations",
            json!({"evaluations": [member("anne", "core"), reader("anne"), reader("bob")]}),
        ),
        (
            "search/subject",
            json!({"subject": {"type": "user"}, "action": action, "resource": issue}),
        ),
        (
            "search/resource",
            json!({"subject": subject("anne"), "action": action, "resource": {"type": "issue"}}),
        ),
        (
            "search/action",
            json!({"subject": subject("zoe"), "resource": issue}),
        ),
    ] {
        let here = ask(&trio, &trio.edge, call, &body).await;
        let above = ask(&trio, &trio.central, call, &body).await;
        assert_eq!(
            (here.status, told(&here.body)),
            (above.status, told(&above.body)),
            "{call}"
        );
        assert_eq!(here.status, 200, "{call}: {}", here.body);
        assert_eq!(served_by(&here), "regional/test", "{call}");
        assert_eq!(here.headers[MODEL_ID], above.headers[MODEL_ID], "{call}");
    }
    // Once it was answered above, the edge keeps it.
    let kept = ask(&trio, &trio.edge, "evaluation", &reader("anne")).await;
    assert_eq!(
        (served_by(&kept), &kept.body["decision"]),
        ("edge/test", &json!(true))
    );
}

#[tokio::test]
async fn authzen_over_grpc_and_its_errors_are_the_same_at_an_edge() {
    let trio = trio().await;
    let asked = v1::EvaluationRequest {
        store_id: trio.store.clone(),
        subject: Some(v1::Subject {
            r#type: "user".into(),
            id: "anne".into(),
            properties: None,
        }),
        resource: Some(v1::Resource {
            r#type: "team".into(),
            id: "core".into(),
            properties: None,
        }),
        action: Some(v1::Action {
            name: "member".into(),
            properties: None,
        }),
        context: None,
    };
    let address = format!("http://{}", trio.edge.grpc);
    let mut edge = AuthZenServiceClient::connect(address).await.unwrap();
    let reply = edge.evaluation(asked).await.unwrap();
    assert_eq!(
        reply.metadata().get("meridian-served-by").unwrap(),
        "edge/test"
    );
    assert!(reply.into_inner().decision);

    let unknown = {
        let mut unknown = member("anne", "core");
        unknown["action"]["name"] = json!("flies");
        unknown
    };
    for (call, body) in [
        ("evaluation", unknown.clone()),
        ("evaluation", json!({"subject": subject("anne")})),
        (
            "evaluations",
            json!({"evaluations": [unknown.clone(), member("anne", "core")]}),
        ),
        (
            "search/subject",
            json!({"subject": {"type": "nope"}, "action": {"name": "member"}, "resource": {"type": "team", "id": "core"}}),
        ),
        (
            "search/resource",
            json!({"subject": subject("anne"), "action": {"name": "member"}, "resource": {"type": "nope"}}),
        ),
        (
            "search/action",
            json!({"subject": subject("anne"), "resource": {"type": "nope", "id": "1"}}),
        ),
    ] {
        let here = ask(&trio, &trio.edge, call, &body).await;
        let above = ask(&trio, &trio.central, call, &body).await;
        assert_eq!(
            (here.status, &here.body),
            (above.status, &above.body),
            "{call} {body}"
        );
        assert_eq!(
            here.headers.get(MODEL_ID),
            above.headers.get(MODEL_ID),
            "{call} {body}"
        );
    }
}
