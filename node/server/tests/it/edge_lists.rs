//! Listings and expansions through an edge: which node answers what.

use std::collections::BTreeSet;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::edge::{MEMBER, Trio, allowed_by};
use crate::harness::{JsonReply, raw, send};

/// Objects beyond what an answer in one piece may hold, and tuples of one Write.
const MANY: usize = 1_200;
const TUPLES_A_WRITE: usize = 100;
const MODEL_ID: &str = "openfga-authorization-model-id";

struct Asked {
    by: String,
    reply: JsonReply,
}

impl Asked {
    fn list(&self, field: &str) -> BTreeSet<String> {
        let list = self.reply.body[field].as_array();
        let list = list.unwrap_or_else(|| panic!("{}", self.reply.body));
        list.iter()
            .map(|item| {
                item.as_str()
                    .map_or_else(|| item.to_string(), str::to_owned)
            })
            .collect()
    }
}

async fn ask(trio: &Trio, call: &str, body: &Value, min_revision: Option<&str>) -> Asked {
    let path = format!("/stores/{}/{call}", trio.store);
    let headers: Vec<_> = min_revision
        .map(|revision| ("meridian-min-revision", revision))
        .into_iter()
        .collect();
    let body = body.to_string().into();
    let reply = send(trio.edge.http, Method::POST, &path, &headers, body).await;
    let by = reply.headers["meridian-served-by"].to_str().unwrap();
    Asked {
        by: by.to_owned(),
        reply,
    }
}

/// A trio whose edge holds the teams.
async fn trio() -> Trio {
    let trio = Trio::start(Duration::from_secs(60)).await;
    trio.until(MEMBER, allowed_by("edge/test")).await.unwrap();
    trio
}

fn set<const N: usize>(items: [&str; N]) -> BTreeSet<String> {
    items.map(str::to_owned).into()
}

fn objects(object_type: &str, relation: &str) -> Value {
    json!({"type": object_type, "relation": relation, "user": "user:anne"})
}

fn users(object_type: &str, id: &str, relation: &str) -> Value {
    json!({"object": {"type": object_type, "id": id}, "relation": relation, "user_filters": [{"type": "user"}]})
}

fn one_level(object: &str, relation: &str) -> Value {
    json!({"tuple_key": {"object": object, "relation": relation}})
}

#[tokio::test]
async fn what_an_edge_holds_it_lists_and_all_else_is_listed_above() {
    let trio = trio().await;
    let anne = r#"{"object":{"id":"anne","type":"user"}}"#;
    let listed = ask(&trio, "list-objects", &objects("team", "member"), None).await;
    assert_eq!(
        (listed.by.as_str(), listed.list("objects")),
        ("edge/test", set(["team:core"]))
    );
    assert!(listed.reply.headers.contains_key("meridian-revision"));
    assert!(!listed.reply.headers.contains_key("meridian-truncated"));
    let listed = ask(&trio, "list-users", &users("team", "core", "member"), None).await;
    assert_eq!(
        (listed.by.as_str(), listed.list("users")),
        ("edge/test", set([anne]))
    );
    let expanded = ask(&trio, "expand", &one_level("team:core", "member"), None).await;
    let leaf = &expanded.reply.body["tree"]["root"]["leaf"]["users"]["users"];
    assert_eq!(
        (expanded.by.as_str(), leaf),
        ("edge/test", &json!(["user:anne"]))
    );

    for (object_type, object) in [("issue", "issue:1"), ("log", "log:1")] {
        for _ in 0..2 {
            let listed = ask(&trio, "list-objects", &objects(object_type, "reader"), None).await;
            assert_eq!(
                (listed.by.as_str(), listed.list("objects")),
                ("regional/test", set([object]))
            );
            let listed = ask(
                &trio,
                "list-users",
                &users(object_type, "1", "reader"),
                None,
            )
            .await;
            assert_eq!(
                (listed.by.as_str(), listed.list("users")),
                ("regional/test", set([anne]))
            );
            let expanded = ask(&trio, "expand", &one_level(object, "reader"), None).await;
            assert_eq!(expanded.by, "regional/test");
        }
    }

    for (call, mut asked) in [
        ("list-objects", objects("team", "member")),
        ("list-users", users("team", "core", "member")),
        ("expand", one_level("team:core", "member")),
    ] {
        let here = ask(&trio, call, &asked, None).await;
        let revision = here.reply.headers["meridian-revision"].to_str().unwrap();
        let (epoch, _) = revision.split_once('.').unwrap();
        // Nobody is there yet.
        let ahead = ask(&trio, call, &asked, Some(&format!("{epoch}.9999"))).await;
        assert_eq!(ahead.reply.status, 503, "{call}: {}", ahead.reply.body);

        asked["consistency"] = "HIGHER_CONSISTENCY".into();
        let primary = ask(&trio, call, &asked, None).await;
        assert_eq!(primary.by, "central/test", "{call}");
    }
}

