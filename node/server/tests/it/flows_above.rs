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
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::harness::{alone, send};

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
    let mut config = Config {
        datastore: config::Datastore {
            url: url(file),
            ..Default::default()
        },
        ..alone()
    };
    config.recorder.enabled = records;
    config.recorder.regions = vec!["here".to_owned()];
    let node = roles::central(&config).await.unwrap();
    tokio::time::timeout(PATIENCE, node.ready()).await.unwrap();
    node
}

/// The way up of an edge of a region, and its recorder.
fn edge(node: &Node, region: &str) -> (Arc<Above>, FlowRecorder) {
    edge_of(&[format!("http://{}", node.nodes.unwrap())], region)
}

/// The same of one with these nodes above.
fn edge_of(upstream: &[String], region: &str) -> (Arc<Above>, FlowRecorder) {
    let peers = Peers::new(upstream).unwrap();
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

/// Central is above every edge, and keeps the flows of its own callers: what an edge asks for and sets is of its region.
#[tokio::test]
async fn while_the_region_is_away_nothing_is_asked_of_central_nor_done_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = alone();
    config.datastore.url = url(&folder.path().join("central.db"));
    config.recorder.enabled = true;
    let node = roles::central(&config).await.unwrap();
    tokio::time::timeout(PATIENCE, node.ready()).await.unwrap();
    let call = async |address, method, path: &str, body: &Value| {
        let body = match body {
            Value::Null => Bytes::new(),
            body => Bytes::from(body.to_string()),
        };
        send(address, method, path, &[], body).await
    };
    let named = json!({"name": "shop"});
    let made = call(node.http, Method::POST, "/stores", &named).await;
    let store = made.body["id"].as_str().unwrap().to_owned();
    let key = json!({"user": "user:anne", "relation": "viewer", "object": "document:1"});
    let check = json!({ "tuple_key": key });
    call(
        node.http,
        Method::POST,
        &format!("/stores/{store}/check"),
        &check,
    )
    .await;
    let flows = format!("/stores/{store}/flows");
    let kept = async || {
        let listed = call(node.http, Method::GET, &flows, &Value::Null).await;
        listed.body["flows"].as_array().unwrap().len()
    };
    let recorded = async {
        while kept().await == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, recorded).await.unwrap();

    let upstream = [
        format!("http://{NO_KAFKA}"),
        format!("http://{}", node.nodes.unwrap()),
    ];
    let below = Config {
        region: "here".into(),
        upstream: upstream.to_vec(),
        ..alone()
    };
    let below = roles::edge(&below).await.unwrap();
    let of_store = |path: &str| format!("/stores/{store}/{path}");
    let purge = json!({"before": "2100-01-01T00:00:00Z"});
    for (method, path, body) in [
        (Method::GET, flows.clone(), Value::Null),
        (Method::GET, of_store("flow-stats"), Value::Null),
        (Method::GET, of_store("flow-activity"), Value::Null),
        (Method::GET, of_store("flow-recorder"), Value::Null),
        (
            Method::PATCH,
            of_store("flow-recorder"),
            json!({"enabled": false}),
        ),
        (Method::POST, of_store("flows/purge"), purge),
    ] {
        let reply = call(below.http, method, &path, &body).await;
        assert_eq!(
            reply.status,
            StatusCode::SERVICE_UNAVAILABLE,
            "{path}: {}",
            reply.body
        );
        let message = reply.body["message"].as_str().unwrap();
        assert!(
            message.contains("flows of region 'here' are not kept here"),
            "{message}"
        );
    }
    assert_eq!(kept().await, 1);
    let set = call(
        node.http,
        Method::GET,
        &of_store("flow-recorder"),
        &Value::Null,
    )
    .await;
    assert_eq!(set.body["enabled"], true);

    // A beginning waits for the region, and is no refusal.
    let (_, recorder) = edge_of(&upstream, "here");
    let none = recorder.start_flow(store.parse().unwrap(), begin()).await;
    assert_eq!(none, Err(NotStored::Late));
    below.stop().await;
    node.stop().await;
}
