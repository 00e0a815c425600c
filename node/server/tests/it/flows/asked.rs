//! What is asked of the flows, and of the recorder, by calls.

use super::*;

#[tokio::test]
async fn flows_are_listed_shown_counted_and_purged() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("central.db");
    let node = central(&file, |_| ()).await;
    let store = store(&node).await;
    let of = |rest: &str| format!("/stores/{store}{rest}");
    for user in ["user:anne", "user:dora"] {
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
        "user=user:anne&status=success&step=evaluate",
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

    let id = flows[1]["id"].as_str().unwrap();
    let (_, shown) = get(node.http, &of(&format!("/flows/{id}"))).await;
    assert_eq!(shown["session"], Value::Null);
    let session = Session {
        id: "one".to_owned(),
        store,
        flow: Some(id.parse().unwrap()),
        node: "edge/one".to_owned(),
        user: "anne".to_owned(),
        connected_at: Timestamp(0),
        ended_at: Some(Timestamp(1_000_000)),
        close_code: Some(1001),
    };
    let database = SqlFlows::connect_lazy(&url(&file)).unwrap();
    let rows = [Row::Session(Box::new(session))];
    let written = database.write(&rows, Instant::now() + PATIENCE);
    written.await.unwrap();
    let (_, shown) = get(node.http, &of(&format!("/flows/{id}"))).await;
    assert_eq!(
        shown["session"],
        json!({
            "id": "one", "node": "edge/one", "user_id": "anne", "close_code": 1001,
            "connected_at": "1970-01-01T00:00:00Z", "ended_at": "1970-01-01T00:00:01Z",
        })
    );

    let (_, stats) = get(node.http, &of("/flow-stats")).await;
    let counts: Vec<_> = stats["counts"].as_array().unwrap().iter().collect();
    assert!(
        counts
            .iter()
            .any(|count| count["kind"] == "decision" && count["flows"] == 2)
    );
    let (_, days) = get(node.http, &of("/flow-activity?days=1")).await;
    assert_eq!(days["days"][0]["total"], stats["total"]);
    assert_eq!(days["days"].as_array().unwrap().len(), 1);
    // Nothing was before the first of them.
    let first = flows[1]["started_at"].as_str().unwrap();
    let (_, before) = get(node.http, &of(&format!("/flow-activity?days=1&to={first}"))).await;
    let before = before["days"].as_array().unwrap();
    let earlier: u64 = before.iter().filter_map(|day| day["total"].as_u64()).sum();
    assert!((1..=days["days"][0]["total"].as_u64().unwrap() - 2).contains(&earlier));

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
