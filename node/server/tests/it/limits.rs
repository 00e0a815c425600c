//! Limits that are set, as callers meet them.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use meridian_server::limits::Limits;
use serde_json::{Value, json};

use crate::harness::Node;

/// A model in which documents have viewers under conditions that tuples bring themselves.
fn inline_model() -> Value {
    json!({
        "schema_version": "1.1",
        "type_definitions": [
            {"type": "user"},
            {
                "type": "doc",
                "relations": {"viewer": {"this": {}}},
                "metadata": {"relations": {"viewer": {"directly_related_user_types": [
                    {"type": "user"}, {"type": "user", "condition": "$expression"}
                ]}}}
            }
        ]
    })
}

fn inline_tuple() -> Value {
    json!({"writes": {"tuple_keys": [{
        "user": "user:anne", "relation": "viewer", "object": "doc:1",
        "condition": {"name": "$expression", "context": {"expression": "true"}}
    }]}})
}

#[tokio::test]
async fn inline_expressions_need_their_flag() {
    let refusal = "$expression requires the \"inline_expressions\" experimental feature flag";
    let node = Node::start().await;
    let store = node.store().await;
    let model = format!("/stores/{store}/authorization-models");
    let write = format!("/stores/{store}/write");
    for (path, body) in [(&model, inline_model()), (&write, inline_tuple())] {
        node.post(path, &body)
            .await
            .assert_error(400, "validation_error", refusal);
    }
    let node = Node::with(Limits {
        inline_expressions: true,
        ..Limits::default()
    })
    .await;
    let store = node.store().await;
    let model = format!("/stores/{store}/authorization-models");
    assert_eq!(node.post(&model, &inline_model()).await.status, 201);
    let write = format!("/stores/{store}/write");
    assert_eq!(node.post(&write, &inline_tuple()).await.status, 200);
}

