//! The pods of a role: what is the same for all of them, and where they differ.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar,
    EnvVarSource, HTTPGetAction, LocalObjectReference, ObjectFieldSelector, PodSecurityContext,
    PodSpec, PodTemplateSpec, Probe, SeccompProfile, SecretKeySelector, SecurityContext,
    TopologySpreadConstraint, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{
    DATASTORE_URL, GRPC_PORT, HTTP_PORT, Image, Labels, METRICS_PORT, NODES_PORT, Role, SecretFile,
    config, files,
};
use crate::api::common::{Datastore, KeyRef, Resources, Toleration};
use crate::api::tuning::Traces;

/// How long a node that was told to stop goes on answering, so that nobody is sent there any more when it stops.
pub(super) const DRAIN_SECONDS: i64 = 5;
/// How long its open requests may take after that.
pub(super) const SHUTDOWN_SECONDS: i64 = 10;
/// Beyond both, for writing snapshots and leaving groups.
const GRACE_SECONDS: i64 = 15;

pub(super) const DATA_FOLDER: &str = "/var/lib/meridian";
const CONFIG_FOLDER: &str = "/etc/meridian";
/// The volume of snapshot files.
pub(super) const DATA_VOLUME: &str = "data";
/// The user in the image.
const USER: i64 = 65_532;

/// Where pods may be placed, and what they get.
#[derive(Clone, Copy)]
pub(super) struct Placement<'a> {
    pub(super) resources: Option<&'a Resources>,
    pub(super) node_selector: &'a BTreeMap<String, String>,
    pub(super) tolerations: &'a [Toleration],
}

pub(super) struct Pod<'a> {
    pub(super) role: Role,
    pub(super) labels: Labels,
    pub(super) image: &'a Image,
    pub(super) account: &'a str,
    pub(super) config_map: &'a str,
    /// A hash of what it reads of Secrets.
    pub(super) secrets: String,
    pub(super) datastore: Option<&'a Datastore>,
    /// What it reads of Secrets as files.
    pub(super) files: &'a [SecretFile],
    pub(super) traces: Option<&'a Traces>,
    /// Whether the API's ports do.
    pub(super) speaks_tls: bool,
    pub(super) placement: Placement<'a>,
    /// Whether the data folder is lost with the pod.
    pub(super) scratch: bool,
}

/// The template of a role's pods. A change of the configuration, which changes the ConfigMap's name, or of a value it
/// reads of a Secret changes it, and so rolls them.
pub(super) fn template(pod: Pod<'_>) -> PodTemplateSpec {
    // By the last three Prometheus finds what to scrape, as it is commonly set up.
    let annotations = BTreeMap::from([
        ("meridian.dev/secrets".to_owned(), pod.secrets.clone()),
        ("prometheus.io/path".to_owned(), "/metrics".to_owned()),
        ("prometheus.io/port".to_owned(), METRICS_PORT.to_string()),
        ("prometheus.io/scrape".to_owned(), "true".to_owned()),
    ]);
    let mut spec = base(pod.image, pod.account, pod.placement);
    spec.termination_grace_period_seconds = Some(DRAIN_SECONDS + SHUTDOWN_SECONDS + GRACE_SECONDS);
    spec.topology_spread_constraints = Some(spread(&pod.labels));
    spec.volumes = Some(volumes(&pod));
    spec.containers = vec![container(&pod)];
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(pod.labels.0),
            annotations: Some(annotations),
            ..Default::default()
        }),
        spec: Some(spec),
    }
}

