//! What edges record, on real parts: by Kafka to the database of their region.

use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;
use meridian_model::dsl;
use serde_json::{Value, json};

use crate::http::{metric, request};
use crate::postgres::sql;
use crate::system::{Node, RegionalStore, Role, System};
use crate::until::{heavy, until};
use crate::world::tuple;

const SOON: Duration = Duration::from_secs(90);
const MODEL: &str = "
model
  schema 1.1

type user

type organization
  relations
    define member: [user]

type event
  relations
    define can_watch: [user]
";

/// What an edge holds and decides, and what it asks above.
const HELD: (&str, &str) = ("organization:1", "member");
const ASKED_ABOVE: (&str, &str) = ("event:42", "can_watch");

/// A system that records, and a store that all of it has.
async fn started(recorder: &str) -> (System, String) {
    let settings = format!("recorder: {{enabled: true, flushInterval: 10ms{recorder}}}");
    let mut system = System::describe_with(RegionalStore::Postgres, &settings).await;
    system.start_nodes().await;
    let store = new_store(&system).await;
    until("the edge's buffer to be empty", SOON, async || {
        let waiting = metric(system.edge.metrics, "meridian_flow_queue_bytes", "").await;
        (waiting == 0).then_some(()).ok_or(waiting.to_string())
    })
    .await;
    (system, store)
}

async fn new_store(system: &System) -> String {
    let mut central = system.client(Role::Central);
    let store = central.create_store("shop").await.unwrap();
    central
        .write_model(&store, &dsl::parse(MODEL).unwrap())
        .await
        .unwrap();
    central
        .make_critical(&store, &["organization"])
        .await
        .unwrap();
    let tuples = [HELD, ASKED_ABOVE].map(|(object, relation)| tuple(object, relation, "user:anne"));
    central.write(&store, &tuples, &[]).await.unwrap();
    until("an edge that decides", SOON, async || {
        check(system, &store, HELD, "user:anne").await
    })
    .await;
    store
}

/// Asks the edge; whether it decided by itself what it holds.
async fn check(
    system: &System,
    store: &str,
    (object, relation): (&str, &str),
    user: &str,
) -> Result<(), String> {
    let question = tuple(object, relation, user);
    let mut edge = system.client(Role::Edge);
    match edge.check(store, &question, None).await {
        Ok(answer) if answer.allowed && answer.is_by("edge") == ((object, relation) == HELD) => {
            Ok(())
        }
        other => Err(format!("{other:?}")),
    }
}

/// So many checks of what the edge holds, all answered.
async fn checks(system: &System, store: &str, many: usize) {
    for _ in 0..many / 50 {
        let some = (0..50).map(|_| check(system, store, HELD, "user:anne"));
        for answered in join_all(some).await {
            answered.unwrap();
        }
    }
}

