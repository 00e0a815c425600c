//! All objects of an AuthzStore or EdgeRegion, made from validated input. No I/O, no clock: the same input gives the same
//! objects, and what is compared with the cluster is what stands in the golden files of the tests.

mod access;
mod config;
mod labels;
mod migration;
mod pod;
mod service;
mod workload;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use kube::api::ApiResource;
use serde::Serialize;
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

use crate::api::common::{KeyRef, LocalRef, PullPolicy};
use crate::api::edge::EdgeRegionSpec;
use crate::api::store::AuthzStoreSpec;

use labels::Labels;
pub use labels::target;

/// Who owns the fields that this operator writes.
pub const MANAGER: &str = "meridian-operator";
/// The label that every built object has, with [`MANAGER`] as its value.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The label that names the AuthzStore.
pub const STORE: &str = "meridian.dev/store";
/// The label that names the region.
pub const REGION: &str = "meridian.dev/region";
/// The label that names the EdgeRegion, on what belongs to edges and on nothing else.
pub const EDGE_REGION: &str = "meridian.dev/edge-region";
/// The label that names the role.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// The annotation with a hash of an object as it was applied.
pub const APPLIED: &str = "meridian.dev/applied";
/// The port of OpenFGA's API on gRPC, and of `AdminService`.
pub const GRPC_PORT: u16 = 8081;

const HTTP_PORT: u16 = 8080;
const NODES_PORT: u16 = 8082;
const METRICS_PORT: u16 = 9090;

/// The kinds that are built, in the order in which they are applied: what others need first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Who a pod is to the cluster.
    ServiceAccount,
    /// A node's settings.
    ConfigMap,
    /// Who may reach which port.
    NetworkPolicy,
    /// Where a role is reached.
    Service,
    /// How many pods may be away at once.
    PodDisruptionBudget,
    /// A migration.
    Job,
    /// Central and regional nodes.
    Deployment,
    /// Edges.
    StatefulSet,
}

impl Kind {
    /// All of them, in order.
    pub const ALL: [Self; 8] = [
        Self::ServiceAccount,
        Self::ConfigMap,
        Self::NetworkPolicy,
        Self::Service,
        Self::PodDisruptionBudget,
        Self::Job,
        Self::Deployment,
        Self::StatefulSet,
    ];

    /// Whether pods are made of it.
    #[must_use]
    pub fn has_pods(self) -> bool {
        matches!(self, Self::Job | Self::Deployment | Self::StatefulSet)
    }

    /// As the API server knows it.
    #[must_use]
    pub fn resource(self) -> ApiResource {
        use k8s_openapi::api::{apps, batch, core, networking, policy};
        fn of<K: Resource<DynamicType = ()>>() -> ApiResource {
            ApiResource::erase::<K>(&())
        }
        match self {
            Self::ServiceAccount => of::<core::v1::ServiceAccount>(),
            Self::ConfigMap => of::<core::v1::ConfigMap>(),
            Self::NetworkPolicy => of::<networking::v1::NetworkPolicy>(),
            Self::Service => of::<core::v1::Service>(),
            Self::PodDisruptionBudget => of::<policy::v1::PodDisruptionBudget>(),
            Self::Job => of::<batch::v1::Job>(),
            Self::Deployment => of::<apps::v1::Deployment>(),
            Self::StatefulSet => of::<apps::v1::StatefulSet>(),
        }
    }
}

/// An object as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// All of it, with [`APPLIED`].
    pub body: Value,
    /// The Job that must have succeeded before this is applied.
    pub after: Option<String>,
    /// The values of Secrets that its pods do not start without.
    pub needs: Vec<KeyRef>,
}

impl Object {
    fn new<K: Serialize>(kind: Kind, object: &K) -> Self {
        // Every type here writes itself as a JSON object; if one did not, the API server would refuse the null.
        let mut body = serde_json::to_value(object).unwrap_or_default();
        stamp(&mut body);
        let name = body
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        Self {
            kind,
            name,
            body,
            after: None,
            needs: Vec::new(),
        }
    }

    /// Puts another value where `place` points to.
    pub(crate) fn change(&mut self, place: &str, value: Value) {
        if let Some(part) = self.body.pointer_mut(place) {
            *part = value;
            stamp(&mut self.body);
        }
    }

    /// The part of what was asked for that this is of, as [`target`] says.
    #[must_use]
    pub fn target(&self) -> Option<String> {
        target(|label| {
            let labels = self.body.pointer("/metadata/labels")?;
            labels.get(label)?.as_str()
        })
    }

    fn needs<'a>(mut self, secrets: impl IntoIterator<Item = &'a KeyRef>) -> Self {
        self.needs = secrets.into_iter().cloned().collect();
        self
    }

    fn after(mut self, job: &str) -> Self {
        self.after = Some(job.to_owned());
        self
    }
}

