//! The live channel on real parts: clients at every node, records over Kafka, permissions from the store.

mod alone;
mod authority;
mod client;
mod durable;
mod epoch;
mod moving;
mod recorded;
mod regions;
mod tls;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use meridian_model::{TupleKey, dsl};
use serde_json::{Value, json};

use crate::system::{Node, RegionalStore, Role, System};
use crate::until::{heavy, until};
use crate::world::tuple;
use client::{Live, publish};

const SOON: Duration = Duration::from_secs(30);
const MODEL: &str = "
model
  schema 1.1

type user

type organization
  relations
    define member: [user]

type event
  relations
    define organization: [organization]
    define can_watch: [user] or member from organization
";

/// A system with the live channel, a store, and who may watch: anne by her organization, bob by himself.
async fn started() -> (System, String) {
    started_with(RegionalStore::Sqlite).await
}

/// The same, with another database for the regional node.
async fn started_with(regional: RegionalStore) -> (System, String) {
    let live = "live: {enabled: true, grace: 2s}";
    let mut system = System::describe_with(regional, live).await;
    system.start_nodes().await;
    let mut central = system.client(Role::Central);
    let store = central.create_store("race").await.unwrap();
    central
        .write_model(&store, &dsl::parse(MODEL).unwrap())
        .await
        .unwrap();
    central
        .make_critical(&store, &["organization"])
        .await
        .unwrap();
    let tuples = [
        tuple("organization:1", "member", "user:anne"),
        tuple("event:42", "organization", "organization:1"),
        tuple("event:42", "can_watch", "user:bob"),
    ];
    central.write(&store, &tuples, &[]).await.unwrap();
    let question = tuple("event:42", "can_watch", "user:anne");
    for role in Role::ALL {
        allowed_at(system.node(role), &store, &question).await;
    }
    (system, store)
}

