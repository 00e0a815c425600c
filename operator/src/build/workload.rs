//! What runs pods, and how many of them may be away.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment, StatefulSet,
    StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, PodTemplateSpec, VolumeResourceRequirements,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::pod::DATA_VOLUME;
use super::{Kind, Labels, Object};
use crate::api::edge::Storage;

/// How long a rollout may make no progress before Kubernetes calls it failed.
const PROGRESS_SECONDS: i32 = 300;

/// A new pod is ready before an old one goes.
pub(super) fn deployment(
    metadata: ObjectMeta,
    labels: &Labels,
    replicas: i32,
    template: PodTemplateSpec,
) -> Object {
    let rolling = RollingUpdateDeployment {
        max_surge: Some(IntOrString::Int(1)),
        max_unavailable: Some(IntOrString::Int(0)),
    };
    Object::new(
        Kind::Deployment,
        &Deployment {
            metadata,
            spec: Some(DeploymentSpec {
                replicas: Some(replicas),
                selector: selector(labels),
                strategy: Some(DeploymentStrategy {
                    type_: Some("RollingUpdate".to_owned()),
                    rolling_update: Some(rolling),
                }),
                progress_deadline_seconds: Some(PROGRESS_SECONDS),
                revision_history_limit: Some(3),
                template,
                ..Default::default()
            }),
            ..Default::default()
        },
    )
}

/// Pods with names, and volumes that stay with the names. A volume holds only what can be fetched again, so it goes when
/// its pod is no longer wanted.
pub(super) fn stateful_set(
    metadata: ObjectMeta,
    labels: &Labels,
    replicas: i32,
    template: PodTemplateSpec,
    storage: Option<&Storage>,
) -> Object {
    let headless = metadata
        .name
        .as_ref()
        .map(|name| format!("{name}-headless"));
    let retention = StatefulSetPersistentVolumeClaimRetentionPolicy {
        when_deleted: Some("Delete".to_owned()),
        when_scaled: Some("Delete".to_owned()),
    };
    Object::new(
        Kind::StatefulSet,
        &StatefulSet {
            metadata,
            spec: Some(StatefulSetSpec {
                replicas: Some(replicas),
                selector: selector(labels),
                service_name: headless,
                pod_management_policy: Some("Parallel".to_owned()),
                revision_history_limit: Some(3),
                persistent_volume_claim_retention_policy: storage.map(|_| retention),
                volume_claim_templates: storage.map(|of| vec![claim(labels, of)]),
                template,
                ..Default::default()
            }),
            ..Default::default()
        },
    )
}

fn claim(labels: &Labels, storage: &Storage) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(DATA_VOLUME.to_owned()),
            labels: Some(labels.selector()),
            ..Default::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: storage.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([(
                    "storage".to_owned(),
                    Quantity(storage.size.clone()),
                )])),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// For more than one pod only: with one it would forbid every drain of a machine.
pub(super) fn disruption_budget(metadata: ObjectMeta, labels: &Labels) -> Object {
    Object::new(
        Kind::PodDisruptionBudget,
        &PodDisruptionBudget {
            metadata,
            spec: Some(PodDisruptionBudgetSpec {
                max_unavailable: Some(IntOrString::Int(1)),
                selector: Some(selector(labels)),
                unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
                ..Default::default()
            }),
            ..Default::default()
        },
    )
}

fn selector(labels: &Labels) -> LabelSelector {
    LabelSelector {
        match_labels: Some(labels.selector()),
        ..Default::default()
    }
}
