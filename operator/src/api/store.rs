//! AuthzStore: one product, with its central and regional nodes.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::callers::{Authn, Nodes, Tls};
use super::common::{
    Datastore, KeyRef, LocalRef, PullPolicy, Resources, Toleration, node_selector, one,
};
use super::observing::{Live, Recorder, Watch};
use super::tuning::{AuthZen, CheckCache, Experimental, Http, Limits, Traces};

/// An image's name: `[registry[:port]/]path[:tag][@digest]`.
const IMAGE: &str = concat!(
    r"^(([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?/)?",
    r"[a-z0-9]+(([._]|__|-+|/)[a-z0-9]+)*",
    r"(:[A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?(@[a-z0-9]+:[0-9a-f]{64,128})?$"
);

/// What an AuthzStore should be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "meridian.dev",
    version = "v1alpha1",
    kind = "AuthzStore",
    namespaced,
    shortname = "azs",
    category = "meridian",
    status = "AuthzStoreStatus",
    derive = "PartialEq",
    doc = "One product: its authorization model, and the central and regional nodes that serve it.",
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,22}[a-z0-9])?$')").message("the name must be 1 to 24 lower-case letters, digits and '-', starting with a letter: Services are named after it"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Product", type_ = "string", json_path = ".spec.product"),
    printcolumn(name = "Model", type_ = "string", json_path = ".status.model.id"),
    printcolumn(name = "Edges", type_ = "integer", json_path = ".status.edges.ready"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.authn) || has(self.nodes)").message("authn needs nodes.tokensSecretRef: without tokens the port between nodes stands open, and the operator has nothing to show to nodes"),
    validation = Rule::new("!has(self.live) || !has(self.authn) || !has(self.authn.preshared) || has(self.live.oidc) || has(self.live.userinfoUrl)").message("live needs oidc or userinfoUrl where authn is preshared: a shared key says nothing of who a user is"),
    validation = Rule::new("!has(self.authzen) || (has(self.experimentals) && 'authzen' in self.experimentals)").message("authzen needs 'authzen' among experimentals: without it AuthZEN is not served")
)]
pub struct AuthzStoreSpec {
    /// The product. Topics are named after it, and the store is created under this name. It cannot be changed.
    #[schemars(length(min = 3, max = 60), regex(pattern = r"^[A-Za-z0-9_-]+$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("product cannot be changed: topics and data are under its name; make another AuthzStore"))]
    pub product: String,
    /// The image of the nodes; the operator's own default where unset.
    #[schemars(length(min = 1, max = 512), regex(pattern = IMAGE))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// When the image is pulled; as Kubernetes does it by default where unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<PullPolicy>,
    /// Secrets to pull the image with.
    #[schemars(length(max = 8))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<LocalRef>,
    /// The authorization model. It is written when it changes, and active as soon as it is written.
    pub model: Model,
    /// How far the data of object types travels; types not named are Warm.
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<TypeTier>,
    /// Central's database.
    pub datastore: Datastore,
    /// Where changes are published.
    pub kafka: Kafka,
    /// The central nodes.
    #[serde(default)]
    pub central: Central,
    /// The regions, each with a full copy in a database of its own.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub regions: Vec<Region>,
    /// Who may call the API of all nodes, edges included. Where unset, whoever reaches them may do everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authn: Option<Authn>,
    /// How nodes show each other who they are. Where unset, any pod of the store, and where network policies are not
    /// enforced anybody, reaches the port between nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Nodes>,
    /// The ports that speak TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// What browsers may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
    /// Features that are off unless named.
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub experimentals: Vec<Experimental>,
    /// AuthZEN, which is served with `authzen` among experimentals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authzen: Option<AuthZen>,
    /// Answers of checks that central and regional nodes keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_cache: Option<CheckCache>,
    /// Limits of what callers may ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// What nodes record of logins and decisions, edges included. Where unset, nothing is until a node's API turns it on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorder: Option<Recorder>,
    /// The live channel. Where unset, there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<Live>,
    /// Watching the store's changes and decisions. Where unset, there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<Watch>,
    /// Where traces go. Where unset, there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traces: Option<Traces>,
    /// What becomes of the store's data when this AuthzStore is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// An authorization model: in place, or in a ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.inline) != has(self.configMapKeyRef)").message("set exactly one of inline and configMapKeyRef"))]
pub struct Model {
    /// The model, in OpenFGA's modelling language or as JSON.
    #[schemars(length(min = 1, max = 262_144))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline: Option<String>,
    /// The key of a ConfigMap that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyRef>,
}

/// The tier of an object type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TypeTier {
    /// The object type, which the model defines.
    #[schemars(length(min = 1, max = 254))]
    pub r#type: String,
    /// How far its data travels.
    pub tier: Tier,
}

