//! `POST /stores/{id}/live/publish` of a real node without Kafka: what is refused, and by which name, before anything is written.

use bytes::Bytes;
use http::Method;
use meridian_server::config::Config;
use meridian_server::roles::{self, Node};
use serde_json::{Value, json};

use crate::harness::{JsonReply, NOBODY, alone, send};

async fn central(set: impl FnOnce(&mut Config)) -> Node {
    let mut config = alone();
    config.live.enabled = true;
    set(&mut config);
    let node = roles::central(&config).await.unwrap();
    node.ready().await;
    node
}

async fn publish(node: &Node, store: &str, body: impl Into<Bytes>) -> JsonReply {
    let path = format!("/stores/{store}/live/publish");
    send(node.http, Method::POST, &path, &[], body.into()).await
}

fn record(object: &str, data: &Value) -> Value {
    json!({"object": object, "data": data})
}

fn records(records: &[Value]) -> String {
    json!({ "records": records }).to_string()
}

#[tokio::test]
async fn what_cannot_be_a_record_is_named_with_its_remedy() {
    let node = central(|config| config.limits.request_bytes = 400_000).await;
    let good = record("event:42", &json!({"n": 1}));
    let with_objects = |objects: Value| {
        let mut record = good.clone();
        record["objects"] = objects;
        records(&[good.clone(), record])
    };
    let many: Vec<_> = (0..17).map(|n| format!("stage:{n}")).collect();
    let large = json!("x".repeat(256 * 1024 - 1));
    for (store, body, told) in [
        ("x", records(std::slice::from_ref(&good)), "store_id 'x' "),
        (NOBODY, String::new(), "malformed JSON: EOF"),
        (NOBODY, "{".to_owned(), "malformed JSON: EOF"),
        (NOBODY, "[]".to_owned(), "malformed JSON: "),
        (
            NOBODY,
            json!({"record": []}).to_string(),
            "unknown field `record`",
        ),
        (NOBODY, "{}".to_owned(), "missing field `records`"),
        (
            NOBODY,
            records(&[json!({"object": "event:42", "data": 1, "object_s": ["stage:a"]})]),
            "unknown field `object_s`",
        ),
        (
            NOBODY,
            records(&[json!({"object": "event:42"})]),
            "missing field `data`",
        ),
        (
            NOBODY,
            records(&[json!({"data": 1})]),
            "missing field `object`",
        ),
        (
            NOBODY,
            records(&[]),
            "records: send 1 to 1000 of them, not 0",
        ),
        (
            NOBODY,
            records(&vec![good.clone(); 1001]),
            "records: send 1 to 1000 of them, not 1001",
        ),
        (
            NOBODY,
            records(&[good.clone(), record("event", &json!(1))]),
            "records[1]: 'event' is no object: write type:id",
        ),
        (
            NOBODY,
            with_objects(json!(["organization"])),
            "records[1]: 'organization' is no object",
        ),
        (
            NOBODY,
            with_objects(json!(["organization:1", "stage:a,b"])),
            "records[1]: objects: an id with a comma cannot be told apart",
        ),
        (NOBODY, with_objects(json!(many)), "records[1]: "),
        (
            NOBODY,
            records(&[record("event:42", &large)]),
            "records[0]: data is larger than 262144 bytes",
        ),
    ] {
        let reply = publish(&node, store, body).await;
        let message = reply.message(400, "validation_error");
        assert!(message.contains(told), "{told}: {message}");
    }
    let reply = publish(&node, NOBODY, vec![b' '; 400_001]).await;
    let message = reply.message(429, "resource_exhausted");
    assert!(
        message.contains("larger than 400000 bytes (limits.requestBytes)"),
        "{message}"
    );
    node.stop().await;
}

#[tokio::test]
async fn records_of_a_store_that_does_not_exist_are_refused() {
    let node = central(|_| ()).await;
    let named = Bytes::from_static(br#"{"name": "race"}"#);
    let made = send(node.http, Method::POST, "/stores", &[], named).await;
    let store = made.body["id"].as_str().unwrap();
    // As many as a request may have, each as large as it may be together.
    let data = json!("x".repeat(400));
    let most = records(&vec![record("event:42", &data); 1000]);
    let refused = publish(&node, NOBODY, most.clone()).await;
    refused.assert_error(404, "store_id_not_found", "Store ID not found");
    // Here nobody takes them.
    let taken = publish(&node, store, most).await;
    let message = taken.message(503, "unavailable");
    assert!(message.contains("Kafka takes no records now"), "{message}");
    node.stop().await;
}

/// Who decides by other means need not know the store.
#[tokio::test]
async fn where_somebody_else_decides_any_store_may_be_one() {
    let node = central(|config| {
        config.live.store = Some(NOBODY.into());
        config.live.authority_url = Some("http://127.0.0.1:9/{object}".into());
    })
    .await;
    let body = records(&[record("event:42", &json!(1))]);
    let reply = publish(&node, NOBODY, body).await;
    reply.message(503, "unavailable");
    node.stop().await;
}
