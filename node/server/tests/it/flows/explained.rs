//! Why a check was decided so: kept with the decision, or found out when it is asked for.

use super::*;

const MODEL: &str = "model
  schema 1.1
type user
type group
  relations
    define member: [user, group#member]
type folder
  relations
    define viewer: [user]
type document
  relations
    define parent: [folder]
    define blocked: [user]
    define approved: [user]
    define open: [user:*]
    define lent: [user with on_site]
    define editor: [user, group#member]
    define viewer: [user] or editor or viewer from parent
    define reader: viewer but not blocked
    define signer: editor and approved
condition on_site(place: string, pass: string) {
  place != pass
}
";

/// A store of that model, whose checks all are recorded, and a share of their explanations.
async fn library(file: &Path, share: f64) -> (Node, StoreId) {
    let node = central(file, |recorder| recorder.explain = share).await;
    let store = post(&node, "/stores", json!({"name": "library"})).await;
    let store: StoreId = store["id"].as_str().unwrap().parse().unwrap();
    let model = serde_json::to_value(meridian_model::dsl::parse(MODEL).unwrap()).unwrap();
    let written = post(&node, &path(store, "/authorization-models"), model).await;
    assert!(written["authorization_model_id"].is_string(), "{written}");
    write(
        &node,
        store,
        &[
            ("group:all", "member", "group:eng#member"),
            ("group:eng", "member", "user:carl"),
            ("folder:a", "viewer", "user:anne"),
            ("document:plan", "parent", "folder:a"),
            ("document:plan", "editor", "group:all#member"),
            ("document:plan", "blocked", "user:carl"),
            ("document:plan", "open", "user:*"),
        ],
    )
    .await;
    (node, store)
}

fn path(store: StoreId, rest: &str) -> String {
    format!("/stores/{store}{rest}")
}

fn key((object, relation, user): (&str, &str, &str)) -> Value {
    json!({"object": object, "relation": relation, "user": user})
}

async fn write(node: &Node, store: StoreId, tuples: &[(&str, &str, &str)]) {
    let keys: Vec<_> = tuples.iter().map(|tuple| key(*tuple)).collect();
    let writes = json!({"writes": {"tuple_keys": keys}});
    assert_eq!(post(node, &path(store, "/write"), writes).await, json!({}));
}

/// What a check, and what else comes with it, is told to have been decided by: its whole flow, and why.
async fn why(
    node: &Node,
    store: StoreId,
    of: (&str, &str, &str),
    mut with: Value,
) -> (Value, Value) {
    let before = listed(node, store, "kind=decision", 0).await.len();
    with["tuple_key"] = key(of);
    let answer = post(node, &path(store, "/check"), with).await;
    let flows = listed(node, store, "kind=decision", before + 1).await;
    let id = flows[0]["id"].as_str().unwrap();
    let asked = path(store, &format!("/flows/{id}?explain=true"));
    let (status, mut shown) = get(node.http, &asked).await;
    assert_eq!(status, 200, "{shown}");
    let why = shown["explanation"].take();
    assert_eq!(why["allowed"], answer["allowed"], "{answer}");
    assert_eq!(why["truncated"], false);
    (shown["flow"].take(), why)
}

/// The sets that it rests on, and what decides each.
fn steps(why: &Value) -> Vec<(String, String, String)> {
    let steps = why["steps"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    steps
        .map(|step| {
            (
                text(&step["set"]),
                text(&step["verdict"]),
                text(&step["because"]["by"]),
            )
        })
        .collect()
}

/// Of a check, the sets of its explanation with what decides them.
type Told = &'static [(&'static str, &'static str, &'static str)];

const CHECKS: &[((&str, &str, &str), Told)] = &[
    // A union, through a userset and one more.
    (
        ("document:plan", "viewer", "user:carl"),
        &[
            ("document:plan#viewer", "holds", "computed"),
            ("document:plan#editor", "holds", "userset"),
            ("group:all#member", "holds", "userset"),
            ("group:eng#member", "holds", "tuple"),
        ],
    ),
    // A parent's.
    (
        ("document:plan", "viewer", "user:anne"),
        &[
            ("document:plan#viewer", "holds", "parent"),
            ("folder:a#viewer", "holds", "tuple"),
        ],
    ),
    // Everybody.
    (
        ("document:plan", "open", "user:dora"),
        &[("document:plan#open", "holds", "wildcard")],
    ),
    // No branch leads to the user.
    (
        ("document:plan", "viewer", "user:dora"),
        &[
            ("document:plan#viewer", "fails", "any_of"),
            ("document:plan#editor", "fails", "userset"),
            ("folder:a#viewer", "fails", "no_tuple"),
            ("group:all#member", "fails", "userset"),
            ("group:eng#member", "fails", "no_tuple"),
        ],
    ),
    // One that is left out of what it would have.
    (
        ("document:plan", "reader", "user:carl"),
        &[
            ("document:plan#reader", "fails", "but_not"),
            ("document:plan#blocked", "holds", "tuple"),
        ],
    ),
    (
        ("document:plan", "reader", "user:anne"),
        &[
            ("document:plan#reader", "holds", "but_not"),
            ("document:plan#viewer", "holds", "parent"),
            ("folder:a#viewer", "holds", "tuple"),
            ("document:plan#blocked", "fails", "no_tuple"),
        ],
    ),
    // One half of what it takes.
    (
        ("document:plan", "signer", "user:carl"),
        &[
            ("document:plan#signer", "fails", "all_of"),
            ("document:plan#approved", "fails", "no_tuple"),
        ],
    ),
];

#[tokio::test]
async fn a_check_is_explained_when_that_is_asked_for_and_as_it_was_when_it_was_kept() {
    for (share, is_kept) in [(0.0, false), (1.0, true)] {
        let folder = tempfile::tempdir().unwrap();
        let (node, store) = library(&folder.path().join("central.db"), share).await;
        for (check, told) in CHECKS {
            let (flow, why) = why(&node, store, *check, json!({})).await;
            let told = told.iter().map(|(set, verdict, by)| {
                ((*set).to_owned(), (*verdict).to_owned(), (*by).to_owned())
            });
            assert_eq!(steps(&why), told.collect::<Vec<_>>(), "{check:?}");
            assert_eq!(why["kept"], is_kept, "{check:?}");
            assert_eq!(flow["decision"]["explanation_kept"], is_kept);
            assert_eq!(flow["decision"]["details"], Value::Null);
            assert_eq!(why["revision"], flow["decision"]["revision"]);
        }
        node.stop().await;
    }
}

#[tokio::test]
async fn what_is_kept_is_what_held_then_with_what_the_request_brought_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("central.db");
    let (node, store) = library(&file, 1.0).await;
    let lent = key(("document:plan", "lent", "user:erin"));
    let mut contextual = lent.clone();
    contextual["condition"] = json!({"name": "on_site", "context": {"pass": "s3same"}});
    let with = json!({
        "contextual_tuples": {"tuple_keys": [contextual]},
        "context": {"place": "room-7c1"},
    });
    let (flow, why) = why(&node, store, ("document:plan", "lent", "user:erin"), with).await;
    let mut tuple = lent;
    tuple["condition"] = json!("on_site");
    tuple["contextual"] = json!(true);
    assert_eq!(
        why["steps"],
        json!([{"set": "document:plan#lent", "verdict": "holds", "because": {"by": "tuple", "tuple": tuple}}])
    );

    // An edge passes the question up.
    let edge = edge(&node).await;
    let asked = path(
        store,
        &format!("/flows/{}?explain=true", flow["id"].as_str().unwrap()),
    );
    let (_, above) = get(edge.http, &asked).await;
    assert_eq!(above["explanation"], why);
    edge.stop().await;

    // A later change is none of it: of a check whose explanation is kept it tells what was so then.
    let check = ("document:plan", "approved", "user:carl");
    let (flow, _) = self::why(&node, store, check, json!({})).await;
    write(&node, store, &[check]).await;
    let id = flow["id"].as_str().unwrap();
    let (_, shown) = get(
        node.http,
        &path(store, &format!("/flows/{id}?explain=true")),
    )
    .await;
    assert_eq!(shown["explanation"]["allowed"], false);
    assert_eq!(
        shown["explanation"]["revision"],
        flow["decision"]["revision"]
    );
    node.stop().await;
    let is_there = |text: &[u8]| is_stored(folder.path(), text);
    assert!(is_there(br#""condition":"on_site","contextual":true"#));
    assert!(!is_there(b"s3same") && !is_there(b"room-7c1"));
}

#[tokio::test]
async fn an_explanation_now_is_of_now_and_says_what_it_cannot_do() {
    let folder = tempfile::tempdir().unwrap();
    let (node, store) = library(&folder.path().join("central.db"), 0.0).await;
    let check = ("document:plan", "approved", "user:carl");
    let (flow, _) = why(&node, store, check, json!({})).await;
    write(&node, store, &[check]).await;
    let id = flow["id"].as_str().unwrap();
    let asked = path(store, &format!("/flows/{id}?explain=true"));
    let (_, shown) = get(node.http, &asked).await;
    assert_eq!(shown["explanation"]["allowed"], true);
    assert_ne!(
        shown["explanation"]["revision"],
        flow["decision"]["revision"]
    );
    assert_eq!(shown["flow"]["decision"]["allowed"], false);

    // Of a condition, nothing is kept that it could be decided by; of what is no check there is nothing to explain.
    let mut lent = key(("document:plan", "lent", "user:erin"));
    lent["condition"] = json!({"name": "on_site", "context": {"pass": "s3same"}});
    post(
        &node,
        &path(store, "/write"),
        json!({"writes": {"tuple_keys": [lent]}}),
    )
    .await;
    let lent = key(("document:plan", "lent", "user:erin"));
    let with = json!({"tuple_key": lent, "context": {"place": "room-7c1"}});
    assert_eq!(
        post(&node, &path(store, "/check"), with).await["allowed"],
        true
    );
    let expand = json!({"tuple_key": {"relation": "lent", "object": "document:plan"}});
    post(&node, &path(store, "/expand"), expand).await;
    let flows = listed(&node, store, "kind=decision", 3).await;
    for (flow, told) in [
        (&flows[0], "only flows of Check, Evaluation, Subscribe"),
        (&flows[1], "place"),
    ] {
        let id = flow["id"].as_str().unwrap();
        let asked = path(store, &format!("/flows/{id}?explain=true"));
        let (status, body) = get(node.http, &asked).await;
        assert_eq!(status, 400, "{body}");
        let message = body["message"].as_str().unwrap();
        assert!(
            message.starts_with("explain: ") && message.contains(told),
            "{body}"
        );
    }
    node.stop().await;
}

#[tokio::test]
async fn a_wide_denial_is_told_in_part() {
    for (share, parts) in [(0.0, 900), (1.0, 30)] {
        let folder = tempfile::tempdir().unwrap();
        let (node, store) = library(&folder.path().join("central.db"), share).await;
        let groups: Vec<_> = (0..1200)
            .map(|group| format!("group:{group}#member"))
            .collect();
        for groups in groups.chunks(100) {
            let tuples = groups
                .iter()
                .map(|group| ("document:big", "editor", &**group));
            write(&node, store, &tuples.collect::<Vec<_>>()).await;
        }
        let check = json!({"tuple_key": key(("document:big", "editor", "user:dora"))});
        post(&node, &path(store, "/check"), check).await;
        let flows = listed(&node, store, "kind=decision", 1).await;
        let id = flows[0]["id"].as_str().unwrap();
        let asked = path(store, &format!("/flows/{id}?explain=true"));
        let (_, shown) = get(node.http, &asked).await;
        let why = &shown["explanation"];
        assert_eq!(
            (&why["truncated"], &why["kept"]),
            (&json!(true), &json!(share > 0.0))
        );
        let first = &why["steps"][0];
        assert_eq!(
            (&first["set"], &first["verdict"]),
            (&json!("document:big#editor"), &json!("fails"))
        );
        let branches = first["because"]["branches"].as_array().unwrap().len();
        let all = branches + why["steps"].as_array().unwrap().len();
        assert!((parts..=1000).contains(&all), "{share}: {all}");
        node.stop().await;
    }
}
