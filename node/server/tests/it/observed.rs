//! What three nodes, in processes of their own, tell about themselves: `/metrics`, traces, logs and request ids.

mod collector;
mod metrics;
mod nodes;

use std::collections::BTreeSet;

use meridian_proto::meridian::v1::check_service_client::CheckServiceClient;
use meridian_proto::openfga::v1;
use serde_json::{Value, json};

use crate::authn::issuer::{Issuer, Key};
use crate::harness::{check_request, github_model, send};
use collector::{Collector, Seen};
use nodes::Nodes;

/// What a client says of its own trace.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

#[tokio::test]
async fn metrics_traces_and_logs_follow_a_request_through_three_nodes() {
    let collector = Collector::start().await;
    let key = Key::p256("key");
    let issuer = Issuer::start(&[&key]).await;
    let token = key.token(&issuer.claims());
    let nodes = Nodes::start(&collector.address, &issuer, &token).await;
    let store = traffic(&nodes).await;

    one_trace(&nodes, &collector, &store).await;
    unsampled(&nodes, &collector, &store).await;
    metrics::agree_with_the_documentation(&nodes).await;
    for role in nodes::ROLES {
        let streamed =
            r#"grpc_method="StreamedBatchCheck",grpc_type="server_stream",grpc_code="OK"} 1"#;
        let shown = nodes.metrics(role).await;
        assert!(shown.contains(streamed), "{role}");
        // As upstream, whose own metrics have small letters where those of its gRPC library have not.
        for call in ["check", "listobjects", "streamedlistobjects"] {
            let timed = format!(
                r#"openfga_request_duration_ms_count{{grpc_service="openfga.v1.OpenFGAService",grpc_method="{call}""#
            );
            assert!(shown.contains(&timed), "{role} {call}: {shown}");
        }
        if role == "central" {
            // The second time that it was asked the same; nodes below may be behind what was just written.
            let kept = r#"meridian_checks_total{served="kept",outcome="allowed"} 1"#;
            assert!(shown.contains(kept), "{shown}");
        }
    }

    let logs = nodes.stop().await;
    for role in ["edge", "regional", "central"] {
        let named = logs[role].lines().filter(|line| line.contains(TRACE));
        assert!(named.count() > 0, "{role} says nothing of request {TRACE}");
        assert!(!logs[role].contains(&token), "{role} logs a token");
        let calls = access(&logs[role]);
        let call = calls.iter().find(|call| call["request_id"] == TRACE);
        let call = call.unwrap_or_else(|| panic!("{role} has no line of request {TRACE}"));
        let caller = (&call["caller.subject"], &call["caller.client_id"]);
        assert_eq!(caller, (&json!("anne"), &json!("shop")), "{role}: {call}");
    }
    access_log(&logs["edge"], &store);
}

/// A little of everything at every node, errors included.
async fn traffic(nodes: &Nodes) -> String {
    let mut edge = nodes.client("edge").await;
    let created = edge.create_store(v1::CreateStoreRequest {
        name: "shop".into(),
    });
    let store = created.await.unwrap().into_inner().id;
    let mut model: v1::WriteAuthorizationModelRequest =
        serde_json::from_value(github_model()).unwrap();
    model.store_id.clone_from(&store);
    edge.write_authorization_model(model).await.unwrap();
    nodes.critical(&store, "user").await;
    for (number, role) in nodes::ROLES.into_iter().enumerate() {
        let mut node = nodes.client(role).await;
        node.write(write(&store, &format!("repo:{number}")))
            .await
            .unwrap();
        let check = check_request(&store, ("user:anne", "owner", &format!("repo:{number}")));
        for _ in 0..2 {
            assert!(
                node.check(check.clone())
                    .await
                    .unwrap()
                    .into_inner()
                    .allowed
            );
        }
        let malformed = check_request(&store, ("anne", "owner", "repo:1"));
        node.check(malformed).await.unwrap_err();
        let unknown = check_request(&store, ("user:anne", "flies", "repo:1"));
        node.check(unknown).await.unwrap_err();
        let listing = v1::ListObjectsRequest {
            store_id: store.clone(),
            r#type: "repo".into(),
            relation: "owner".into(),
            user: "user:anne".into(),
            ..Default::default()
        };
        node.list_objects(listing.clone()).await.unwrap();
        let listing = serde_json::to_value(&listing).unwrap();
        let streaming: v1::StreamedListObjectsRequest = serde_json::from_value(listing).unwrap();
        let mut stream = node
            .streamed_list_objects(streaming)
            .await
            .unwrap()
            .into_inner();
        while stream.message().await.unwrap().is_some() {}
        streamed_batch(nodes.channel(role).await, &store).await;
    }
    store
}

async fn streamed_batch(channel: nodes::Shown, store: &str) {
    let check = check_request(store, ("user:anne", "owner", "repo:0"));
    let item = v1::BatchCheckItem {
        tuple_key: check.tuple_key,
        correlation_id: "one".into(),
        ..Default::default()
    };
    let batch = v1::BatchCheckRequest {
        store_id: store.to_owned(),
        checks: vec![item],
        ..Default::default()
    };
    let mut client = CheckServiceClient::new(channel);
    let stream = client.streamed_batch_check(batch).await.unwrap();
    let mut stream = stream.into_inner();
    while stream.message().await.unwrap().is_some() {}
}

