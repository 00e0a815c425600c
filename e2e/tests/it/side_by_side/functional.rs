//! What OpenFGA's functional tests look at beside single calls: numbers of things, sizes, health, JSON's and queries' forms,
//! and stores that are gone.

use meridian_proto::openfga::v1;
use prost::Message as _;
use serde_json::{Value, json};

use super::talk::tuple;
use super::tuples::MODEL;
use super::{Pair, Talk, call, http, rpc};

const SERVICE: &str = "/openfga.v1.OpenFGAService/";
const ANNE: &str = "document:1#viewer@user:anne";

fn owners(count: usize) -> Vec<Value> {
    let owner = |at: usize| tuple(&format!("document:{at}#owner@user:anne"));
    (0..count).map(owner).collect()
}

#[tokio::test]
async fn side_by_side_numbers() {
    let pair = Pair::start(&[]).await;
    let mut talk = Talk::with_model(&pair, MODEL).await;
    for count in [100, 101] {
        let given = json!({"tuple_keys": owners(count)});
        let question = tuple("document:7#viewer@user:anne");
        let objects = json!({"type": "document", "relation": "owner", "user": "user:anne", "contextual_tuples": given});
        for case in [
            call(
                "Check",
                json!({"tuple_key": question, "contextual_tuples": given}),
            ),
            call(
                "Expand",
                json!({"tuple_key": {"object": "document:7", "relation": "owner"}, "contextual_tuples": given}),
            ),
            call("ListObjects", objects.clone()),
            call("StreamedListObjects", objects),
            call(
                "ListUsers",
                json!({
                    "object": {"type": "document", "id": "7"}, "relation": "owner",
                    "user_filters": [{"type": "user"}], "contextual_tuples": owners(count),
                }),
            ),
            call(
                "BatchCheck",
                json!({"checks": [
                    {"correlation_id": "a", "tuple_key": question, "contextual_tuples": given},
                ]}),
            ),
        ] {
            talk.ask(case).await;
        }
    }
    let twice = json!({"tuple_keys": [tuple(ANNE), tuple(ANNE)]});
    talk.ask(call(
        "Check",
        json!({"tuple_key": tuple(ANNE), "contextual_tuples": twice}),
    ))
    .await;
    let keys = owners(200);
    for (writes, deletes) in [
        (0..101, 0..0),
        (0..0, 0..101),
        (0..60, 100..160),
        (0..100, 0..0),
        (0..0, 0..100),
    ] {
        let mut request = json!({});
        for (part, keys) in [("writes", &keys[writes]), ("deletes", &keys[deletes])] {
            if !keys.is_empty() {
                request[part] = json!({"tuple_keys": keys});
            }
        }
        talk.ask(call("Write", request).grpc_only()).await;
    }
    let assertion = |key: Value| json!({"tuple_key": key, "expectation": true});
    for key in [
        json!({"relation": "viewer", "object": "document:1"}),
        json!({"user": "user:anne", "object": "document:1"}),
        json!({"user": "user:anne", "relation": "viewer"}),
        json!({"user": "", "relation": "", "object": ""}),
        json!({"user": "user:anne", "relation": "a b", "object": "document:1"}),
    ] {
        let request = json!({"authorization_model_id": "{model}", "assertions": [assertion(key)]});
        talk.ask(call("WriteAssertions", request)).await;
    }
    let malformed = json!({"user": "anne", "relation": "viewer", "object": "document:1"});
    let request =
        json!({"authorization_model_id": "{model}", "assertions": [assertion(malformed)]});
    talk.ask(call("WriteAssertions", request).other_words("Error messages"))
        .await;
    talk.ask(call(
        "WriteAssertions",
        json!({"authorization_model_id": "{model}"}),
    ))
    .await;
    talk.end();
}

