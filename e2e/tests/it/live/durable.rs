//! Records in the database, over nodes that die and a database that goes away.

use std::net::SocketAddr;
use std::time::Duration;

use meridian_e2e::Workdir;
use serde_json::{Value, json};

use super::client::{Live, publish_all};
use super::{flowing, started, started_with};
use crate::http::metric;
use crate::postgres::sql;
use crate::system::{Node, RegionalStore, Role, System};
use crate::until::{heavy, until};

const SOON: Duration = Duration::from_secs(90);
const OBJECTS: usize = 64;

/// Where central keeps what it has.
pub(super) fn central_url(system: &System) -> String {
    let url = system.postgres.url();
    format!("{}/central", url.rsplit_once('/').unwrap().0)
}

/// Waits until the numbers up to `number` are all in the database, each once.
async fn all_kept(system: &System, number: usize) {
    let count = "select count(*) || ' ' || count(distinct data) from live_records where data like '{\"n\":%'";
    until("every record in the database, once", SOON, async || {
        let kept = sql(&central_url(system), count).await;
        let all = format!("{number} {number}");
        (kept == all).then_some(()).ok_or(kept)
    })
    .await;
}

/// How many records a node has written.
async fn written_by(metrics: SocketAddr) -> u64 {
    let name = "meridian_live_stored_records_total";
    metric(metrics, name, "outcome=\"stored\"").await
}

/// Numbered records, of many objects.
struct Numbers(usize);

impl Numbers {
    /// Sends as many, and waits until Kafka has them.
    async fn send(&mut self, node: SocketAddr, store: &str, many: usize) {
        let record =
            |n: usize| json!({"object": format!("event:{}", n % OBJECTS), "data": {"n": n}});
        let records: Vec<Value> = (self.0..self.0 + many).map(record).collect();
        assert_eq!(publish_all(node, store, &records).await, 200);
        self.0 += many;
    }
}

#[tokio::test]
async fn a_node_that_dies_at_work_loses_and_doubles_nothing() {
    let _leave = heavy().await;
    let (mut system, store) = started().await;
    let dir = Workdir::new("second").unwrap();
    let settings = format!(
        "datastore: {{url: \"{}\"}}\nlive: {{enabled: true}}",
        central_url(&system)
    );
    let mut second = Node::new(Role::Central, &dir, &system.kafka.bootstrap(), &settings);
    second.start().await;

    let mut numbers = Numbers(0);
    let first = system.central.metrics;
    until("both to work", SOON, async || {
        numbers.send(system.edge.http, &store, OBJECTS).await;
        let written = (written_by(first).await, written_by(second.metrics).await);
        (written.0 > 0 && written.1 > 0)
            .then_some(())
            .ok_or(format!("{written:?}"))
    })
    .await;
    for round in 0..100 {
        numbers.send(system.edge.http, &store, 200).await;
        if round == 30 {
            system.central.process.kill().await;
        }
    }
    all_kept(&system, numbers.0).await;
}

#[tokio::test]
async fn while_the_databases_are_away_records_are_delivered_and_none_is_lost() {
    let _leave = heavy().await;
    let (mut system, store) = started_with(RegionalStore::Postgres).await;
    let mut bobs = Vec::new();
    for role in Role::ALL {
        let mut bob = Live::connect(system.node(role).http, &store, "bob").await;
        bob.subscribe("event:42").await;
        bobs.push(bob);
    }
    flowing(&system, &store, &mut bobs).await;
    let mut numbers = Numbers(0);
    numbers.send(system.edge.http, &store, 500).await;
    all_kept(&system, numbers.0).await;

    system.postgres.stop().await.unwrap();
    for _ in 0..20 {
        numbers.send(system.edge.http, &store, 100).await;
    }
    for bob in &mut bobs {
        for n in (0..numbers.0).filter(|n| n % OBJECTS == 42) {
            assert_eq!(bob.record().await["data"], json!({"n": n}));
        }
        let refused = bob.ask("event:7").await;
        assert_eq!(refused["code"], 503, "{refused}");
    }
    until("the outage in the log", SOON, async || {
        let log = system.central.log();
        let told = log.contains("they stay in Kafka until they can");
        told.then_some(()).ok_or(log)
    })
    .await;

    system.postgres.start_again().await.unwrap();
    all_kept(&system, numbers.0).await;
    for bob in &mut bobs {
        until("an answer again", SOON, async || {
            let told = bob.ask("event:7").await;
            (told["code"] == 403).then_some(()).ok_or(told.to_string())
        })
        .await;
    }
}