fn write(store: &str, object: &str) -> v1::WriteRequest {
    let tuple = json!({"user": "user:anne", "relation": "owner", "object": object});
    let request = json!({"store_id": store, "writes": {"tuple_keys": [tuple]}});
    serde_json::from_value(request).unwrap()
}

/// A check that only central's primary may answer, asked at the edge.
async fn one_trace(nodes: &Nodes, collector: &Collector, store: &str) {
    let body = json!({
        "tuple_key": {"user": "user:anne", "relation": "reader", "object": "repo:1"},
        "consistency": "HIGHER_CONSISTENCY",
    });
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let answer = ask(nodes, store, &body, &parent).await;
    assert_eq!(answer.body["allowed"], true, "{}", answer.body);
    assert_eq!(answer.headers["x-request-id"], TRACE);
    assert_eq!(answer.headers["meridian-served-by"], "central/c");

    let is_whole = |spans: &[Seen]| servers(spans, TRACE) == 3;
    let spans = collector.until(is_whole).await;
    let spans: Vec<_> = spans
        .into_iter()
        .filter(|span| span.trace == TRACE)
        .collect();
    let child = |parent: &str, name: &str| {
        let found = spans
            .iter()
            .find(|span| span.parent == parent && span.name == name);
        found.unwrap_or_else(|| panic!("no {name} under {parent}: {spans:#?}"))
    };
    let edge = child(SPAN, "Check");
    assert_eq!((&*edge.instance, &*edge.node), ("e", "edge/e"));
    child(&edge.id, "authenticate");
    child(&edge.id, "validate");
    let regional = child(&child(&edge.id, "upstream").id, "meridian.v1.NodeService");
    assert_eq!((&*regional.instance, &*regional.node), ("r", "regional/r"));
    let central = child(
        &child(&regional.id, "upstream").id,
        "meridian.v1.NodeService",
    );
    assert_eq!((&*central.instance, &*central.node), ("c", "central/c"));
    for node in [edge, regional, central] {
        assert_eq!(node.caller, "anne", "{}", node.node);
    }
    child(&central.id, "evaluate");
    let query = child(&central.id, "query");
    assert!(query.text.starts_with("SELECT "), "{query:?}");
}

/// What its client does not have traced is not, and has an id all the same.
async fn unsampled(nodes: &Nodes, collector: &Collector, store: &str) {
    let body = json!({"tuple_key": {"user": "user:anne", "relation": "owner", "object": "repo:1"}});
    let (quiet, loud) = (TRACE.replace("0af", "0af0"), TRACE.replace("0af", "1af"));
    let quiet = &quiet[..32];
    let answer = ask(nodes, store, &body, &format!("00-{quiet}-{SPAN}-00")).await;
    assert_eq!(answer.headers["x-request-id"], quiet);
    ask(nodes, store, &body, &format!("00-{loud}-{SPAN}-01")).await;
    let spans = collector.until(|spans| servers(spans, &loud) > 0).await;
    assert_eq!(servers(&spans, quiet), 0);
}

fn servers(spans: &[Seen], trace: &str) -> usize {
    let names = ["Check", "meridian.v1.NodeService"];
    let of_trace = spans.iter().filter(|span| span.trace == trace);
    let servers: BTreeSet<_> = of_trace
        .filter(|span| names.contains(&&*span.name))
        .map(|span| &span.id)
        .collect();
    servers.len()
}

async fn ask(nodes: &Nodes, store: &str, body: &Value, parent: &str) -> crate::harness::JsonReply {
    let path = format!("/stores/{store}/check");
    let headers = [("traceparent", parent), ("authorization", nodes.bearer())];
    send(
        nodes.http("edge"),
        http::Method::POST,
        &path,
        &headers,
        body.to_string().into(),
    )
    .await
}

/// What the lines of an access log say.
fn access(log: &str) -> Vec<Value> {
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let calls = lines.filter(|line| line["target"] == "access");
    calls.map(|mut line| line["fields"].take()).collect()
}

fn access_log(log: &str, store: &str) {
    let calls = access(log);
    let call = calls.iter().find(|call| call["request_id"] == TRACE);
    let call = call.unwrap();
    let expected = [
        ("message", "grpc_req_complete"),
        ("grpc_service", "openfga.v1.OpenFGAService"),
        ("grpc_method", "Check"),
        ("trace_id", TRACE),
        ("store_id", store),
        ("code", "OK"),
        ("served_by", "central/c"),
    ];
    for (name, value) in expected {
        assert_eq!(call[name], value, "{name} in {call}");
    }
    assert!(call["query_duration_ms"].as_f64().unwrap() > 0.0);
    let refused = calls.iter().find(|call| call["code"] == "validation_error");
    assert!(refused.is_some());
    assert!(!log.contains("user:anne"), "the log holds what was asked");
}
