//! What records cost: nobody is asked about any of them.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::told::{Client, PATIENCE, call, kafka, store};
use crate::harness::{raw, send};

/// Records of one request.
const AT_ONCE: usize = 500;

/// A central node in a process of its own, whose figures are nobody else's.
struct Central {
    _process: Child,
    http: SocketAddr,
    metrics: SocketAddr,
}

impl Central {
    async fn start(folder: &Path, kafka: &str) -> Self {
        let [grpc, http, nodes, metrics] = std::array::from_fn(|_| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap()
        });
        let settings = json!({
            "name": "c",
            "listen": {"grpc": grpc, "http": http, "nodes": nodes, "metrics": metrics},
            "datastore": {"url": "memory:"},
            "kafka": {"bootstrap": kafka, "partitions": 2, "properties": {"fetch.wait.max.ms": "5"}},
            // This Kafka leaves a question open that a node asks before it reads.
            "live": {"enabled": true, "grace": "60s"},
        });
        let file = folder.join("node.yaml");
        std::fs::write(&file, settings.to_string()).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_meridian-central"))
            .arg("--config")
            .arg(&file)
            .env_clear()
            .current_dir("/")
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let serves = async {
            let there = async || TcpStream::connect(http).await.is_ok();
            while !there().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let healthy = async || {
                let reply = send(http, Method::GET, "/healthz", &[], Bytes::new()).await;
                reply.status == StatusCode::OK
            };
            while !healthy().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, serves).await.unwrap();
        Self {
            _process: process,
            http,
            metrics,
        }
    }

    /// A figure, all that it is told by together.
    async fn figure(&self, name: &str) -> u64 {
        let (_, _, text) = raw(self.metrics, Method::GET, "/metrics", &[], Bytes::new()).await;
        let text = String::from_utf8(text.into()).unwrap();
        let values = text.lines().filter_map(|line| {
            let (of, value) = line.rsplit_once(' ')?;
            let (of, _) = of.split_once('{').unwrap_or((of, ""));
            (of == name).then(|| value.parse::<u64>().unwrap())
        });
        values.sum()
    }
}

#[tokio::test]
async fn however_many_records_come_nobody_is_asked_about_one() {
    let kafka = kafka();
    let folder = tempfile::tempdir().unwrap();
    let node = Central::start(folder.path(), &kafka.bootstrap_servers()).await;
    let store = store(node.http).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Client::of(node.http, &store).await;
        assert_eq!(client.subscribe("event:42").await["type"], "subscribed");
        clients.push(client);
    }
    let calls = "meridian_live_authority_calls_total";
    let asked = node.figure(calls).await;
    assert_eq!(asked, 3, "by each who subscribed");
    let rounds = 10;
    for round in 0..rounds {
        let record = |n| json!({"object": "event:42", "data": round * AT_ONCE + n});
        let records: Vec<_> = (0..AT_ONCE).map(record).collect();
        let path = format!("/stores/{store}/live/publish");
        call(node.http, &path, &json!({ "records": records })).await;
        for client in &mut clients {
            for n in 0..AT_ONCE {
                let told = client.hear().await;
                assert_eq!(told["data"], round * AT_ONCE + n, "{told}");
            }
        }
    }
    let records = u64::try_from(rounds * AT_ONCE).unwrap();
    assert_eq!(node.figure("meridian_live_records_total").await, records);
    let delivered = node.figure("meridian_live_deliveries_total").await;
    assert_eq!(delivered, 3 * records);
    assert_eq!(node.figure(calls).await, asked);
}
