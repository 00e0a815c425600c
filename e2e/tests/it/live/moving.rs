//! Nodes that die under their clients, who go on elsewhere.

use std::net::SocketAddr;

use futures::future::join_all;
use serde_json::json;

use super::client::{Live, publish};
use super::{flowing, started};
use crate::system::Role;
use crate::until::heavy;

const RECORDS: u64 = 600;

/// A client that goes elsewhere when its node is gone, and has been sent these numbers.
struct Moving {
    client: Live,
    user: &'static str,
    position: String,
    numbers: Vec<u64>,
    moves: usize,
}

impl Moving {
    /// Hears until the last record, going from each node that dies to the next of `others`.
    async fn hear_all(&mut self, store: &str, mut others: impl Iterator<Item = SocketAddr>) {
        while self.numbers.last().is_none_or(|last| last + 1 < RECORDS) {
            let Some(told) = self.client.heard().await else {
                let next = others.next().unwrap();
                self.client = Live::connect(next, store, self.user).await;
                let told = self.client.ask_from("event:42", &self.position).await;
                assert_eq!(told["type"], "subscribed", "{told}");
                assert_eq!(told["recovered"], true, "{told}");
                self.moves += 1;
                continue;
            };
            assert_eq!(told["type"], "record", "{told}");
            self.numbers.push(told["data"]["n"].as_u64().unwrap());
            self.position = told["position"].as_str().unwrap().to_owned();
        }
    }
}

#[tokio::test]
async fn clients_of_nodes_that_die_get_every_record_once_elsewhere() {
    let _leave = heavy().await;
    let (mut system, store) = started().await;
    let mut clients = Vec::new();
    for role in Role::ALL {
        for user in ["anne", "bob"] {
            let mut client = Live::connect(system.node(role).http, &store, user).await;
            client.subscribe("event:42").await;
            clients.push(client);
        }
    }
    flowing(&system, &store, &mut clients).await;
    let users = ["anne", "bob"].into_iter().cycle();
    let mut clients: Vec<_> = clients
        .into_iter()
        .zip(users)
        .map(|(client, user)| Moving {
            client,
            user,
            position: String::new(),
            numbers: Vec::new(),
            moves: 0,
        })
        .collect();

    let (central, regional) = (system.central.http, system.regional.http);
    let sending = async {
        for n in 0..RECORDS {
            assert_eq!(
                publish(central, &store, "event:42", &json!({"n": n})).await,
                200
            );
            if n == RECORDS / 3 {
                system.edge.process.kill().await;
            }
            if n == RECORDS / 3 * 2 {
                system.regional.process.kill().await;
            }
        }
    };
    let hearing = clients.chunks_mut(2).enumerate().flat_map(|(at, clients)| {
        // Those of central stay, those of the region have one node left, those of the edge two.
        let others = [regional, central].into_iter().skip(2 - at);
        clients
            .iter_mut()
            .map(move |client| (client, others.clone()))
    });
    let hearing = hearing.map(|(client, others)| client.hear_all(&store, others));
    tokio::join!(sending, join_all(hearing));
    for (at, client) in clients.iter().enumerate() {
        let all: Vec<u64> = (0..RECORDS).collect();
        assert_eq!(client.numbers, all, "client {at}");
        assert_eq!(client.moves, at / 2, "client {at}");
    }
}
