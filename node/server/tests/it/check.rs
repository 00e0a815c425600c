//! Check over a datastore: what it answers, and what it refuses.

use serde_json::json;

use meridian_proto::openfga::v1;
use meridian_server::limits::Limits;

use crate::harness::{NOBODY, Node, check_request, github_model};

#[tokio::test]
async fn through_teams_parents_and_exclusion() {
    let node = Node::start().await;
    let store = node.store().await;
    node.write(
        &store,
        &[
            ("user:anne", "member", "team:core"),
            ("team:core#member", "member", "team:all"),
            ("team:all", "org", "repo:1"),
            ("user:bob", "owner", "repo:1"),
            ("user:bob", "blocked", "repo:1"),
            ("user:*", "member", "team:open"),
            ("team:open#member", "owner", "repo:2"),
        ],
    )
    .await;
    for (question, allowed) in [
        (("user:anne", "admin", "repo:1"), true),
        (("user:anne", "reader", "repo:1"), true),
        (("user:anne", "owner", "repo:1"), false),
        (("user:bob", "admin", "repo:1"), true),
        (("user:bob", "reader", "repo:1"), false),
        (("user:nobody", "reader", "repo:1"), false),
        (("user:nobody", "reader", "repo:2"), true),
        (("team:core#member", "admin", "repo:1"), true),
        (("team:core#member", "member", "team:core"), true),
    ] {
        assert_eq!(
            node.check(&store, question).await.body,
            json!({"allowed": allowed, "resolution": ""}),
            "{question:?}"
        );
    }
}

#[tokio::test]
async fn contextual_tuples_count_for_one_request() {
    let node = Node::start().await;
    let store = node.store().await;
    let path = format!("/stores/{store}/check");
    let ask = |user: &str, contextual: &str| {
        json!({
            "tuple_key": {"user": user, "relation": "admin", "object": "repo:1"},
            "contextual_tuples": {"tuple_keys": [
                {"user": "team:core", "relation": "org", "object": "repo:1"},
                {"user": contextual, "relation": "member", "object": "team:core"}
            ]}
        })
    };
    assert_eq!(
        node.post(&path, &ask("user:anne", "user:anne")).await.body["allowed"],
        true
    );
    assert_eq!(
        node.check(&store, ("user:anne", "admin", "repo:1"))
            .await
            .body["allowed"],
        false
    );
    let invalid = node.post(&path, &ask("user:anne", "nope:anne")).await;
    let message = invalid.message(400, "invalid_tuple");
    assert!(
        message.contains("team:core#member@nope:anne") && message.contains("type 'nope' not found"),
        "{message}"
    );
    let many: Vec<_> = (0..101)
        .map(|n| json!({"user": format!("user:{n}"), "relation": "owner", "object": "repo:1"}))
        .collect();
    let body = json!({"tuple_key": {"user": "user:anne", "relation": "admin", "object": "repo:1"}, "contextual_tuples": {"tuple_keys": many}});
    node.post(&path, &body).await.assert_error(
        400,
        "validation_error",
        "invalid ContextualTupleKeys.TupleKeys: value must contain no more than 100 item(s)",
    );
}

#[tokio::test]
async fn questions_the_model_does_not_know() {
    let node = Node::start().await;
    let store = node.store().await;
    for (question, reason) in [
        (
            ("user:anne", "nope", "repo:1"),
            "relation 'repo#nope' not found",
        ),
        (("user:anne", "owner", "nope:1"), "type 'nope' not found"),
        (("nope:anne", "owner", "repo:1"), "type 'nope' not found"),
        (
            ("team:1#nope", "owner", "repo:1"),
            "relation 'team#nope' not found",
        ),
    ] {
        let message = format!("invalid relation: {reason}");
        node.check(&store, question)
            .await
            .assert_error(400, "validation_error", &message);
        assert_eq!(
            node.rpc("Check", &check_request(&store, question))
                .await
                .status,
            2000
        );
    }
    for question in [
        ("user:anne", "owner", "repo"),
        ("user:anne", "owner", "repo:*"),
        ("team:*#member", "owner", "repo:1"),
    ] {
        let reply = node.check(&store, question).await;
        assert!(
            reply
                .message(400, "validation_error")
                .starts_with("invalid relation: ")
        );
    }
    let other_model = v1::CheckRequest {
        authorization_model_id: NOBODY.into(),
        ..check_request(&store, ("user:anne", "owner", "repo:1"))
    };
    assert_eq!(node.rpc("Check", &other_model).await.status, 2001);
}

