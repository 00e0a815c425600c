//! AuthZEN over HTTP: a case a line of `authzen.jsonl`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, from_str, json};

use super::talk::tuple;
use super::{Case, Pair, Talk, call, http};

const CASES: &str = include_str!("authzen.jsonl");

const EARLIER: &str = "model
  schema 1.1
type user
type document
  relations
    define editor: [user]
";

const MODEL: &str = "type user
type service_account
type group
  relations
    define member: [user]
type empty
type document
  relations
    define reader: [user, service_account, group#member]
    define writer: [user]
    define blocked: [user]
    define public: [user, user:*]
    define same: [user with same]
    define level: [user with level]
    define roles: [user with roles]
    define method: [user with method]
    define viewer: reader but not blocked
    define both: reader and writer
condition same(subject_department: string, resource_department: string) {
  subject_department == resource_department
}
condition level(subject_level: int) {
  subject_level >= 5
}
condition roles(subject_roles: list<string>) {
  'admin' in subject_roles || size(subject_roles) == 0
}
condition method(action_method: string) {
  action_method == 'GET'
}
";

/// A line of the file.
#[derive(Deserialize)]
struct Line {
    /// Method and path.
    send: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<Value>,
    /// A body that is no JSON.
    raw: Option<String>,
    /// The row of the table that says why the answers differ.
    differs: Option<String>,
    /// Our outcomes then; where there are none, words alone differ.
    #[serde(default)]
    ours: Vec<String>,
}

impl Line {
    fn case(self) -> Case {
        let body = self.body.map(|body| body.to_string());
        let mut case = http(&self.send)
            .header("content-type", "application/json")
            .body(body.or(self.raw).unwrap_or_default());
        for (name, value) in self.headers {
            case = case.header(&name, &value);
        }
        match self.differs {
            Some(reason) if self.ours.is_empty() => case.other_words(reason.leak()),
            Some(reason) => {
                let ours: Vec<&str> = self.ours.into_iter().map(|of| &*of.leak()).collect();
                case.other(reason.leak(), ours.leak())
            }
            None => case,
        }
    }
}

/// The model, with a type of more relations than a search may ask about.
fn model() -> String {
    let relations: Vec<_> = (0..51)
        .map(|number| format!("    define r{number:02}: [user]\n"))
        .collect();
    let wide = format!("type wide\n  relations\n{}", relations.concat());
    format!("model\n  schema 1.1\n{wide}{MODEL}")
}

#[tokio::test]
async fn side_by_side_authzen() {
    let pair = Pair::start(&[
        ("OPENFGA_EXPERIMENTALS", "inline_expressions,authzen"),
        ("OPENFGA_AUTHZEN_BASE_URL", "https://pdp.example.com"),
    ])
    .await;
    let mut talk = Talk::new(&pair);
    let empty = call("CreateStore", json!({"name": "empty"})).grpc_only();
    talk.ask(empty.save("empty", "/id")).await;
    talk.new_store().await;
    talk.write_model(EARLIER).await;
    talk.ask(
        call("ReadAuthorizationModel", json!({"id": "{model}"}))
            .grpc_only()
            .save("old", "/authorization_model/id"),
    )
    .await;
    talk.write(&["document:1#editor@user:old"]).await;
    talk.write_model(&model()).await;
    talk.write(&[
        "document:1#reader@user:alice",
        "document:1#writer@user:alice",
        "document:1#reader@user:bob",
        "document:1#blocked@user:bob",
        "document:1#reader@service_account:sa",
        "group:g#member@user:carl",
        "document:1#reader@group:g#member",
        "document:2#reader@group:g#member",
        "document:3#reader@user:alice",
        "document:1#public@user:*",
        "document:1#public@user:dora",
        "wide:1#r07@user:alice",
    ])
    .await;
    let bound = ["same", "level", "roles", "method"].map(|name| {
        let mut key: Value = tuple(&format!("document:1#{name}@user:alice"));
        key["condition"] = json!({"name": name});
        key
    });
    let bound = json!({"writes": {"tuple_keys": bound}});
    talk.ask(call("Write", bound).grpc_only()).await;
    for line in CASES.lines() {
        let line: Line = from_str(line).unwrap_or_else(|why| panic!("{line}: {why}"));
        talk.ask(line.case()).await;
    }
    talk.end();
}