/// Writes a hash of an object into it.
fn stamp(body: &mut Value) {
    let hash = hash(&body.to_string());
    if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
        let annotations = metadata
            .entry("annotations")
            .or_insert_with(|| Value::Object(Default::default()));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(APPLIED.to_owned(), Value::String(hash));
        }
    }
}

/// What the operator itself is told, as far as objects depend on it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The image where an AuthzStore names none.
    pub node_image: String,
    /// The edge Service's traffic distribution where an EdgeRegion names none, by what the cluster knows.
    pub traffic_distribution: String,
}

/// Hashes of the values that pods read of Secrets.
pub type SecretHashes = BTreeMap<KeyRef, String>;

/// An AuthzStore whose infrastructure can be built.
#[derive(Debug, Clone)]
pub struct StoreInput {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// What owns its objects.
    pub owner: OwnerReference,
    /// Its spec.
    pub spec: AuthzStoreSpec,
    /// What it names of Secrets.
    pub secrets: SecretHashes,
}

/// One subscription of an EdgeRegion that can be built.
#[derive(Debug, Clone)]
pub struct EdgeInput {
    /// The EdgeRegion's name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// What owns its objects.
    pub owner: OwnerReference,
    /// Its spec.
    pub spec: EdgeRegionSpec,
    /// The AuthzStore's name.
    pub store: String,
    /// The AuthzStore's spec.
    pub store_spec: AuthzStoreSpec,
    /// What the store names of Secrets and edges read.
    pub secrets: SecretHashes,
}

/// Central's name in Jobs and labels, beside those of regions.
pub const CENTRAL: &str = "central";

/// The name of central's workload and Service.
#[must_use]
pub fn central_name(store: &str) -> String {
    format!("{store}-central")
}

/// The name of a region's workload and Service.
#[must_use]
pub fn regional_name(store: &str, region: &str) -> String {
    format!("{store}-regional-{region}")
}

/// The name of an EdgeRegion's workload and Service for a store.
#[must_use]
pub fn edge_name(edge: &str, store: &str) -> String {
    format!("{edge}-{store}")
}

/// Where a Service's gRPC port is, from within the cluster.
#[must_use]
pub fn grpc_address(service: &str, namespace: &str) -> String {
    format!("{service}.{namespace}.svc:{GRPC_PORT}")
}

/// The label selector of an EdgeRegion's pods.
#[must_use]
pub fn edge_selector(edge: &str) -> String {
    format!("{EDGE_REGION}={edge}")
}

/// All objects of an AuthzStore, in the order in which they are applied.
#[must_use]
pub fn store(input: &StoreInput, settings: &Settings) -> Vec<Object> {
    let spec = &input.spec;
    let image = Image::of(spec, settings);
    let base = Labels::new(&input.name, &input.name);
    let account = format!("{}-node", input.name);
    let mut objects = vec![
        access::service_account(input.meta(account.clone(), base.clone())),
        access::store_network_policy(input.meta(format!("{}-nodes", input.name), base.clone())),
    ];
    let central = Target {
        job: CENTRAL.to_owned(),
        workload: central_name(&input.name),
        role: Role::Central,
        labels: base.clone().component(CENTRAL),
        replicas: spec.central.replicas,
        url: &spec.datastore.url_secret_ref,
        placement: pod::Placement {
            resources: spec.central.resources.as_ref(),
            node_selector: &spec.central.node_selector,
            tolerations: &spec.central.tolerations,
        },
        config: config::central(spec),
    };
    let regions = spec.regions.iter().map(|region| Target {
        job: region.name.clone(),
        workload: regional_name(&input.name, &region.name),
        role: Role::Regional,
        labels: base.clone().component("regional").region(&region.name),
        replicas: region.replicas,
        url: &region.datastore.url_secret_ref,
        placement: pod::Placement {
            resources: region.resources.as_ref(),
            node_selector: &region.node_selector,
            tolerations: &region.tolerations,
        },
        config: config::regional(&input.name, &input.namespace, spec, region),
    });
    for target in std::iter::once(central).chain(regions) {
        target.build(input, &image, &account, &mut objects);
    }
    objects.sort_by_key(|object| object.kind);
    objects
}