#[tokio::test]
async fn too_deep_is_an_error_not_a_denial() {
    let node = Node::start().await;
    let store = node.stairs(30).await;
    assert_eq!(
        node.check(&store, ("user:anne", "r25", "doc:1")).await.body["allowed"],
        true
    );
    node.check(&store, ("user:anne", "r26", "doc:1"))
        .await
        .message(400, "authorization_model_resolution_too_complex");
    let request = check_request(&store, ("user:anne", "r26", "doc:1"));
    assert_eq!(node.rpc("Check", &request).await.status, 2002);
}

#[tokio::test]
async fn teams_in_teams_may_go_on_for_ever() {
    let node = Node::start().await;
    let store = node.store().await;
    let teams: Vec<(String, String)> = (0..90)
        .map(|n| (format!("team:{}#member", n + 1), format!("team:{n}")))
        .collect();
    let mut tuples: Vec<_> = teams
        .iter()
        .map(|(user, object)| (user.as_str(), "member", object.as_str()))
        .collect();
    tuples.push(("user:anne", "member", "team:90"));
    node.write(&store, &tuples).await;
    for (user, allowed) in [("user:anne", true), ("user:nobody", false)] {
        let answer = node.check(&store, (user, "member", "team:0")).await;
        assert_eq!(answer.body["allowed"], allowed, "{user}");
    }
}

#[tokio::test]
async fn work_beyond_the_limit_is_refused_and_long_work_leaves_the_connection() {
    let limits = Limits {
        check_inline_work: 1,
        ..Limits::default()
    };
    let node = Node::with(limits).await;
    let store = node.store().await;
    node.write(
        &store,
        &[
            ("team:core#member", "owner", "repo:1"),
            ("user:anne", "member", "team:core"),
        ],
    )
    .await;
    assert_eq!(
        node.check(&store, ("user:anne", "admin", "repo:1"))
            .await
            .body["allowed"],
        true
    );

    let node = Node::with(Limits {
        check_reads: 1,
        ..Limits::default()
    })
    .await;
    let store = node.store().await;
    node.write(
        &store,
        &[
            ("team:core#member", "owner", "repo:1"),
            ("user:anne", "member", "team:core"),
        ],
    )
    .await;
    node.check(&store, ("user:anne", "admin", "repo:1"))
        .await
        .message(400, "authorization_model_resolution_too_complex");
}

#[tokio::test]
async fn a_check_loads_no_more_tuples_than_it_may() {
    let node = Node::with(Limits {
        check_reads: 10,
        ..Limits::default()
    })
    .await;
    let store = node.store().await;
    let teams: Vec<_> = (0..20).map(|n| format!("team:{n}#member")).collect();
    for (repo, members) in [("repo:few", 3), ("repo:many", 20)] {
        let owners: Vec<_> = teams
            .iter()
            .take(members)
            .map(|team| (team.as_str(), "owner", repo))
            .collect();
        node.write(&store, &owners).await;
    }
    assert_eq!(
        node.check(&store, ("user:anne", "owner", "repo:few"))
            .await
            .body["allowed"],
        false
    );
    node.check(&store, ("user:anne", "owner", "repo:many"))
        .await
        .message(400, "authorization_model_resolution_too_complex");
}

#[tokio::test]
async fn the_latest_model_counts_unless_one_is_named() {
    let node = Node::start().await;
    let store = node.store().await;
    let first = node
        .get(&format!("/stores/{store}/authorization-models"))
        .await
        .body["authorization_models"][0]["id"]
        .clone();
    node.write(&store, &[("user:anne", "owner", "repo:1")])
        .await;
    let mut model = github_model();
    model["type_definitions"][2]["relations"]["writer"] =
        json!({"computedUserset": {"relation": "owner"}});
    assert_eq!(
        node.post(&format!("/stores/{store}/authorization-models"), &model)
            .await
            .status,
        201
    );
    assert_eq!(
        node.check(&store, ("user:anne", "writer", "repo:1"))
            .await
            .body["allowed"],
        true
    );
    let under_first = json!({"authorization_model_id": first, "tuple_key": {"user": "user:anne", "relation": "writer", "object": "repo:1"}});
    let reply = node
        .post(&format!("/stores/{store}/check"), &under_first)
        .await;
    reply.assert_error(
        400,
        "validation_error",
        "invalid relation: relation 'repo#writer' not found",
    );
}
