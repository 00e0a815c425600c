//! An edge's flow recorder and the node above it that stores the beginnings of its flows.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, StatusCode};
use meridian_flow::ports::FlowRepository as _;
use meridian_flow::sql::SqlFlows;
use meridian_flow::{FlowRecorder, FlowStatus, NotStored, RecorderSettings, StartFlow};
use meridian_model::StoreId;
use meridian_server::config::{self, Config};
use meridian_server::flows::above::{Above, FlowTopic};
use meridian_server::peer::Peers;
use meridian_server::roles::{self, Node};
use meridian_sync::kafka;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::harness::send;

const PATIENCE: Duration = Duration::from_secs(30);
/// How long a flow's beginning may take.
const LIMIT: Duration = Duration::from_secs(2);
const NO_KAFKA: &str = "127.0.0.1:9";

fn store() -> StoreId {
    "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap()
}

fn url(file: &Path) -> String {
    format!("sqlite://{}?mode=rwc", file.display())
}

/// A central that keeps the flows of region `here`, where it records.
async fn central(file: &Path, records: bool) -> Node {
    let any = ([127, 0, 0, 1], 0).into();
    let mut config = Config {
        name: "test".into(),
        listen: config::Listen {
            grpc: any,
            http: any,
            nodes: any,
            metrics: None,
        },
        datastore: config::Datastore {
            url: url(file),
            ..Default::default()
        },
        kafka: config::Kafka {
            bootstrap: NO_KAFKA.into(),
            ..Default::default()
        },
        shutdown_timeout: Duration::from_millis(100),
        ..Config::default()
    };
    config.recorder.enabled = records;
    config.recorder.regions = vec!["here".to_owned()];
    let node = roles::central(&config).await.unwrap();
    tokio::time::timeout(PATIENCE, node.ready()).await.unwrap();
    node
}

/// The way up of an edge of a region, and its recorder.
fn edge(node: &Node, region: &str) -> (Arc<Above>, FlowRecorder) {
    let address = format!("http://{}", node.nodes.unwrap());
    let peers = Peers::new(&[address]).unwrap();
    let above = Arc::new(Above::new(peers, region, LIMIT));
    let settings = kafka::Settings {
        bootstrap_servers: NO_KAFKA.to_owned(),
        options: Default::default(),
        topic_prefix: "meridian".to_owned(),
        product: "shop".to_owned(),
        partitions: 1,
        replication: 1,
    };
    let topic = Arc::new(FlowTopic::new(settings, region));
    let settings = RecorderSettings {
        start_timeout: LIMIT,
        ..RecorderSettings::default()
    };
    let recorder = FlowRecorder::elsewhere(Arc::clone(&above) as _, topic, settings);
    (above, recorder)
}

fn begin() -> StartFlow {
    StartFlow {
        client_id: Some("shop".to_owned()),
        grant_type: Some("oidc".to_owned()),
        ip: Some("192.0.2.7".parse().unwrap()),
        user_agent: Some("x".repeat(600)),
    }
}

#[tokio::test]
async fn a_flow_of_an_edge_has_an_id_when_the_node_above_has_stored_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("central.db");
    let node = central(&file, true).await;
    let (_, recorder) = edge(&node, "here");
    let starts = (0..50).map(|_| recorder.start_flow(store(), begin()));
    let ids = futures::future::join_all(starts).await;
    let flows = SqlFlows::connect_lazy(&url(&file)).unwrap();
    for id in ids {
        let flow = flows.get_flow_by_id(store(), id.unwrap(), Instant::now() + PATIENCE);
        let flow = flow.await.unwrap().unwrap();
        assert_eq!(flow.status, FlowStatus::Pending);
        assert_eq!(flow.client_id.as_deref(), Some("shop"));
        assert_eq!(flow.ip, Some("192.0.2.7".parse().unwrap()));
        assert_eq!(flow.user_agent.map(|agent| agent.len()), Some(512));
    }
    node.stop().await;
}

#[tokio::test]
async fn there_is_no_id_where_nobody_above_stores_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("central.db");
    let node = central(&file, true).await;
    // Flows of another region are another database's.
    let (_, elsewhere) = edge(&node, "there");
    let none = elsewhere.start_flow(store(), begin()).await;
    assert_eq!(none, Err(NotStored::Refused));

    let (_, recorder) = edge(&node, "here");
    let first = recorder.start_flow(store(), begin()).await.unwrap();
    node.stop().await;
    let started = Instant::now();
    let none = recorder.start_flow(store(), begin()).await;
    assert_eq!(none, Err(NotStored::Late));
    assert!(started.elapsed() < LIMIT * 2);

    // A node above that records nothing says so at once.
    let node = central(&file, false).await;
    let (_, recorder) = edge(&node, "here");
    let none = recorder.start_flow(store(), begin()).await;
    assert_eq!(none, Err(NotStored::Disabled));
    let flows = SqlFlows::connect_lazy(&url(&file)).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let filter = Default::default();
    let kept = flows.get_flows(store(), &filter, None, 10, deadline).await;
    let kept: Vec<_> = kept.unwrap().flows.iter().map(|flow| flow.id).collect();
    assert_eq!(kept, [first]);
    node.stop().await;
}

#[tokio::test]
async fn what_is_set_of_a_store_above_holds_below() {
    let folder = tempfile::tempdir().unwrap();
    let node = central(&folder.path().join("central.db"), true).await;
    let named = Bytes::from(json!({"name": "shop"}).to_string());
    let made = send(node.http, Method::POST, "/stores", &[], named).await;
    let store: StoreId = made.body["id"].as_str().unwrap().parse().unwrap();
    let (above, recorder) = edge(&node, "here");
    let stop = CancellationToken::new();
    let (own, stopped) = (recorder.clone(), stop.clone());
    let following = tokio::spawn(async move { above.follow(&own, &stopped).await });
    assert!(recorder.records(store));
    for set in [
        json!({"enabled": false}),
        json!({"enabled": true, "sampling": 0.0}),
    ] {
        let path = format!("/stores/{store}/flow-recorder");
        let body = Bytes::from(set.to_string());
        let reply = send(node.http, Method::PATCH, &path, &[], body).await;
        assert_eq!(reply.status, StatusCode::OK);
        let followed = async {
            let wanted = set["enabled"] == true;
            while recorder.settings_of(store).enabled != wanted {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, followed).await.unwrap();
        let none = recorder.start_flow(store, begin()).await;
        assert_eq!(none.is_ok(), set["enabled"] == true, "{none:?}");
    }
    assert!(!recorder.samples(store));
    stop.cancel();
    following.await.unwrap();
    node.stop().await;
}
