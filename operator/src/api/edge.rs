//! EdgeRegion: edges near those who ask, below one region.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::callers::Certificate;
use super::common::{Resources, Toleration, node_selector, one};
use super::tuning::AuthZen;

/// What an EdgeRegion should be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "meridian.dev",
    version = "v1alpha1",
    kind = "EdgeRegion",
    namespaced,
    shortname = "edge",
    category = "meridian",
    status = "EdgeRegionStatus",
    derive = "PartialEq",
    doc = "Edges near those who ask: for each store they subscribe to, pods that answer from memory, below one region.",
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,25}[a-z0-9])?$')").message("the name must be 1 to 27 lower-case letters, digits and '-', starting with a letter: Services are named after it"),
    validation = Rule::new("has(oldSelf.spec.storage) == has(self.spec.storage)").message("storage can be neither added nor taken away: make another EdgeRegion and delete this one"),
    scale(spec_replicas_path = ".spec.replicas", status_replicas_path = ".status.replicas", label_selector_path = ".status.selector"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Parent", type_ = "string", json_path = ".spec.parentRegion"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct EdgeRegionSpec {
    /// The region that the edges are below: one of the regions of every store subscribed to. It cannot be changed.
    #[schemars(
        length(min = 1, max = 20),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    #[x_kube(validation = Rule::new("self == oldSelf").message("parentRegion cannot be changed; make another EdgeRegion"))]
    pub parent_region: String,
    /// The stores served. Each has pods and a Service of its own, since a node holds the data of one product only.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = Rule::new("self.all(one, self.exists_one(other, other.storeRef.name == one.storeRef.name))").message("name each store once"))]
    pub subscriptions: Vec<Subscription>,
    /// Pods for each store.
    #[schemars(range(min = 0, max = 500))]
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
    /// A volume for each pod's snapshot file, so that a restart starts from it. Where unset, the file is lost with the pod.
    /// It can be neither added later nor taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// How far an edge trusts what it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freshness: Option<Freshness>,
    /// How the edges are reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<EdgeService>,
    /// The certificate of the edges' API ports (gRPC and HTTP); that of each store's `tls.api` where unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Certificate>,
    /// AuthZEN at these edges; as each store has it where unset. It is served where the store has it among experimentals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authzen: Option<AuthZen>,
}

/// A store that edges serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    /// The AuthzStore.
    pub store_ref: StoreRef,
}

/// An AuthzStore in the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreRef {
    /// Its name.
    #[schemars(length(min = 1, max = 24))]
    pub name: String,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)").message("storageClassName cannot be changed")
)]
pub struct Storage {
    /// Its size, like `10Gi`. It may only grow.
    #[schemars(
        length(min = 1, max = 32),
        regex(pattern = r"^[1-9][0-9]*(k|M|G|T|Ki|Mi|Gi|Ti)?$")
    )]
    #[x_kube(validation = Rule::new("quantity(self).compareTo(quantity(oldSelf)) >= 0").message("size may only grow"))]
    pub size: String,
    /// Its class; the cluster's default where unset. It cannot be changed.
    #[schemars(length(min = 1, max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
}

/// How far an edge trusts what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Freshness {
    /// Age of its knowledge beyond which an edge asks upstream instead of answering from it, like `10s`.
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(ms|s|m|h))+$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('2s') && duration(self) <= duration('720h')").message("maxStaleness must be 2s to 720h"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_staleness: Option<String>,
    /// How long an answer from upstream is kept at most, like `5m`.
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(ms|s|m|h))+$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1ms') && duration(self) <= duration('720h')").message("answerMaxAge must be 1ms to 720h"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_max_age: Option<String>,
}

/// How edges are reached.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeService {
    /// Which edge a new connection goes to; one on the same machine where unset, if the cluster knows that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_distribution: Option<TrafficDistribution>,
    /// The Service's type.
    #[serde(default)]
    pub r#type: ServiceType,
}

/// Which edge a new connection goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TrafficDistribution {
    /// One on the same machine, if there is one (Kubernetes 1.34 and later).
    PreferSameNode,
    /// One in the same zone, if there is one (Kubernetes 1.34 and later).
    PreferSameZone,
}

/// A Service's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// Reached from within the cluster.
    #[default]
    ClusterIP,
    /// Reached at a port of every machine besides.
    NodePort,
    /// Reached at an address from outside besides.
    LoadBalancer,
}

/// How an EdgeRegion is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeRegionStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Pods for each store there are.
    #[serde(default)]
    pub replicas: i32,
    /// Pods that are ready, of the store that has the fewest.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Selects the pods, for autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The stores served.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["store".into()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subscriptions: Vec<SubscriptionStatus>,
    /// What is so and what is not. `Ready` sums the others up.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// How the edges of one store are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionStatus {
    /// The AuthzStore.
    pub store: String,
    /// Pods that are ready.
    pub ready_replicas: i32,
    /// The model that all ready pods have; unset while they differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_id: Option<String>,
}
