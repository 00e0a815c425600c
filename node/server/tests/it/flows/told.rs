//! What is told of calls that decide much at once, and by whom and how it is asked for.

use meridian_proto::meridian::v1 as wire;
use meridian_proto::meridian::v1::check_service_client::CheckServiceClient;
use meridian_proto::meridian::v1::flow_service_client::FlowServiceClient;
use tonic::Code;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;

use super::*;
use crate::harness::NOBODY;

fn key(user: &str, object: &str) -> Value {
    json!({"user": user, "relation": "viewer", "object": object})
}

/// A flow's decision, by its call.
async fn decision(node: &Node, store: StoreId, operation: &str, flows: usize) -> Value {
    let flows = listed(node, store, "kind=decision", flows).await;
    let of = |flow: &&Value| flow["decision"]["operation"] == operation;
    flows.iter().find(of).unwrap()["decision"].clone()
}

#[tokio::test]
async fn each_check_of_a_batch_is_told_with_what_it_was_of() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("central.db");
    let node = central(&file, |_| ()).await;
    let store = store(&node).await;
    let checks = json!([
        {"tuple_key": key("user:anne", "document:plan"), "correlation_id": "one"},
        {"tuple_key": key("user:anne", "document:other"), "correlation_id": "two"},
        {"tuple_key": key("user:anne", "nothing:plan"), "correlation_id": "three"},
    ]);
    let results = json!({
        "one": {"object": "document:plan", "relation": "viewer", "user": "user:anne", "allowed": true},
        "two": {"object": "document:other", "relation": "viewer", "user": "user:anne", "allowed": false},
        "three": {"object": "nothing:plan", "relation": "viewer", "user": "user:anne", "error": "validation_error"},
    });
    for (flows, path, operation) in [
        (1, "batch-check", "BatchCheck"),
        (2, "streamed-batch-check", "StreamedBatchCheck"),
    ] {
        let path = format!("/stores/{store}/{path}");
        post_for(&node, &path, json!({ "checks": checks })).await;
        let decision = decision(&node, store, operation, flows).await;
        assert_eq!(
            decision["details"],
            json!({"checks": 3, "answered": 3, "results": results}),
            "{operation}"
        );
        // What all of them are about; so the user's flows are found.
        assert_eq!(
            (
                &decision["user"],
                &decision["relation"],
                &decision["object"]
            ),
            (&json!("user:anne"), &json!("viewer"), &json!(""))
        );
        let of_user = listed(&node, store, "kind=decision&user=user:anne", flows).await;
        assert_eq!(of_user.len(), flows);
    }
    let list = json!({"type": "document", "relation": "viewer", "user": "user:anne"});
    post_for(
        &node,
        &format!("/stores/{store}/streamed-list-objects"),
        list,
    )
    .await;
    let decision = decision(&node, store, "StreamedListObjects", 3).await;
    assert_eq!(decision["details"], json!({"objects": 1}));
    assert_eq!(decision["revision"], "1.3");
    node.stop().await;
}

/// Posts and reads the answer, which may be many.
async fn post_for(node: &Node, path: &str, body: Value) {
    let headers = [("authorization", BEARER)];
    let body = Bytes::from(body.to_string());
    let (status, ..) = crate::harness::raw(node.http, Method::POST, path, &headers, body).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn calls_of_authzen_are_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let node = central_with(&url(&folder.path().join("central.db")), |config| {
        config.experimentals = vec!["authzen".to_owned()];
    })
    .await;
    let store = store(&node).await;
    let (anne, action) = (
        json!({"type": "user", "id": "anne"}),
        json!({"name": "viewer"}),
    );
    let plan = json!({"type": "document", "id": "plan"});
    let other = json!({"type": "document", "id": "other"});
    let calls = [
        (
            "evaluation",
            json!({"subject": anne, "action": action, "resource": plan}),
        ),
        (
            "evaluations",
            json!({"subject": anne, "action": action, "evaluations": [{"resource": plan}, {"resource": other}]}),
        ),
        (
            "search/subject",
            json!({"subject": {"type": "user"}, "action": action, "resource": plan}),
        ),
        (
            "search/resource",
            json!({"subject": anne, "action": action, "resource": {"type": "document"}}),
        ),
        ("search/action", json!({"subject": anne, "resource": plan})),
    ];
    for (path, body) in calls {
        post_for(&node, &format!("/stores/{store}/access/v1/{path}"), body).await;
    }
    let flows = listed(&node, store, "kind=decision", 5).await;
    let decisions = flows.iter().rev().map(|flow| &flow["decision"]);
    let told: Vec<_> = decisions
        .map(|decision| {
            let part = |name: &str| decision[name].as_str().unwrap();
            let asked = [
                part("operation"),
                part("object"),
                part("relation"),
                part("user"),
            ];
            (asked, &decision["allowed"], &decision["details"])
        })
        .collect();
    let evaluated = |object: &str, allowed: bool| json!({"object": object, "relation": "viewer", "user": "user:anne", "allowed": allowed});
    let results =
        json!({"0": evaluated("document:plan", true), "1": evaluated("document:other", false)});
    assert_eq!(
        told,
        [
            (
                ["Evaluation", "document:plan", "viewer", "user:anne"],
                &json!(true),
                &json!(null)
            ),
            (
                ["Evaluations", "", "viewer", "user:anne"],
                &json!(null),
                &json!({"checks": 2, "answered": 2, "results": results})
            ),
            (
                ["SubjectSearch", "document:plan", "viewer", "user"],
                &json!(null),
                &json!({"users": 1})
            ),
            (
                ["ResourceSearch", "document", "viewer", "user:anne"],
                &json!(null),
                &json!({"objects": 1})
            ),
            (
                ["ActionSearch", "document:plan", "", "user:anne"],
                &json!(null),
                &json!({"relations": 1})
            ),
        ]
    );
    node.stop().await;
}

