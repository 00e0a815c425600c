//! The endpoint as a process of its own.

use std::net::SocketAddr;

use meridian_e2e::Workdir;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client::{Live, publish};
use super::{flowing, started};
use crate::system::{Node, Role};
use crate::until::heavy;
use crate::world::tuple;

/// What both clients hear next.
async fn hear(clients: &mut [Live; 2]) -> [Value; 2] {
    let [one, other] = clients;
    [one.hear().await, other.hear().await]
}

async fn status(node: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(node).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {node}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn it_sends_the_frames_that_an_edge_sends_and_serves_nothing_else() {
    let _leave = heavy().await;
    let (system, store) = started().await;
    let dir = Workdir::new("live").unwrap();
    let settings = format!(
        "upstream: [\"http://{}\"]\nlive: {{enabled: true, grace: 2s}}",
        system.regional.nodes
    );
    let mut alone = Node::of("live", &dir, &system.kafka.bootstrap(), &settings);
    alone.start().await;
    assert_eq!(status(alone.http, "/livez").await, "200");
    assert_eq!(status(alone.http, "/stores").await, "404");

    let mut clients = [
        Live::connect(system.edge.http, &store, "anne").await,
        Live::connect(alone.http, &store, "anne").await,
    ];
    for client in &mut clients {
        client.subscribe("event:42").await;
        assert_eq!(client.ask("event:43").await["code"], 403);
    }
    flowing(&system, &store, &mut clients).await;
    for n in 0..100 {
        let sent = publish(system.central.http, &store, "event:42", &json!({"n": n})).await;
        assert_eq!(sent, 200);
    }
    for n in 0..100 {
        let [edge, alone] = hear(&mut clients).await;
        assert_eq!(
            (&edge["type"], &edge["data"]["n"]),
            (&json!("record"), &json!(n))
        );
        assert_eq!(edge, alone);
    }

    let gone = tuple("organization:1", "member", "user:anne");
    let mut central = system.client(Role::Central);
    central
        .write(&store, &[], std::slice::from_ref(&gone))
        .await
        .unwrap();
    let [edge, alone] = hear(&mut clients).await;
    assert_eq!(edge["reason"], "revoked", "{edge}");
    assert_eq!(edge, alone);
}
