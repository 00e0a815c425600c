//! Who was let in by a tuple that did not count for him.

use serde_json::json;

use super::world::{World, bound, plain, set, with};

/// CVE-2025-64751 (OpenFGA): a wildcard without a condition counted where the model lets one stand only with a condition.
#[tokio::test]
async fn a_wildcard_without_a_condition_counts_only_where_the_model_lets_it() {
    let model = |restriction: &str| {
        format!(
            "model
  schema 1.1
type user
type team
  relations
    define member: [{restriction}]
type doc
  relations
    define reader: [{restriction}]
    define by_team: [team#member]
    define rest: by_team but not reader
condition office(hour: int) {{
  hour >= 8 && hour < 18
}}
"
        )
    };
    let mut world = World::of(&model("user, user:*, user:* with office")).await;
    world
        .write(&[
            plain(("user:*", "reader", "doc:1")),
            plain(("user:*", "member", "team:1")),
            plain(("team:1#member", "by_team", "doc:1")),
            bound(("user:*", "reader", "doc:2"), "office", json!({})),
        ])
        .await;
    let at_nine = || json!({"context": {"hour": 9}});
    let (reader, by_team) = (
        ("user:anne", "reader", "doc:1"),
        ("user:anne", "by_team", "doc:1"),
    );
    assert_eq!(world.check(reader, at_nine()).await, Some(true));
    assert_eq!(world.check(by_team, at_nine()).await, Some(true));
    world.remodel(&model("user, user:* with office")).await;
    assert_eq!(world.check(reader, at_nine()).await, Some(false));
    assert_eq!(world.check(by_team, at_nine()).await, Some(false));
    let listed = world
        .objects(("user:anne", "reader", "doc"), at_nine())
        .await;
    assert_eq!(listed, Some(set(["doc:2"])));
    assert_eq!(world.users(("doc", "1", "reader")).await, set([]));
}

const MODEL: &str = "model
  schema 1.1
type user
type team
  relations
    define member: [user, user:*, team#member, team:*]
type doc
  relations
    define parent: [team]
    define reader: [user, team#member, team:*]
    define viewer: member from parent
    define guest: [team#member] but not reader
";

/// CVE-2026-24851 (OpenFGA): a tuple of the user on another object, later in order, led past the one that counted, where
/// the relation was public too.
#[tokio::test]
async fn a_tuple_on_a_later_object_changes_nothing_for_one_that_is_public() {
    let mut world = World::of(MODEL).await;
    for id in ["a", "m", "z"] {
        let (team, doc) = (format!("team:{id}"), format!("doc:{id}"));
        let userset = format!("{team}#member");
        world
            .write(&[
                plain((&team, "parent", &doc)),
                plain((&userset, "reader", &doc)),
            ])
            .await;
    }
    world
        .write(&[
            plain(("user:*", "member", "team:a")),
            plain(("user:bob", "member", "team:a")),
            plain(("user:bob", "member", "team:m")),
            plain(("user:anne", "member", "team:z")),
        ])
        .await;
    for relation in ["viewer", "reader"] {
        for (user, docs) in [("anne", ["doc:a", "doc:z"]), ("bob", ["doc:a", "doc:m"])] {
            let user = format!("user:{user}");
            let listed = world.objects((&user, relation, "doc"), json!({})).await;
            assert_eq!(listed, Some(set(docs)), "{user} {relation}");
            for doc in ["doc:a", "doc:m", "doc:z"] {
                let allowed = world.allows((&user, relation, doc)).await;
                assert_eq!(allowed, docs.contains(&doc), "{user} {relation} {doc}");
            }
        }
        assert!(!world.allows(("user:carl", relation, "doc:z")).await);
    }
}

/// CVE-2025-25196 (OpenFGA): a userset was let in by a wildcard of its type.
#[tokio::test]
async fn a_wildcard_lets_no_usersets_in() {
    let mut world = World::of(MODEL).await;
    world.write(&[plain(("team:*", "reader", "doc:1"))]).await;
    assert!(world.allows(("team:1", "reader", "doc:1")).await);
    assert!(!world.allows(("team:1#member", "reader", "doc:1")).await);
    world
        .write(&[plain(("team:1#member", "reader", "doc:1"))])
        .await;
    assert!(world.allows(("team:1#member", "reader", "doc:1")).await);
    assert!(!world.allows(("team:2#member", "reader", "doc:1")).await);
}

/// CVE-2025-48371 (OpenFGA): of contextual tuples, usersets and wildcards counted for each other.
#[tokio::test]
async fn a_contextual_wildcard_is_no_userset() {
    let world = World::of(MODEL).await;
    let given = with(&[
        plain(("team:*", "reader", "doc:1")),
        plain(("user:anne", "member", "team:1")),
    ]);
    let anne = ("user:anne", "reader", "doc:1");
    assert_eq!(world.check(anne, given.clone()).await, Some(false));
    assert_eq!(
        world.check(("team:1", "reader", "doc:1"), given).await,
        Some(true)
    );
    let given = with(&[
        plain(("team:1#member", "guest", "doc:1")),
        plain(("team:*", "reader", "doc:1")),
        plain(("user:anne", "member", "team:1")),
    ]);
    let guest = ("user:anne", "guest", "doc:1");
    assert_eq!(world.check(guest, given).await, Some(true));
}

/// #3145 (OpenFGA): contextual tuples out of order among stored ones led to a no.
#[tokio::test]
async fn contextual_tuples_count_in_whatever_order_they_come() {
    let mut world = World::of(MODEL).await;
    for id in ["b", "d", "f"] {
        let (team, doc) = (format!("team:{id}"), format!("doc:{id}"));
        world.write(&[plain((&team, "parent", &doc))]).await;
    }
    world
        .write(&[plain(("user:anne", "member", "team:d"))])
        .await;
    let mut given = Vec::new();
    for id in ["f", "a", "e", "b", "c"] {
        let (team, doc) = (format!("team:{id}"), format!("doc:{id}"));
        given.push(plain(("user:anne", "member", &team)));
        if !["b", "f"].contains(&id) {
            given.push(plain((&team, "parent", &doc)));
        }
    }
    for _ in 0..2 {
        for id in ["a", "b", "c", "d", "e", "f"] {
            let doc = format!("doc:{id}");
            let asked = ("user:anne", "viewer", &*doc);
            assert_eq!(world.check(asked, with(&given)).await, Some(true), "{doc}");
        }
        let listed = world
            .objects(("user:anne", "viewer", "doc"), with(&given))
            .await;
        assert_eq!(
            listed,
            Some(set(["doc:a", "doc:b", "doc:c", "doc:d", "doc:e", "doc:f"]))
        );
        given.reverse();
    }
}