#[tokio::test]
async fn pages_of_changes_have_a_limit_of_their_own() {
    let node = Node::with(Limits {
        read_changes_page_size: 2,
        ..Limits::default()
    })
    .await;
    let store = node.store().await;
    for repo in ["repo:1", "repo:2", "repo:3"] {
        node.write(&store, &[("user:anne", "owner", repo)]).await;
    }
    let ask = async |query: &str| node.get(&format!("/stores/{store}/changes{query}")).await;
    ask("?page_size=3").await.assert_error(
        400,
        "page_size_invalid",
        "invalid ReadChangesRequest.PageSize: value must be inside range [1, 2]",
    );
    ask("?page_size=0").await.assert_error(
        400,
        "validation_error",
        "invalid ReadChangesRequest.PageSize: value must be greater than or equal to 1",
    );
    let page = ask("").await;
    assert_eq!(page.body["changes"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn changes_show_when_they_are_old_enough() {
    let node = Node::with(Limits {
        changelog_horizon: Duration::from_secs(3600),
        ..Limits::default()
    })
    .await;
    let store = node.store().await;
    node.write(&store, &[("user:anne", "owner", "repo:1")])
        .await;
    let page = node.get(&format!("/stores/{store}/changes")).await;
    assert_eq!(page.body, json!({"changes": [], "continuation_token": ""}));
}

#[tokio::test]
async fn an_evaluation_goes_as_deep_as_it_may() {
    let asked = async |resolve_node_limit: u32| {
        let node = Node::with(Limits {
            resolve_node_limit,
            ..Limits::default()
        })
        .await;
        let store = node.stairs(3).await;
        node.check(&store, ("user:anne", "r3", "doc:1")).await
    };
    let reply = asked(2).await;
    reply.message(400, "authorization_model_resolution_too_complex");
    assert_eq!(asked(3).await.body["allowed"], json!(true));
}

#[tokio::test]
async fn lists_of_objects_and_of_users_have_limits_of_their_own() {
    let node = Node::with(Limits {
        list_objects_results: 1,
        list_users_results: 2,
        ..Limits::default()
    })
    .await;
    let store = node.store().await;
    for repo in ["repo:1", "repo:2", "repo:3"] {
        for user in ["user:anne", "user:bob", "user:carl"] {
            node.write(&store, &[(user, "owner", repo)]).await;
        }
    }
    let list = async |path: &str, body: Value| {
        let body = Bytes::from(body.to_string());
        let path = format!("/stores/{store}/{path}");
        node.send(Method::POST, &path, &[], body).await.body
    };
    let objects = json!({"type": "repo", "relation": "owner", "user": "user:anne"});
    let objects = list("list-objects", objects).await;
    assert_eq!(objects["objects"].as_array().unwrap().len(), 1);
    let users = json!({
        "object": {"type": "repo", "id": "1"}, "relation": "owner", "user_filters": [{"type": "user"}]
    });
    let users = list("list-users", users).await;
    assert_eq!(users["users"].as_array().unwrap().len(), 2);
}

/// Documents seen by groups under a condition that costs much.
fn costly_model() -> Value {
    json!({
        "schema_version": "1.1",
        "type_definitions": [
            {"type": "user"},
            {
                "type": "group",
                "relations": {"member": {"this": {}}},
                "metadata": {"relations": {"member": {"directly_related_user_types": [{"type": "user"}]}}}
            },
            {
                "type": "doc",
                "relations": {"viewer": {"this": {}}},
                "metadata": {"relations": {"viewer": {"directly_related_user_types": [
                    {"type": "user"}, {"type": "group", "relation": "member", "condition": "costly"}
                ]}}}
            }
        ],
        "conditions": {"costly": {
            "name": "costly",
            "expression": "words.exists(word, word == 'x')",
            "parameters": {"words": {"type_name": "TYPE_NAME_LIST", "generic_types": [{"type_name": "TYPE_NAME_STRING"}]}}
        }}
    })
}

#[tokio::test]
async fn a_check_of_many_costly_conditions_ends_when_its_work_is_used_up() {
    let node = Node::with(Limits {
        check_inline_work: 1_000,
        check_work: 5_000,
        ..Limits::default()
    })
    .await;
    let store = node.store().await;
    let model = format!("/stores/{store}/authorization-models");
    let written = node.post(&model, &costly_model()).await;
    assert_eq!(written.status, 201, "{}", written.body);
    let bound = |at: usize| {
        json!({
            "user": format!("group:{at}#member"), "relation": "viewer", "object": "doc:1",
            "condition": {"name": "costly"},
        })
    };
    let tuples: Vec<_> = (0..100).map(bound).collect();
    let written = node
        .post(
            &format!("/stores/{store}/write"),
            &json!({"writes": {"tuple_keys": tuples}}),
        )
        .await;
    assert_eq!(written.status, 200, "{}", written.body);
    let question = json!({"user": "user:anne", "relation": "viewer", "object": "doc:1"});
    let words = |count: usize| json!({"words": vec!["a"; count]});
    let check = format!("/stores/{store}/check");
    let cheap = json!({"tuple_key": question, "context": words(1)});
    assert_eq!(node.post(&check, &cheap).await.body["allowed"], false);
    let costly = json!({"tuple_key": question, "context": words(12)});
    let refused = node.post(&check, &costly).await;
    let code = "authorization_model_resolution_too_complex";
    let message = refused.message(400, code).to_owned();
    let checks = json!({"checks": [
        {"correlation_id": "cheap", "tuple_key": question, "context": words(1)},
        {"correlation_id": "costly", "tuple_key": question, "context": words(12)},
    ]});
    let path = format!("/stores/{store}/batch-check");
    let batch = node.post(&path, &checks).await;
    let expected = json!({"result": {
        "cheap": {"allowed": false},
        "costly": {"error": {"input_error": code, "message": message}},
    }});
    assert_eq!(batch.body, expected);
}
