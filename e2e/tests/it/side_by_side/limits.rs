//! Limits that are set under OpenFGA's names, and shared keys.

use serde_json::json;

use super::talk::tuple;
use super::tuples::MODEL;
use super::{Pair, Talk, call, http};

#[tokio::test]
async fn side_by_side_limits() {
    let pair = Pair::start(&[
        ("OPENFGA_MAX_TUPLES_PER_WRITE", "2"),
        ("OPENFGA_MAX_CHECKS_PER_BATCH_CHECK", "2"),
        ("OPENFGA_MAX_TYPES_PER_AUTHORIZATION_MODEL", "4"),
        ("OPENFGA_LIST_OBJECTS_MAX_RESULTS", "3"),
        ("OPENFGA_LIST_USERS_MAX_RESULTS", "3"),
        ("OPENFGA_RESOLVE_NODE_LIMIT", "4"),
        ("OPENFGA_READ_CHANGES_MAX_PAGE_SIZE", "5"),
    ])
    .await;
    let mut talk = Talk::with_model(&pair, MODEL).await;
    let keys = |count: usize| {
        let keys = (0..count).map(|at| tuple(&format!("document:{at}#owner@user:anne")));
        keys.collect::<Vec<_>>()
    };
    for count in [2, 3] {
        talk.ask(call("Write", json!({"writes": {"tuple_keys": keys(count)}})).grpc_only())
            .await;
    }
    talk.ask(call("Write", json!({"writes": {"tuple_keys": keys(2)}, "deletes": {"tuple_keys": [tuple("document:9#owner@user:anne")]}})))
        .await;
    talk.write(&["folder:2#parent@folder:1", "folder:3#parent@folder:2"])
        .await;
    talk.write(&["folder:4#parent@folder:3", "folder:5#parent@folder:4"])
        .await;
    talk.write(&["folder:6#parent@folder:5", "folder:1#viewer@user:anne"])
        .await;
    for depth in 1..=6 {
        let key = tuple(&format!("folder:{depth}#viewer@user:anne"));
        let check = call("Check", json!({"tuple_key": key}));
        talk.ask(match depth {
            ..=4 => check,
            _ => check.other("Chains beyond the depth limit", &["grpc 0", "200"]),
        })
        .await;
    }
    for count in [2, 3] {
        let checks: Vec<_> = keys(count)
            .into_iter()
            .enumerate()
            .map(|(at, key)| json!({"correlation_id": at.to_string(), "tuple_key": key}))
            .collect();
        talk.ask(call("BatchCheck", json!({"checks": checks})))
            .await;
    }
    for count in [4, 5] {
        let types: Vec<_> = (0..count)
            .map(|at| json!({"type": format!("t{at}")}))
            .collect();
        let model = json!({"schema_version": "1.1", "type_definitions": types});
        talk.ask(call("WriteAuthorizationModel", model)).await;
    }
    for size in [5, 6] {
        talk.ask(call("ReadChanges", json!({"page_size": size})))
            .await;
    }
    talk.end();
}

#[tokio::test]
async fn side_by_side_shared_keys() {
    let pair = Pair::start(&[
        ("OPENFGA_AUTHN_METHOD", "preshared"),
        ("OPENFGA_AUTHN_PRESHARED_KEYS", "first,second"),
    ])
    .await;
    let mut talk = Talk::new(&pair);
    let list = || call("ListStores", json!({}));
    for value in [
        "Bearer first",
        "Bearer second",
        "bearer first",
        "Bearer third",
        "Bearer ",
        "Bearer",
        "Bearer firs",
        "Bearer first second",
        "Basic first",
        "first",
        "",
    ] {
        talk.ask(list().header("authorization", value)).await;
    }
    talk.ask(list()).await;
    let make = call("CreateStore", json!({"name": "keys"})).header("authorization", "Bearer first");
    talk.ask(make.grpc_only().save("store", "/id")).await;
    let nobody = call("GetStore", json!({}));
    talk.ask(nobody.other(
        "`openfga-store-id` where the caller is not known",
        &["grpc 1010", "401 bearer_token_missing"],
    ))
    .await;
    talk.ask(call("GetStore", json!({})).header("authorization", "Bearer second"))
        .await;
    for line in ["GET /healthz", "GET /stores", "GET /nothing"] {
        talk.ask(http(line)).await;
    }
    talk.end();
}
