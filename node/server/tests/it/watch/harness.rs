//! A central node with `/watch`, those who write to it, and those who watch.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, Method, StatusCode};
use meridian_server::config::Config;
use meridian_server::roles::{self, Node};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async, connect_async};

use crate::harness::{alone, send};

pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn config(database: &str) -> Config {
    let mut config = Config {
        name: "one".into(),
        shutdown_timeout: Duration::from_secs(5),
        ..alone()
    };
    config.datastore.url = database.into();
    config.watch.enabled = true;
    config
}

pub(super) fn file(folder: &tempfile::TempDir) -> String {
    let file: &Path = folder.path();
    format!("sqlite://{}?mode=rwc", file.join("central.db").display())
}

pub(super) async fn central(config: &Config) -> Node {
    let node = roles::central(config).await.unwrap();
    tokio::time::timeout(PATIENCE, node.ready()).await.unwrap();
    node
}

pub(super) async fn call(node: &Node, method: Method, path: &str, body: &Value) -> Value {
    let body = match body {
        Value::Null => Bytes::new(),
        body => Bytes::from(body.to_string()),
    };
    let bearer = [("authorization", "Bearer key")];
    let reply = send(node.http, method, path, &bearer, body).await;
    assert!(reply.status.is_success(), "{path}: {}", reply.body);
    reply.body
}

/// A store with documents and folders, and viewers who are users or, bound to the hour, anybody; its id. That is revisions 1 and 2.
pub(super) async fn store(node: &Node) -> String {
    let store = call(node, Method::POST, "/stores", &json!({"name": "shop"})).await;
    let store = store["id"].as_str().unwrap().to_owned();
    let model = "model\n  schema 1.1\ntype user\ntype document\n  relations\n    define viewer: [user, user:* with office]\n\
        type folder\n  relations\n    define viewer: [user]\ncondition office(hour: int) {\n  hour > 8\n}\n";
    let model = meridian_model::dsl::parse(model).unwrap();
    let path = format!("/stores/{store}/authorization-models");
    call(
        node,
        Method::POST,
        &path,
        &serde_json::to_value(model).unwrap(),
    )
    .await;
    store
}

pub(super) fn key(user: &str, object: &str) -> Value {
    json!({"user": user, "relation": "viewer", "object": object})
}

pub(super) async fn write(node: &Node, store: &str, writes: &[Value], deletes: &[Value]) {
    let mut body = json!({});
    for (name, keys) in [("writes", writes), ("deletes", deletes)] {
        if !keys.is_empty() {
            body[name] = json!({ "tuple_keys": keys });
        }
    }
    call(node, Method::POST, &format!("/stores/{store}/write"), &body).await;
}

/// One who watches.
pub(super) struct Watcher {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// Connects with these headers; why not, if not.
pub(super) async fn connect(
    node: &Node,
    query: &str,
    headers: &[(&'static str, &str)],
) -> Result<Watcher, (StatusCode, Value)> {
    let mut request = format!("ws://{}/watch?{query}", node.http)
        .into_client_request()
        .unwrap();
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).unwrap();
        request.headers_mut().insert(*name, value);
    }
    match tokio::time::timeout(PATIENCE, connect_async(request))
        .await
        .unwrap()
    {
        Ok((socket, _)) => Ok(Watcher { socket }),
        Err(Error::Http(reply)) => {
            let body = reply.body().as_deref().unwrap_or_default();
            Err((reply.status(), serde_json::from_slice(body).unwrap()))
        }
        Err(other) => panic!("{other}"),
    }
}

/// One whose system takes in little that is not read.
pub(super) async fn connect_with_little_room(node: &Node, query: &str) -> Watcher {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(node.http).await.unwrap();
    let url = format!("ws://{}/watch?{query}", node.http);
    let stream = MaybeTlsStream::Plain(stream);
    let (socket, _) = client_async(url, stream).await.unwrap();
    Watcher { socket }
}

/// The same, who is welcome.
pub(super) async fn watch_with_little_room(node: &Node, query: &str) -> Watcher {
    let mut watcher = connect_with_little_room(node, query).await;
    assert_eq!(watcher.hear().await["type"], "welcome");
    watcher
}

/// One who is welcome, and from where on.
pub(super) async fn watch(node: &Node, query: &str) -> (Watcher, Value) {
    let mut watcher = connect(node, query, &[]).await.unwrap();
    let welcome = watcher.hear().await;
    assert_eq!(welcome["type"], "welcome", "{welcome}");
    (watcher, welcome)
}

impl Watcher {
    pub(super) async fn say(&mut self, said: &str) {
        self.send(Message::text(said)).await;
    }

    pub(super) async fn send(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    /// What it is told next, or the code by which it is closed.
    pub(super) async fn next(&mut self) -> Result<Value, u16> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.socket.next());
            match message.await.expect("nothing was told") {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => {
                    return Err(frame.map_or(0, |frame| frame.code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(0),
            }
        }
    }

    pub(super) async fn hear(&mut self) -> Value {
        self.next().await.expect("it was closed")
    }

    /// The next revision that it is told.
    pub(super) async fn revision(&mut self) -> u64 {
        let told = self.hear().await;
        assert_eq!(told["type"], "change", "{told}");
        revision(&told)
    }

    /// What it is told until it is closed, and by which code.
    pub(super) async fn rest(&mut self) -> (Vec<Value>, u16) {
        let mut told = Vec::new();
        loop {
            match self.next().await {
                Ok(frame) => told.push(frame),
                Err(code) => return (told, code),
            }
        }
    }
}

pub(super) fn revision(told: &Value) -> u64 {
    let position = told["position"].as_str().unwrap();
    position.split_once('.').unwrap().1.parse().unwrap()
}
