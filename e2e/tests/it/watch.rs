//! `/watch` on real parts: what is written at one node is told at another, under the same positions.

use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt as _;
use meridian_model::dsl;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::system::{RegionalStore, Role, System};
use crate::until::heavy;
use crate::world::tuple;

/// More than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
const MODEL: &str = "
model
  schema 1.1

type user

type document
  relations
    define viewer: [user]
";

struct Watcher(WebSocketStream<MaybeTlsStream<TcpStream>>);

/// Watches a store from somewhere on; the status, where that is refused.
async fn watch(node: SocketAddr, store: &str, after: &str) -> Result<Watcher, u16> {
    let url = format!("ws://{node}/watch?store_id={store}&after={after}");
    match tokio::time::timeout(PATIENCE, connect_async(url))
        .await
        .unwrap()
    {
        Ok((socket, _)) => {
            let mut watcher = Watcher(socket);
            assert_eq!(watcher.hear().await["type"], "welcome");
            Ok(watcher)
        }
        Err(Error::Http(reply)) => Err(reply.status().as_u16()),
        Err(other) => panic!("{other}"),
    }
}

impl Watcher {
    async fn hear(&mut self) -> Value {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.0.next()).await;
            match next.unwrap().unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Close(frame) => panic!("{frame:?}"),
                _ => {}
            }
        }
    }

    async fn change(&mut self) -> Value {
        let told = self.hear().await;
        assert_eq!(told["type"], "change", "{told}");
        told
    }
}

fn position(told: &Value) -> &str {
    told["position"].as_str().unwrap()
}

#[tokio::test]
async fn a_watcher_goes_on_at_another_node_where_it_ended_at_the_first() {
    let _leave = heavy().await;
    let more = "watch: {enabled: true}";
    let mut system = System::describe_with(RegionalStore::Postgres, more).await;
    system.start_nodes().await;
    let mut central = system.client(Role::Central);
    let store = central.create_store("shop").await.unwrap();
    let model = dsl::parse(MODEL).unwrap();
    central.write_model(&store, &model).await.unwrap();
    let mut at_central = watch(system.central.http, &store, "start").await.unwrap();
    let mut at_region = watch(system.regional.http, &store, "start").await.unwrap();
    let mut edge = system.client(Role::Edge);
    for number in 0..20 {
        let tuple = tuple(&format!("document:{number}"), "viewer", "user:anne");
        edge.write(&store, &[tuple], &[]).await.unwrap();
    }
    // Two revisions of the store and its model, and twenty.
    let mut told = Vec::new();
    for _ in 0..22 {
        told.push(at_central.change().await);
    }
    for expected in &told {
        assert_eq!(at_region.change().await, *expected);
    }
    assert_eq!(told[21]["writes"][0]["object"], "document:19");

    let mut again = watch(system.regional.http, &store, position(&told[9]))
        .await
        .unwrap();
    for expected in &told[10..] {
        assert_eq!(again.change().await, *expected);
    }
    // A position that the region may not have reached yet: it waits, and leaves nothing out.
    let write = async |number: u64| {
        let tuple = tuple(&format!("document:{number}"), "viewer", "user:beth");
        let mut central = system.client(Role::Central);
        central.write(&store, &[tuple], &[]).await.unwrap();
    };
    write(20).await;
    let ahead = at_central.change().await;
    let mut later = watch(system.regional.http, &store, position(&ahead))
        .await
        .unwrap();
    write(21).await;
    let next = at_central.change().await;
    assert_eq!(later.change().await, next);

    let refused = watch(system.edge.http, &store, "start").await;
    assert_eq!(refused.err(), Some(421), "an edge has no change log");
}
