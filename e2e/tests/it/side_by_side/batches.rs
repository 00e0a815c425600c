//! BatchCheck and assertions.

use serde_json::{Value, json};

use super::talk::tuple;
use super::tuples::MODEL;
use super::{Pair, Talk, call};

const NOWHERE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

fn check(id: &str, question: &str) -> Value {
    json!({"correlation_id": id, "tuple_key": tuple(question)})
}

#[tokio::test]
async fn side_by_side_batches() {
    let pair = Pair::start(&[]).await;
    let mut talk = Talk::with_model(&pair, MODEL).await;
    talk.write(&["document:1#owner@user:anne", "document:2#viewer@user:*"])
        .await;
    let anne = "document:1#viewer@user:anne";
    let many: Vec<_> = (0..51).map(|at| check(&at.to_string(), anne)).collect();
    let mut given = check("a", "document:9#viewer@user:anne");
    given["contextual_tuples"] = json!({"tuple_keys": [tuple("document:9#owner@user:anne")]});
    let mut wrong = check("a", anne);
    wrong["contextual_tuples"] = json!({"tuple_keys": [tuple("document:9#reader@user:anne")]});
    for checks in [
        json!([]),
        json!([check("a", anne), check("b", "document:1#viewer@user:bob")]),
        json!([
            check("a", anne),
            check("b", anne),
            check("c", "document:2#reader@user:zoe")
        ]),
        json!([check("a", anne), check("a", "document:1#viewer@user:bob")]),
        json!([check("", anne)]),
        json!([check("a b", anne)]),
        json!([check(&"x".repeat(36), anne)]),
        json!([check(&"x".repeat(37), anne)]),
        json!([check("a", "nothing:1#viewer@user:anne"), check("b", anne)]),
        json!([check("a", "document:1#nothing@user:anne"), check("b", anne)]),
        json!([check("a", "document:1#viewer@nothing:anne")]),
        json!([{"correlation_id": "a"}]),
        json!([{"tuple_key": tuple(anne)}]),
        json!([given]),
        json!(many[..50]),
        json!(many),
    ] {
        talk.ask(call("BatchCheck", json!({"checks": checks})))
            .await;
    }
    let beside = |odd: Value| call("BatchCheck", json!({"checks": [odd, check("c", anne)]}));
    talk.ask(beside(wrong)).await;
    let malformed = beside(check("b", "document:1#viewer@anne"));
    talk.ask(malformed.other_words("Error messages")).await;
    for (field, value) in [
        ("authorization_model_id", NOWHERE),
        ("authorization_model_id", "abc"),
        ("store_id", NOWHERE),
        ("store_id", "abc"),
        ("consistency", "HIGHER_CONSISTENCY"),
    ] {
        let mut request = json!({"checks": [check("a", anne)]});
        request[field] = json!(value);
        talk.ask(call("BatchCheck", request)).await;
    }
    talk.end();
}

#[tokio::test]
async fn side_by_side_assertions() {
    let pair = Pair::start(&[]).await;
    let mut talk = Talk::with_model(&pair, MODEL).await;
    let model = json!("{model}");
    let read = || json!({"authorization_model_id": model});
    talk.ask(call("ReadAssertions", read())).await;
    let assertion = |question: &str| json!({"tuple_key": tuple(question), "expectation": true});
    let anne = "document:1#viewer@user:anne";
    let mut given = assertion(anne);
    given["contextual_tuples"] = json!([tuple("document:1#owner@user:anne")]);
    let mut context = assertion(anne);
    context["context"] = json!({"hour": 10, "days": ["monday"]});
    let mut refused = assertion(anne);
    refused["expectation"] = json!(false);
    let mut crowded = assertion(anne);
    crowded["contextual_tuples"] = json!(vec![tuple("document:1#owner@user:anne"); 21]);
    for assertions in [
        json!([assertion(anne)]),
        json!([assertion(anne), refused, given, context]),
        json!([]),
        json!([assertion("nothing:1#viewer@user:anne")]),
        json!([assertion("document:1#nothing@user:anne")]),
        json!([assertion("document:1#viewer@nothing:anne")]),
        json!([{"expectation": true}]),
        json!([crowded]),
        json!(vec![assertion(anne); 100]),
        json!(vec![assertion(anne); 101]),
    ] {
        let request = json!({"authorization_model_id": model, "assertions": assertions});
        talk.ask(call("WriteAssertions", request)).await;
        talk.ask(call("ReadAssertions", read())).await;
    }
    for id in [NOWHERE, "abc"] {
        let write = json!({"authorization_model_id": id, "assertions": [assertion(anne)]});
        talk.ask(call("WriteAssertions", write)).await;
        talk.ask(call(
            "ReadAssertions",
            json!({"authorization_model_id": id}),
        ))
        .await;
        let mut elsewhere = read();
        elsewhere["store_id"] = json!(id);
        talk.ask(call("ReadAssertions", elsewhere)).await;
    }
    talk.end();
}
