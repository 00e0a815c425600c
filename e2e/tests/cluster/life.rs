//! A store and its edges, from the examples of the documentation to their end.

use std::collections::BTreeSet;
use std::fs;

use meridian_e2e::cluster::OPERATOR_NAMESPACE;
use serde_json::json;

use crate::client::{Client, Triple};
use crate::kills;
use crate::load::Load;
use crate::rollout;
use crate::shared::root;
use crate::site::Site;
use crate::storage;

const STORE: &str = "authzstore/github";
const EDGES: &str = "edgeregion/shop";
const EDGE_PODS: &str = "meridian.dev/edge-region=shop";

/// What is Critical in the example, and what is Warm.
const READER: Triple<'_> = ["repo:acme/api", "reader", "user:anne"];
const ISSUE: Triple<'_> = ["issue:acme/api/17", "repo", "repo:acme/api"];
const CAN_READ: Triple<'_> = ["issue:acme/api/17", "can_read", "user:anne"];
const AUDITOR: Triple<'_> = ["repo:acme/api", "auditor", "user:ben"];

#[tokio::test]
#[ignore = "needs root: run by `cargo xtask test`"]
async fn of_a_store_and_its_edges() {
    let site = Site::new("github").await;
    install(&site).await;
    let edge = site.client("shop-github").await;
    let store = store_id(&site).await;

    answers_come_from_where_they_should(&site, &edge, &store).await;
    a_new_model_is_active_everywhere(&site, &edge, &store).await;
    let load = Load::new(&site, &edge, &store).await;
    rollout::of_another_image(&site, &load, STORE).await;
    rollout::of_a_missing_image(&site, &load, STORE).await;
    kills::of_each_node(&site, &load).await;
    storage::outlives_a_pod(&site, &store).await;
    {
        let _alone = site.with_the_operator_alone().await;
        kills::of_the_operator(&site, &load).await;
        edges_are_scaled(&site).await;
    }
    with_nothing_to_do_nothing_is_written(&site).await;
    edges_go(&site).await;
    the_store_goes_with_its_data(&site, &store).await;
}

/// As the documentation says.
async fn install(site: &Site) {
    let databases = "create database github_central owner meridian;
        create database github_eu_1 owner meridian;";
    site.access().sql("postgres", databases).await.unwrap();
    for name in ["secrets.yaml", "authzstore.yaml", "edgeregion.yaml"] {
        let path = root().join("docs/examples").join(name);
        site.apply(&fs::read_to_string(path).unwrap()).await;
    }
    site.holds(STORE, "Ready").await;
    site.holds(EDGES, "Ready").await;
}

async fn store_id(site: &Site) -> String {
    let store = site.get([STORE]).await;
    store["status"]["storeId"].as_str().unwrap().to_owned()
}

async fn answers_come_from_where_they_should(site: &Site, edge: &Client, store: &str) {
    edge.write(store, &[READER, ISSUE]).await.unwrap();
    is_answered(site, edge, store, READER, "edge/shop-github-").await;
    is_answered(
        site,
        edge,
        store,
        CAN_READ,
        "regional/github-regional-eu-1-",
    )
    .await;
}

