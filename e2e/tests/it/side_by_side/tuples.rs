//! Writes and reads of tuples.

use serde_json::{Value, json};

use super::talk::tuple;
use super::{Case, Pair, Talk, call};

pub(super) const MODEL: &str = "model
  schema 1.1
type user
type group
  relations
    define member: [user, user:*, group#member]
type folder
  relations
    define parent: [folder]
    define viewer: [user, group#member] or viewer from parent
type document
  relations
    define parent: [folder]
    define owner: [user]
    define editor: [user with in_office, user:* with in_office]
    define viewer: [user, user:*, group#member] or owner or editor or viewer from parent
    define blocked: [user, group#member]
    define reader: viewer but not blocked
    define auditor: owner and viewer
condition in_office(hour: int, days: list<string>) {
  hour >= 9 && hour < 18 && !('sunday' in days)
}
";

fn writes(tuples: &[&str]) -> Case {
    let keys: Vec<_> = tuples.iter().map(|text| tuple(text)).collect();
    call("Write", json!({"writes": {"tuple_keys": keys}}))
}

fn deletes(tuples: &[&str]) -> Case {
    let keys: Vec<_> = tuples.iter().map(|text| tuple(text)).collect();
    call("Write", json!({"deletes": {"tuple_keys": keys}}))
}

fn key(object: &str, relation: &str, user: &str) -> Case {
    let key = json!({"object": object, "relation": relation, "user": user});
    call("Write", json!({"writes": {"tuple_keys": [key]}}))
}

fn conditioned(condition: Value) -> Case {
    let mut key = tuple("document:c#editor@user:anne");
    key["condition"] = condition;
    call("Write", json!({"writes": {"tuple_keys": [key]}}))
}

#[tokio::test]
async fn side_by_side_writes() {
    let pair = Pair::start(&[]).await;
    let mut talk = Talk::with_model(&pair, MODEL).await;
    talk.ask(writes(&["document:1#viewer@user:jon"]).grpc_only())
        .await;
    talk.ask(writes(&["document:1#viewer@user:jon"])).await;
    talk.ask(deletes(&["document:1#viewer@user:jon"]).http_only())
        .await;
    talk.ask(deletes(&["document:1#viewer@user:jon"])).await;
    talk.ask(call("Write", json!({}))).await;
    talk.ask(call("Write", json!({"writes": {}}))).await;
    talk.ask(call("Write", json!({"writes": {"tuple_keys": []}})))
        .await;
    talk.ask(call("Write", json!({"deletes": {"tuple_keys": []}})))
        .await;
    talk.ask(call("Write", json!({"writes": {}, "deletes": {}})))
        .await;
    for (object, relation, user) in [
        ("document:1", "viewer", "user:*"),
        ("document:1", "viewer", "group:1#member"),
    ] {
        talk.ask(key(object, relation, user).grpc_only()).await;
    }
    for (object, relation, user) in [
        ("", "viewer", "user:a"),
        ("document:1", "", "user:a"),
        ("document:1", "viewer", ""),
        ("document", "viewer", "user:a"),
        ("document:", "viewer", "user:a"),
        (":1", "viewer", "user:a"),
        ("document:1:2", "viewer", "user:a"),
        ("document:1#x", "viewer", "user:a"),
        ("document:a b", "viewer", "user:a"),
        ("nothing:1", "viewer", "user:a"),
        ("document:1", "nothing", "user:a"),
        ("document:1", "a b", "user:a"),
        ("document:1", "viewer", "nothing:a"),
        ("document:1", "viewer", "user:"),
        ("document:1", "viewer", "user:a:b"),
        ("document:1", "viewer", "user:a b"),
        ("document:1", "viewer", "user:a#member"),
        ("document:1", "viewer", "group:1"),
        ("document:1", "viewer", "group:1#nothing"),
        ("document:1", "viewer", "group:*#member"),
        ("document:1", "viewer", "group:1#member#member"),
        ("document:1", "owner", "user:*"),
        ("document:1", "owner", "group:1#member"),
        ("document:1", "reader", "user:a"),
        ("document:1", "parent", "folder:*"),
        ("document:1", "parent", "folder:1#viewer"),
        ("document:1", "parent", "user:a"),
        ("group:1", "member", "group:1#member"),
        ("document:1", "viewer", &format!("user:{}", "x".repeat(507))),
        ("document:1", "viewer", &format!("user:{}", "x".repeat(508))),
        (&format!("document:{}", "x".repeat(248)), "viewer", "user:a"),
    ] {
        talk.ask(key(object, relation, user).http_only()).await;
        talk.ask(key(object, relation, user).grpc_only()).await;
    }
    for (object, user) in [
        ("document:*", "user:a"),
        ("document:1", "user"),
        ("document:1", "*"),
    ] {
        talk.ask(key(object, "viewer", user).other_words("Error messages"))
            .await;
    }
    let same = ["document:2#viewer@user:a", "document:2#viewer@user:a"];
    talk.ask(writes(&same)).await;
    talk.ask(deletes(&same)).await;
    let both = json!({"writes": {"tuple_keys": [tuple(same[0])]}, "deletes": {"tuple_keys": [tuple(same[0])]}});
    talk.ask(call("Write", both)).await;
    for (object, relation, user) in [
        ("nothing:1", "viewer", "user:a"),
        ("document:1", "nothing", "user:a"),
        ("document:1", "viewer", "a b"),
        ("document", "viewer", "user:a"),
        ("document:1", "viewer", "user"),
    ] {
        let key = json!({"object": object, "relation": relation, "user": user});
        talk.ask(call("Write", json!({"deletes": {"tuple_keys": [key]}})))
            .await;
    }
    for id in ["abc", "01ARZ3NDEKTSV4RRFFQ69G5FAV"] {
        let mut request = json!({"writes": {"tuple_keys": [tuple("document:3#viewer@user:a")]}});
        request["authorization_model_id"] = json!(id);
        talk.ask(call("Write", request)).await;
        let request =
            json!({"store_id": id, "writes": {"tuple_keys": [tuple("document:3#viewer@user:a")]}});
        talk.ask(call("Write", request)).await;
    }
    talk.end();
}

#[tokio::test]
async fn side_by_side_writes_that_ignore() {
    let pair = Pair::start(&[]).await;
    let mut talk = Talk::with_model(&pair, MODEL).await;
    talk.write(&["document:1#viewer@user:a"]).await;
    let again = tuple("document:1#viewer@user:a");
    let new = tuple("document:2#viewer@user:a");
    for how in ["ignore", "error", "", "other"] {
        talk.ask(call(
            "Write",
            json!({"writes": {"tuple_keys": [again], "on_duplicate": how}}),
        ))
        .await;
        talk.ask(call(
            "Write",
            json!({"deletes": {"tuple_keys": [new], "on_missing": how}}),
        ))
        .await;
    }
    talk.ask(call(
        "Write",
        json!({"writes": {"tuple_keys": [again, new], "on_duplicate": "ignore"}}),
    ))
    .await;
    talk.ask(call("Read", json!({}))).await;
    let mut bound = tuple("document:1#editor@user:a");
    bound["condition"] = json!({"name": "in_office", "context": {"hour": 10}});
    talk.ask(call("Write", json!({"writes": {"tuple_keys": [bound.clone()]}})).grpc_only())
        .await;
    let ignoring = |key: &Value| {
        call(
            "Write",
            json!({"writes": {"tuple_keys": [key], "on_duplicate": "ignore"}}),
        )
    };
    talk.ask(ignoring(&bound)).await;
    bound["condition"] = json!({"name": "in_office", "context": {"hour": 11}});
    talk.ask(ignoring(&bound)).await;
    bound["condition"] = json!({"name": "in_office"});
    talk.ask(ignoring(&bound)).await;
    talk.ask(call("ReadChanges", json!({}))).await;
    talk.end();
}

#[tokio::test]
async fn side_by_side_conditions_of_tuples() {
    let pair = Pair::start(&[]).await;
    let mut talk = Talk::with_model(&pair, MODEL).await;
    for condition in [
        json!(null),
        json!({}),
        json!({"name": ""}),
        json!({"name": "nothing"}),
        json!({"name": "a b"}),
        json!({"name": "in_office", "context": {"minute": 1}}),
        json!({"name": "in_office", "context": {"hour": "late"}}),
        json!({"name": "in_office", "context": {"hour": 1.5}}),
        json!({"name": "in_office", "context": {"hour": null}}),
        json!({"name": "in_office", "context": {"days": "sunday"}}),
        json!({"name": "in_office", "context": {"days": [1]}}),
    ] {
        talk.ask(conditioned(condition)).await;
    }
    // A letter of four bytes, and one item and many of them: what counts is the size as protobuf, to the byte.
    for days in [
        json!(["x".repeat(32_742)]),
        json!(["x".repeat(32_743)]),
        json!(["\u{1f600}".repeat(8_185)]),
        json!(["\u{1f600}".repeat(8_187)]),
        json!(vec!["x"; 6_500]),
        json!(vec!["x"; 7_000]),
    ] {
        let large = json!({"name": "in_office", "context": {"days": days}});
        talk.ask(conditioned(large).grpc_only()).await;
        let delete = json!({"deletes": {"tuple_keys": [tuple("document:c#editor@user:anne")], "on_missing": "ignore"}});
        talk.ask(call("Write", delete).grpc_only()).await;
    }
    for condition in [
        json!({"name": "in_office", "context": {"days": ["mon\nday"]}}),
        json!({"name": "in_office", "context": {"days\u{7f}": 1}}),
        json!({"name": "in_office", "context": {"hour": "\u{85}"}}),
        json!({"name": "in\u{85}office"}),
    ] {
        talk.ask(conditioned(condition)).await;
    }
    let mut plain = tuple("document:c#viewer@user:anne");
    plain["condition"] = json!({"name": "in_office"});
    talk.ask(call("Write", json!({"writes": {"tuple_keys": [plain]}})))
        .await;
    talk.ask(
        conditioned(json!({"name": "in_office", "context": {"hour": "10", "days": ["monday"]}}))
            .grpc_only(),
    )
    .await;
    talk.ask(call("Read", json!({}))).await;
    let delete = json!({"deletes": {"tuple_keys": [tuple("document:c#editor@user:anne")]}});
    talk.ask(call("Write", delete).grpc_only()).await;
    talk.ask(call("ReadChanges", json!({}))).await;
    talk.end();
}

#[tokio::test]
async fn side_by_side_reads() {
    let pair = Pair::start(&[]).await;
    let mut talk = Talk::with_model(&pair, MODEL).await;
    talk.ask(call("Read", json!({}))).await;
    // In the order of keys, which is Meridian's, as well as in that of the writes, which is OpenFGA's.
    talk.write(&[
        "document:1#owner@user:a",
        "document:1#viewer@group:g#member",
        "document:1#viewer@user:*",
        "document:1#viewer@user:a",
        "document:2#viewer@user:a",
        "folder:1#viewer@user:a",
    ])
    .await;
    talk.ask(call("Read", json!({}))).await;
    talk.ask(call("Read", json!({"page_size": 2})).save("token", "/continuation_token"))
        .await;
    talk.ask(call(
        "Read",
        json!({"page_size": 2, "continuation_token": "{token}"}),
    ))
    .await;
    talk.ask(call(
        "Read",
        json!({"page_size": 4, "continuation_token": "{token}"}),
    ))
    .await;
    for size in [0, -1, 101] {
        talk.ask(call("Read", json!({"page_size": size}))).await;
    }
    for token in ["nonsense", "a b", "bm9uc2Vuc2U="] {
        talk.ask(call("Read", json!({"continuation_token": token})))
            .await;
    }
    for (object, relation, user) in [
        ("document:1", "viewer", "user:a"),
        ("document:1", "viewer", ""),
        ("document:1", "", ""),
        ("document:1", "", "user:a"),
        ("document:", "viewer", "user:a"),
        ("document:", "", "user:a"),
        ("document:", "viewer", ""),
        ("document:", "", ""),
        ("document", "", "user:a"),
        ("", "", ""),
        ("", "viewer", "user:a"),
        ("", "", "user:a"),
        ("document:1", "nothing", ""),
        ("nothing:1", "viewer", ""),
        ("document:1", "viewer", "user:*"),
        ("document:1", "viewer", "group:g#member"),
        ("document:1", "viewer", "group:g"),
        ("document:1", "viewer", "a"),
        ("document:1:2", "viewer", "user:a"),
        ("document:1#x", "viewer", "user:a"),
        ("document:1", "a b", "user:a"),
    ] {
        let key = json!({"object": object, "relation": relation, "user": user});
        talk.ask(call("Read", json!({"tuple_key": key}))).await;
    }
    for id in ["abc", "01ARZ3NDEKTSV4RRFFQ69G5FAV"] {
        talk.ask(call("Read", json!({"store_id": id}))).await;
    }
    talk.end();
}

#[tokio::test]
async fn side_by_side_changes() {
    let pair = Pair::start(&[]).await;
    let mut talk = Talk::with_model(&pair, MODEL).await;
    talk.ask(call("ReadChanges", json!({}))).await;
    talk.write(&["document:1#owner@user:a"]).await;
    talk.write(&["folder:1#viewer@user:a", "document:1#viewer@user:*"])
        .await;
    talk.ask(deletes(&["document:1#owner@user:a"]).grpc_only())
        .await;
    talk.ask(call("ReadChanges", json!({})).save("end", "/continuation_token"))
        .await;
    talk.ask(call("ReadChanges", json!({"continuation_token": "{end}"})))
        .await;
    talk.ask(call("ReadChanges", json!({"page_size": 2})).save("token", "/continuation_token"))
        .await;
    talk.ask(call(
        "ReadChanges",
        json!({"page_size": 2, "continuation_token": "{token}"}),
    ))
    .await;
    let typed = call("ReadChanges", json!({"page_size": 1, "type": "document"}));
    talk.ask(typed.save("typed", "/continuation_token")).await;
    talk.ask(call(
        "ReadChanges",
        json!({"type": "document", "continuation_token": "{typed}"}),
    ))
    .await;
    talk.ask(call(
        "ReadChanges",
        json!({"type": "folder", "continuation_token": "{typed}"}),
    ))
    .await;
    talk.ask(call(
        "ReadChanges",
        json!({"continuation_token": "{typed}"}),
    ))
    .await;
    for kind in ["folder", "nothing", "a b", &"x".repeat(255)] {
        talk.ask(call("ReadChanges", json!({"type": kind}))).await;
    }
    for time in ["2020-01-01T00:00:00Z", "2120-01-01T00:00:00Z"] {
        talk.ask(call("ReadChanges", json!({"start_time": time})))
            .await;
        talk.ask(call(
            "ReadChanges",
            json!({"start_time": time, "continuation_token": "{token}"}),
        ))
        .await;
    }
    let time = call("ReadChanges", json!({"start_time": "yesterday"})).http_only();
    talk.ask(time.other_words("Malformed JSON, and queries that do not parse"))
        .await;
    talk.ask(call("ReadChanges", json!({"page_size": 0}))).await;
    talk.ask(call("ReadChanges", json!({"page_size": 101})))
        .await;
    for token in ["nonsense", "a b", "bm9uc2Vuc2U="] {
        talk.ask(call("ReadChanges", json!({"continuation_token": token})))
            .await;
    }
    for id in ["abc", "01ARZ3NDEKTSV4RRFFQ69G5FAV"] {
        talk.ask(call("ReadChanges", json!({"store_id": id}))).await;
    }
    talk.end();
}
