//! An answer that was meant for another question.

use futures::future::join_all;
use serde_json::{Value, json};

use super::world::{World, bound, plain, with};

const OFFICE: &str = "model
  schema 1.1
type user
type team
  relations
    define member: [user, team#member]
type doc
  relations
    define blocked: [user]
    define reader: [user, user with office, team#member, doc#reader]
    define looped: [user, doc#looped]
    define viewer: reader but not blocked
    define quiet: reader but not looped
    define ab: [user]
    define a: [user]
condition office(hour: int) {
  hour >= 8 && hour < 18
}
";

const ANNE: (&str, &str, &str) = ("user:anne", "reader", "doc:1");
const BOB: (&str, &str, &str) = ("user:bob", "reader", "doc:1");

fn at(hour: i32) -> Value {
    json!({"context": {"hour": hour}})
}

/// CVE-2026-33729, CVE-2026-41131 (OpenFGA): where conditions were asked about, an answer under one context was kept and
/// given under another.
#[tokio::test]
async fn an_answer_under_one_context_is_not_given_under_another() {
    let mut world = World::of(OFFICE).await;
    world.write(&[bound(ANNE, "office", json!({}))]).await;
    for _ in 0..2 {
        assert_eq!(world.check(ANNE, at(9)).await, Some(true));
        assert_eq!(world.check(ANNE, at(20)).await, Some(false));
        assert_eq!(world.check(ANNE, json!({})).await, None, "there is no hour");
        assert_eq!(
            world.check(ANNE, json!({"context": {"our": 9}})).await,
            None
        );
    }
}

/// CVE-2024-56323 (OpenFGA): conditions on contextual tuples were left out of the keys that answers were kept under.
#[tokio::test]
async fn contextual_tuples_are_told_apart_by_their_conditions() {
    let world = World::of(OFFICE).await;
    let given = |tuple: Value| with(&[tuple]);
    for _ in 0..2 {
        let early = bound(ANNE, "office", json!({"hour": 9}));
        let late = bound(ANNE, "office", json!({"hour": 20}));
        assert_eq!(world.check(ANNE, given(early)).await, Some(true));
        assert_eq!(world.check(ANNE, given(late)).await, Some(false));
        assert_eq!(world.check(ANNE, given(plain(ANNE))).await, Some(true));
        assert_eq!(world.check(ANNE, json!({})).await, Some(false));
    }
}

const LISTED: &str = "model
  schema 1.1
type user
type doc
  relations
    define reader: [user with two, user with one]
condition two(l: list<string>) {
  l.size() == 2
}
condition one(n: any) {
  n == 1
}
";

/// CVE-2026-34972 (OpenFGA): checks of one tuple in one batch had the same key where their contexts read alike when written
/// one after the other.
#[tokio::test]
async fn checks_of_a_batch_are_told_apart_by_their_contexts() {
    let mut world = World::of(LISTED).await;
    world.write(&[bound(ANNE, "two", json!({}))]).await;
    let lists = [
        json!(["a,b"]),
        json!(["a", "b"]),
        json!(["a,b", ""]),
        json!(["ab"]),
    ];
    let given = lists.map(|list| json!({"context": {"l": list}}));
    let expected = [Some(false), Some(true), Some(true), Some(false)];
    assert_eq!(world.batch(ANNE, &given).await, expected);
    for (given, expected) in given.into_iter().zip(expected) {
        assert_eq!(world.check(ANNE, given).await, expected);
    }
    world.delete(ANNE).await;
    world.write(&[bound(ANNE, "one", json!({}))]).await;
    let numbers = [json!(1), json!(2), json!([1]), json!(true)];
    let given = numbers.map(|number| json!({"context": {"n": number}}));
    let said = world.batch(ANNE, &given).await;
    assert_eq!(said[..2], [Some(true), Some(false)]);
    assert!(!said[2..].contains(&Some(true)), "{said:?}");
}

/// CVE-2026-48096, #3064 (OpenFGA): parts of a question were put together in a key with nothing between them.
#[tokio::test]
async fn questions_that_read_alike_without_what_divides_them_are_told_apart() {
    let world = World::of(OFFICE).await;
    let question = ("user:anne", "a", "doc:1");
    let longer = ("user:anne", "ab", "doc:1");
    for _ in 0..2 {
        let given = with(&[plain(question)]);
        assert_eq!(world.check(question, given.clone()).await, Some(true));
        assert_eq!(world.check(longer, given).await, Some(false));
        let given = with(&[plain(("user:ann", "a", "doc:1"))]);
        assert_eq!(world.check(question, given).await, Some(false));
        let given = with(&[
            plain(("user:annea", "a", "doc:1")),
            plain(("user:anne", "a", "doc:11")),
        ]);
        assert_eq!(world.check(question, given).await, Some(false));
    }
}

/// GHSA-4vrg-r928-h5vv (SpiceDB): what an answer was computed with was missing from its key.
#[tokio::test]
async fn an_answer_with_contextual_tuples_is_not_given_without_them() {
    let world = World::of(OFFICE).await;
    let tuples = [
        plain(("team:1#member", "reader", "doc:1")),
        plain(("user:anne", "member", "team:1")),
    ];
    let [one, other] = tuples.clone();
    for _ in 0..2 {
        assert!(!world.allows(ANNE).await);
        assert_eq!(world.check(ANNE, with(&tuples)).await, Some(true));
        assert_eq!(
            world.check(ANNE, with(&[other.clone(), one.clone()])).await,
            Some(true)
        );
        assert_eq!(
            world.check(ANNE, with(std::slice::from_ref(&one))).await,
            Some(false)
        );
        assert_eq!(
            world
                .check(("user:bob", "reader", "doc:1"), with(&tuples))
                .await,
            Some(false)
        );
    }
}

/// CVE-2025-46331 (OpenFGA): an answer made on the way round a cycle was kept as the answer of what it went through.
#[tokio::test]
async fn what_is_found_on_the_way_round_a_cycle_is_not_given_to_who_asks_elsewhere() {
    let mut world = World::of(OFFICE).await;
    world
        .write(&[
            plain(("doc:2#reader", "reader", "doc:1")),
            plain(("doc:1#reader", "reader", "doc:2")),
            plain(("user:anne", "reader", "doc:2")),
            plain(("doc:2#looped", "looped", "doc:1")),
            plain(("doc:1#looped", "looped", "doc:2")),
        ])
        .await;
    for _ in 0..2 {
        assert!(!world.allows(("user:bob", "reader", "doc:1")).await);
        assert!(!world.allows(("user:bob", "reader", "doc:2")).await);
        assert!(world.allows(ANNE).await);
        assert!(world.allows(("user:anne", "reader", "doc:2")).await);
        assert!(!world.allows(("user:anne", "looped", "doc:1")).await);
        assert!(
            !world.allows(("user:anne", "quiet", "doc:1")).await,
            "what is subtracted is a cycle"
        );
    }
    world.write(&[plain(("user:bob", "reader", "doc:1"))]).await;
    assert!(world.allows(("user:bob", "reader", "doc:2")).await);
    world.delete(("user:anne", "reader", "doc:2")).await;
    assert!(!world.allows(ANNE).await);
}

/// #2811 (OpenFGA): a write did not end the answers that were kept before it.
#[tokio::test]
async fn a_write_ends_the_answers_before_it() {
    let mut world = World::of(OFFICE).await;
    for _ in 0..3 {
        world.write(&[plain(ANNE)]).await;
        assert!(world.allows(ANNE).await && world.allows(("user:anne", "viewer", "doc:1")).await);
        world
            .write(&[plain(("user:anne", "blocked", "doc:1"))])
            .await;
        assert!(world.allows(ANNE).await && !world.allows(("user:anne", "viewer", "doc:1")).await);
        world.delete(("user:anne", "blocked", "doc:1")).await;
        world.delete(ANNE).await;
        assert!(!world.allows(ANNE).await && !world.allows(("user:anne", "viewer", "doc:1")).await);
    }
}

/// #3155 (OpenFGA): what was read while a write was made was kept after it.
#[tokio::test]
async fn an_answer_that_is_made_during_a_write_is_not_given_after_it() {
    let mut world = World::of(OFFICE).await;
    for _ in 0..10 {
        let write = json!({"writes": {"tuple_keys": [plain(ANNE)]}});
        world.meanwhile(ANNE, &write).await;
        assert!(world.allows(ANNE).await);
        let delete = json!({"deletes": {"tuple_keys": [plain(ANNE)]}});
        world.meanwhile(ANNE, &delete).await;
        assert!(!world.allows(ANNE).await);
    }
}

/// #3125 (OpenFGA): a check that was broken off was kept as a no.
#[tokio::test]
async fn a_check_that_is_broken_off_is_not_kept_as_a_no() {
    let mut world = World::of(OFFICE).await;
    let mut tuples = vec![
        plain(("team:0#member", "reader", "doc:1")),
        plain(("user:anne", "member", "team:9")),
    ];
    for number in 0..9 {
        let (lower, upper) = (
            format!("team:{}#member", number + 1),
            format!("team:{number}"),
        );
        tuples.push(plain((&lower, "member", &upper)));
    }
    world.write(&tuples).await;
    // At every stage that a check goes through, by how long one takes whose answer is not that of this one.
    let long = world.time(BOB).await;
    let gone = (1..=50).map(|part| world.break_off(ANNE, long * part / 50));
    let gone = join_all(gone).await;
    assert!(gone.contains(&true), "nothing was broken off");
    assert!(world.allows(ANNE).await);
}
