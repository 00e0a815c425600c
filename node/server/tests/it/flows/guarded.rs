//! What is never kept, and who cannot fill the recorder.

use std::collections::BTreeMap;
use std::convert::Infallible;

use http::Request;
use http_body_util::{BodyExt as _, StreamBody};
use hyper_util::rt::TokioIo;
use meridian_server::limits::Limits;
use tokio::net::TcpStream;

use super::*;
use crate::harness::NOBODY;

/// How many callers that were refused are recorded at once.
const BURST: u64 = 60;

/// The stores that a database has flows of, and how many.
async fn stores(file: &Path) -> BTreeMap<String, u64> {
    let flows = SqlFlows::connect_lazy(&url(file)).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let (mut found, mut last) = (BTreeMap::new(), None);
    while let Some(store) = flows.next_store(last, deadline).await.unwrap() {
        let all = FlowFilter::default();
        let count = flows.count_flows(store, &all, deadline).await.unwrap();
        found.insert(store.to_string(), count.flows);
        last = Some(store);
    }
    found
}

/// A check with a key that nobody was given, from an address.
async fn guess(node: &Node, store: &str, address: String) {
    let headers = [
        ("authorization", "Bearer guess"),
        ("x-forwarded-for", &*address),
    ];
    let path = format!("/stores/{store}/check");
    let reply = send(node.http, Method::POST, &path, &headers, Bytes::new()).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn whoever_is_refused_cannot_fill_the_recorder() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("central.db");
    let node = central(&file, |recorder| recorder.sampling = 0.0).await;
    let store = store(&node).await;
    let began = Instant::now();
    // One address counts once, whatever store it names.
    let name = store.to_string();
    for _ in 0..5 {
        guess(&node, &name, "192.0.2.1".to_owned()).await;
    }
    let refused = "kind=authentication&status=failure";
    listed(&node, store, refused, 1).await;
    for number in 0..20 {
        let invented = format!("01ARZ3NDEKTSV4RRFF{number:08}");
        guess(&node, &invented, "192.0.2.1".to_owned()).await;
        guess(&node, &invented, format!("192.0.2.{}", number + 2)).await;
    }
    for number in 0..200 {
        guess(&node, &name, format!("198.51.100.{number}")).await;
    }
    // 20 were of no store.
    listed(&node, store, refused, 1 + 20).await;
    node.stop().await;

    let found = stores(&file).await;
    assert_eq!(found.keys().collect::<Vec<_>>(), [&name]);
    // The caller that is let in is recorded once.
    let most = BURST + began.elapsed().as_secs() + 2;
    assert!(found[&name] <= most, "{found:?}");
}

#[tokio::test]
async fn of_a_store_that_is_not_there_nothing_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("central.db");
    let node = central(&file, |_| ()).await;
    let store = store(&node).await;
    let key = json!({"user": "user:anne", "relation": "viewer", "object": "document:plan"});
    for path in [
        format!("/stores/{NOBODY}/check"),
        format!("/stores/{store}/check"),
    ] {
        post(&node, &path, json!({ "tuple_key": key })).await;
    }
    listed(&node, store, "kind=decision", 1).await;
    node.stop().await;
    let found = stores(&file).await;
    assert_eq!(found.into_keys().collect::<Vec<_>>(), [store.to_string()]);
}

