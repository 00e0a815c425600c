//! What the flow recorder keeps of a node's calls: decisions with their stages, and who called.

mod switch;

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, StatusCode};
use meridian_flow::ports::{FlowFilter, FlowRepository as _, FlowStepRepository as _};
use meridian_flow::sql::SqlFlows;
use meridian_flow::{Flow, FlowKind, FlowStatus, Row, Session, Sink as _, Step, StepStatus};
use meridian_model::{StoreId, Timestamp};
use meridian_proto::openfga::v1;
use meridian_server::config::authn::{Authn, Method as Way, Secrets};
use meridian_server::config::{self, Config};
use meridian_server::roles::{self, Node};
use prost::Message;
use serde_json::{Value, json};

use crate::harness::{raw_rpc, send};

const PATIENCE: Duration = Duration::from_secs(30);
const KEY: &str = "a-key-that-nobody-may-see";
const BEARER: &str = "Bearer a-key-that-nobody-may-see";

/// A central with a database file, which records.
async fn central(file: &Path, set: impl FnOnce(&mut config::Recorder)) -> Node {
    let any = ([127, 0, 0, 1], 0).into();
    let mut authn = Authn {
        method: Way::Preshared,
        ..Authn::default()
    };
    authn.preshared.keys = Secrets::new([KEY.to_owned()]);
    let mut config = Config {
        name: "test".into(),
        listen: config::Listen {
            grpc: any,
            http: any,
            nodes: any,
            metrics: None,
        },
        datastore: config::Datastore {
            url: url(file),
            ..Default::default()
        },
        kafka: config::Kafka {
            bootstrap: "127.0.0.1:9".into(),
            ..Default::default()
        },
        authn,
        shutdown_timeout: Duration::from_millis(100),
        ..Config::default()
    };
    config.nodes.tokens = Secrets::new(["token".to_owned()]);
    config.recorder.enabled = true;
    config.recorder.trusted_proxies = vec!["127.0.0.0/8".to_owned()];
    set(&mut config.recorder);
    let node = roles::central(&config).await.unwrap();
    tokio::time::timeout(PATIENCE, node.ready()).await.unwrap();
    node
}

fn url(file: &Path) -> String {
    format!("sqlite://{}?mode=rwc", file.display())
}

async fn post(node: &Node, path: &str, body: Value) -> Value {
    let headers = [
        ("authorization", BEARER),
        ("user-agent", "shop/1.0"),
        ("x-forwarded-for", "198.51.100.9"),
    ];
    let body = Bytes::from(body.to_string());
    let reply = send(node.http, Method::POST, path, &headers, body).await;
    reply.body
}

/// A store in which anne may view the plan.
async fn store(node: &Node) -> StoreId {
    let store = post(node, "/stores", json!({"name": "shop"})).await;
    let store: StoreId = store["id"].as_str().unwrap().parse().unwrap();
    let model = json!({"schema_version": "1.1", "type_definitions": [
        {"type": "user"},
        {"type": "document", "relations": {"viewer": {"this": {}}},
         "metadata": {"relations": {"viewer": {"directly_related_user_types": [{"type": "user"}]}}}},
    ]});
    post(
        node,
        &format!("/stores/{store}/authorization-models"),
        model,
    )
    .await;
    let key = json!({"user": "user:anne", "relation": "viewer", "object": "document:plan"});
    let write = json!({"writes": {"tuple_keys": [key]}});
    post(node, &format!("/stores/{store}/write"), write).await;
    store
}

/// All flows of a kind, earliest first, with their steps, once the node has stopped.
async fn kept(file: &Path, store: StoreId, kind: FlowKind) -> Vec<(Flow, Vec<Step>)> {
    let flows = SqlFlows::connect_lazy(&url(file)).unwrap();
    let filter = FlowFilter {
        kind: Some(kind),
        ..FlowFilter::default()
    };
    let deadline = Instant::now() + PATIENCE;
    let found = flows.get_flows(store, &filter, None, 100, deadline).await;
    let mut all = Vec::new();
    for flow in found.unwrap().into_iter().rev() {
        let steps = flows.get_steps_for_flow(flow.id, deadline).await.unwrap();
        all.push((flow, steps));
    }
    all
}

fn names(steps: &[Step]) -> Vec<&str> {
    steps.iter().map(|step| &*step.name).collect()
}