/// Waits until a node knows that somebody may.
async fn allowed_at(node: &Node, store: &str, question: &TupleKey) {
    let mut client = node.client();
    until("what was written", SOON, async || {
        match client.check(store, question, None).await {
            Ok(answer) if answer.allowed => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// Sends records until every client has one: from then on each gets all.
async fn flowing(system: &System, store: &str, clients: &mut [Live]) {
    flowing_at(system.central.http, store, clients).await;
}

/// The same, by a node.
async fn flowing_at(node: SocketAddr, store: &str, clients: &mut [Live]) {
    until("records to flow", SOON, async || {
        let sent = publish(node, store, "event:42", &json!("first")).await;
        if sent != 200 {
            return Err(format!("{sent}"));
        }
        for client in &mut *clients {
            client.quick().await.ok_or("nothing yet")?;
        }
        Ok(())
    })
    .await;
    for client in clients {
        while client.quick().await.is_some() {}
    }
}

#[tokio::test]
async fn one_record_reaches_clients_of_every_node_until_they_may_no_longer() {
    let _leave = heavy().await;
    let (system, store) = started().await;
    let mut clients = Vec::new();
    for role in Role::ALL {
        for user in ["anne", "bob"] {
            let mut client = Live::connect(system.node(role).http, &store, user).await;
            client.subscribe("event:42").await;
            let refused = client.ask("event:43").await;
            assert_eq!(
                (&refused["type"], &refused["code"]),
                (&json!("error"), &json!(403)),
                "{role}: {refused}"
            );
            clients.push(client);
        }
    }
    flowing(&system, &store, &mut clients).await;
    let records: Vec<Value> = (0..50).map(|number| json!({"n": number})).collect();
    for record in &records {
        assert_eq!(
            publish(system.edge.http, &store, "event:42", record).await,
            200
        );
    }
    for client in &mut clients {
        for record in &records {
            assert_eq!(&client.record().await["data"], record);
        }
    }

    let gone = tuple("organization:1", "member", "user:anne");
    let mut central = system.client(Role::Central);
    central
        .write(&store, &[], std::slice::from_ref(&gone))
        .await
        .unwrap();
    for (at, client) in clients.iter_mut().enumerate() {
        if at % 2 == 0 {
            let told = client.hear().await;
            assert_eq!(
                (&told["type"], &told["reason"]),
                (&json!("unsubscribed"), &json!("revoked")),
                "{told}"
            );
        }
    }
    assert_eq!(
        publish(system.regional.http, &store, "event:42", &json!("after")).await,
        200
    );
    for (at, client) in clients.iter_mut().enumerate() {
        if at % 2 == 1 {
            assert_eq!(client.record().await["data"], "after");
        }
    }
    for (at, client) in clients.iter_mut().enumerate() {
        if at % 2 == 0 {
            assert!(
                client.quick().await.is_none(),
                "nothing for who may no longer"
            );
        }
    }
}

#[tokio::test]
async fn with_the_nodes_above_away_what_was_allowed_goes_on_and_nothing_new_is() {
    let _leave = heavy().await;
    let (mut system, store) = started().await;
    let mut bob = Live::connect(system.edge.http, &store, "bob").await;
    bob.subscribe("event:42").await;
    flowing(&system, &store, std::slice::from_mut(&mut bob)).await;
    system.regional.process.kill().await;
    system.central.process.kill().await;
    let mut eve = Live::connect(system.edge.http, &store, "eve").await;
    let refused = eve.ask("event:7").await;
    assert_eq!(refused["code"], 503, "{refused}");
    assert_eq!(
        publish(system.edge.http, &store, "event:42", &json!("goes on")).await,
        200
    );
    assert_eq!(bob.record().await["data"], "goes on");

    // Kafka away and back: a client of the edge gets all that was taken, before, in between and after.
    let mut taken = Vec::new();
    for n in 0..20 {
        let sent = publish(system.edge.http, &store, "event:42", &json!(n)).await;
        assert_eq!(sent, 200);
        taken.push(json!(n));
    }
    system.kafka.stop().await.unwrap();
    let refused = publish(system.edge.http, &store, "event:42", &json!("refused")).await;
    assert_eq!(refused, 503);
    system.kafka.start_again().await.unwrap();
    until("records again", SOON, async || {
        let next = json!(taken.len());
        match publish(system.edge.http, &store, "event:42", &next).await {
            200 => taken.push(next),
            other => return Err(other.to_string()),
        }
        (taken.len() > 30).then_some(()).ok_or("too few".to_owned())
    })
    .await;
    let mut got = Vec::new();
    while got.last() != taken.last() {
        got.push(bob.record().await["data"].clone());
    }
    // What was refused may have been written all the same, even more than once.
    got.retain(|data| taken.contains(data));
    got.dedup();
    assert_eq!(got, taken);
}

/// Prints how long after a write that takes a permission away was acknowledged the last record still came, at an edge. With
/// `MERIDIAN_TEST_REVOCATIONS=200` there are as many, and the p99 means something.
#[tokio::test]
async fn how_soon_a_revocation_is_felt() {
    let _leave = heavy().await;
    let (system, store) = started().await;
    let mut clients = [Live::connect(system.edge.http, &store, "bob").await];
    clients[0].subscribe("event:42").await;
    flowing(&system, &store, &mut clients).await;
    let [mut bob] = clients;
    let mut central = system.client(Role::Central);
    let may = tuple("event:42", "can_watch", "user:bob");
    let rounds = std::env::var("MERIDIAN_TEST_REVOCATIONS");
    let rounds = rounds.map_or(20, |rounds| rounds.parse::<usize>().unwrap());
    let (mut last, mut told) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let sending = async {
            loop {
                publish(system.edge.http, &store, "event:42", &json!(1)).await;
            }
        };
        let revoking = async {
            central
                .write(&store, &[], std::slice::from_ref(&may))
                .await
                .unwrap();
            Instant::now()
        };
        let hearing = async {
            let mut at = Instant::now();
            loop {
                match bob.hear().await {
                    record if record["type"] == "record" => at = Instant::now(),
                    other => {
                        assert_eq!(other["reason"], "revoked", "{other}");
                        return (at, Instant::now());
                    }
                }
            }
        };
        let (acknowledged, (record, end)) = tokio::select! {
            both = async { tokio::join!(revoking, hearing) } => both,
            () = sending => unreachable!(),
        };
        last.push(record.saturating_duration_since(acknowledged));
        told.push(end.saturating_duration_since(acknowledged));
        central
            .write(&store, std::slice::from_ref(&may), &[])
            .await
            .unwrap();
        until("the permission again", SOON, async || {
            match bob.ask("event:42").await {
                again if again["type"] == "subscribed" => Ok(()),
                other => Err(other.to_string()),
            }
        })
        .await;
    }
    for (what, mut times) in [("last record", last), ("told", told)] {
        times.sort_unstable();
        println!(
            "after a revocation, {what}: median {:.1?}, p99 {:.1?}, worst of {rounds} {:.1?}",
            times[rounds / 2],
            times[(rounds * 99).div_ceil(100) - 1],
            times[rounds - 1]
        );
    }
}
