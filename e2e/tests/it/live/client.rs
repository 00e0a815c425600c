//! A client of the live channel, and who sends records.

use std::net::SocketAddr;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::http::request;

/// More than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long something that is not to come is waited for.
const QUICK: Duration = Duration::from_millis(200);

/// A client over any stream.
pub(crate) struct Client<S>(WebSocketStream<S>);

/// A client over TCP.
pub(crate) type Live = Client<TcpStream>;

impl Live {
    pub(crate) async fn connect(node: SocketAddr, store: &str, token: &str) -> Self {
        let url = format!("ws://{node}/live?store_id={store}");
        Self::over(TcpStream::connect(node).await.unwrap(), &url, token).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) async fn over(stream: S, url: &str, token: &str) -> Self {
        let mut request = url.into_client_request().unwrap();
        let headers = request.headers_mut();
        let bearer = format!("Bearer {token}").parse().unwrap();
        headers.insert("authorization", bearer);
        headers.insert("user-agent", "race/1.0".parse().unwrap());
        let (socket, _) = client_async(request, stream).await.unwrap();
        let mut client = Self(socket);
        let welcome = client.hear().await;
        assert_eq!(welcome["user"], format!("user:{token}"), "{welcome}");
        client
    }

    /// What comes next, pings apart.
    pub(crate) async fn hear(&mut self) -> Value {
        self.heard().await.unwrap()
    }

    /// What comes next, pings apart; `None` where the node is gone.
    pub(crate) async fn heard(&mut self) -> Option<Value> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.0.next()).await;
            match next.unwrap()?.ok()? {
                Message::Text(text) => return Some(serde_json::from_str(&text).unwrap()),
                Message::Close(frame) => panic!("{frame:?}"),
                _ => {}
            }
        }
    }

    /// What comes within a moment, if anything does.
    pub(crate) async fn quick(&mut self) -> Option<Value> {
        tokio::time::timeout(QUICK, self.hear()).await.ok()
    }

    /// Asks for an object.
    pub(crate) async fn ask(&mut self, object: &str) -> Value {
        let message = json!({"type": "subscribe", "id": object, "object": object});
        self.say(&message).await
    }

    /// Asks for what followed a position.
    pub(crate) async fn ask_from(&mut self, object: &str, position: &str) -> Value {
        let message =
            json!({"type": "subscribe", "id": object, "object": object, "position": position});
        self.say(&message).await
    }

    /// Sends a message; what comes next.
    async fn say(&mut self, message: &Value) -> Value {
        let message = Message::text(message.to_string());
        self.0.send(message).await.unwrap();
        self.hear().await
    }

    /// Subscribes, as that is allowed.
    pub(crate) async fn subscribe(&mut self, object: &str) {
        let told = self.ask(object).await;
        assert_eq!(told["type"], "subscribed", "{told}");
    }

    pub(crate) async fn record(&mut self) -> Value {
        let told = self.hear().await;
        assert_eq!(told["type"], "record", "{told}");
        told
    }
}

/// Sends a record by a node; returns the answer's status.
pub(crate) async fn publish(node: SocketAddr, store: &str, object: &str, data: &Value) -> u16 {
    publish_all(node, store, &[json!({"object": object, "data": data})]).await
}

/// Sends records by a node; returns the answer's status.
pub(crate) async fn publish_all(node: SocketAddr, store: &str, records: &[Value]) -> u16 {
    let body = json!({"records": records}).to_string();
    let path = format!("/stores/{store}/live/publish");
    request(node, "POST", &path, &body).await.0
}

/// Sends a record past all nodes.
pub(crate) async fn produce(kafka: &str, store: &str, object: &str, data: &Value) {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .create()
        .unwrap();
    let store = Header {
        key: "meridian-store",
        value: Some(store),
    };
    let data = data.to_string();
    let record = FutureRecord::to("meridian.default.live")
        .key(object)
        .payload(&data)
        .headers(OwnedHeaders::new().insert(store));
    producer.send(record, None).await.unwrap();
}
