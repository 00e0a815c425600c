//! All objects of an AuthzStore or EdgeRegion, made from validated input. No I/O, no clock: the same input gives the same
//! objects, and what is compared with the cluster is what stands in the golden files of the tests.

mod access;
mod config;
mod files;
mod labels;
mod live;
mod migration;
mod object;
mod pod;
mod service;
mod workload;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use xxhash_rust::xxh3::xxh3_128;

use crate::api::callers::Certificate;
use crate::api::common::{Datastore, KeyRef, LocalRef, PullPolicy};
use crate::api::edge::EdgeRegionSpec;
use crate::api::observing::Endpoint;
use crate::api::store::AuthzStoreSpec;

pub use files::{Holds, SecretFile, api_certificate, edge_files, nodes_certificate, store_files};
use labels::Labels;
pub use labels::{live_target, target};
pub use object::{Kind, Object};

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

/// The variable that has the URL of a node's database.
pub(crate) const DATASTORE_URL: &str = "MERIDIAN_DATASTORE_URL";

const HTTP_PORT: u16 = 8080;
const NODES_PORT: u16 = 8082;
const METRICS_PORT: u16 = 9090;

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

/// The component of pods that serve the live channel and nothing else.
pub const LIVE: &str = "live";

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

/// The name of the workload and Service of a region's live channel.
#[must_use]
pub fn live_name(store: &str, region: &str) -> String {
    format!("{store}-live-{region}")
}

/// The name of an EdgeRegion's workload and Service for a store.
#[must_use]
pub fn edge_name(edge: &str, store: &str) -> String {
    format!("{edge}-{store}")
}

/// A Service's name from within the cluster, which certificates are for.
#[must_use]
pub fn host(service: &str, namespace: &str) -> String {
    format!("{service}.{namespace}.svc")
}

/// Where a Service's gRPC port is, from within the cluster.
#[must_use]
pub fn grpc_address(service: &str, namespace: &str) -> String {
    format!("{}:{GRPC_PORT}", host(service, namespace))
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
        access::store_network_policy(
            input.meta(format!("{}-nodes", input.name), base.clone()),
            live_endpoint(spec).is_some(),
        ),
    ];
    let central = Target {
        job: CENTRAL.to_owned(),
        workload: central_name(&input.name),
        role: Role::Central,
        labels: base.clone().component(CENTRAL),
        replicas: spec.central.replicas,
        datastore: &spec.datastore,
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
        datastore: &region.datastore,
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
    if let Some(endpoint) = live_endpoint(spec) {
        for region in &spec.regions {
            objects.extend(live::endpoint(input, endpoint, region, &image, &account));
        }
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
    let api = edge_certificate(&input.spec, &input.store_spec);
    let files = edge_files(&input.spec, &input.store, &input.store_spec);
    let template = pod::template(pod::Pod {
        role: Role::Edge,
        labels: labels.clone(),
        image: &image,
        account: &name,
        config_map: &config_map,
        secrets: secrets_hash(&input.secrets, rolling(&files)),
        datastore: None,
        files: &files,
        traces: input.store_spec.traces.as_ref(),
        speaks_tls: api.is_some(),
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
        service::edge(meta(name.clone()), &labels, input, settings),
        service::headless(meta(format!("{name}-headless")), &labels, api.is_some()),
        workload::stateful_set(
            meta(name.clone()),
            &labels,
            input.spec.replicas,
            template,
            input.spec.storage.as_ref(),
        )
        .needs(files.iter().map(|file| &file.of)),
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
    datastore: &'a Datastore,
    placement: pod::Placement<'a>,
    config: String,
}

impl Target<'_> {
    fn build(self, input: &StoreInput, image: &Image, account: &str, objects: &mut Vec<Object>) {
        let meta = || input.meta(self.workload.clone(), self.labels.clone());
        let config_map = named(&self.workload, &self.config);
        let api = api_certificate(&input.spec);
        let files = store_files(&input.spec, self.role);
        let url = &self.datastore.url_secret_ref;
        let urls = || std::iter::once(url).chain(&self.datastore.read_replica_url_secret_ref);
        let job = migration::job(migration::Migration {
            input,
            target: &self.job,
            labels: self.labels.clone().component("migration"),
            image,
            account,
            url,
            placement: self.placement,
        })
        .needs([url]);
        let template = pod::template(pod::Pod {
            role: self.role,
            labels: self.labels.clone(),
            image,
            account,
            config_map: &config_map,
            secrets: secrets_hash(&input.secrets, urls().chain(rolling(&files))),
            datastore: Some(self.datastore),
            files: &files,
            traces: input.spec.traces.as_ref(),
            speaks_tls: api.is_some(),
            placement: self.placement,
            scratch: false,
        });
        let workload = workload::deployment(meta(), &self.labels, self.replicas, template)
            .after(&job.name)
            .needs(urls().chain(files.iter().map(|file| &file.of)));
        objects.push(service::nodes(meta(), &self.labels, &input.spec));
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
pub enum Role {
    /// The only writer.
    Central,
    /// A full copy.
    Regional,
    /// The needed part, in memory.
    Edge,
    /// An edge that serves the live channel and nothing else.
    Live,
}

impl Role {
    /// Whether it has nodes below.
    fn has_below(self) -> bool {
        matches!(self, Self::Central | Self::Regional)
    }

    /// Whether it has no database.
    fn is_in_memory(self) -> bool {
        matches!(self, Self::Edge | Self::Live)
    }
}

/// The pods that serve the live channel and nothing else, if there are to be some.
#[must_use]
pub fn live_endpoint(spec: &AuthzStoreSpec) -> Option<&Endpoint> {
    spec.live.as_ref()?.endpoint.as_ref()
}

/// The certificate of the API's ports of edges.
#[must_use]
pub fn edge_certificate<'a>(
    edge: &'a EdgeRegionSpec,
    store: &'a AuthzStoreSpec,
) -> Option<&'a Certificate> {
    edge.tls.as_ref().or_else(|| api_certificate(store))
}

/// What pods are replaced for when it changes.
fn rolling(files: &[SecretFile]) -> impl Iterator<Item = &KeyRef> {
    files.iter().filter(|of| of.rolls()).map(|of| &of.of)
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
