//! Who pods are to the cluster, and who may reach which of their ports.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, LabelSelectorRequirement, ObjectMeta,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{
    COMPONENT, GRPC_PORT, HTTP_PORT, Kind, LIVE, Labels, METRICS_PORT, NODES_PORT, Object, STORE,
};

/// Nodes need nothing of the cluster: the account has no rights and its token is not mounted.
pub(super) fn service_account(metadata: ObjectMeta) -> Object {
    Object::new(
        Kind::ServiceAccount,
        &ServiceAccount {
            metadata,
            automount_service_account_token: Some(false),
            ..Default::default()
        },
    )
}

/// Only pods of the same store reach the port between nodes, whether it asks for a token or not.
pub(super) fn store_network_policy(metadata: ObjectMeta, has_live: bool) -> Object {
    let store = label(&metadata, STORE);
    let live = has_live.then_some(LIVE);
    let components = ["central", "regional"].into_iter().chain(live);
    let of_store = LabelSelector {
        match_labels: Some(store),
        ..Default::default()
    };
    let nodes = LabelSelector {
        match_expressions: Some(vec![LabelSelectorRequirement {
            key: COMPONENT.to_owned(),
            operator: "In".to_owned(),
            values: Some(components.map(str::to_owned).collect()),
        }]),
        ..of_store.clone()
    };
    let between = NetworkPolicyIngressRule {
        from: Some(vec![NetworkPolicyPeer {
            pod_selector: Some(of_store),
            ..Default::default()
        }]),
        ports: Some(ports(&[NODES_PORT])),
    };
    policy(metadata, nodes, vec![open(), between])
}

pub(super) fn edge_network_policy(metadata: ObjectMeta, labels: &Labels) -> Object {
    let pods = LabelSelector {
        match_labels: Some(labels.selector()),
        ..Default::default()
    };
    policy(metadata, pods, vec![open()])
}

fn label(metadata: &ObjectMeta, key: &str) -> BTreeMap<String, String> {
    let labels = metadata.labels.iter().flatten();
    labels
        .filter(|(name, _)| *name == key)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// What everybody may reach: the API, health and metrics.
fn open() -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule {
        from: None,
        ports: Some(ports(&[GRPC_PORT, HTTP_PORT, METRICS_PORT])),
    }
}

fn ports(numbers: &[u16]) -> Vec<NetworkPolicyPort> {
    let port = |number: &u16| NetworkPolicyPort {
        port: Some(IntOrString::Int(i32::from(*number))),
        protocol: Some("TCP".to_owned()),
        ..Default::default()
    };
    numbers.iter().map(port).collect()
}

fn policy(
    metadata: ObjectMeta,
    pods: LabelSelector,
    ingress: Vec<NetworkPolicyIngressRule>,
) -> Object {
    Object::new(
        Kind::NetworkPolicy,
        &NetworkPolicy {
            metadata,
            spec: Some(NetworkPolicySpec {
                pod_selector: Some(pods),
                policy_types: Some(vec!["Ingress".to_owned()]),
                ingress: Some(ingress),
                ..Default::default()
            }),
        },
    )
}