/// All objects of one subscription of an EdgeRegion, in the order in which they are applied.
#[must_use]
pub fn edge(input: &EdgeInput, settings: &Settings) -> Vec<Object> {
    let name = edge_name(&input.name, &input.store);
    let labels = Labels::new(&input.name, &input.store)
        .component("edge")
        .region(&input.spec.parent_region)
        .edge(&input.name);
    let meta = |name: String| ObjectMeta {
        name: Some(name),
        namespace: Some(input.namespace.clone()),
        labels: Some(labels.0.clone()),
        owner_references: Some(vec![input.owner.clone()]),
        ..Default::default()
    };
    let image = Image::of(&input.store_spec, settings);
    let config = config::edge(input);
    let config_map = named(&name, &config);
    let kafka_properties = input.store_spec.kafka.properties_secret_ref.as_ref();
    let template = pod::template(pod::Pod {
        role: Role::Edge,
        labels: labels.clone(),
        image: &image,
        account: &name,
        config_map: &config_map,
        secrets: secrets_hash(&input.secrets, kafka_properties.into_iter()),
        url: None,
        kafka_properties,
        placement: pod::Placement {
            resources: input.spec.resources.as_ref(),
            node_selector: &input.spec.node_selector,
            tolerations: &input.spec.tolerations,
        },
        scratch: input.spec.storage.is_none(),
    });
    let mut objects = vec![
        access::service_account(meta(name.clone())),
        config::config_map(meta(config_map), config),
        access::edge_network_policy(meta(name.clone()), &labels),
        service::edge(meta(name.clone()), &labels, &input.spec, settings),
        service::headless(meta(format!("{name}-headless")), &labels),
        workload::stateful_set(
            meta(name.clone()),
            &labels,
            input.spec.replicas,
            template,
            input.spec.storage.as_ref(),
        )
        .needs(kafka_properties),
    ];
    if input.spec.replicas > 1 {
        objects.push(workload::disruption_budget(meta(name), &labels));
    }
    objects.sort_by_key(|object| object.kind);
    objects
}

/// The parts of an AuthzStore that have a database: central, and each region.
struct Target<'a> {
    job: String,
    workload: String,
    role: Role,
    labels: Labels,
    replicas: i32,
    url: &'a KeyRef,
    placement: pod::Placement<'a>,
    config: String,
}

impl Target<'_> {
    fn build(self, input: &StoreInput, image: &Image, account: &str, objects: &mut Vec<Object>) {
        let meta = || input.meta(self.workload.clone(), self.labels.clone());
        let config_map = named(&self.workload, &self.config);
        let kafka_properties = input.spec.kafka.properties_secret_ref.as_ref();
        let secrets = || std::iter::once(self.url).chain(kafka_properties);
        let job = migration::job(migration::Migration {
            input,
            target: &self.job,
            labels: self.labels.clone().component("migration"),
            image,
            account,
            url: self.url,
            placement: self.placement,
        })
        .needs([self.url]);
        let template = pod::template(pod::Pod {
            role: self.role,
            labels: self.labels.clone(),
            image,
            account,
            config_map: &config_map,
            secrets: secrets_hash(&input.secrets, secrets()),
            url: Some(self.url),
            kafka_properties,
            placement: self.placement,
            scratch: false,
        });
        let workload = workload::deployment(meta(), &self.labels, self.replicas, template)
            .after(&job.name)
            .needs(secrets());
        objects.push(service::nodes(meta(), &self.labels));
        if self.replicas > 1 {
            objects.push(workload::disruption_budget(meta(), &self.labels));
        }
        let meta = input.meta(config_map, self.labels);
        objects.push(config::config_map(meta, self.config));
        objects.push(job);
        objects.push(workload);
    }
}

impl StoreInput {
    fn meta(&self, name: String, labels: Labels) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.namespace.clone()),
            labels: Some(labels.0),
            owner_references: Some(vec![self.owner.clone()]),
            ..Default::default()
        }
    }
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Central,
    Regional,
    Edge,
}

/// The image and how it is pulled.
struct Image {
    name: String,
    policy: Option<PullPolicy>,
    secrets: Vec<LocalRef>,
}

impl Image {
    fn of(spec: &AuthzStoreSpec, settings: &Settings) -> Self {
        Self {
            name: spec
                .image
                .clone()
                .unwrap_or_else(|| settings.node_image.clone()),
            policy: spec.image_pull_policy,
            secrets: spec.image_pull_secrets.clone(),
        }
    }
}

/// A hash of the values named.
fn secrets_hash<'a>(hashes: &SecretHashes, refs: impl Iterator<Item = &'a KeyRef>) -> String {
    let text: Vec<String> = refs
        .map(|of| {
            let value = hashes.get(of).map_or("", String::as_str);
            format!("{}/{}={value}", of.name, of.key)
        })
        .collect();
    hash(&text.join("\n"))
}

/// A name that changes with what is in the object.
fn named(name: &str, content: &str) -> String {
    let hash = hash(content);
    format!("{name}-{}", hash.get(..8).unwrap_or_default())
}

/// A hash of a text, 32 hexadecimal digits.
#[must_use]
pub fn hash(text: &str) -> String {
    format!("{:032x}", xxh3_128(text.as_bytes()))
}
