//! The configuration file of a node, as the nodes' own documentation has it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use super::files::{self, path};
use super::pod::{DATA_FOLDER, DRAIN_SECONDS, SHUTDOWN_SECONDS};
use super::{
    EdgeInput, Kind, METRICS_PORT, NODES_PORT, Object, Role, api_certificate, central_name,
    edge_certificate, host, nodes_certificate, regional_name,
};
use crate::api::callers;
use crate::api::common;
use crate::api::observing;
use crate::api::store::{self, AuthzStoreSpec};
use crate::api::tuning::{AuthZen, CheckCache, Experimental, Http, Limits};

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
    authn: Option<Authn<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes: Option<Nodes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<Tls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<&'a Http>,
    #[serde(skip_serializing_if = "Option::is_none")]
    datastore: Option<Datastore<'a>>,
    kafka: Kafka<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    upstream: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    check_cache: Option<&'a CheckCache>,
    #[serde(skip_serializing_if = "Option::is_none")]
    edge: Option<Edge<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    experimentals: &'a [Experimental],
    #[serde(skip_serializing_if = "Option::is_none")]
    authzen: Option<&'a AuthZen>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<&'a Limits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorder: Option<Recorder<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<On<observing::Live>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    watch: Option<On<observing::Watch>>,
    drain_delay: String,
    shutdown_timeout: String,
}