async fn http(node: SocketAddr, method: &str, path: &str, body: &str) -> String {
    let (status, answer) = request(node, method, path, body).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

async fn json(node: SocketAddr, method: &str, path: &str, body: &str) -> Value {
    serde_json::from_str(&http(node, method, path, body).await).unwrap()
}

async fn written(node: &Node) -> u64 {
    metric(
        node.metrics,
        "meridian_flow_events_written_total",
        "kind=\"flow\"",
    )
    .await
}

async fn dropped(node: &Node) -> u64 {
    metric(node.metrics, "meridian_flow_events_dropped_total", "").await
}

/// How many decisions of a store are in the region's database.
async fn kept(system: &System, store: &str) -> u64 {
    let path = format!("/stores/{store}/flows?kind=decision&page_size=1&count=true");
    let page = json(system.regional.http, "GET", &path, "").await;
    page["total"].as_u64().unwrap()
}

async fn all_kept(system: &System, store: &str, many: u64) {
    until("every decision in the database", SOON, async || {
        let kept = kept(system, store).await;
        (kept == many)
            .then_some(())
            .ok_or(format!("{kept} of {many}"))
    })
    .await;
}

#[tokio::test]
async fn what_an_edge_decides_is_told_above_and_through_it() {
    let _leave = heavy().await;
    let (system, store) = started("").await;
    check(&system, &store, ASKED_ABOVE, "user:anne")
        .await
        .unwrap();
    for ((object, relation), served_by, last) in [
        (HELD, "edge/test", "evaluate"),
        (ASKED_ABOVE, "regional/test", "upstream"),
    ] {
        // The one asked for last: the first came while the edge was not there yet.
        let find = async |node| {
            let path = format!("/stores/{store}/flows?kind=decision&user=user:anne");
            let page = json(node, "GET", &path, "").await;
            let flows = page["flows"].as_array().unwrap().clone();
            let of = |flow: &&Value| {
                let decision = &flow["decision"];
                decision["object"] == object && decision["served_by"] == served_by
            };
            flows.iter().find(of).cloned()
        };
        let above = until("the decision at the region", SOON, async || {
            find(system.regional.http).await.ok_or("nothing".to_owned())
        })
        .await;
        assert_eq!(find(system.edge.http).await.as_ref(), Some(&above));
        assert_eq!(above["decision"]["relation"], relation);
        assert_eq!(above["decision"]["allowed"], true);
        let revision = above["decision"]["revision"].as_str().unwrap();
        assert!(revision.starts_with("1."), "{revision}");
        let path = format!("/stores/{store}/flows/{}", above["id"].as_str().unwrap());
        let one = json(system.edge.http, "GET", &path, "").await;
        let steps = one["steps"].as_array().unwrap();
        let names: Vec<_> = steps
            .iter()
            .map(|step| step["name"].as_str().unwrap())
            .collect();
        assert_eq!(names.first(), Some(&"validate"), "{names:?}");
        assert_eq!(names.last(), Some(&last), "{names:?}");
        assert!(
            steps.iter().all(|step| step["status"] == "success"),
            "{steps:?}"
        );
    }
    // Central's database is another.
    let path = format!("/stores/{store}/flows?kind=decision");
    let page = json(system.central.http, "GET", &path, "").await;
    assert_eq!(page["flows"], json!([]));
}

#[tokio::test]
async fn a_regional_that_dies_at_work_loses_and_doubles_nothing() {
    let _leave = heavy().await;
    let (mut system, store) = started("").await;
    for round in 0..40 {
        checks(&system, &store, 100).await;
        if round == 10 {
            system.regional.process.kill().await;
        }
        if round == 25 {
            system.regional.start().await;
        }
    }
    let all = until("all at Kafka", SOON, async || {
        let (written, queued) = (
            written(&system.edge).await,
            metric(system.edge.metrics, "meridian_flow_queue_bytes", "").await,
        );
        (written >= 4000 && queued == 0)
            .then_some(written)
            .ok_or(format!("{written}, {queued} bytes wait"))
    })
    .await;
    assert_eq!(dropped(&system.edge).await, 0);
    // Those of this store: the regional's own decisions, asked by the edge at first, are not recorded there.
    all_kept(&system, &store, all).await;
    let url = system.postgres.url();
    let url = format!("{}/regional", url.rsplit_once('/').unwrap().0);
    let steps = "select sum(json_array_length(cast(steps as json))) from flows where served_by = 'edge/test'";
    let flows = "select 2 * count(*) from flows where served_by = 'edge/test'";
    assert_eq!(sql(&url, steps).await, sql(&url, flows).await);
}

#[tokio::test]
async fn with_the_region_away_events_wait_in_kafka() {
    let _leave = heavy().await;
    let (mut system, store) = started("").await;
    system.regional.process.kill().await;
    system.central.process.kill().await;
    let before = written(&system.edge).await;
    checks(&system, &store, 500).await;
    until("Kafka to have them", SOON, async || {
        let sent = written(&system.edge).await - before;
        (sent == 500).then_some(()).ok_or(sent.to_string())
    })
    .await;
    system.central.start().await;
    system.regional.start().await;
    all_kept(&system, &store, before + 500).await;
}

#[tokio::test]
async fn with_kafka_away_an_edge_drops_and_counts_and_goes_on() {
    let _leave = heavy().await;
    let (mut system, store) = started(", capacity: 200, batch: 100").await;
    until("the first at the database", SOON, async || {
        let (written, kept) = (written(&system.edge).await, kept(&system, &store).await);
        (written > 0 && written == kept)
            .then_some(())
            .ok_or(format!("{kept} of {written}"))
    })
    .await;
    let before = written(&system.edge).await;
    system.kafka.stop().await.unwrap();
    checks(&system, &store, 1000).await;
    let lost = dropped(&system.edge).await;
    // The channel, and the batch that is tried again.
    assert!((700..1000).contains(&lost), "{lost}");
    assert!(system.edge.log().contains("channel full, dropping event"));

    system.kafka.start_again().await.unwrap();
    all_kept(&system, &store, before + 1000 - lost).await;
    assert_eq!(dropped(&system.edge).await, lost);
}

#[tokio::test]
async fn a_store_that_is_switched_off_is_so_at_the_edge() {
    let _leave = heavy().await;
    let (system, store) = started("").await;
    let other = new_store(&system).await;
    let recorder = format!("/stores/{store}/flow-recorder");
    // How many events there are of a check of each store: events of a process are in order.
    let events = async || {
        let before = written(&system.edge).await;
        check(&system, &store, HELD, "user:anne").await?;
        check(&system, &other, HELD, "user:anne").await?;
        let last = kept(&system, &other).await + 1;
        until("the other store's", SOON, async || {
            let now = kept(&system, &other).await;
            (now >= last).then_some(()).ok_or(now.to_string())
        })
        .await;
        Ok::<_, String>(written(&system.edge).await - before)
    };
    for (node, body, expected) in [
        (system.regional.http, r#"{"enabled": false}"#, 1),
        (system.edge.http, r#"{"enabled": true}"#, 2),
        (system.central.http, r#"{"enabled": false}"#, 2),
        (system.edge.http, r#"{"enabled": false}"#, 1),
    ] {
        json(node, "PATCH", &recorder, body).await;
        until("the switch at the edge", SOON, async || {
            let events = events().await?;
            (events == expected).then_some(()).ok_or(events.to_string())
        })
        .await;
    }

    // The switch of a process is its own.
    let set = json(
        system.edge.http,
        "PATCH",
        &recorder,
        r#"{"process_enabled": false}"#,
    )
    .await;
    assert_eq!(set["process_enabled"], false);
    let above = json(system.regional.http, "GET", &recorder, "").await;
    assert_eq!(above["process_enabled"], true);
    let before = written(&system.edge).await;
    checks(&system, &other, 100).await;
    json(
        system.edge.http,
        "PATCH",
        &recorder,
        r#"{"process_enabled": true}"#,
    )
    .await;
    check(&system, &other, HELD, "user:anne").await.unwrap();
    until("one more", SOON, async || {
        let now = written(&system.edge).await - before;
        (now == 1).then_some(()).ok_or(now.to_string())
    })
    .await;
}