#[tokio::test]
async fn side_by_side_health_and_methods() {
    let pair = Pair::start(&[]).await;
    let mut talk = Talk::new(&pair);
    let service = |name: &str| {
        let mut message = vec![0x0a, u8::try_from(name.len()).unwrap()];
        message.extend(name.as_bytes());
        message
    };
    let health = "/grpc.health.v1.Health/Check";
    talk.ask(rpc(health, [])).await;
    talk.ask(rpc(health, service("openfga.v1.OpenFGAService")))
        .await;
    for name in ["nothing", "authzen.v1.AuthZenService"] {
        let case = rpc(health, service(name)).about(name);
        talk.ask(case.other_words("Error messages")).await;
    }
    for path in [
        "/openfga.v1.OpenFGAService/Nothing",
        "/openfga.v1.OpenFGAService/",
        "/nothing.v1.Nothing/Check",
        "/nothing",
        "/grpc.health.v1.Health/Nothing",
    ] {
        talk.ask(rpc(path, []).about("not there")).await;
    }
    for method in ["Check", "Write", "StreamedListObjects"] {
        let path = format!("{SERVICE}{method}");
        let malformed = rpc(&path, [0xff, 0xff, 0xff]).about("no message");
        talk.ask(malformed.other_words("Error messages")).await;
        let empty = rpc(&path, []).about("an empty message");
        talk.ask(empty.other("An empty store id", &["grpc 3"]))
            .await;
    }
    talk.end();
}

#[tokio::test]
async fn side_by_side_sizes_and_deadlines() {
    let pair = Pair::start(&[("OPENFGA_GRPC_MAX_RECV_MSG_BYTES", "4096")]).await;
    let mut talk = Talk::with_model(&pair, MODEL).await;
    let check = v1::CheckRequest {
        store_id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".into(),
        ..Default::default()
    };
    // Of a field that nobody knows.
    let sized = |bytes: usize| {
        let mut message = check.encode_to_vec();
        let rest = bytes - message.len() - 4;
        message.extend([0xfa, 0x07]);
        prost::encoding::encode_varint(rest as u64, &mut message);
        message.resize(message.len() + rest, b'x');
        message
    };
    let path = format!("{SERVICE}Check");
    talk.ask(rpc(&path, sized(4096)).about("as large as may be"))
        .await;
    for bytes in [4097, 100_000] {
        let case = rpc(&path, sized(bytes)).about("too large");
        talk.ask(case.other_words("Error messages")).await;
    }
    let key = json!({"tuple_key": tuple(ANNE)});
    for timeout in ["1H", "99999999S", "1M", "20S", "20000m"] {
        let case = call("Check", key.clone()).grpc_only();
        talk.ask(case.header("grpc-timeout", timeout)).await;
    }
    talk.end();
}

