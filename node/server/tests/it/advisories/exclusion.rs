//! What should have been excluded.

use serde_json::json;

use super::world::{World, bound, plain, set, with};

const MODEL: &str = "model
  schema 1.1
type user
type team
  relations
    define member: [user, team#member]
    define banned: [user]
type doc
  relations
    define parent: [team, doc]
    define reader: [user, team#member]
    define banned: banned from parent
    define viewer: reader but not banned
    define both: reader and member from parent
    define neither: (reader but not banned) and (member from parent or reader)
    define cleared: viewer but not (reader but not member from parent)
";

/// CVE-2024-42473 (OpenFGA): who came by a userset was not excluded by a `from`.
#[tokio::test]
async fn who_comes_by_a_userset_is_excluded_by_a_parent() {
    let mut world = World::of(MODEL).await;
    world
        .write(&[
            plain(("team:core#member", "reader", "doc:1")),
            plain(("user:anne", "member", "team:core")),
            plain(("user:bob", "member", "team:core")),
            plain(("doc:2", "parent", "doc:1")),
            plain(("team:house", "parent", "doc:2")),
            plain(("user:anne", "banned", "team:house")),
        ])
        .await;
    assert!(world.allows(("user:bob", "viewer", "doc:1")).await);
    assert!(!world.allows(("user:anne", "viewer", "doc:1")).await);
    assert!(world.allows(("team:core#member", "viewer", "doc:1")).await);
    assert_eq!(world.users(("doc", "1", "viewer")).await, set(["bob"]));
    world.delete(("user:anne", "banned", "team:house")).await;
    assert!(world.allows(("user:anne", "viewer", "doc:1")).await);
    let given = with(&[plain(("user:anne", "banned", "team:house"))]);
    let anne = ("user:anne", "viewer", "doc:1");
    assert_eq!(world.check(anne, given).await, Some(false));
}

/// CVE-2024-31452 (OpenFGA): Check and ListObjects let in whom one operand of an intersection or an exclusion kept out.
#[tokio::test]
async fn every_operand_counts_in_checks_and_lists() {
    let mut world = World::of(MODEL).await;
    let mut tuples = vec![
        plain(("user:anne", "member", "team:core")),
        plain(("user:anne", "banned", "team:house")),
    ];
    for (doc, parent) in [
        ("doc:1", "team:core"),
        ("doc:2", "team:house"),
        ("doc:3", "team:other"),
    ] {
        tuples.push(plain(("user:anne", "reader", doc)));
        tuples.push(plain((parent, "parent", doc)));
    }
    tuples.push(plain(("team:core", "parent", "doc:4")));
    world.write(&tuples).await;
    for (relation, expected) in [
        ("viewer", set(["doc:1", "doc:3"])),
        ("both", set(["doc:1"])),
        ("neither", set(["doc:1", "doc:3"])),
        ("cleared", set(["doc:1"])),
    ] {
        let listed = world
            .objects(("user:anne", relation, "doc"), json!({}))
            .await;
        assert_eq!(listed.as_ref(), Some(&expected), "{relation}");
        for doc in ["doc:1", "doc:2", "doc:3", "doc:4"] {
            let allowed = world.allows(("user:anne", relation, doc)).await;
            assert_eq!(allowed, expected.contains(doc), "{relation} {doc}");
        }
    }
}

const PUBLIC: &str = "model
  schema 1.1
type user
type doc
  relations
    define a: [user, user:*]
    define b: [user, user:*]
    define c: [user, user:*]
    define within: a but not (b but not c)
    define twice: (a but not b) but not c
    define thrice: a but not (b but not (c but not d))
    define d: [user]
";

/// GHSA-h7w8-xr72-cv4r (OpenFGA): ListUsers named who was excluded, where exclusions of a public wildcard were nested.
#[tokio::test]
async fn users_whom_a_nested_exclusion_keeps_out_of_a_wildcard_are_not_listed() {
    let mut world = World::of(PUBLIC).await;
    for doc in ["doc:1", "doc:2", "doc:3"] {
        world
            .write(&[plain(("user:*", "a", doc)), plain(("user:bob", "b", doc))])
            .await;
    }
    world
        .write(&[
            plain(("user:*", "b", "doc:1")),
            plain(("user:anne", "c", "doc:1")),
            plain(("user:*", "c", "doc:2")),
            plain(("user:carl", "d", "doc:2")),
            plain(("user:anne", "c", "doc:3")),
            plain(("user:bob", "d", "doc:3")),
        ])
        .await;
    for (relation, doc, expected) in [
        ("within", "1", set(["anne"])),
        ("within", "2", set(["*", "bob"])),
        ("within", "3", set(["*", "anne"])),
        ("twice", "1", set([])),
        ("twice", "2", set([])),
        ("twice", "3", set(["*"])),
        ("thrice", "1", set(["anne"])),
        ("thrice", "2", set(["*", "bob", "carl"])),
        ("thrice", "3", set(["*", "anne"])),
    ] {
        let listed = world.users(("doc", doc, relation)).await;
        assert_eq!(listed, expected, "{relation} of {doc}");
        let doc = format!("doc:{doc}");
        for user in ["anne", "bob", "carl", "*"] {
            let id = format!("user:{user}");
            let allowed = world.allows((&id, relation, &doc)).await;
            // Whom the wildcard lets in need not be named.
            let by_wildcard = expected.contains("*");
            assert!(allowed || !listed.contains(user), "{user} {relation} {doc}");
            assert!(
                !allowed || listed.contains(user) || by_wildcard,
                "{user} {relation} {doc}"
            );
        }
    }
}

const CONDITIONED: &str = "model
  schema 1.1
type user
type doc
  relations
    define reader: [user]
    define blocked: [user, user with late]
    define viewer: reader but not blocked
condition late(hour: int) {
  hour >= 18
}
";

/// GHSA-5278-rrxc-mgf7 (OpenFGA): a stream told an object before the error that should have kept it out.
#[tokio::test]
async fn a_stream_that_fails_has_told_nothing_that_is_excluded() {
    let mut world = World::of(CONDITIONED).await;
    for doc in ["doc:1", "doc:2", "doc:3", "doc:4"] {
        world.write(&[plain(("user:anne", "reader", doc))]).await;
    }
    world
        .write(&[
            bound(("user:anne", "blocked", "doc:1"), "late", json!({})),
            bound(
                ("user:anne", "blocked", "doc:2"),
                "late",
                json!({"hour": 20}),
            ),
            bound(
                ("user:anne", "blocked", "doc:3"),
                "late",
                json!({"hour": 9}),
            ),
        ])
        .await;
    let question = ("user:anne", "viewer", "doc");
    assert_eq!(world.objects(question, json!({})).await, None);
    let told = world.told(question).await;
    assert!(told.is_subset(&set(["doc:3", "doc:4"])), "{told:?}");
    let at = |hour: i32| json!({"context": {"hour": hour}});
    let early = world.objects(question, at(9)).await;
    assert_eq!(early, Some(set(["doc:1", "doc:3", "doc:4"])));
    let late = world.objects(question, at(20)).await;
    assert_eq!(late, Some(set(["doc:3", "doc:4"])));
}
