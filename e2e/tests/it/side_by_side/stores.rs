//! Stores: made, found, listed and deleted.

use serde_json::json;

use super::{Pair, Talk, call, http};

const NEVER_GIVEN: &str =
    "Continuation tokens that ListStores and ReadAuthorizationModels never gave";
const NOWHERE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

#[tokio::test]
async fn side_by_side_stores() {
    let pair = Pair::start(&[]).await;
    let mut talk = Talk::new(&pair);
    talk.ask(call("ListStores", json!({}))).await;
    let made = call("CreateStore", json!({"name": "acme"}));
    talk.ask(made.save("store", "/id")).await;
    talk.ask(call("CreateStore", json!({}))).await;
    for name in [
        "",
        "a",
        "ab",
        "$openfga",
        "a?b",
        "abc\n",
        "ünï",
        "a b.c-d/e^f_g&h@i",
        &"x".repeat(64),
        &"x".repeat(65),
    ] {
        talk.ask(call("CreateStore", json!({"name": name}))).await;
    }
    talk.ask(call("GetStore", json!({}))).await;
    for id in [NOWHERE, "abc", "01arz3ndektsv4rrffq69g5fav"] {
        talk.ask(call("GetStore", json!({"store_id": id}))).await;
    }
    let empty = call("GetStore", json!({"store_id": ""})).grpc_only();
    talk.ask(empty.other("An empty store id", &["grpc 3"]))
        .await;
    let update = call("UpdateStore", json!({"name": "other"}));
    talk.ask(update.other("UpdateStore", &["grpc 12", "404 unimplemented"]))
        .await;
    talk.end();
}

#[tokio::test]
async fn side_by_side_listing_stores() {
    let pair = Pair::start(&[]).await;
    let mut talk = Talk::new(&pair);
    for name in ["openfga-demo", "openfga-test", "openfga-demo", "third"] {
        talk.ask(
            call("CreateStore", json!({"name": name}))
                .grpc_only()
                .save(name, "/id"),
        )
        .await;
    }
    let first = call("ListStores", json!({"page_size": 1}));
    talk.ask(first.save("token", "/continuation_token")).await;
    talk.ask(call(
        "ListStores",
        json!({"page_size": 2, "continuation_token": "{token}"}),
    ))
    .await;
    talk.ask(call(
        "ListStores",
        json!({"page_size": 3, "continuation_token": "{token}"}),
    ))
    .await;
    for size in [0, -1, 100, 101] {
        talk.ask(call("ListStores", json!({"page_size": size})))
            .await;
    }
    let odd = call("ListStores", json!({"page_size": "x"})).http_only();
    talk.ask(odd.other_words("Malformed JSON, and queries that do not parse"))
        .await;
    for name in ["openfga-demo", "third", "none", "OpenFGA-demo", ""] {
        talk.ask(call("ListStores", json!({"name": name}))).await;
    }
    let named = json!({"name": "openfga-demo", "page_size": 1});
    talk.ask(call("ListStores", named).save("token", "/continuation_token"))
        .await;
    talk.ask(call(
        "ListStores",
        json!({"name": "openfga-demo", "continuation_token": "{token}"}),
    ))
    .await;
    for token in ["a b", "==="] {
        talk.ask(call("ListStores", json!({"continuation_token": token})))
            .await;
    }
    for token in ["nonsense", "bm9uc2Vuc2U="] {
        let case = call("ListStores", json!({"continuation_token": token}));
        talk.ask(case.other(
            NEVER_GIVEN,
            &["grpc 2007", "400 invalid_continuation_token"],
        ))
        .await;
    }
    talk.end();
}

#[tokio::test]
async fn side_by_side_deleting_stores() {
    let pair = Pair::start(&[]).await;
    let mut talk = Talk::new(&pair);
    for _ in 0..2 {
        talk.new_store().await;
        talk.ask(call("DeleteStore", json!({})).http_only()).await;
        talk.ask(call("DeleteStore", json!({}))).await;
        talk.ask(call("GetStore", json!({}))).await;
    }
    talk.ask(call("DeleteStore", json!({"store_id": NOWHERE})))
        .await;
    talk.ask(call("DeleteStore", json!({"store_id": "abc"})))
        .await;
    talk.ask(call("ListStores", json!({}))).await;
    talk.end();
}

#[tokio::test]
async fn side_by_side_paths_and_methods_of_stores() {
    let pair = Pair::start(&[]).await;
    let mut talk = Talk::new(&pair);
    talk.new_store().await;
    for line in [
        "GET /healthz",
        "POST /healthz",
        "GET /nothing",
        "PUT /stores",
        "POST /stores/{store}",
        "GET /stores/{store}/nothing",
    ] {
        talk.ask(http(line)).await;
    }
    let form = http("POST /stores").header("content-type", "application/x-www-form-urlencoded");
    talk.ask(form.body("{\"name\": \"acme\"}")).await;
    let slash = http("GET /stores/");
    talk.ask(slash.other(
        "A path with an empty part (`/stores/`)",
        &["404 undefined_endpoint"],
    ))
    .await;
    talk.end();
}