async fn channel(node: &Node) -> Channel {
    let channel = Channel::from_shared(format!("http://{}", node.grpc)).unwrap();
    channel.connect().await.unwrap()
}

fn by_key<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let key = MetadataValue::from_static(BEARER);
    request.metadata_mut().insert("authorization", key);
    request
}

#[tokio::test]
async fn the_flow_service_answers_over_grpc() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("central.db");
    let node = central(&file, |_| ()).await;
    let store = store(&node).await;
    let channel = channel(&node).await;
    let mut checks = CheckServiceClient::new(channel.clone());
    let item = |object: &str| v1::BatchCheckItem {
        tuple_key: Some(v1::CheckRequestTupleKey {
            user: "user:anne".into(),
            relation: "viewer".into(),
            object: object.into(),
        }),
        correlation_id: object.replace(':', "-"),
        ..v1::BatchCheckItem::default()
    };
    let batch = v1::BatchCheckRequest {
        store_id: store.to_string(),
        checks: vec![item("document:plan"), item("document:other")],
        ..v1::BatchCheckRequest::default()
    };
    let stream = checks.streamed_batch_check(by_key(batch)).await.unwrap();
    let mut stream = stream.into_inner();
    while stream.message().await.unwrap().is_some() {}
    listed(&node, store, "kind=decision", 1).await;

    let store_id = store.to_string();
    let mut flows = FlowServiceClient::new(channel);
    let list = wire::ListFlowsRequest {
        store_id: store_id.clone(),
        filter: Some(wire::FlowFilter {
            kind: "decision".into(),
            ..wire::FlowFilter::default()
        }),
        count: true,
        ..wire::ListFlowsRequest::default()
    };
    // By whoever may call the API.
    flows.list_flows(list.clone()).await.unwrap_err();
    let list = flows.list_flows(by_key(list)).await.unwrap().into_inner();
    assert_eq!((list.flows.len(), list.total), (1, Some(1)));
    let decision = list.flows[0].decision.as_ref().unwrap();
    assert_eq!(decision.operation, "StreamedBatchCheck");
    assert!(
        decision.details.contains(r#""answered":2"#),
        "{}",
        decision.details
    );
    let get = wire::GetFlowRequest {
        store_id: store_id.clone(),
        id: list.flows[0].id.clone(),
        explain: false,
    };
    let got = flows.get_flow(by_key(get)).await.unwrap().into_inner();
    assert_eq!(got.flow.as_ref(), Some(&list.flows[0]));
    assert_eq!(got.steps[0].name, "authenticate");
    let stats = wire::GetFlowStatsRequest {
        store_id: store_id.clone(),
        ..wire::GetFlowStatsRequest::default()
    };
    let stats = flows
        .get_flow_stats(by_key(stats))
        .await
        .unwrap()
        .into_inner();
    assert!(
        stats
            .counts
            .iter()
            .any(|count| count.kind == "decision" && count.flows == 1)
    );
    let days = wire::GetDailyActivityRequest {
        store_id: store_id.clone(),
        days: Some(1),
        to_micros: None,
    };
    let days = flows.get_daily_activity(by_key(days)).await.unwrap();
    assert!(days.into_inner().days[0].total >= stats.total);

    let set = wire::SetRecorderRequest {
        store_id: store_id.clone(),
        sampling: Some(0.5),
        retention_seconds: Some(7200),
        ..wire::SetRecorderRequest::default()
    };
    let now = flows.set_recorder(by_key(set.clone())).await.unwrap();
    let now = now.into_inner().recorder.unwrap();
    assert_eq!((now.sampling, now.retention_seconds), (0.5, 7200));
    let unset = |names: &[&str], sampling| wire::SetRecorderRequest {
        store_id: store_id.clone(),
        sampling,
        unset: names.iter().map(|name| (*name).to_owned()).collect(),
        ..wire::SetRecorderRequest::default()
    };
    let now = flows.set_recorder(by_key(unset(&["sampling"], None))).await;
    let now = now.unwrap().into_inner().recorder.unwrap();
    assert_eq!((now.sampling, now.retention_seconds), (1.0, 7200));
    let get = wire::GetRecorderRequest {
        store_id: store_id.clone(),
    };
    let kept = flows.get_recorder(by_key(get)).await.unwrap();
    assert_eq!(kept.into_inner(), now);
    let nobodys = wire::SetRecorderRequest {
        store_id: NOBODY.to_owned(),
        ..set
    };
    for (wrong, code) in [
        (unset(&["sampling"], Some(0.5)), Code::InvalidArgument),
        (unset(&["colour"], None), Code::InvalidArgument),
        (nobodys, Code::NotFound),
    ] {
        let refused = flows.set_recorder(by_key(wrong)).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
    }

    let purge = wire::PurgeFlowsRequest {
        store_id,
        before_micros: i64::MAX,
    };
    let purged = flows.purge_flows(by_key(purge)).await.unwrap().into_inner();
    assert!(purged.purged >= stats.total && !purged.more);
    node.stop().await;
}