#[tokio::test]
async fn an_edge_lists_what_was_written_through_it_and_what_is_given() {
    let trio = trio().await;
    for number in 0..5 {
        let object = format!("team:new{number}");
        let key = json!({"user": "user:anne", "relation": "member", "object": object});
        let body = json!({"writes": {"tuple_keys": [key]}});
        let written = ask(&trio, "write", &body, None).await;
        assert_eq!(written.reply.status, 200, "{}", written.reply.body);
        let listed = ask(&trio, "list-objects", &objects("team", "member"), None).await;
        assert!(listed.list("objects").contains(&object), "{}", listed.by);
        let listed = ask(&trio, "expand", &one_level(&object, "member"), None).await;
        let leaf = &listed.reply.body["tree"]["root"]["leaf"]["users"]["users"];
        assert_eq!(leaf, &json!(["user:anne"]), "{}", listed.by);
    }
    trio.until(MEMBER, allowed_by("edge/test")).await.unwrap();
    let mut asked = objects("team", "member");
    let given = json!({"user": "user:anne", "relation": "member", "object": "team:given"});
    asked["contextual_tuples"] = json!({"tuple_keys": [given]});
    let listed = ask(&trio, "list-objects", &asked, None).await;
    assert_eq!(
        (listed.by.as_str(), listed.list("objects").len()),
        ("edge/test", 7)
    );
    assert!(listed.list("objects").contains("team:given"));

    for (call, asked, code) in [
        ("list-objects", objects("nope", "member"), "type_not_found"),
        (
            "list-users",
            users("team", "core", "nope"),
            "relation_not_found",
        ),
        ("expand", one_level("team:core", "nope"), "validation_error"),
    ] {
        let refused = ask(&trio, call, &asked, None).await;
        assert_eq!(
            (refused.by.as_str(), &refused.reply.body["code"]),
            ("edge/test", &json!(code))
        );
        assert_eq!(
            refused.reply.headers[MODEL_ID],
            listed.reply.headers[MODEL_ID]
        );
    }
}

#[tokio::test]
async fn a_stream_brings_all_there_is_from_wherever_it_is() {
    let trio = trio().await;
    for object_type in ["issue", "team"] {
        let relation = if object_type == "team" {
            "member"
        } else {
            "reader"
        };
        let keys: Vec<_> = (0..MANY)
            .map(|number| json!({"user": "user:bob", "relation": relation, "object": format!("{object_type}:{number}")}))
            .collect();
        for some in keys.chunks(TUPLES_A_WRITE) {
            let written = ask(
                &trio,
                "write",
                &json!({"writes": {"tuple_keys": some}}),
                None,
            )
            .await;
            assert_eq!(written.reply.status, 200, "{}", written.reply.body);
        }
        let mut asked = json!({"type": object_type, "relation": relation, "user": "user:bob"});
        let listed = ask(&trio, "list-objects", &asked, None).await;
        assert_eq!(listed.list("objects").len(), 1000);
        assert_eq!(listed.reply.headers["meridian-truncated"], "true");

        let path = format!("/stores/{}/streamed-list-objects", trio.store);
        // From the edge or its regional, and from central.
        for consistency in ["UNSPECIFIED", "HIGHER_CONSISTENCY"] {
            asked["consistency"] = consistency.into();
            let body = asked.to_string().into();
            let (_, headers, lines) = raw(trio.edge.http, Method::POST, &path, &[], body).await;
            assert_eq!(headers[MODEL_ID], listed.reply.headers[MODEL_ID]);
            let lines = String::from_utf8(lines.to_vec()).unwrap();
            let found: BTreeSet<_> = lines
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap())
                .map(|line| line["result"]["object"].as_str().unwrap().to_owned())
                .collect();
            assert_eq!(found.len(), MANY, "{object_type} {consistency}");
        }
        asked["relation"] = "nope".into();
        let body = asked.to_string().into();
        let (status, headers, _) = raw(trio.edge.http, Method::POST, &path, &[], body).await;
        assert_eq!(status, 400);
        assert_eq!(headers[MODEL_ID], listed.reply.headers[MODEL_ID]);
    }
}
