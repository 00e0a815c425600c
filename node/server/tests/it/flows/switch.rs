//! Turning recording on and off, of a store and of a process.

use super::*;

#[tokio::test]
async fn the_switch_of_a_store_and_of_the_process_are_turned_by_calls_also_from_an_edge() {
    let folder = tempfile::tempdir().unwrap();
    let node = central(&folder.path().join("central.db"), |recorder| {
        recorder.enabled = false;
    })
    .await;
    let store = store(&node).await;
    let edge = edge(&node).await;
    let path = format!("/stores/{store}/flow-recorder");
    let set = async |address, body: Value| {
        let headers = [("authorization", BEARER)];
        let body = Bytes::from(body.to_string());
        send(address, Method::PATCH, &path, &headers, body).await
    };
    let (_, before) = get(edge.http, &path).await;
    let as_set = |process: bool, enabled: bool, sampling: f64| json!({"process_enabled": process, "enabled": enabled, "sampling": sampling, "retention_seconds": 2_592_000});
    assert_eq!(before, as_set(false, true, 1.0));
    // Each has a switch of its own.
    let on = set(edge.http, json!({"process_enabled": true})).await;
    assert_eq!(on.body, as_set(true, true, 1.0));
    let (_, other) = get(node.http, &path).await;
    assert_eq!(other, as_set(false, true, 1.0));
    let on = set(node.http, json!({"process_enabled": true})).await;
    assert_eq!(on.body, as_set(true, true, 1.0));
    let key = json!({"user": "user:anne", "relation": "viewer", "object": "document:plan"});
    let check = format!("/stores/{store}/check");
    post(&node, &check, json!({ "tuple_key": key })).await;
    let first = listed(&node, store, "kind=decision", 1).await;
    let (_, seen) = get(edge.http, &format!("/stores/{store}/flows?kind=decision")).await;
    assert_eq!(seen["flows"], json!(first));

    // Off for the store, and nothing more comes of it: what is told later would have come behind it.
    let of = |user: &str| {
        let key = json!({"user": user, "relation": "viewer", "object": "document:plan"});
        json!({ "tuple_key": key })
    };
    let off = set(edge.http, json!({"enabled": false})).await;
    assert_eq!(off.body, as_set(true, false, 1.0));
    post(&node, &check, of("user:carol")).await;
    let on = set(node.http, json!({"enabled": true, "sampling": 1.0})).await;
    assert_eq!(on.body, as_set(true, true, 1.0));
    post(&node, &check, of("user:beth")).await;
    listed(&node, store, "kind=decision&user=user:beth", 1).await;
    assert_eq!(listed(&node, store, "kind=decision", 2).await.len(), 2);

    // What is null is as for all again, and what is not named stays.
    let both = set(
        edge.http,
        json!({"sampling": 0.25, "retention_seconds": 7_200}),
    );
    assert_eq!(both.await.body["retention_seconds"], 7_200);
    let one = set(edge.http, json!({"retention_seconds": null})).await;
    assert_eq!(one.body, as_set(true, true, 0.25));
    let all = json!({"enabled": null, "sampling": null});
    assert_eq!(set(node.http, all).await.body, as_set(true, true, 1.0));

    // There is nothing to set of a store that does not exist.
    let nobody = "/stores/01HVMMBCMGZNT3SED4Z17ECXCA/flow-recorder";
    for address in [edge.http, node.http] {
        let headers = [("authorization", BEARER)];
        let half = Bytes::from(json!({"sampling": 0.5}).to_string());
        let refused = send(address, Method::PATCH, nobody, &headers, half).await;
        assert_eq!(refused.status, StatusCode::NOT_FOUND);
        assert_eq!(refused.body["code"], "store_id_not_found");
        let message = refused.body["message"].as_str().unwrap();
        assert!(message.contains("01HVMMBCMGZNT3SED4Z17ECXCA"), "{message}");
    }

    for wrong in [
        json!({"sampling": 2.0}),
        json!({"retention_seconds": 5}),
        json!({"odd": 1}),
    ] {
        let refused = set(node.http, wrong).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.body);
    }
    edge.stop().await;
    node.stop().await;
}