async fn patch(node: &Node, store: &str, body: Value) -> crate::harness::JsonReply {
    let path = format!("/stores/{store}/flow-recorder");
    let headers = [("authorization", BEARER)];
    let body = Bytes::from(body.to_string());
    send(node.http, Method::PATCH, &path, &headers, body).await
}

#[tokio::test]
async fn what_is_set_of_a_store_is_unset_by_null_and_of_no_store_nothing_is_set() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("central.db");
    let node = central(&file, |recorder| recorder.sampling = 0.25).await;
    let store = store(&node).await.to_string();
    let set = patch(&node, &store, json!({"enabled": false, "sampling": 0.5})).await;
    assert_eq!(
        (&set.body["enabled"], &set.body["sampling"]),
        (&json!(false), &json!(0.5))
    );
    let unset = patch(&node, &store, json!({"sampling": null})).await;
    assert_eq!(
        (&unset.body["enabled"], &unset.body["sampling"]),
        (&json!(false), &json!(0.25))
    );
    let all = json!({"enabled": null, "sampling": null, "retention_seconds": null});
    let unset = patch(&node, &store, all).await;
    assert_eq!(unset.body["enabled"], true);

    let refused = patch(&node, NOBODY, json!({"enabled": false})).await;
    let message = format!("there is no store '{NOBODY}'");
    refused.assert_error(404, "store_id_not_found", &message);
    let database = SqlFlows::connect_lazy(&url(&file)).unwrap();
    let kept = database.get_overrides(Instant::now() + PATIENCE).await;
    assert!(kept.unwrap().iter().all(|(of, _)| of.to_string() == store));
    node.stop().await;
}

#[tokio::test]
async fn all_nodes_of_a_database_follow_what_is_set_of_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let file = url(&folder.path().join("central.db"));
    let one = central_with(&file, |_| ()).await;
    let (still, turned) = (store(&one).await, store(&one).await);
    let other = central_with(&file, |config| config.name = "other".into()).await;
    let check = async |store: StoreId, user: &str| {
        let path = format!("/stores/{store}/check");
        let body = json!({ "tuple_key": key(user, "document:plan") });
        assert!(post(&other, &path, body).await["allowed"].is_boolean());
    };
    check(turned, "user:first").await;
    let first = listed(&other, turned, "kind=decision", 1).await;
    assert_eq!(first[0]["decision"]["served_by"], "central/other");

    let off = patch(&one, &turned.to_string(), json!({"enabled": false})).await;
    assert_eq!(off.body["enabled"], false, "{}", off.body);
    let followed = tokio::time::timeout(PATIENCE, async {
        for number in 0.. {
            let user = format!("user:{number}");
            check(turned, &user).await;
            check(still, &user).await;
            // Flows are written in their order.
            let query = format!("kind=decision&user={user}");
            listed(&other, still, &query, 1).await;
            if listed(&other, turned, &query, 0).await.is_empty() {
                break;
            }
        }
    });
    followed.await.unwrap();
    patch(&one, &turned.to_string(), json!({"enabled": null})).await;
    let followed = tokio::time::timeout(PATIENCE, async {
        loop {
            check(turned, "user:again").await;
            check(still, "user:again").await;
            listed(&other, still, "user=user:again", 1).await;
            if !listed(&other, turned, "user=user:again", 0)
                .await
                .is_empty()
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    followed.await.unwrap();
    other.stop().await;
    one.stop().await;
}