#[tokio::test]
async fn decisions_are_recorded_with_their_stages_and_callers_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("central.db");
    let node = central(&file, |_| ()).await;
    let store = store(&node).await;
    let key = json!({"user": "user:anne", "relation": "viewer", "object": "document:plan"});
    let check = format!("/stores/{store}/check");
    let allowed = post(&node, &check, json!({ "tuple_key": key })).await;
    assert_eq!(allowed["allowed"], json!(true));
    let wrong =
        json!({"tuple_key": {"user": "user:anne", "relation": "owner", "object": "document:plan"}});
    post(&node, &check, wrong).await;
    let batch = json!({"checks": [{"tuple_key": key, "correlation_id": "one"}]});
    post(&node, &format!("/stores/{store}/batch-check"), batch).await;
    let list = json!({"type": "document", "relation": "viewer", "user": "user:anne"});
    post(
        &node,
        &format!("/stores/{store}/list-objects"),
        list.clone(),
    )
    .await;
    post(
        &node,
        &format!("/stores/{store}/streamed-list-objects"),
        list,
    )
    .await;
    let users = json!({"object": {"type": "document", "id": "plan"}, "relation": "viewer", "user_filters": [{"type": "user"}]});
    post(&node, &format!("/stores/{store}/list-users"), users).await;
    let expand = json!({"tuple_key": {"relation": "viewer", "object": "document:plan"}});
    post(&node, &format!("/stores/{store}/expand"), expand).await;
    let request = v1::CheckRequest {
        store_id: store.to_string(),
        tuple_key: Some(v1::CheckRequestTupleKey {
            user: "user:bob".into(),
            relation: "viewer".into(),
            object: "document:plan".into(),
        }),
        ..v1::CheckRequest::default()
    };
    let path = "openfga.v1.OpenFGAService/Check";
    let headers = [("authorization", BEARER)];
    raw_rpc(node.grpc, path, &request.encode_to_vec(), &headers).await;
    let refused = send(
        node.http,
        Method::POST,
        &check,
        &[("authorization", "Bearer guess")],
        Bytes::new(),
    );
    assert_eq!(refused.await.status, StatusCode::UNAUTHORIZED);
    node.stop().await;

    let decisions = kept(&file, store, FlowKind::Decision).await;
    let calls: Vec<_> = decisions
        .iter()
        .map(|(flow, _)| {
            let asked = flow.asked.as_deref().unwrap();
            (
                &*asked.operation,
                &*asked.object,
                &*asked.subject,
                asked.allowed,
            )
        })
        .collect();
    assert_eq!(
        calls,
        [
            ("Check", "document:plan", "user:anne", Some(true)),
            ("Check", "document:plan", "user:anne", None),
            ("BatchCheck", "1 checks", "", None),
            ("ListObjects", "document", "user:anne", None),
            ("StreamedListObjects", "document", "user:anne", None),
            ("ListUsers", "document:plan", "user", None),
            ("Expand", "document:plan", "", None),
            ("Check", "document:plan", "user:bob", Some(false)),
        ]
    );
    let (first, steps) = &decisions[0];
    assert_eq!(first.status, FlowStatus::Success);
    assert_eq!(first.ip, Some("198.51.100.9".parse::<IpAddr>().unwrap()));
    assert_eq!(first.user_agent.as_deref(), Some("shop/1.0"));
    let asked = first.asked.as_deref().unwrap();
    assert_eq!(asked.served_by, "central/test");
    assert_eq!(asked.revision.as_deref(), Some("1.3"));
    assert!(asked.model.is_some());
    let stages = names(steps);
    assert_eq!(stages[..2], ["authenticate", "validate"]);
    assert!(
        stages.contains(&"read") && stages.contains(&"evaluate"),
        "{stages:?}"
    );
    assert!(steps.iter().all(|step| step.status == StepStatus::Success));

    let (refused, steps) = &decisions[1];
    assert_eq!(refused.status, FlowStatus::Failure);
    let last = steps.last().unwrap();
    assert_eq!(last.status, StepStatus::Failure);
    assert_eq!(last.error_code.as_deref(), Some("validation_error"));
    let batch = decisions[2].0.asked.as_deref().unwrap();
    let results: Value = serde_json::from_str(batch.explanation.as_deref().unwrap()).unwrap();
    assert_eq!(results, json!({"checks": 1, "results": {"one": true}}));

    // The caller is recorded once by each of two addresses, and so is who was not let in.
    let callers = kept(&file, store, FlowKind::Authentication).await;
    let callers: Vec<_> = callers
        .iter()
        .map(|(flow, steps)| {
            let code = steps[0].error_code.as_deref();
            (
                flow.status,
                flow.ip.unwrap().to_string(),
                flow.grant_type.as_deref(),
                code,
            )
        })
        .collect();
    assert_eq!(
        callers,
        [
            (
                FlowStatus::Success,
                "198.51.100.9".into(),
                Some("preshared"),
                None
            ),
            (
                FlowStatus::Success,
                "127.0.0.1".into(),
                Some("preshared"),
                None
            ),
            (
                FlowStatus::Failure,
                "127.0.0.1".into(),
                Some("preshared"),
                Some("unauthenticated")
            ),
        ]
    );
    let bytes = std::fs::read(&file).unwrap();
    let is_there = |text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
    assert!(is_there(b"shop/1.0") && !is_there(KEY.as_bytes()));
}

