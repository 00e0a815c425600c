//! How nodes say they stand: `AdminService.GetStatus` and readiness, of all three roles.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use meridian_proto::meridian::v1 as wire;
use meridian_proto::meridian::v1::admin_service_client::AdminServiceClient;
use meridian_proto::openfga::v1;
use meridian_proto::openfga::v1::open_fga_service_client::OpenFgaServiceClient;
use meridian_server::config::{Config, Kafka};
use meridian_server::roles::{self, Node};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use crate::harness::{alone, check_request, github_model};

const PATIENCE: Duration = Duration::from_secs(60);

fn config(name: &str, bootstrap: String, upstream: Vec<String>) -> Config {
    Config {
        name: name.into(),
        region: "eu".into(),
        kafka: Kafka {
            bootstrap,
            partitions: 1,
            properties: [("fetch.wait.max.ms".to_owned(), "5".to_owned())].into(),
            ..Kafka::default()
        },
        upstream,
        ..alone()
    }
}

fn kafka() -> MockCluster<'static, DefaultProducerContext> {
    let kafka = MockCluster::new(1).unwrap();
    for topic in ["meridian.default.changes", "meridian.default.eu.edge"] {
        kafka.create_topic(topic, 1, 1).unwrap();
    }
    kafka
}

/// An address that nobody listens on.
fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

async fn status(node: &Node) -> wire::GetStatusResponse {
    status_of(node, "").await.unwrap()
}

/// The node's status, with that of a store.
async fn status_of(node: &Node, store_id: &str) -> Result<wire::GetStatusResponse, tonic::Status> {
    let client = AdminServiceClient::connect(format!("http://{}", node.grpc)).await;
    let request = wire::GetStatusRequest {
        store_id: store_id.to_owned(),
    };
    let asked = client.unwrap().get_status(request).await;
    asked.map(tonic::Response::into_inner)
}

/// The node's status, once it is as wanted.
async fn status_when(
    node: &Node,
    wanted: impl Fn(&wire::GetStatusResponse) -> bool,
) -> wire::GetStatusResponse {
    let mut last = None;
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            let status = status(node).await;
            if wanted(&status) {
                return status;
            }
            last = Some(status);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let waited = waited.await;
    waited.unwrap_or_else(|_| panic!("{} came no further than {last:?}", node.name))
}

fn dependency<'a>(status: &'a wire::GetStatusResponse, name: &str) -> &'a wire::Dependency {
    let found = status.dependencies.iter().find(|one| one.name == name);
    found.unwrap_or_else(|| panic!("no {name} in {status:?}"))
}

fn names(status: &wire::GetStatusResponse) -> Vec<&str> {
    let names = status.dependencies.iter().map(|one| one.name.as_str());
    names.collect()
}

fn all_well(status: &wire::GetStatusResponse) -> bool {
    status.ready
        && status
            .dependencies
            .iter()
            .all(|one| one.available && one.message.is_empty())
}

fn above(node: &Node) -> String {
    format!("http://{}", node.nodes.unwrap())
}

/// A store in which teams and repositories are Critical, and who owns repo:1; its id and its model's.
async fn store(central: &Node) -> (String, String) {
    let mut api = OpenFgaServiceClient::connect(format!("http://{}", central.grpc))
        .await
        .unwrap();
    let created = api.create_store(v1::CreateStoreRequest {
        name: "shop".into(),
    });
    let store = created.await.unwrap().into_inner().id;
    let mut model: v1::WriteAuthorizationModelRequest =
        serde_json::from_value(github_model()).unwrap();
    model.store_id.clone_from(&store);
    let written = api.write_authorization_model(model).await.unwrap();
    let tiers = wire::Tiers {
        critical: ["user", "team", "repo"].map(str::to_owned).to_vec(),
        ..wire::Tiers::default()
    };
    let assigned = AdminServiceClient::connect(format!("http://{}", central.grpc)).await;
    let request = wire::AssignTiersRequest {
        store_id: store.clone(),
        tiers: Some(tiers),
    };
    assigned.unwrap().assign_tiers(request).await.unwrap();
    let owner = v1::TupleKey {
        user: "user:anne".into(),
        relation: "owner".into(),
        object: "repo:1".into(),
        condition: None,
    };
    let writes = v1::WriteRequestWrites {
        tuple_keys: vec![owner],
        ..Default::default()
    };
    let write = v1::WriteRequest {
        store_id: store.clone(),
        writes: Some(writes),
        ..Default::default()
    };
    api.write(write).await.unwrap();
    (store, written.into_inner().authorization_model_id)
}

async fn delete(central: &Node, store: &str) {
    let mut api = OpenFgaServiceClient::connect(format!("http://{}", central.grpc))
        .await
        .unwrap();
    let store_id = store.to_owned();
    api.delete_store(v1::DeleteStoreRequest { store_id })
        .await
        .unwrap();
}

