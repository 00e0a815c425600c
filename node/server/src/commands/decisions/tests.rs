mod world;

use futures::future::join_all;

use super::*;
use crate::calls::Calls;
use world::*;

const EVALUATIONS: &str = "meridian_check_evaluations_total";
const ROUNDS: &str = "meridian_check_reads_total";
const HITS: &str = "openfga_check_cache_hit_count";
const ANNE: (&str, &str, &str) = ("user:anne", "reader", "doc:1");

fn keeps_nothing() -> Settings {
    Settings {
        max_answers: 0,
        ..Settings::default()
    }
}

#[tokio::test]
async fn a_hundred_identical_checks_at_once_are_one_evaluation() {
    let (world, writer) = World::new().await;
    writer.write(&[ANNE]).await;
    let node = world.node(keeps_nothing());
    let answers = join_all((0..100).map(|_| node.check(ANNE))).await;
    assert!(answers.into_iter().all(|allowed| allowed));
    assert_eq!(node.count(EVALUATIONS), 1);
    assert_eq!(node.count("meridian_check_joined_total"), 99);
}

#[tokio::test]
async fn equal_checks_of_batches_at_once_are_one_evaluation_each_and_a_batch_reads_once_a_round() {
    let (world, writer) = World::new().await;
    writer
        .write(&[
            ("team:1#member", "reader", "doc:1"),
            ("team:2#member", "member", "team:1"),
            ("user:anne", "member", "team:2"),
        ])
        .await;
    let node = world.node(keeps_nothing());
    let item = |number: usize| v1::BatchCheckItem {
        tuple_key: check((
            "user:anne",
            "reader",
            ["doc:1", "doc:2", "doc:3"][number % 3],
        ))
        .tuple_key,
        correlation_id: number.to_string(),
        ..Default::default()
    };
    let batch = || v1::BatchCheckRequest {
        store_id: STORE.into(),
        checks: (0..50).map(item).collect(),
        ..Default::default()
    };
    let (cx, other) = (cx(), cx());
    let one = node.local.batch_check(&cx, batch()).await.unwrap();
    assert_eq!(one.body.result.len(), 50);
    assert_eq!(node.count(EVALUATIONS), 3);
    // doc:1 and its like, team:1, team:2.
    assert_eq!(node.count(ROUNDS), 3);
    let both = (
        node.local.batch_check(&cx, batch()),
        node.local.batch_check(&other, batch()),
    );
    let (first, second) = tokio::join!(both.0, both.1);
    assert_eq!(first.unwrap().body, one.body);
    assert_eq!(second.unwrap().body, one.body);
    assert_eq!(node.count(EVALUATIONS), 6);
}