/// How far the data of an object type travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Tier {
    /// Every tuple at every edge, always fresh.
    Critical,
    /// At an edge answers only, kept until something they rest on changes.
    Warm,
    /// Nothing at an edge, not even an answer.
    Cold,
}

/// Where changes are published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Kafka {
    /// Brokers to start from, each as `host:port`.
    #[schemars(
        length(min = 1, max = 16),
        inner(
            length(max = 260),
            regex(pattern = r"^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\]):[0-9]{1,5}$")
        )
    )]
    pub bootstrap_servers: Vec<String>,
    /// First part of every topic's name. It cannot be changed: the store's changes are in the topics of this name.
    #[schemars(length(min = 1, max = 60), regex(pattern = r"^[A-Za-z0-9_-]+$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("topicPrefix cannot be changed: the store's changes are in the topics of this name; make another AuthzStore"))]
    #[serde(default = "topic_prefix")]
    pub topic_prefix: String,
    /// Partitions of each topic. It cannot be changed: a store's changes stay in order because they stay in one.
    #[schemars(range(min = 1, max = 10_000))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("partitions cannot be changed: a store's changes stay in order because they stay in one partition"))]
    #[serde(default = "partitions")]
    pub partitions: i32,
    /// Copies of each topic, when it is made.
    #[schemars(range(min = 1, max = 100))]
    #[serde(default = "one")]
    pub replication_factor: i32,
    /// The key of a Secret that holds further settings of the client, a line `name=value` each, in librdkafka's names, like
    /// `security.protocol=SASL_SSL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties_secret_ref: Option<KeyRef>,
}

fn topic_prefix() -> String {
    "meridian".to_owned()
}

fn partitions() -> i32 {
    8
}

/// The central nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Central {
    /// Pods.
    #[schemars(range(min = 1, max = 16))]
    #[serde(default = "one")]
    pub replicas: i32,
    /// What each pod gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Labels of the machines that pods may be placed on.
    #[schemars(schema_with = "node_selector")]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that pods may be placed in spite of.
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
}

impl Default for Central {
    fn default() -> Self {
        Self {
            replicas: one(),
            resources: None,
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
        }
    }
}

/// The nodes of a region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Region {
    /// The region's name; not `central`, which migrations and messages call central's own.
    #[schemars(
        length(min = 1, max = 20),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    #[x_kube(validation = Rule::new("self != 'central'").message("a region cannot be named central: that is what central's own objects are called"))]
    pub name: String,
    /// Pods.
    #[schemars(range(min = 1, max = 100))]
    #[serde(default = "one")]
    pub replicas: i32,
    /// The region's database; no other region's, nor central's.
    pub datastore: Datastore,
    /// What each pod gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Labels of the machines that pods may be placed on.
    #[schemars(schema_with = "node_selector")]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that pods may be placed in spite of.
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
}

/// What becomes of a store's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// Databases and topics stay as they are.
    #[default]
    Retain,
    /// The store is deleted through the API first.
    Delete,
}

/// How an AuthzStore is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthzStoreStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The store's id in the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_id: Option<String>,
    /// The model that was written last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelStatus>,
    /// The hash of a model that was about to be written, until it is known whether it was: it is known by it as the
    /// operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_model: Option<String>,
    /// The topics that its nodes may run on, as `host:port/topicPrefix.product` for each broker: no other AuthzStore gets
    /// them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<String>,
    /// The databases on servers that its nodes may run on, without user and options: no other AuthzStore gets them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<String>,
    /// The central nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub central: Option<CentralStatus>,
    /// The regional nodes.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<RegionStatus>,
    /// The pods that serve the live channel and nothing else, by region.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub live: Vec<RegionStatus>,
    /// The edges that subscribe to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edges: Option<EdgesStatus>,
    /// What is so and what is not. `Ready` sums the others up.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A model that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelStatus {
    /// Its id in the API.
    pub id: String,
    /// A hash of its content.
    pub hash: String,
}

/// How many central pods there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CentralStatus {
    /// Pods there should be.
    pub replicas: i32,
    /// Pods that are ready.
    pub ready_replicas: i32,
}

/// How many pods of a kind there are in a region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegionStatus {
    /// The region.
    pub name: String,
    /// Pods there should be.
    pub replicas: i32,
    /// Pods that are ready.
    pub ready_replicas: i32,
}

/// How many edge pods there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EdgesStatus {
    /// Pods there should be.
    pub total: i32,
    /// Pods that are ready.
    pub ready: i32,
}
