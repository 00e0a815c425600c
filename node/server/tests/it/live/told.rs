//! What a node's live channel knows of stores, and when: of its own writes at once, and at an edge which stores there are.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http::Method;
use meridian_server::config::Config;
use meridian_server::roles;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::harness::{NOBODY, alone, send};

pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A Kafka in this process, which has the topics of central and of an edge of the region `here`.
pub(super) fn kafka() -> MockCluster<'static, DefaultProducerContext> {
    let kafka = MockCluster::new(1).unwrap();
    for topic in ["changes", "live", "here.edge"] {
        let topic = format!("meridian.default.{topic}");
        kafka.create_topic(&topic, 2, 1).unwrap();
    }
    kafka
}

fn config(kafka: &MockCluster<'static, DefaultProducerContext>) -> Config {
    let mut config = alone();
    config.region = "here".into();
    config.kafka.bootstrap = kafka.bootstrap_servers();
    config.kafka.partitions = 2;
    config.live.enabled = true;
    // That Kafka leaves a question open that a node asks before it reads.
    config.live.grace = 4 * PATIENCE;
    config
}

/// One who is connected.
pub(super) struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    pub(super) async fn of(http: SocketAddr, store: &str) -> Self {
        let mut request = format!("ws://{}/live?store_id={store}", http)
            .into_client_request()
            .unwrap();
        let bearer = "Bearer anne".parse().unwrap();
        request.headers_mut().insert("authorization", bearer);
        let mut client = Self(connect_async(request).await.unwrap().0);
        assert_eq!(client.hear().await["type"], "welcome");
        client
    }

    pub(super) async fn subscribe(&mut self, object: &str) -> Value {
        let subscribe = json!({"type": "subscribe", "id": "a", "object": object});
        let subscribe = Message::text(subscribe.to_string());
        self.0.send(subscribe).await.unwrap();
        self.hear().await
    }

    pub(super) async fn hear(&mut self) -> Value {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next()).await;
            if let Message::Text(text) = message.unwrap().unwrap().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }
}

pub(super) async fn call(http: SocketAddr, path: &str, body: &Value) -> Value {
    let body = Bytes::from(body.to_string());
    let reply = send(http, Method::POST, path, &[], body).await;
    assert!(reply.status.is_success(), "{path}: {}", reply.body);
    reply.body
}

/// A store in which anne can watch an event; its id.
pub(super) async fn store(http: SocketAddr) -> String {
    let store = call(http, "/stores", &json!({"name": "race"})).await;
    let store = store["id"].as_str().unwrap().to_owned();
    let model =
        "model\n  schema 1.1\ntype user\ntype event\n  relations\n    define can_watch: [user]\n";
    let model = serde_json::to_value(meridian_model::dsl::parse(model).unwrap()).unwrap();
    call(
        http,
        &format!("/stores/{store}/authorization-models"),
        &model,
    )
    .await;
    let writes = json!({"writes": {"tuple_keys": [key()]}});
    call(http, &format!("/stores/{store}/write"), &writes).await;
    store
}

fn key() -> Value {
    json!({"user": "user:anne", "relation": "can_watch", "object": "event:42"})
}

#[tokio::test]
async fn central_knows_of_a_write_of_its_own_without_reading_its_database() {
    let kafka = kafka();
    let node = roles::central(&config(&kafka)).await.unwrap();
    node.ready().await;
    let store = store(node.http).await;
    let mut anne = Client::of(node.http, &store).await;
    assert_eq!(anne.subscribe("event:42").await["type"], "subscribed");
    // While something runs that the runtime cannot see the end of, its clock stands still: whoever reads the database every 50 ms
    // has its next turn when the test is lost.
    let (goes_on, waits) = mpsc::channel::<()>();
    let standing = tokio::task::spawn_blocking(move || waits.recv_timeout(PATIENCE));
    tokio::time::pause();
    let deletes = json!({"deletes": {"tuple_keys": [key()]}});
    call(node.http, &format!("/stores/{store}/write"), &deletes).await;
    let told = anne.hear().await;
    assert_eq!(
        (&told["type"], &told["reason"]),
        (&json!("unsubscribed"), &json!("revoked")),
        "{told}"
    );
    assert!(!standing.is_finished(), "it was read");
    drop(goes_on);
    tokio::time::resume();
    node.stop().await;
}

#[tokio::test]
async fn an_edge_says_that_there_is_no_such_store_when_those_above_do() {
    let kafka = kafka();
    let central = roles::central(&config(&kafka)).await.unwrap();
    central.ready().await;
    let mut config = config(&kafka);
    config.upstream = vec![format!("http://{}", central.nodes.unwrap())];
    // A question may then take longer than the test.
    config.limits.request_timeout = 4 * PATIENCE;
    let edge = roles::edge(&config).await.unwrap();
    let mut client = Client::of(edge.http, NOBODY).await;
    let told = client.subscribe("event:42").await;
    assert_eq!(
        (&told["type"], &told["code"], &told["message"]),
        (
            &json!("error"),
            &json!(404),
            &json!("there is no such store")
        ),
        "{told}"
    );
    edge.stop().await;

    // While nobody can say so, nobody does.
    central.stop().await;
    config.limits.request_timeout = Duration::from_secs(2);
    let edge = roles::edge(&config).await.unwrap();
    let mut client = Client::of(edge.http, NOBODY).await;
    let told = client.subscribe("event:42").await;
    assert_eq!(
        (&told["code"], &told["message"]),
        (
            &json!(503),
            &json!("the authority cannot be reached; try again")
        ),
        "{told}"
    );
    edge.stop().await;
}
