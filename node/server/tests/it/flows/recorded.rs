//! What is kept of calls, by the database file.

use super::*;

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
    // That there is such a store is found out beside.
    listed(&node, store, "kind=authentication&status=failure", 1).await;
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
            ("BatchCheck", "document:plan", "user:anne", None),
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
    let one = json!({"object": "document:plan", "relation": "viewer", "user": "user:anne", "allowed": true});
    assert_eq!(
        results,
        json!({"checks": 1, "answered": 1, "results": {"one": one}})
    );

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
    let is_there = |text: &[u8]| is_stored(folder.path(), text);
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
