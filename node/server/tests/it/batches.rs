//! Batches of which a check fails: the others are answered all the same.

use http::Method;
use meridian_server::limits::Limits;
use serde_json::{Value, json};

use crate::harness::{Node, raw};

const TEAMS: usize = 30;

/// Repositories of so many teams that a check on them reads more than it may, and one that anne owns.
async fn node(crowded: &[&str]) -> (Node, String) {
    let node = Node::with(Limits {
        check_reads: TEAMS - 10,
        ..Limits::default()
    })
    .await;
    let store = node.store().await;
    let teams: Vec<_> = (0..TEAMS).map(|at| format!("team:{at}#member")).collect();
    for repo in crowded {
        let owners: Vec<_> = teams.iter().map(|team| (&**team, "owner", *repo)).collect();
        assert_eq!(node.write(&store, &owners).await.status, 200);
    }
    node.write(&store, &[("user:anne", "owner", "repo:small")])
        .await;
    (node, store)
}

fn checks(repos: &[&str]) -> Value {
    let check = |repo: &&str| {
        json!({
            "correlation_id": repo.trim_start_matches("repo:"),
            "tuple_key": {"user": "user:anne", "relation": "owner", "object": repo},
        })
    };
    json!({"checks": repos.iter().map(check).collect::<Vec<_>>()})
}

fn too_complex() -> Value {
    json!({
        "input_error": "authorization_model_resolution_too_complex",
        "message": "Authorization Model resolution required too many rewrite rules to be resolved. \
                    Check your authorization model for infinite recursion or too much nesting",
    })
}

#[tokio::test]
async fn a_check_that_reads_too_much_fails_alone() {
    // One of them is found out at once; of many, each only when it is decided by itself.
    for crowded in [
        &["repo:a"][..],
        &["repo:a", "repo:b", "repo:c", "repo:d", "repo:e", "repo:f"],
    ] {
        let (node, store) = node(crowded).await;
        let repos = [crowded, &["repo:small", "repo:other"]].concat();
        let path = format!("/stores/{store}/batch-check");
        let answer = node.post(&path, &checks(&repos)).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let result = &answer.body["result"];
        assert_eq!(result["small"], json!({"allowed": true}));
        assert_eq!(result["other"], json!({"allowed": false}));
        for repo in crowded {
            let id = repo.trim_start_matches("repo:");
            assert_eq!(result[id]["error"], too_complex(), "{repo}");
        }
        assert_eq!(result.as_object().unwrap().len(), repos.len());
    }
}

#[tokio::test]
async fn a_check_that_reads_too_much_fails_alone_in_a_stream() {
    let (node, store) = node(&["repo:a"]).await;
    let path = format!("/stores/{store}/streamed-batch-check");
    let body = checks(&["repo:a", "repo:small"]).to_string().into();
    let (status, _, lines) = raw(node.http, Method::POST, &path, &[], body).await;
    assert_eq!(status, 200);
    let lines = std::str::from_utf8(&lines).unwrap().lines();
    let mut results: Vec<Value> = lines
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["result"].take())
        .collect();
    results.sort_by_key(|result| result["correlation_id"].to_string());
    let expected = [
        json!({"correlation_id": "a", "result": {"error": too_complex()}}),
        json!({"correlation_id": "small", "result": {"allowed": true}}),
    ];
    assert_eq!(results, expected);
}