#[tokio::test]
async fn contexts_and_contextual_tuples_are_not_kept_in_errors_either() {
    const MARK: &str = "a-mark-that-nobody-may-see";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("central.db");
    let node = central_with(&url(&file), |config| {
        config.experimentals = vec!["authzen".to_owned()];
    })
    .await;
    let store = store(&node).await;
    let of = |rest: &str| format!("/stores/{store}{rest}");
    let related = json!([{"type": "user"}, {"type": "user", "condition": "young"}]);
    let model = json!({"schema_version": "1.1",
        "type_definitions": [
            {"type": "user"},
            {"type": "document", "relations": {"viewer": {"this": {}}},
             "metadata": {"relations": {"viewer": {"directly_related_user_types": related}}}}],
        "conditions": {"young": {"name": "young", "expression": "age < 18",
            "parameters": {"age": {"type_name": "TYPE_NAME_INT"}}}},
    });
    post(&node, &of("/authorization-models"), model).await;
    let when = json!({"name": "young", "context": {}});
    let young = json!({"user": "user:bob", "relation": "viewer", "object": "document:plan", "condition": when});
    post(
        &node,
        &of("/write"),
        json!({"writes": {"tuple_keys": [young]}}),
    )
    .await;

    let key = json!({"user": "user:bob", "relation": "viewer", "object": "document:plan"});
    let marked =
        json!({"user": format!("user:{MARK}"), "relation": "owner", "object": "document:plan"});
    let tuples = json!({"tuple_keys": [marked]});
    let context = json!({"age": MARK});
    let by_tuple =
        json!({"tuple_key": key, "contextual_tuples": tuples, "correlation_id": "tuple"});
    let by_context = json!({"tuple_key": key, "context": context, "correlation_id": "context"});
    let alone = |check: &Value| {
        let mut check = check.clone();
        check.as_object_mut().unwrap().remove("correlation_id");
        check
    };
    let checks = json!({"checks": [by_tuple, by_context]});
    let evaluation = json!({
        "subject": {"type": "user", "id": "bob"}, "action": {"name": "viewer"},
        "resource": {"type": "document", "id": "plan"}, "context": context});
    let asked = [
        ("/check", alone(&by_tuple)),
        ("/check", alone(&by_context)),
        ("/batch-check", checks.clone()),
        ("/access/v1/evaluation", evaluation.clone()),
        (
            "/access/v1/evaluations",
            json!({"evaluations": [evaluation]}),
        ),
        (
            "/list-objects",
            json!({"type": "document", "relation": "viewer", "user": "user:bob", "contextual_tuples": tuples}),
        ),
    ];
    for (path, body) in asked {
        let reply = post(&node, &of(path), body).await;
        // The client is told all of it.
        assert!(reply.to_string().contains(MARK), "{path}: {reply}");
    }
    let headers = [("authorization", BEARER)];
    let path = of("/streamed-batch-check");
    let body = Bytes::from(checks.to_string());
    let (_, _, streamed) =
        crate::harness::raw(node.http, Method::POST, &path, &headers, body).await;
    assert!(String::from_utf8_lossy(&streamed).contains(MARK));

    let flows = listed(&node, store, "kind=decision", 7).await;
    let failed: Vec<_> = flows
        .iter()
        .filter(|flow| flow["status"] == "failure")
        .collect();
    assert!(failed.len() >= 3, "{flows:?}");
    for flow in failed {
        let path = of(&format!("/flows/{}", flow["id"].as_str().unwrap()));
        let (_, shown) = get(node.http, &path).await;
        let last = shown["steps"].as_array().unwrap().last().unwrap();
        assert!(last["error_code"].as_str().unwrap().len() > 5, "{last}");
        assert!(
            last["error_message"].as_str().unwrap().contains("not kept"),
            "{last}"
        );
    }
    node.stop().await;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let is_there = bytes
            .windows(MARK.len())
            .any(|part| part == MARK.as_bytes());
        assert!(!is_there);
    }
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits {
        body_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let file = url(&folder.path().join("central.db"));
    let node = central_with(&file, |config| config.limits = limits).await;
    for (method, path) in [
        (Method::POST, format!("/stores/{NOBODY}/flows/purge")),
        (Method::PATCH, format!("/stores/{NOBODY}/flow-recorder")),
    ] {
        let stream = TcpStream::connect(node.http).await.unwrap();
        let connection = hyper::client::conn::http1::handshake(TokioIo::new(stream));
        let (mut sender, connection) = connection.await.unwrap();
        tokio::spawn(connection);
        let never = futures::stream::pending::<Result<http_body::Frame<Bytes>, Infallible>>();
        let request = Request::builder().method(method).uri(path);
        let request = request
            .header("host", "node")
            .header("authorization", BEARER);
        let request = request.body(StreamBody::new(never)).unwrap();
        let reply = tokio::time::timeout(PATIENCE, sender.send_request(request));
        let reply = reply.await.unwrap().unwrap();
        let body = reply.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        assert!(body.contains("did not arrive within 50ms"), "{body}");
    }
    node.stop().await;
}
