//! The configuration file of a node, as the nodes' own documentation has it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use super::pod::{DATA_FOLDER, DRAIN_SECONDS, KAFKA_FOLDER, SHUTDOWN_SECONDS};
use super::{EdgeInput, Kind, METRICS_PORT, NODES_PORT, Object, central_name, regional_name};
use crate::api::common;
use crate::api::store::{self, AuthzStoreSpec};

/// The file's name in the ConfigMap.
pub(super) const FILE: &str = "node.yaml";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config<'a> {
    product: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<&'a str>,
    listen: Listen,
    #[serde(skip_serializing_if = "Option::is_none")]
    datastore: Option<Datastore<'a>>,
    kafka: Kafka<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    upstream: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    edge: Option<Edge<'a>>,
    drain_delay: String,
    shutdown_timeout: String,
}

#[derive(Serialize)]
struct Listen {
    metrics: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Datastore<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    min_connections: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_connections: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changelog_retention: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Kafka<'a> {
    bootstrap: String,
    topic_prefix: &'a str,
    partitions: i32,
    replication_factor: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties_file: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Edge<'a> {
    directory: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_staleness: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer_max_age: Option<&'a str>,
}

pub(super) fn central(spec: &AuthzStoreSpec) -> String {
    let mut config = Config::of(spec);
    config.datastore = datastore(&spec.datastore);
    config.text()
}

pub(super) fn regional(
    name: &str,
    namespace: &str,
    spec: &AuthzStoreSpec,
    region: &store::Region,
) -> String {
    let mut config = Config::of(spec);
    config.region = Some(&region.name);
    config.datastore = datastore(&region.datastore);
    config.upstream = vec![nodes_url(&central_name(name), namespace)];
    config.text()
}

/// Central stands second: an edge goes on while its region is away.
pub(super) fn edge(input: &EdgeInput) -> String {
    let parent = &input.spec.parent_region;
    let freshness = input.spec.freshness.as_ref();
    let mut config = Config::of(&input.store_spec);
    config.region = Some(parent);
    config.upstream = vec![
        nodes_url(&regional_name(&input.store, parent), &input.namespace),
        nodes_url(&central_name(&input.store), &input.namespace),
    ];
    config.edge = Some(Edge {
        directory: DATA_FOLDER,
        max_staleness: freshness.and_then(|of| of.max_staleness.as_deref()),
        answer_max_age: freshness.and_then(|of| of.answer_max_age.as_deref()),
    });
    config.text()
}

/// One whose name says what is in it: a pod that starts again finds the settings it was made with.
pub(super) fn config_map(metadata: ObjectMeta, text: String) -> Object {
    Object::new(
        Kind::ConfigMap,
        &ConfigMap {
            metadata,
            data: Some(BTreeMap::from([(FILE.to_owned(), text)])),
            ..Default::default()
        },
    )
}

impl<'a> Config<'a> {
    fn of(spec: &'a AuthzStoreSpec) -> Self {
        let kafka = &spec.kafka;
        let properties = kafka.properties_secret_ref.as_ref();
        Self {
            product: &spec.product,
            region: None,
            listen: Listen {
                metrics: format!("0.0.0.0:{METRICS_PORT}"),
            },
            datastore: None,
            kafka: Kafka {
                bootstrap: kafka.bootstrap_servers.join(","),
                topic_prefix: &kafka.topic_prefix,
                partitions: kafka.partitions,
                replication_factor: kafka.replication_factor,
                properties_file: properties.map(|of| format!("{KAFKA_FOLDER}/{}", of.key)),
            },
            upstream: Vec::new(),
            edge: None,
            drain_delay: format!("{DRAIN_SECONDS}s"),
            shutdown_timeout: format!("{SHUTDOWN_SECONDS}s"),
        }
    }

    fn text(&self) -> String {
        // Texts and numbers only: they always have a form in YAML.
        serde_saphyr::to_string(self).unwrap_or_default()
    }
}

fn datastore(of: &common::Datastore) -> Option<Datastore<'_>> {
    let set = Datastore {
        min_connections: of.min_connections,
        max_connections: of.max_connections,
        changelog_retention: of.changelog_retention.as_deref(),
    };
    let any = set.min_connections.is_some()
        || set.max_connections.is_some()
        || set.changelog_retention.is_some();
    any.then_some(set)
}

fn nodes_url(service: &str, namespace: &str) -> String {
    format!("http://{service}.{namespace}.svc:{NODES_PORT}")
}
