//! Central, regional and edge as processes, around a Kafka in this one.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use meridian_proto::openfga::v1::open_fga_service_client::OpenFgaServiceClient;
use meridian_server::client::Client;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::authn::issuer::Issuer;
use crate::harness::{raw, terminate};

pub(super) const ROLES: [&str; 3] = ["central", "regional", "edge"];
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection that shows a token.
pub(super) type Shown = InterceptedService<Channel, Bearer>;

/// Shows a token.
#[derive(Clone)]
pub(super) struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let token = self.0.clone();
        request.metadata_mut().insert("authorization", token);
        Ok(request)
    }
}

/// All of them, of which the edge lets in by tokens.
pub(super) struct Nodes {
    token: Bearer,
    all: BTreeMap<&'static str, Node>,
    folder: TempDir,
    _kafka: MockCluster<'static, DefaultProducerContext>,
}

struct Node {
    process: Child,
    grpc: SocketAddr,
    http: SocketAddr,
    nodes: SocketAddr,
    metrics: SocketAddr,
}

fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

impl Nodes {
    /// Starts all three, which send their traces to `collector`; `token` of `issuer` is let in.
    pub(super) async fn start(collector: &str, issuer: &Issuer, token: &str) -> Self {
        let kafka = MockCluster::new(1).unwrap();
        for topic in ["meridian.default.changes", "meridian.default.here.edge"] {
            kafka.create_topic(topic, 2, 1).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let mut all: BTreeMap<&'static str, Node> = BTreeMap::new();
        for role in ROLES {
            let above = match role {
                "central" => vec![],
                "regional" => vec!["central"],
                _ => vec!["regional", "central"],
            };
            let above = above
                .iter()
                .map(|role| format!("http://{}", all[role].nodes));
            let above: Vec<_> = above.collect();
            let bootstrap = kafka.bootstrap_servers();
            let authn = match role {
                "edge" => {
                    json!({"method": "oidc", "oidc": {"issuer": issuer.url, "audience": "meridian"}})
                }
                _ => json!({}),
            };
            let mut settings = Node::settings(role, folder.path(), &bootstrap, &above);
            settings["authn"] = authn;
            let node = Node::start(role, folder.path(), settings, collector);
            node.ready(role).await;
            all.insert(role, node);
        }
        Self {
            token: Bearer(format!("Bearer {token}").parse().unwrap()),
            all,
            folder,
            _kafka: kafka,
        }
    }

    pub(super) async fn client(&self, role: &str) -> OpenFgaServiceClient<Shown> {
        OpenFgaServiceClient::new(self.channel(role).await)
    }

    /// A connection that shows the token.
    pub(super) async fn channel(&self, role: &str) -> Shown {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.all[role].grpc));
        let channel = endpoint.unwrap().connect().await.unwrap();
        InterceptedService::new(channel, self.token.clone())
    }

    /// The token as it stands in a header.
    pub(super) fn bearer(&self) -> &str {
        self.token.0.to_str().unwrap()
    }

    pub(super) fn http(&self, role: &str) -> SocketAddr {
        self.all[role].http
    }

    /// Has every edge hold every tuple of a type.
    pub(super) async fn critical(&self, store: &str, object_type: &str) {
        let mut client = Client::new(&self.all["central"].grpc.to_string()).unwrap();
        let critical = vec![object_type.to_owned()];
        client
            .assign_tiers(store, critical, Vec::new())
            .await
            .unwrap();
    }

    pub(super) async fn metrics(&self, role: &str) -> String {
        let address = self.all[role].metrics;
        let (_, _, text) = raw(address, Method::GET, "/metrics", &[], Bytes::new()).await;
        String::from_utf8(text.into()).unwrap()
    }

    /// Stops all, lowest first; what they logged.
    pub(super) async fn stop(mut self) -> BTreeMap<&'static str, String> {
        let mut logs = BTreeMap::new();
        for role in ["edge", "regional", "central"] {
            let mut node = self.all.remove(role).unwrap();
            terminate(&node.process);
            let ended = tokio::time::timeout(PATIENCE, node.process.wait()).await;
            assert!(ended.unwrap().unwrap().success(), "{role}");
            let log = std::fs::read_to_string(self.folder.path().join(format!("{role}.log")));
            logs.insert(role, log.unwrap());
        }
        logs
    }
}

impl Node {
    fn settings(role: &str, folder: &Path, kafka: &str, above: &[String]) -> Value {
        let database = folder.join(format!("{role}.db"));
        json!({
            "name": &role[..1],
            "region": "here",
            "datastore": {"url": format!("sqlite://{}?mode=rwc", database.display()), "minConnections": 1, "maxConnections": 4},
            "kafka": {"bootstrap": kafka, "partitions": 2, "properties": {"fetch.wait.max.ms": "5"}},
            "upstream": above,
            "nodes": {"tokens": ["between-nodes"]},
        })
    }

    fn start(role: &str, folder: &Path, mut settings: Value, collector: &str) -> Self {
        let (grpc, http, nodes, metrics) = (free(), free(), free(), free());
        settings["listen"] =
            json!({"grpc": grpc, "http": http, "nodes": nodes, "metrics": metrics});
        let file = folder.join(format!("{role}.yaml"));
        std::fs::write(&file, settings.to_string()).unwrap();
        let log = std::fs::File::create(folder.join(format!("{role}.log"))).unwrap();
        let program = match role {
            "central" => env!("CARGO_BIN_EXE_meridian-central"),
            "regional" => env!("CARGO_BIN_EXE_meridian-regional"),
            _ => env!("CARGO_BIN_EXE_meridian-edge"),
        };
        let process = Command::new(program)
            .arg("--config")
            .arg(&file)
            .args(["--log", "info,access=debug", "--log-format", "json"])
            .env_clear()
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
            .env("OTEL_TRACES_SAMPLER", "parentbased_always_off")
            .env("OPENFGA_METRICS_ENABLE_RPC_HISTOGRAMS", "true")
            .current_dir("/")
            .stderr(Stdio::from(log))
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            process,
            grpc,
            http,
            nodes,
            metrics,
        }
    }

    async fn ready(&self, role: &str) {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.grpc)).unwrap();
        let ready = async || {
            let mut client = HealthClient::new(endpoint.connect().await.ok()?);
            let asked = client.check(HealthCheckRequest::default()).await.ok()?;
            Some(asked.into_inner().status() == ServingStatus::Serving)
        };
        let waited = tokio::time::timeout(PATIENCE, async {
            while ready().await != Some(true) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        waited
            .await
            .unwrap_or_else(|_| panic!("{role} is not ready"));
    }
}