async fn stop(nodes: impl IntoIterator<Item = Node>) {
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_tells_what_it_needs_and_holds() {
    let kafka = kafka();
    let servers = kafka.bootstrap_servers();
    let central = roles::central(&config("c", servers.clone(), Vec::new()))
        .await
        .unwrap();
    let (store, model) = store(&central).await;
    let regional = config("r", servers.clone(), vec![above(&central)]);
    let regional = roles::regional(&regional).await.unwrap();
    let edge = config("e", servers, vec![above(&regional)]);
    let edge = roles::edge(&edge).await.unwrap();

    // As soon as an edge says it is ready it has all that is Critical: its first answer is its own.
    tokio::time::timeout(PATIENCE, edge.ready()).await.unwrap();
    let mut api = OpenFgaServiceClient::connect(format!("http://{}", edge.grpc))
        .await
        .unwrap();
    let first = api.check(check_request(&store, ("user:anne", "owner", "repo:1")));
    let first = first.await.unwrap();
    assert_eq!(
        first.metadata().get("meridian-served-by").unwrap(),
        "edge/e"
    );
    assert!(first.into_inner().allowed);

    for (node, needs) in [
        (&central, &["kafka", "datastore"][..]),
        (&regional, &["kafka", "datastore", "upstream"]),
        (&edge, &["kafka", "upstream"]),
    ] {
        let status = status_when(node, all_well).await;
        assert_eq!(status.node, node.name);
        assert_eq!(names(&status), needs);
        assert_eq!(status.store, None, "none was asked for");
        let held = status_of(node, &store).await.unwrap().store.unwrap();
        assert_eq!(held.store_id, store);
        assert_eq!(held.position.unwrap().revision, 4);
        assert_eq!(held.authorization_model_id, model);
        let other = status_of(node, "01HVMMBCMGZNT3SED4Z17ECXCA").await.unwrap();
        assert_eq!(other.store, None);
        assert!(all_well(&other), "{other:?}");
        let refused = status_of(node, "shop").await.unwrap_err();
        assert!(refused.message().contains("store_id 'shop'"), "{refused}");
    }
    delete(&central, &store).await;
    for node in [&central, &regional, &edge] {
        tokio::time::timeout(PATIENCE, async {
            while status_of(node, &store).await.unwrap().store.is_some() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
        .await
        .unwrap();
    }
    stop([edge, regional, central]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_away_is_named_with_its_address_and_no_secret() {
    let (broker, database, node) = (nobody(), nobody(), nobody());
    let mut settings = config("c", broker.to_string(), Vec::new());
    settings.datastore.url = format!("postgres://me:hunter2@{database}/app");
    let central = roles::central(&settings).await.unwrap();
    let told = status_when(&central, |status| {
        let told = &dependency(status, "datastore").message;
        told.contains("refused") && dependency(status, "kafka").message.contains("refused")
    });
    let told = told.await;
    assert!(!told.ready && told.store.is_none(), "{told:?}");
    assert!(told.dependencies.iter().all(|one| !one.available));
    let (kafka, datastore) = (
        &dependency(&told, "kafka").message,
        &dependency(&told, "datastore").message,
    );
    assert!(kafka.contains(&broker.to_string()), "{kafka}");
    assert!(
        datastore.contains(&format!("postgres://{database}/app")),
        "{datastore}"
    );
    assert!(!format!("{told:?}").contains("hunter2"), "{told:?}");

    let settings = config("e", broker.to_string(), vec![format!("http://{node}")]);
    let edge = roles::edge(&settings).await.unwrap();
    let told = status(&edge).await;
    let upstream = dependency(&told, "upstream");
    assert!(!told.ready && !upstream.available);
    assert!(
        upstream.message.contains(&node.to_string()) && upstream.message.contains("refused"),
        "{upstream:?}"
    );
    stop([edge, central]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_is_told_without_a_restart() {
    let kafka = kafka();
    let servers = kafka.bootstrap_servers();
    let place = nobody();
    let edge = config("e", servers.clone(), vec![format!("http://{place}")]);
    let edge = roles::edge(&edge).await.unwrap();
    let told = status(&edge).await;
    assert!(!told.ready && !dependency(&told, "upstream").available);

    let mut central = config("c", servers.clone(), Vec::new());
    let node_address = nobody();
    central.listen.nodes = node_address;
    let central = roles::central(&central).await.unwrap();
    let mut regional = config("r", servers, vec![format!("http://{node_address}")]);
    regional.listen.nodes = place;
    let regional = roles::regional(&regional).await.unwrap();
    tokio::time::timeout(PATIENCE, edge.ready()).await.unwrap();
    status_when(&edge, all_well).await;
    stop([edge, regional, central]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_nodes_above_each_is_told_of() {
    let kafka = kafka();
    let servers = kafka.bootstrap_servers();
    let central = roles::central(&config("c", servers.clone(), Vec::new()))
        .await
        .unwrap();
    let away = nobody();
    let upstream = vec![format!("http://{away}"), above(&central)];
    let edge = roles::edge(&config("e", servers, upstream)).await.unwrap();
    let of_both = |status: &wire::GetStatusResponse| {
        let above = status
            .dependencies
            .iter()
            .filter(|of| of.name == "upstream");
        let above: Vec<_> = above.map(|of| (of.available, of.message.clone())).collect();
        above
    };
    let told = status_when(&edge, |status| {
        of_both(status)
            .last()
            .is_some_and(|(available, _)| *available)
    });
    let told = of_both(&told.await);
    assert_eq!(told[1], (true, String::new()));
    let (available, message) = &told[0];
    assert!(
        !available && message.contains(&away.to_string()),
        "{message}"
    );
    assert!(
        message.ends_with("Connection refused (os error 111)"),
        "{message}"
    );
    stop([edge, central]).await;
}