#[tokio::test]
async fn nothing_is_recorded_where_that_is_off_and_of_decisions_a_share() {
    for (enabled, sampling, callers) in [(false, 1.0, 0), (true, 0.0, 1)] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("central.db");
        let node = central(&file, |recorder| {
            recorder.enabled = enabled;
            recorder.sampling = sampling;
        })
        .await;
        let store = store(&node).await;
        let key = json!({"user": "user:anne", "relation": "viewer", "object": "document:plan"});
        let path = format!("/stores/{store}/check");
        post(&node, &path, json!({ "tuple_key": key })).await;
        node.stop().await;
        assert_eq!(kept(&file, store, FlowKind::Decision).await, []);
        let shown = kept(&file, store, FlowKind::Authentication).await;
        assert_eq!(shown.len(), callers);
    }
}

async fn get(address: std::net::SocketAddr, path: &str) -> (u16, Value) {
    let headers = [("authorization", BEARER)];
    let reply = send(address, Method::GET, path, &headers, Bytes::new()).await;
    (reply.status.as_u16(), reply.body)
}

/// The flows that a query finds, once there are so many.
async fn listed(node: &Node, store: StoreId, query: &str, count: usize) -> Vec<Value> {
    let path = format!("/stores/{store}/flows?{query}");
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            let (_, body) = get(node.http, &path).await;
            let flows = body["flows"].as_array().unwrap().clone();
            if flows.len() >= count {
                break flows;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    found.await.unwrap()
}

#[tokio::test]
async fn flows_are_listed_shown_explained_and_purged() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("central.db");
    let node = central(&file, |_| ()).await;
    let store = store(&node).await;
    let of = |rest: &str| format!("/stores/{store}{rest}");
    let related = |relation: &str| json!({"computedUserset": {"relation": relation}});
    let model = json!({"schema_version": "1.1", "type_definitions": [
        {"type": "user"},
        {"type": "group", "relations": {"member": {"this": {}}},
         "metadata": {"relations": {"member": {"directly_related_user_types": [{"type": "user"}]}}}},
        {"type": "document", "relations": {"editor": {"this": {}}, "viewer": {"union": {"child": [{"this": {}}, related("editor")]}}},
         "metadata": {"relations": {
            "editor": {"directly_related_user_types": [{"type": "group", "relation": "member"}]},
            "viewer": {"directly_related_user_types": [{"type": "user"}]}}}},
    ]});
    post(&node, &of("/authorization-models"), model).await;
    let tuples = json!([
        {"user": "user:carl", "relation": "member", "object": "group:eng"},
        {"user": "group:eng#member", "relation": "editor", "object": "document:plan"},
    ]);
    post(
        &node,
        &of("/write"),
        json!({"writes": {"tuple_keys": tuples}}),
    )
    .await;
    for user in ["user:carl", "user:dora"] {
        let key = json!({"user": user, "relation": "viewer", "object": "document:plan"});
        post(&node, &of("/check"), json!({ "tuple_key": key })).await;
    }

    let flows = listed(&node, store, "kind=decision", 2).await;
    assert_eq!(flows[0]["decision"]["user"], "user:dora");
    assert_eq!(flows[0]["decision"]["allowed"], false);
    assert_eq!(flows[1]["decision"]["allowed"], true);
    assert!(flows[1]["started_at"].as_str().unwrap().ends_with('Z'));
    let users = listed(
        &node,
        store,
        "user=user:carl&status=success&step=evaluate",
        1,
    )
    .await;
    assert_eq!(users, flows[1..]);
    let (_, page) = get(
        node.http,
        &of("/flows?kind=decision&page_size=1&count=true"),
    )
    .await;
    assert_eq!((&page["flows"][0], &page["total"]), (&flows[0], &json!(2)));
    let token = page["continuation_token"].as_str().unwrap();
    let next = of(&format!(
        "/flows?kind=decision&page_size=1&continuation_token={token}"
    ));
    let (_, page) = get(node.http, &next).await;
    assert_eq!(page["flows"][0], flows[1]);
    assert_eq!(page["continuation_token"], "");

    let id = |flow: &Value| flow["id"].as_str().unwrap().to_owned();
    let explained = of(&format!("/flows/{}?explain=true", id(&flows[1])));
    let (_, shown) = get(node.http, &explained).await;
    assert_eq!(shown["steps"][0]["name"], "authenticate");
    let why = &shown["explanation"];
    assert_eq!(why["allowed"], true);
    let mut path = Vec::new();
    let mut at = &why["root"];
    loop {
        path.push((at["kind"].as_str().unwrap(), at["name"].as_str().unwrap()));
        match at["children"].as_array().unwrap().last() {
            Some(child) => at = child,
            None => break,
        }
    }
    assert_eq!(
        path,
        [
            ("relation", "document:plan#viewer"),
            ("union", "document:plan#viewer"),
            ("computed", "document:plan#editor"),
            ("userset", "group:eng#member"),
            ("direct", "user:carl"),
        ]
    );
    assert_eq!(shown["session"], Value::Null);
    let session = Session {
        id: "one".to_owned(),
        store,
        flow: Some(id(&flows[1]).parse().unwrap()),
        node: "edge/one".to_owned(),
        user: "carl".to_owned(),
        connected_at: Timestamp(0),
        ended_at: Some(Timestamp(1_000_000)),
        close_code: Some(1001),
    };
    let database = SqlFlows::connect_lazy(&url(&file)).unwrap();
    let row = Row::Session(Box::new(session));
    let rows = [row];
    let written = database.write(&rows, Instant::now() + PATIENCE);
    written.await.unwrap();
    let (_, shown) = get(node.http, &of(&format!("/flows/{}", id(&flows[1])))).await;
    assert_eq!(
        shown["session"],
        json!({
            "id": "one", "node": "edge/one", "user_id": "carl", "close_code": 1001,
            "connected_at": "1970-01-01T00:00:00Z", "ended_at": "1970-01-01T00:00:01Z",
        })
    );
    let (_, denied) = get(
        node.http,
        &of(&format!("/flows/{}?explain=true", id(&flows[0]))),
    )
    .await;
    let union = &denied["explanation"]["root"]["children"][0];
    let branches: Vec<_> = union["children"].as_array().unwrap().iter().collect();
    assert_eq!(branches.len(), 2);
    assert!(branches.iter().all(|branch| branch["allowed"] == false));

    let (_, stats) = get(node.http, &of("/flow-stats")).await;
    let counts: Vec<_> = stats["counts"].as_array().unwrap().iter().collect();
    assert!(
        counts
            .iter()
            .any(|count| count["kind"] == "decision" && count["flows"] == 2)
    );
    let (_, days) = get(node.http, &of("/flow-activity?days=1")).await;
    assert_eq!(days["days"][0]["total"], stats["total"]);

    let nobody = "019470a1-8f6e-7c3a-9d58-1f2b3c4d5e6f";
    for (path, status) in [
        (of("/flows?status=odd"), 400),
        (of("/flows?page_size=0"), 400),
        (of("/flows?continuation_token=x"), 400),
        (of("/flows?from=yesterday"), 400),
        (of("/flows/none"), 400),
        (of(&format!("/flows/{nobody}")), 404),
        (of("/flow-activity?days=367"), 400),
        ("/stores/none/flows".to_owned(), 400),
    ] {
        let (told, body) = get(node.http, &path).await;
        assert_eq!(told, status, "{path}: {body}");
        assert!(body["message"].as_str().unwrap().len() > 10, "{body}");
    }
    let open = send(node.http, Method::GET, &of("/flows"), &[], Bytes::new()).await;
    assert_eq!(open.status, StatusCode::UNAUTHORIZED);

    let purged = post(
        &node,
        &of("/flows/purge"),
        json!({"before": "2100-01-01T00:00:00Z"}),
    )
    .await;
    assert_eq!(purged["more"], false);
    assert!(purged["purged"].as_u64().unwrap() >= 2);
    assert_eq!(
        listed(&node, store, "kind=decision", 0).await,
        Vec::<Value>::new()
    );
    node.stop().await;
}