#[derive(Serialize)]
struct Listen {
    metrics: String,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase", tag = "method")]
enum Authn<'a> {
    Preshared { preshared: Preshared },
    Oidc { oidc: Oidc<'a> },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Oidc<'a> {
    issuer: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    issuer_aliases: &'a [String],
    audience: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    subjects: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    client_id_claims: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_interval: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refetch_pause: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Preshared {
    keys_file: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Nodes {
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<String>,
}

#[derive(Serialize)]
struct Tls {
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc: Option<Pair>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<Pair>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes: Option<Pair>,
}

#[derive(Serialize)]
struct Pair {
    cert: String,
    key: String,
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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Recorder<'a> {
    enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    sampling: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explain: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retention: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authentication_interval: Option<&'a str>,
}

/// What is on because it is named.
#[derive(Serialize)]
struct On<T> {
    enabled: bool,
    #[serde(flatten)]
    of: T,
}

pub(super) fn central(spec: &AuthzStoreSpec) -> String {
    let mut config = Config::of(spec, Role::Central, api_certificate(spec).is_some());
    config.datastore = datastore(&spec.datastore);
    config.check_cache = spec.check_cache.as_ref();
    config.recorder = spec.recorder.as_ref().map(recorder);
    config.text()
}

pub(super) fn regional(
    name: &str,
    namespace: &str,
    spec: &AuthzStoreSpec,
    region: &store::Region,
) -> String {
    let mut config = Config::of(spec, Role::Regional, api_certificate(spec).is_some());
    config.region = Some(&region.name);
    config.datastore = datastore(&region.datastore);
    config.check_cache = spec.check_cache.as_ref();
    config.recorder = spec.recorder.as_ref().map(recorder);
    config.upstream = vec![nodes_url(spec, &central_name(name), namespace)];
    config.text()
}

/// An edge that serves the live channel alone.
pub(super) fn live_endpoint(
    name: &str,
    namespace: &str,
    spec: &AuthzStoreSpec,
    region: &store::Region,
) -> String {
    let mut config = Config::of(spec, Role::Live, api_certificate(spec).is_some());
    config.region = Some(&region.name);
    config.upstream = above_edges(name, namespace, spec, &region.name);
    config.edge = Some(Edge {
        directory: DATA_FOLDER,
        max_staleness: None,
        answer_max_age: None,
    });
    config.recorder = spec.recorder.as_ref().map(recorder_below);
    config.text()
}

pub(super) fn edge(input: &EdgeInput) -> String {
    let (parent, spec) = (&input.spec.parent_region, &input.store_spec);
    let freshness = input.spec.freshness.as_ref();
    let speaks_tls = edge_certificate(&input.spec, spec).is_some();
    let mut config = Config::of(spec, Role::Edge, speaks_tls);
    config.region = Some(parent);
    config.upstream = above_edges(&input.store, &input.namespace, spec, parent);
    config.edge = Some(Edge {
        directory: DATA_FOLDER,
        max_staleness: freshness.and_then(|of| of.max_staleness.as_deref()),
        answer_max_age: freshness.and_then(|of| of.answer_max_age.as_deref()),
    });
    config.recorder = spec.recorder.as_ref().map(recorder_below);
    if input.spec.authzen.is_some() {
        config.authzen = input.spec.authzen.as_ref();
    }
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
    fn of(spec: &'a AuthzStoreSpec, role: Role, speaks_tls: bool) -> Self {
        let kafka = &spec.kafka;
        let properties = kafka.properties_secret_ref.as_ref();
        Self {
            product: &spec.product,
            region: None,
            listen: Listen {
                metrics: format!("0.0.0.0:{METRICS_PORT}"),
            },
            authn: spec.authn.as_ref().and_then(authn),
            nodes: nodes(spec, role),
            tls: tls(spec, role, speaks_tls),
            http: spec.http.as_ref(),
            datastore: None,
            kafka: Kafka {
                bootstrap: kafka.bootstrap_servers.join(","),
                topic_prefix: &kafka.topic_prefix,
                partitions: kafka.partitions,
                replication_factor: kafka.replication_factor,
                properties_file: properties.map(|_| path(files::KAFKA_PROPERTIES)),
            },
            upstream: Vec::new(),
            check_cache: None,
            edge: None,
            experimentals: &spec.experimentals,
            authzen: spec.authzen.as_ref(),
            limits: spec.limits.as_ref(),
            recorder: None,
            live: spec.live.as_ref().map(|of| live(of, role)),
            watch: spec
                .watch
                .clone()
                .filter(|_| !role.is_in_memory())
                .map(|of| On { enabled: true, of }),
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

fn authn(of: &callers::Authn) -> Option<Authn<'_>> {
    let preshared = of.preshared.as_ref().map(|_| Authn::Preshared {
        preshared: Preshared {
            keys_file: path(files::CALLERS_KEYS),
        },
    });
    let oidc = of.oidc.as_ref().map(|of| Authn::Oidc { oidc: oidc(of) });
    preshared.or(oidc)
}

fn oidc(of: &callers::Oidc) -> Oidc<'_> {
    Oidc {
        issuer: &of.issuer,
        issuer_aliases: &of.issuer_aliases,
        audience: &of.audience,
        subjects: &of.subjects,
        client_id_claims: &of.client_id_claims,
        refresh_interval: of.refresh_interval.as_deref(),
        refetch_pause: of.refetch_pause.as_deref(),
        ca: of.ca_secret_ref.as_ref().map(|_| path(files::ISSUER_CA)),
    }
}

fn recorder(of: &observing::Recorder) -> Recorder<'_> {
    Recorder {
        enabled: true,
        sampling: share(of.sampling.as_deref()),
        explain: share(of.explain.as_deref()),
        retention: of.retention.as_deref(),
        authentication_interval: of.authentication_interval.as_deref(),
    }
}

/// Of a node whose flows those above keep.
fn recorder_below(of: &observing::Recorder) -> Recorder<'_> {
    Recorder {
        retention: None,
        ..recorder(of)
    }
}

/// What a node of this role reads of it: who has no database stores nothing.
fn live(of: &observing::Live, role: Role) -> On<observing::Live> {
    let mut of = observing::Live {
        endpoint: None,
        ..of.clone()
    };
    if role.is_in_memory() {
        (of.durable, of.retention) = (None, None);
    }
    On { enabled: true, of }
}

/// The schema lets nothing in that is no number.
fn share(text: Option<&str>) -> Option<f64> {
    text.and_then(|share| share.parse().ok())
}

fn nodes(spec: &AuthzStoreSpec, role: Role) -> Option<Nodes> {
    let has_above = role != Role::Central && nodes_certificate(spec).is_some();
    let set = Nodes {
        tokens_file: spec.nodes.as_ref().map(|_| path(files::NODES_TOKENS)),
        ca: has_above.then(|| path(files::NODES_CA)),
    };
    (set.tokens_file.is_some() || set.ca.is_some()).then_some(set)
}

fn tls(spec: &AuthzStoreSpec, role: Role, api: bool) -> Option<Tls> {
    let pair = |cert, key| Pair {
        cert: path(cert),
        key: path(key),
    };
    let of_api = || api.then(|| pair(files::API_CERT, files::API_KEY));
    let has_below = role.has_below() && nodes_certificate(spec).is_some();
    let set = Tls {
        grpc: of_api(),
        http: of_api(),
        nodes: has_below.then(|| pair(files::NODES_CERT, files::NODES_KEY)),
    };
    (api || has_below).then_some(set)
}

/// Central stands second: an edge goes on while its region is away.
fn above_edges(store: &str, namespace: &str, spec: &AuthzStoreSpec, region: &str) -> Vec<String> {
    [regional_name(store, region), central_name(store)]
        .map(|service| nodes_url(spec, &service, namespace))
        .into()
}

fn nodes_url(spec: &AuthzStoreSpec, service: &str, namespace: &str) -> String {
    let scheme = match nodes_certificate(spec) {
        Some(_) => "https",
        None => "http",
    };
    format!("{scheme}://{}:{NODES_PORT}", host(service, namespace))
}
