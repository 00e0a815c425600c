//! StreamedBatchCheck, on both transports.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Method, StatusCode};
use meridian_proto::meridian::v1::check_service_client::CheckServiceClient;
use meridian_proto::openfga::v1;
use meridian_proto::openfga::v1::batch_check_single_result::CheckResult;
use serde_json::{Value, json};

use crate::harness::{Node, check_request, raw};

const CHECKS: usize = 120;

/// More checks than a BatchCheck may have. One of ten is allowed, and the last is about a type there is not.
fn batch(store: &str, checks: usize) -> v1::BatchCheckRequest {
    let item = |number: usize| {
        let object = match number {
            number if number + 1 == checks => "nope:1".to_owned(),
            number => format!("repo:{}", number % 10),
        };
        v1::BatchCheckItem {
            tuple_key: check_request(store, ("user:anne", "owner", &object)).tuple_key,
            correlation_id: format!("c{number}"),
            ..Default::default()
        }
    };
    v1::BatchCheckRequest {
        store_id: store.to_owned(),
        checks: (0..checks).map(item).collect(),
        ..Default::default()
    }
}

async fn node() -> (Node, String) {
    let node = Node::start().await;
    let store = node.store().await;
    node.write(&store, &[("user:anne", "owner", "repo:3")])
        .await;
    (node, store)
}

#[tokio::test]
async fn each_check_of_a_streamed_batch_is_answered_once() {
    let (node, store) = node().await;
    let mut client = CheckServiceClient::connect(format!("http://{}", node.grpc))
        .await
        .unwrap();
    let reply = client
        .streamed_batch_check(batch(&store, CHECKS))
        .await
        .unwrap();
    assert_eq!(
        reply.metadata().get("meridian-served-by").unwrap(),
        "central"
    );
    assert!(
        reply
            .metadata()
            .contains_key("openfga-authorization-model-id")
    );
    let (mut stream, mut results) = (reply.into_inner(), BTreeMap::new());
    while let Some(message) = stream.message().await.unwrap() {
        let result = message.result.unwrap().check_result.unwrap();
        let before = results.insert(message.correlation_id, result);
        assert!(before.is_none());
    }
    assert_eq!(results.len(), CHECKS);
    assert_eq!(results["c13"], CheckResult::Allowed(true));
    assert_eq!(results["c14"], CheckResult::Allowed(false));
    let last = &results[&format!("c{}", CHECKS - 1)];
    assert!(matches!(last, CheckResult::Error(_)), "{last:?}");
}

#[tokio::test]
async fn over_http_each_result_is_a_line() {
    let (node, store) = node().await;
    let path = format!("/stores/{store}/streamed-batch-check");
    let body = serde_json::to_vec(&batch(&store, 20)).unwrap();
    let (status, _, lines) = raw(node.http, Method::POST, &path, &[], body.into()).await;
    assert_eq!(status, StatusCode::OK);
    let lines = std::str::from_utf8(&lines).unwrap().lines();
    let results: Vec<Value> = lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(results.len(), 20);
    let allowed = json!({"result": {"correlation_id": "c3", "result": {"allowed": true}}});
    assert!(results.contains(&allowed), "{results:?}");

    let none = Bytes::from_static(b"{\"checks\": []}");
    let (status, _, _) = raw(node.http, Method::POST, &path, &[], none).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_streamed_batch_has_a_limit_of_its_own_and_is_refused_as_a_whole_where_all_are() {
    let (node, store) = node().await;
    let mut client = CheckServiceClient::connect(format!("http://{}", node.grpc))
        .await
        .unwrap();
    let mut refusal = async |request| {
        let begun = client.streamed_batch_check(request).await.unwrap();
        begun.into_inner().message().await.unwrap_err()
    };
    let too_many = refusal(batch(&store, 1001)).await;
    let message = too_many.message();
    assert!(
        message.contains("1001 checks") && message.contains("is 1000"),
        "{message}"
    );
    let refused = refusal(batch(crate::harness::NOBODY, 3)).await;
    assert!(
        refused.message().contains("No authorization models found"),
        "{refused}"
    );
}