/// Waits until a question is answered with yes, by one whose name starts with `by`. No is what was true before.
async fn is_answered(site: &Site, at: &Client, store: &str, question: Triple<'_>, by: &str) {
    site.until(&format!("{question:?} by {by}"), async || {
        match at.check(store, question).await {
            Ok(answer) if answer.allowed && answer.served_by.starts_with(by) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

async fn a_new_model_is_active_everywhere(site: &Site, edge: &Client, store: &str) {
    let object = site.get([STORE]).await;
    let before = object["status"]["model"]["id"].clone();
    let model = object["spec"]["model"]["inline"].as_str().unwrap();
    let model = model.replacen(
        "define blocked: blocked from owner",
        "define blocked: blocked from owner\n          define auditor: [user]",
        1,
    );
    site.patch(STORE, &json!({"spec": {"model": {"inline": model}}}))
        .await;
    site.holds(STORE, "ModelActive").await;
    site.holds(EDGES, "Synced").await;
    assert_ne!(site.get([STORE]).await["status"]["model"]["id"], before);

    edge.write(store, &[AUDITOR]).await.unwrap();
    for (service, by) in [
        ("github-central", "central/"),
        ("github-regional-eu-1", "regional/"),
        ("shop-github", "edge/"),
    ] {
        is_answered(site, &site.client(service).await, store, AUDITOR, by).await;
    }
}

async fn edges_are_scaled(site: &Site) {
    site.kubectl(["scale", EDGES, "--replicas=3"]).await;
    site.until("three edges", async || {
        let edges = site.get([EDGES]).await;
        let ready = &edges["status"]["readyReplicas"];
        (*ready == 3).then_some(()).ok_or(format!("{ready} ready"))
    })
    .await;
    site.holds(EDGES, "Ready").await;
    assert_eq!(site.pods(EDGE_PODS).await.len(), 3);
}

/// Reconciles are started by a change that asks for nothing, and are seen by what they read.
async fn with_nothing_to_do_nothing_is_written(site: &Site) {
    site.holds(STORE, "Ready").await;
    site.holds(EDGES, "Ready").await;
    let audit = site.access().audit();
    let by_operator = format!("system:serviceaccount:{OPERATOR_NAMESPACE}:");
    let is_ours =
        |user: &str, namespace: &str| user.starts_with(&by_operator) && namespace == site.namespace;
    let looks = async || {
        let read = audit.secrets_read().unwrap();
        let at_store = read
            .iter()
            .filter(|call| is_ours(&call.user, &call.namespace));
        (at_store.count(), edge_reconciles(site).await)
    };

    let (stores, edges) = looks().await;
    let before = audit.writes().unwrap().len();
    for object in ["deployment/github-central", "statefulset/shop-github"] {
        site.kubectl(["annotate", object, "touched=yes"]).await;
    }
    site.until("reconciles of store and edges", async || {
        let now = looks().await;
        let enough = now.0 >= stores + 4 && now.1 >= edges + 2;
        enough
            .then_some(())
            .ok_or(format!("{now:?} of {stores}, {edges}"))
    })
    .await;
    let mut writes = audit.writes().unwrap().split_off(before);
    writes.retain(|call| is_ours(&call.user, &call.namespace));
    assert!(writes.is_empty(), "{writes:#?}");
}

/// How often the operator has looked at edges, of which this store's are the only ones.
async fn edge_reconciles(site: &Site) -> u64 {
    let pods = ["get", "pods", "--output=jsonpath={.items[*].metadata.name}"];
    let kubectl = site.access().kubectl().unwrap();
    let of_operator = ["--namespace", OPERATOR_NAMESPACE];
    let pods = kubectl
        .run(of_operator.into_iter().chain(pods))
        .await
        .unwrap();
    let mut count = 0;
    for pod in pods.split_whitespace() {
        let path = format!("/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{pod}:9090/proxy/metrics");
        let metrics = kubectl.run(["get", "--raw", &path]).await.unwrap();
        let name = "meridian_operator_reconciles_total{kind=\"EdgeRegion\"} ";
        let lines = metrics.lines().filter_map(|line| line.strip_prefix(name));
        count += lines
            .map(|number| number.parse::<u64>().unwrap())
            .sum::<u64>();
    }
    count
}

async fn edges_go(site: &Site) {
    let before: BTreeSet<_> = site.pods(EDGE_PODS).await.into_iter().collect();
    assert_eq!(before.len(), 3);
    site.kubectl(["delete", EDGES]).await;
    site.until("no edge is left", async || {
        let list = site
            .get(["pods,services,statefulsets", "--selector", EDGE_PODS])
            .await;
        let left = list["items"].as_array().unwrap().len();
        (left == 0).then_some(()).ok_or(format!("{left} objects"))
    })
    .await;
}

async fn the_store_goes_with_its_data(site: &Site, store: &str) {
    let alive = format!("select count(*) from stores where id = '{store}' and deleted_at is null");
    let alive = async |database: &str| {
        let count = site.access().sql(database, &alive).await.unwrap();
        count.trim().to_owned()
    };
    let databases = ["github_central", "github_eu_1"];
    for database in databases {
        assert_eq!(alive(database).await, "1", "{database}");
    }
    site.patch(STORE, &json!({"spec": {"deletionPolicy": "Delete"}}))
        .await;
    site.holds(STORE, "Ready").await;
    site.kubectl(["delete", STORE]).await;
    for database in databases {
        assert_eq!(alive(database).await, "0", "{database}");
    }
    site.is_empty().await;
}
