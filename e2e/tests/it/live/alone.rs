//! The endpoint as a process of its own.

use meridian_e2e::Workdir;
use serde_json::{Value, json};

use super::client::{Live, publish};
use super::{flowing, started};
use crate::http::request;
use crate::system::{Node, Role};
use crate::until::heavy;
use crate::world::tuple;

/// What both clients hear next.
async fn hear(clients: &mut [Live; 2]) -> [Value; 2] {
    let [one, other] = clients;
    [one.hear().await, other.hear().await]
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
    for (path, expected) in [("/livez", 200), ("/stores", 404)] {
        let (status, _) = request(alone.http, "GET", path, "").await;
        assert_eq!(status, expected, "{path}");
    }

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
