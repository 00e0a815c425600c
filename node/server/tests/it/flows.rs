//! What the flow recorder keeps of a node's calls: decisions with their stages, and who called.

mod asked;
mod explained;
mod given_up;
mod guarded;
mod keeping;
mod recorded;
mod switch;
mod told;

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, StatusCode};
use meridian_flow::ports::{FlowFilter, FlowRepository as _, FlowStepRepository as _};
use meridian_flow::sql::SqlFlows;
use meridian_flow::{Flow, FlowKind, FlowStatus, Row, Session, Sink as _, Step, StepStatus};
use meridian_model::{StoreId, Timestamp};
use meridian_proto::openfga::v1;
use meridian_server::config::authn::{Authn, Method as Way, Secrets};
use meridian_server::config::{self, Config};
use meridian_server::roles::{self, Node};
use prost::Message;
use serde_json::{Value, json};

use crate::harness::{alone, raw_rpc, send};

const PATIENCE: Duration = Duration::from_secs(30);
const KEY: &str = "a-key-that-nobody-may-see";
const BEARER: &str = "Bearer a-key-that-nobody-may-see";

/// A central with a database file, which records.
async fn central(file: &Path, set: impl FnOnce(&mut config::Recorder)) -> Node {
    central_with(&url(file), |config| set(&mut config.recorder)).await
}

async fn central_with(url: &str, set: impl FnOnce(&mut Config)) -> Node {
    let mut authn = Authn {
        method: Way::Preshared,
        ..Authn::default()
    };
    authn.preshared.keys = Secrets::new([KEY.to_owned()]);
    let mut config = Config {
        datastore: config::Datastore {
            url: url.to_owned(),
            ..Default::default()
        },
        authn,
        ..alone()
    };
    config.nodes.tokens = Secrets::new(["token".to_owned()]);
    config.recorder.enabled = true;
    config.recorder.regions = vec!["here".to_owned()];
    config.http.trusted_proxies = vec!["127.0.0.0/8".to_owned()];
    set(&mut config);
    let node = roles::central(&config).await.unwrap();
    tokio::time::timeout(PATIENCE, node.ready()).await.unwrap();
    node
}

/// An edge below it.
async fn edge(node: &Node) -> Node {
    let mut config = Config {
        name: "edge".into(),
        region: "here".into(),
        upstream: vec![format!("http://{}", node.nodes.unwrap())],
        ..alone()
    };
    config.nodes.tokens = Secrets::new(["token".to_owned()]);
    roles::edge(&config).await.unwrap()
}

fn url(file: &Path) -> String {
    format!("sqlite://{}?mode=rwc", file.display())
}

/// Whether a text stands in the files of a database in a folder.
fn is_stored(folder: &Path, text: &[u8]) -> bool {
    let files = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    // SQLite moves what is new from its log, whose name is the longer one, to the database, and removes the log at last.
    files.sort_by(|one, other| other.cmp(one));
    let mut files = files.iter().filter_map(|file| std::fs::read(file).ok());
    files.any(|bytes| bytes.windows(text.len()).any(|part| part == text))
}

async fn post(node: &Node, path: &str, body: Value) -> Value {
    let headers = [
        ("authorization", BEARER),
        ("user-agent", "shop/1.0"),
        ("x-forwarded-for", "198.51.100.9"),
    ];
    let body = Bytes::from(body.to_string());
    let reply = send(node.http, Method::POST, path, &headers, body).await;
    reply.body
}

/// A store in which anne may view the plan.
async fn store(node: &Node) -> StoreId {
    let store = post(node, "/stores", json!({"name": "shop"})).await;
    let store: StoreId = store["id"].as_str().unwrap().parse().unwrap();
    let model = json!({"schema_version": "1.1", "type_definitions": [
        {"type": "user"},
        {"type": "document", "relations": {"viewer": {"this": {}}},
         "metadata": {"relations": {"viewer": {"directly_related_user_types": [{"type": "user"}]}}}},
    ]});
    post(
        node,
        &format!("/stores/{store}/authorization-models"),
        model,
    )
    .await;
    let key = json!({"user": "user:anne", "relation": "viewer", "object": "document:plan"});
    let write = json!({"writes": {"tuple_keys": [key]}});
    post(node, &format!("/stores/{store}/write"), write).await;
    store
}

/// All flows of a kind, earliest first, with their steps, once the node has stopped.
async fn kept(file: &Path, store: StoreId, kind: FlowKind) -> Vec<(Flow, Vec<Step>)> {
    let flows = SqlFlows::connect_lazy(&url(file)).unwrap();
    let filter = FlowFilter {
        kind: Some(kind),
        ..FlowFilter::default()
    };
    let deadline = Instant::now() + PATIENCE;
    let found = flows.get_flows(store, &filter, None, 100, deadline).await;
    let mut all = Vec::new();
    for flow in found.unwrap().flows.into_iter().rev() {
        let steps = flows.get_steps_for_flow(flow.id, deadline).await.unwrap();
        all.push((flow, steps));
    }
    all
}

fn names(steps: &[Step]) -> Vec<&str> {
    steps.iter().map(|step| &*step.name).collect()
}

async fn get(address: std::net::SocketAddr, path: &str) -> (u16, Value) {
    let headers = [("authorization", BEARER)];
    let reply = send(address, Method::GET, path, &headers, Bytes::new()).await;
    (reply.status.as_u16(), reply.body)
}

/// The flows that a query finds, once there are so many.
async fn listed(node: &Node, store: StoreId, query: &str, count: usize) -> Vec<Value> {
    let path = format!("/stores/{store}/flows?{query}");
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            let (_, body) = get(node.http, &path).await;
            let flows = body["flows"].as_array().unwrap().clone();
            if flows.len() >= count {
                break flows;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    found.await.unwrap()
}