/// What every pod has, a migration's too.
pub(super) fn base(image: &Image, account: &str, placement: Placement<'_>) -> PodSpec {
    let secrets = image.secrets.iter().map(|secret| LocalObjectReference {
        name: secret.name.clone(),
    });
    let selector = Some(placement.node_selector).filter(|selector| !selector.is_empty());
    let tolerations = placement.tolerations.iter().map(Toleration::to_kubernetes);
    PodSpec {
        service_account_name: Some(account.to_owned()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        image_pull_secrets: some(secrets.collect()),
        node_selector: selector.cloned(),
        tolerations: some(tolerations.collect()),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            fs_group_change_policy: Some("OnRootMismatch".to_owned()),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// What every container has. What it says last is kept where this operator can read it: in the pod's status.
pub(super) fn base_container(
    name: &str,
    image: &Image,
    resources: Option<&Resources>,
) -> Container {
    Container {
        name: name.to_owned(),
        image: Some(image.name.clone()),
        image_pull_policy: image.policy.map(|policy| format!("{policy:?}")),
        resources: resources.map(Resources::to_kubernetes),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub(super) fn url_variable(url: &KeyRef) -> EnvVar {
    from_secret(DATASTORE_URL, url)
}

fn from_secret(name: &str, of: &KeyRef) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: of.name.clone(),
                key: of.key.clone(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        ..Default::default()
    }
}

fn environment(pod: &Pod<'_>) -> Vec<EnvVar> {
    let name = EnvVar {
        name: "MERIDIAN_NAME".to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: "metadata.name".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut all = vec![name, variable("MERIDIAN_LOG_FORMAT", "json")];
    if let Some(datastore) = pod.datastore {
        all.push(url_variable(&datastore.url_secret_ref));
        let replica = datastore.read_replica_url_secret_ref.as_ref();
        all.extend(replica.map(|of| from_secret("MERIDIAN_DATASTORE_READ_REPLICA_URL", of)));
    }
    if let Some(traces) = pod.traces {
        all.push(variable(
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            &traces.endpoint,
        ));
        let sampler = traces.sampler.map(|of| of.name());
        all.extend(sampler.map(|of| variable("OTEL_TRACES_SAMPLER", of)));
        let ratio = traces.ratio.as_ref();
        all.extend(ratio.map(|of| variable("OTEL_TRACES_SAMPLER_ARG", of)));
    }
    all
}

fn container(pod: &Pod<'_>) -> Container {
    let tls = pod.speaks_tls;
    Container {
        command: Some(vec![
            pod.role.program().to_owned(),
            "--config".to_owned(),
            format!("{CONFIG_FOLDER}/{}", config::FILE),
        ]),
        env: Some(environment(pod)),
        ports: Some(ports(pod.role)),
        startup_probe: Some(probe(ALIVE, tls, 1, 60)),
        liveness_probe: Some(probe(ALIVE, tls, 10, 3)),
        readiness_probe: Some(probe(SERVING, tls, 2, 2)),
        volume_mounts: Some(mounts(pod)),
        ..base_container("node", pod.image, pod.placement.resources)
    }
}

impl Role {
    fn program(self) -> &'static str {
        match self {
            Self::Central => "meridian-central",
            Self::Regional => "meridian-regional",
            Self::Edge => "meridian-edge",
            Self::Live => "meridian-live",
        }
    }
}

fn ports(role: Role) -> Vec<ContainerPort> {
    let port = |name: &str, number: u16| ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(number),
        protocol: Some("TCP".to_owned()),
        ..Default::default()
    };
    let mut ports = vec![port("grpc", GRPC_PORT), port("http", HTTP_PORT)];
    if role.has_below() {
        ports.push(port("nodes", NODES_PORT));
    }
    ports.push(port("metrics", METRICS_PORT));
    ports
}

/// The process lives. Whether it may be asked is [`SERVING`]'s: a node that waits for its datastore must not be killed.
const ALIVE: &str = "/livez";
/// By HTTP rather than gRPC, whose probes speak no TLS.
const SERVING: &str = "/healthz";

/// The kubelet does not look whose certificate it is.
fn probe(path: &str, tls: bool, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("http".to_owned()),
            scheme: tls.then(|| "HTTPS".to_owned()),
            ..Default::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(2),
        failure_threshold: Some(failures),
        ..Default::default()
    }
}

fn mounts(pod: &Pod<'_>) -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..Default::default()
    };
    let mut mounts = vec![mount("config", CONFIG_FOLDER, true)];
    if !pod.files.is_empty() {
        mounts.push(mount(files::VOLUME, files::FOLDER, true));
    }
    if pod.role.is_in_memory() {
        mounts.push(mount(DATA_VOLUME, DATA_FOLDER, false));
    }
    mounts
}

fn volumes(pod: &Pod<'_>) -> Vec<Volume> {
    let mut volumes = vec![Volume {
        name: "config".to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: pod.config_map.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    }];
    volumes.extend(files::volume(pod.files));
    if pod.scratch {
        volumes.push(Volume {
            name: DATA_VOLUME.to_owned(),
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..Default::default()
        });
    }
    volumes
}

/// Over zones and machines, where there is a choice.
fn spread(labels: &Labels) -> Vec<TopologySpreadConstraint> {
    let over = |key: &str| TopologySpreadConstraint {
        max_skew: 1,
        topology_key: key.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(LabelSelector {
            match_labels: Some(labels.selector()),
            ..Default::default()
        }),
        ..Default::default()
    };
    ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
        .map(over)
        .into()
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    Some(list).filter(|list| !list.is_empty())
}
