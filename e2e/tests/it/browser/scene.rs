//! One node with a live channel, a Kafka of its own, and a site whose tokens it takes.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use meridian_e2e::{Kafka, Workdir};
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::{Value, json};

use super::site::Site;
use crate::system::{Node, Role};
use crate::until::until;

/// What every user of the tests is.
const USER: &str = "user:anne";
const TOPIC: &str = "meridian.default.live";
const READING: &str = "reading the live channel's topic";
const SOON: Duration = Duration::from_secs(30);

pub(crate) struct Scene {
    pub(crate) node: Node,
    pub(crate) site: Site,
    pub(crate) store: String,
    kafka: Kafka,
    starts: usize,
    _dir: Workdir,
}

impl Scene {
    /// A node with an empty store in which `event` has watchers.
    pub(crate) async fn start() -> Self {
        let (kafka, site) = tokio::join!(Kafka::start(), Site::start());
        let kafka = kafka.unwrap();
        let dir = Workdir::new("browser").unwrap();
        let database = dir.path().join("central.db");
        let more = format!(
            "datastore: {{url: \"sqlite://{}?mode=rwc\"}}
live: {{enabled: true, oidc: {{issuer: \"{}\", audience: meridian}}}}",
            database.display(),
            site.issuer.url
        );
        let mut scene = Self {
            node: Node::new(Role::Central, &dir, &kafka.bootstrap(), &more),
            site,
            store: String::new(),
            kafka,
            starts: 0,
            _dir: dir,
        };
        scene.start_node().await;
        let made = scene.post("/stores", json!({"name": "live"})).await;
        scene.store = made["id"].as_str().unwrap().to_owned();
        let model = json!({"schema_version": "1.1", "type_definitions": [
            {"type": "user"},
            {"type": "event", "relations": {"can_watch": {"this": {}}}, "metadata": {"relations": {
                "can_watch": {"directly_related_user_types": [{"type": "user"}]}}}},
        ]});
        scene.post("authorization-models", model).await;
        scene
    }

    /// Starts the node, and waits until nothing that is published is missed.
    pub(crate) async fn start_node(&mut self) {
        self.node.start().await;
        self.starts += 1;
        until("a node that reads the live topic", SOON, async || {
            let reading = self.node.log().matches(READING).count();
            (reading == self.starts)
                .then_some(())
                .ok_or(self.node.log())
        })
        .await;
    }

    /// What a page is told: to subscribe to `object`, with waits as given.
    pub(crate) fn settings(&self, object: &str, timing: Value) -> Value {
        let url = format!("http://{}/live", self.node.http);
        json!({"url": url, "storeId": self.store, "object": object, "timing": timing})
    }

    pub(crate) async fn grant(&self, object: &str) {
        self.write("writes", object).await;
    }

    pub(crate) async fn revoke(&self, object: &str) {
        self.write("deletes", object).await;
    }

    async fn write(&self, what: &str, object: &str) {
        let tuple = json!({"user": USER, "relation": "can_watch", "object": object});
        self.post("write", json!({what: {"tuple_keys": [tuple]}}))
            .await;
    }

    /// Publishes at the node where a vehicle is.
    pub(crate) async fn publish(&self, vehicle: &str, objects: &[&str], [lat, lon]: [f64; 2]) {
        let record =
            json!({"object": vehicle, "objects": objects, "data": {"lat": lat, "lon": lon}});
        self.post("live/publish", json!({"records": [record]}))
            .await;
    }

    /// The same past the node, as anything that produces to the topic.
    pub(crate) async fn produce(&self, event: &str, [lat, lon]: [f64; 2]) {
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", self.kafka.bootstrap())
            .create()
            .unwrap();
        let data = json!({"lat": lat, "lon": lon}).to_string();
        let store = rdkafka::message::Header {
            key: "meridian-store",
            value: Some(&self.store),
        };
        let headers = rdkafka::message::OwnedHeaders::new().insert(store);
        let record = FutureRecord::to(TOPIC)
            .key(event)
            .payload(&data)
            .headers(headers);
        producer.send(record, None).await.unwrap();
    }

    /// Posts to a path of the store, or from the root.
    async fn post(&self, path: &str, body: Value) -> Value {
        let path = match path.strip_prefix('/') {
            Some(path) => path.to_owned(),
            None => format!("stores/{}/{path}", self.store),
        };
        post(self.node.http, &path, &body).await
    }
}

async fn post(address: SocketAddr, path: &str, body: &Value) -> Value {
    let request = http::Request::post(format!("http://{address}/{path}"))
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http();
    let (head, body) = client.request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    assert!(head.status.is_success(), "{path}: {} {body:?}", head.status);
    serde_json::from_slice(&body).unwrap_or_default()
}