#[tokio::test]
async fn side_by_side_forms_of_json_and_queries() {
    let pair = Pair::start(&[]).await;
    let mut talk = Talk::with_model(&pair, MODEL).await;
    talk.write(&["document:1#owner@user:anne", "document:2#owner@user:anne"])
        .await;
    for line in [
        "GET /stores?pageSize=1",
        "GET /stores?page_size=1&nothing=2",
        "GET /stores?name=side-by-side",
        "GET /stores?name=side%2Dby%2Dside",
        "GET /stores?name=side+by",
        "GET /stores/{store}/changes?type=document&page_size=1",
        "GET /stores/{store}/changes?pageSize=1&type=document",
        "GET /stores/{store}/changes?start_time=2020-01-01T00:00:00Z",
        "GET /stores/{store}/changes?startTime=2120-01-01T00:00:00Z",
        "GET /stores/{store}/changes?start_time=2020-01-01T00:00:00.5%2B02:00",
        "GET /stores?continuationToken=nonsense",
        "GET /stores/{store}/authorization-models?page_size=1",
        "GET /stores/{store}/authorization-models?pageSize=1",
    ] {
        talk.ask(http(line)).await;
    }
    let empty = http("GET /stores?page_size=");
    talk.ask(empty.other_words("Malformed JSON, and queries that do not parse"))
        .await;
    let twice = http("GET /stores/{store}/changes?page_size=1&page_size=2");
    talk.ask(twice.other("A query parameter given twice", &["200"]))
        .await;
    for (path, body) in [
        ("read", r#"{"page_size": "1"}"#),
        ("read", r#"{"page_size": 1.0}"#),
        ("read", r#"{"page_size": 1e0}"#),
        ("read", r#"{"page_size": 1.5}"#),
        ("read", r#"{"page_size": "x"}"#),
        ("read", r#"{"page_size": null}"#),
        ("read", r#"{"page_size": 2147483648}"#),
        ("read", r#"{"pageSize": 1}"#),
        ("read", r#"{"pageSize": 1, "page_size": 2}"#),
        (
            "read",
            r#"{"page_size": 1, "tupleKey": {"object": "document:1"}}"#,
        ),
        (
            "check",
            r#"{"tuple_key": {"user": "user:anne", "relation": "owner", "object": "document:1"}, "contextualTuples": {"tupleKeys": []}}"#,
        ),
        (
            "check",
            r#"{"tuple_key": {"user": "user:anne", "relation": "owner", "object": "document:1"}, "trace": true}"#,
        ),
        (
            "check",
            r#"{"tuple_key": {"user": "user:anne", "relation": "owner", "object": "document:1"}, "trace": null, "context": null, "consistency": null}"#,
        ),
        (
            "check",
            r#"{"tuple_key": {"user": "user:anne", "relation": "owner", "object": "document:1"}, "trace": "true"}"#,
        ),
        (
            "check",
            r#"{"tuple_key": {"user": "user:anne", "relation": "owner", "object": "document:1"}, "context": {"a": [1, null, {"b": "c"}]}}"#,
        ),
        (
            "check",
            r#"{"tuple_key": {"user": "\u0075ser:anne", "relation": "owner", "object": "document:1"}}"#,
        ),
        (
            "list-objects",
            r#"{"type": "document", "relation": "owner", "user": "user:anne", "authorizationModelId": "{model}"}"#,
        ),
        (
            "list-users",
            r#"{"object": {"type": "document", "id": "1"}, "relation": "owner", "userFilters": [{"type": "user"}]}"#,
        ),
        (
            "list-users",
            r#"{"object": "document:1", "relation": "owner", "user_filters": [{"type": "user"}]}"#,
        ),
        (
            "expand",
            r#"{"tuple_key": {"object": "document:1", "relation": "owner", "user": "user:anne"}}"#,
        ),
        (
            "batch-check",
            r#"{"checks": [{"correlationId": "a", "tupleKey": {"user": "user:anne", "relation": "owner", "object": "document:1"}}]}"#,
        ),
        (
            "write",
            r#"{"writes": {"tuple_keys": [{"user": "user:zoe", "relation": "owner", "object": "document:1"}], "onDuplicate": "ignore"}}"#,
        ),
        (
            "write",
            r#"{"writes": {"tupleKeys": [{"user": "user:zoe", "relation": "owner", "object": "document:1"}], "on_duplicate": "ignore"}}"#,
        ),
        (
            "write",
            r#"{"writes": [{"user": "user:zoe", "relation": "owner", "object": "document:1"}]}"#,
        ),
        (
            "write",
            r#"{"writes": {"tuple_keys": {"user": "user:zoe", "relation": "owner", "object": "document:1"}}}"#,
        ),
    ] {
        let line = format!("POST /stores/{{store}}/{path}");
        let case = http(&line).header("content-type", "application/json");
        talk.ask(case.body(body)).await;
    }
    talk.end();
}

#[tokio::test]
async fn side_by_side_stores_that_are_gone() {
    let pair = Pair::start(&[]).await;
    let mut talk = Talk::with_model(&pair, MODEL).await;
    talk.write(&["document:1#owner@user:anne"]).await;
    talk.ask(call("DeleteStore", json!({})).grpc_only()).await;
    talk.ask(call("GetStore", json!({}))).await;
    talk.ask(call("ListStores", json!({}))).await;
    let gone: &[_] = &["grpc 2020", "400 latest_authorization_model_not_found"];
    let unknown: &[_] = &["grpc 2001", "400 authorization_model_not_found"];
    let empty: &[_] = &["grpc 0", "200"];
    let reader = json!({"object": {"type": "document", "id": "1"}, "relation": "owner", "user_filters": [{"type": "user"}]});
    let objects = json!({"type": "document", "relation": "owner", "user": "user:anne"});
    for (method, request, ours) in [
        (
            "Check",
            json!({"tuple_key": tuple("document:1#owner@user:anne")}),
            gone,
        ),
        ("ListObjects", objects, gone),
        ("ListUsers", reader, gone),
        (
            "Expand",
            json!({"tuple_key": {"object": "document:1", "relation": "owner"}}),
            gone,
        ),
        (
            "Write",
            json!({"writes": {"tuple_keys": [tuple("document:2#owner@user:anne")]}}),
            gone,
        ),
        ("Read", json!({}), empty),
        ("ReadChanges", json!({}), empty),
        ("ReadAuthorizationModels", json!({}), empty),
        ("ReadAuthorizationModel", json!({"id": "{model}"}), unknown),
        (
            "ReadAssertions",
            json!({"authorization_model_id": "{model}"}),
            unknown,
        ),
    ] {
        talk.ask(call(method, request).other("A deleted store", ours))
            .await;
    }
    talk.end();
}
