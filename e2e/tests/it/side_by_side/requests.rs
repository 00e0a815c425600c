//! Paths, methods, content types, and JSON that is malformed.

use super::{Pair, Talk, http};

const EMPTY_PART: &str = "A path with an empty part (`/stores/`)";

#[tokio::test]
async fn side_by_side_paths_and_methods() {
    let pair = Pair::start(&[]).await;
    let mut talk = Talk::with_model(&pair, super::tuples::MODEL).await;
    for line in [
        "GET /healthz",
        "POST /healthz",
        "GET /healthz/",
        "GET /",
        "GET /nothing",
        "PUT /stores",
        "DELETE /stores",
        "POST /stores/{store}",
        "GET /stores/{store}/nothing",
        "GET /stores/{store}/check",
        "POST /stores/{store}/check/",
        "POST /Stores",
        "DELETE /stores/{store}/authorization-models/{model}",
        "POST /stores/{store}/changes",
        "POST /stores/{store}/assertions/{model}",
        "GET /stores/{store}?page_size=1",
        "GET /stores/%7B%7D",
    ] {
        talk.ask(http(line)).await;
    }
    let nowhere: &[_] = &["404 undefined_endpoint"];
    let invalid: &[_] = &["400 validation_error"];
    for (line, reason, ours) in [
        (
            "HEAD /healthz",
            "HEAD, and a method that a path does not take",
            &["200"][..],
        ),
        ("GET /stores/", EMPTY_PART, nowhere),
        (
            "GET /stores/{store}/authorization-models/",
            EMPTY_PART,
            nowhere,
        ),
        ("POST /stores//check", "An empty store id", invalid),
        ("GET /stores/a%2Fb", "A path with `%2F` in a part", invalid),
    ] {
        talk.ask(http(line).other(reason, ours)).await;
    }
    let check = || http("POST /stores/{store}/check").header("content-type", "application/json");
    for body in [
        "",
        "{}",
        "[]",
        "null",
        "1",
        "\"a\"",
        "{",
        "{\"tuple_key\":",
        "{\"tuple_key\": 1}",
        "{\"tuple_key\": []}",
        "{\"tuple_key\": {\"user\": 1}}",
        "{\"tuple_key\": {\"user\": null, \"relation\": \"viewer\", \"object\": \"document:1\"}}",
        "{\"tuple_key\": null}",
        "{\"nothing\": 1, \"tuple_key\": {\"user\": \"user:a\", \"relation\": \"viewer\", \"object\": \"document:1\", \"x\": {}}}",
        "{\"tupleKey\": {\"user\": \"user:a\", \"relation\": \"viewer\", \"object\": \"document:1\"}}",
        "{\"tuple_key\": {\"user\": \"user:a\", \"user\": \"user:b\", \"relation\": \"viewer\", \"object\": \"document:1\"}}",
        "{\"trace\": \"yes\", \"tuple_key\": {\"user\": \"user:a\", \"relation\": \"viewer\", \"object\": \"document:1\"}}",
        "{\"consistency\": \"NOTHING\", \"tuple_key\": {\"user\": \"user:a\", \"relation\": \"viewer\", \"object\": \"document:1\"}}",
        "{\"consistency\": 100, \"tuple_key\": {\"user\": \"user:a\", \"relation\": \"viewer\", \"object\": \"document:1\"}}",
        "{\"consistency\": 7, \"tuple_key\": {\"user\": \"user:a\", \"relation\": \"viewer\", \"object\": \"document:1\"}}",
        "{\"context\": [], \"tuple_key\": {\"user\": \"user:a\", \"relation\": \"viewer\", \"object\": \"document:1\"}}",
        "{\"store_id\": \"abc\", \"tuple_key\": {\"user\": \"user:a\", \"relation\": \"viewer\", \"object\": \"document:1\"}}",
        "\u{feff}{}",
        "{\"tuple_key\": {\"user\": \"user:\\ud800\", \"relation\": \"viewer\", \"object\": \"document:1\"}}",
    ] {
        talk.ask(check().body(body)).await;
    }
    let trailing = "{\"tuple_key\": {\"user\": \"user:a\", \"relation\": \"viewer\", \"object\": \"document:1\"}} trailing";
    let trailing = check().body(trailing);
    talk.ask(trailing.other("Something after the JSON of a body", invalid))
        .await;
    talk.ask(check().body(b"\xff\xfe".as_slice())).await;
    let body = "{\"tuple_key\": {\"user\": \"user:a\", \"relation\": \"viewer\", \"object\": \"document:1\"}}";
    for kind in [
        "text/plain",
        "application/xml",
        "application/json; charset=utf-8",
        "application/x-www-form-urlencoded",
        "",
    ] {
        talk.ask(
            http("POST /stores/{store}/check")
                .header("content-type", kind)
                .body(body),
        )
        .await;
    }
    talk.ask(http("POST /stores/{store}/check").body(body))
        .await;
    for accept in ["application/json", "text/html", "*/*"] {
        talk.ask(check().header("accept", accept).body(body)).await;
    }
    talk.ask(check().header("accept-encoding", "gzip").body(body))
        .await;
    talk.end();
}