#[tokio::test]
async fn a_kept_answer_is_used_until_a_write_at_any_replica_ends_it() {
    let (world, node) = World::new().await;
    let other = world.node(Settings::default());
    node.write(&[ANNE]).await;
    assert!(node.check(ANNE).await && node.check(ANNE).await && node.check(ANNE).await);
    assert_eq!((node.count(EVALUATIONS), node.count(HITS)), (1, 2));
    other.write(&[("user:bob", "reader", "doc:2")]).await;
    assert!(node.check(ANNE).await, "something else was written");
    assert_eq!(node.count(EVALUATIONS), 1);
    for (number, writer) in [&other, &node].into_iter().enumerate() {
        writer.delete(ANNE).await;
        assert!(
            !node.check(ANNE).await && !other.check(ANNE).await,
            "{number}"
        );
        writer.write(&[ANNE]).await;
        assert!(
            node.check(ANNE).await && other.check(ANNE).await,
            "{number}"
        );
    }
    let batch = v1::BatchCheckRequest {
        store_id: STORE.into(),
        checks: vec![v1::BatchCheckItem {
            tuple_key: check(ANNE).tuple_key,
            correlation_id: "a".into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let before = node.count(EVALUATIONS);
    node.local.batch_check(&cx(), batch).await.unwrap();
    assert_eq!(node.count(EVALUATIONS), before);
}

/// #2811 (OpenFGA): what was kept was not ended by a write.
#[tokio::test]
async fn within_the_window_a_node_still_reads_its_own_writes() {
    let (world, node) = World::new().await;
    let hour = Duration::from_secs(3600);
    let patient = world.node(Settings {
        window: hour,
        ..Settings::default()
    });
    node.write(&[ANNE]).await;
    assert!(patient.check(ANNE).await && patient.check(ANNE).await);
    node.delete(ANNE).await;
    assert!(
        patient.check(ANNE).await,
        "another node's write is seen after the window"
    );
    let reply = node
        .local
        .get_store(
            &cx(),
            v1::GetStoreRequest {
                store_id: STORE.into(),
            },
        )
        .await;
    let position = reply.unwrap().position;
    let cx = Context {
        min_position: position,
        ..cx()
    };
    assert!(
        !patient
            .local
            .decide(&cx, &check(ANNE))
            .await
            .unwrap()
            .allowed,
        "as asked for"
    );
    assert!(
        !patient.check(ANNE).await,
        "and never again what was before"
    );
    patient.write(&[ANNE]).await;
    assert!(patient.check(ANNE).await, "its own write");
    patient.delete(ANNE).await;
    assert!(!patient.check(ANNE).await, "its own write");
}

#[tokio::test]
async fn higher_consistency_neither_takes_a_kept_answer_nor_joins_a_check_under_way() {
    let (world, node) = World::new().await;
    let patient = world.node(Settings {
        window: Duration::from_secs(3600),
        ..Settings::default()
    });
    node.write(&[ANNE]).await;
    let strict = v1::CheckRequest {
        consistency: v1::ConsistencyPreference::HigherConsistency.into(),
        ..check(ANNE)
    };
    assert!(patient.check(ANNE).await && patient.check(ANNE).await);
    assert!(patient.asks(&strict).await);
    assert_eq!(patient.count(EVALUATIONS), 2);
    node.delete(ANNE).await;
    let (relaxed, decided) = (check(ANNE), join_all((0..3).map(|_| patient.asks(&strict))));
    let (_, decided) = tokio::join!(patient.asks(&relaxed), decided);
    assert_eq!(decided, [false; 3]);
    assert_eq!(patient.count(EVALUATIONS), 5);
}

#[tokio::test]
async fn the_latest_model_is_the_one_that_is_written_last_anywhere() {
    let (world, node) = World::new().await;
    let other = world.node(Settings::default());
    node.write(&[ANNE]).await;
    let asked = check(ANNE);
    let first = node.local.decide(&cx(), &asked).await.unwrap().model;
    let written = other.write_model().await;
    let second = node.local.decide(&cx(), &asked).await.unwrap().model;
    assert_ne!(first, second);
    assert_eq!(second.as_str(), written);
    let named = v1::CheckRequest {
        authorization_model_id: first.to_string(),
        ..asked
    };
    assert_eq!(node.local.decide(&cx(), &named).await.unwrap().model, first);
}

/// CVE-2026-33729 (OpenFGA): an answer given under one context was given under another.
#[tokio::test]
async fn an_answer_under_one_context_is_none_under_another() {
    let (_world, node) = World::new().await;
    let given = with(check(ANNE), &[in_office(ANNE)]);
    for _ in 0..2 {
        assert!(node.asks(&at_hour(given.clone(), 9.0)).await);
        assert!(!node.asks(&at_hour(given.clone(), 20.0)).await);
        assert!(
            node.local.decide(&cx(), &given).await.is_err(),
            "the hour is missing"
        );
        assert!(!node.asks(&at_hour(check(ANNE), 9.0)).await);
    }
    assert_eq!(node.count(HITS), 3);
}

/// #3145 (OpenFGA): false denies with contextual tuples. GHSA-4vrg-r928-h5vv (SpiceDB): what an answer was computed with was
/// missing from its key.
#[tokio::test]
async fn an_answer_with_contextual_tuples_is_for_those_alone() {
    let (_world, node) = World::new().await;
    for _ in 0..2 {
        assert!(!node.check(ANNE).await);
        assert!(node.asks(&with(check(ANNE), &[tuple(ANNE)])).await);
        assert!(
            !node
                .asks(&with(
                    check(ANNE),
                    &[tuple(("user:bob", "reader", "doc:1"))]
                ))
                .await
        );
    }
    let tuples = [
        tuple(("team:1#member", "reader", "doc:1")),
        tuple(("user:anne", "member", "team:1")),
    ];
    let [one, other] = tuples.clone();
    assert!(node.asks(&with(check(ANNE), &tuples)).await);
    let hits = node.count(HITS);
    assert!(
        node.asks(&with(check(ANNE), &[other, one])).await,
        "in any order"
    );
    assert_eq!(node.count(HITS), hits + 1);
    // What is stored now hides nothing of it, and ends what rests on it.
    node.write(&[ANNE]).await;
    assert!(node.check(ANNE).await);
}

/// CVE-2025-46331 (OpenFGA): an answer made on the way round a cycle was kept as the answer of what it went through.
#[tokio::test]
async fn what_was_found_on_the_way_round_a_cycle_is_nobody_elses_answer() {
    let (_world, node) = World::new().await;
    node.write(&[
        ("doc:2#reader", "reader", "doc:1"),
        ("doc:1#reader", "reader", "doc:2"),
        ("user:anne", "reader", "doc:2"),
        ("doc:2#looped", "looped", "doc:1"),
        ("doc:1#looped", "looped", "doc:2"),
    ])
    .await;
    for _ in 0..2 {
        assert!(!node.check(("user:anne", "looped", "doc:1")).await);
        assert!(!node.check(("user:bob", "reader", "doc:1")).await);
        assert!(node.check(ANNE).await);
        assert!(node.check(("user:anne", "reader", "doc:2")).await);
    }
    node.delete(("user:anne", "reader", "doc:2")).await;
    assert!(!node.check(ANNE).await);
}

/// What decides an exclusion ends the answers that rest on it, on both its sides.
#[tokio::test]
async fn both_sides_of_an_exclusion_end_an_answer() {
    let (world, node) = World::new().await;
    let other = world.node(Settings::default());
    let viewer = ("user:anne", "viewer", "doc:1");
    let blocked = ("user:anne", "blocked", "doc:1");
    node.write(&[
        ("team:1#member", "editor", "doc:1"),
        ("user:anne", "member", "team:1"),
    ])
    .await;
    for _ in 0..2 {
        assert!(node.check(viewer).await && node.check(viewer).await);
        other.write(&[blocked]).await;
        assert!(!node.check(viewer).await && !node.check(viewer).await);
        other.delete(blocked).await;
        assert!(node.check(viewer).await);
        other.delete(("user:anne", "member", "team:1")).await;
        assert!(!node.check(viewer).await);
        other.write(&[("user:anne", "member", "team:1")]).await;
    }
    let contextual = with(check(viewer), &[tuple(blocked)]);
    assert!(!node.asks(&contextual).await && node.check(viewer).await);
}

/// A leader's own deadline is nobody else's answer, and a request's fault is everybody's.
#[tokio::test]
async fn who_joins_a_check_that_fails_is_told_what_is_wrong_with_the_request_alone() {
    let (_world, node) = World::new().await;
    node.write(&[ANNE]).await;
    let hasty = Context {
        deadline: Instant::now(),
        ..cx()
    };
    let (asked, patient) = (check(ANNE), cx());
    let (hasty, patient) = tokio::join!(
        node.local.decide(&hasty, &asked),
        node.local.decide(&patient, &asked)
    );
    assert_eq!(hasty.unwrap_err().code, Code::DeadlineExceeded);
    assert!(patient.unwrap().allowed);
    let wrong = check(("user:anne", "nope", "doc:1"));
    for outcome in join_all((0..5).map(|_| async { node.local.decide(&cx(), &wrong).await })).await
    {
        assert_eq!(outcome.unwrap_err().code, Code::ValidationError);
    }
}

#[tokio::test]
async fn a_store_that_is_deleted_has_no_kept_answers() {
    let (_world, node) = World::new().await;
    node.write(&[ANNE]).await;
    assert!(node.check(ANNE).await);
    let request = v1::DeleteStoreRequest {
        store_id: STORE.into(),
    };
    node.local.delete_store(&cx(), request).await.unwrap();
    assert!(node.local.decide(&cx(), &check(ANNE)).await.is_err());
}
