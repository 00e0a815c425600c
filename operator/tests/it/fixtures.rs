//! An AuthzStore and an EdgeRegion: with what all have, and with every field set.

mod full;

use kube::{Resource as _, ResourceExt as _};
use meridian_operator::api::common::KeyRef;
use meridian_operator::api::{AuthzStore, EdgeRegion};
use meridian_operator::build::{EdgeInput, SecretHashes, Settings, StoreInput};
use serde_json::{Value, json};

pub(crate) use self::full::{
    AUTHORITY, Authority, full_edge_json, full_secrets, full_store_json, oidc_store_json,
    secret_json,
};

/// The namespace of everything.
pub(crate) const NAMESPACE: &str = "shop";

pub(crate) const MODEL: &str = "model
  schema 1.1
type user
type organization
  relations
    define member: [user]
type audit
  relations
    define reader: [user]
";

/// An AuthzStore whose nodes ask nobody who he is.
pub(crate) fn store_json() -> Value {
    json!({
        "apiVersion": "meridian.dev/v1alpha1",
        "kind": "AuthzStore",
        "metadata": {"name": "payments", "namespace": NAMESPACE, "uid": "store-uid", "generation": 3},
        "spec": {
            "product": "payments",
            "image": "registry.example/meridian:1",
            "imagePullPolicy": "IfNotPresent",
            "imagePullSecrets": [{"name": "registry"}],
            "model": {"inline": MODEL},
            "tiers": [{"type": "organization", "tier": "Critical"}, {"type": "audit", "tier": "Cold"}],
            "datastore": {
                "urlSecretRef": {"name": "central-db", "key": "url"},
                "minConnections": 2,
                "maxConnections": 20,
                "changelogRetention": "168h",
            },
            "kafka": {
                "bootstrapServers": ["kafka-0:9092", "kafka-1:9092"],
                "topicPrefix": "shop",
                "partitions": 4,
                "replicationFactor": 2,
                "propertiesSecretRef": {"name": "kafka", "key": "client.properties"},
            },
            "central": placed(2),
            "regions": [
                {
                    "name": "eu-1",
                    "datastore": {
                        "urlSecretRef": {"name": "eu-1-db", "key": "url"},
                        "minConnections": 1,
                        "maxConnections": 10,
                        "changelogRetention": "24h",
                    },
                    "replicas": 3,
                    "resources": placed(0)["resources"],
                    "nodeSelector": placed(0)["nodeSelector"],
                    "tolerations": placed(0)["tolerations"],
                },
                {"name": "us-1", "datastore": {"urlSecretRef": {"name": "us-1-db", "key": "url"}}},
            ],
            "deletionPolicy": "Delete",
        },
    })
}

fn placed(replicas: i32) -> Value {
    json!({
        "replicas": replicas,
        "resources": {
            "requests": {"cpu": "250m", "memory": "128Mi", "ephemeral-storage": "1Gi"},
            "limits": {"cpu": 1, "memory": "512Mi", "ephemeral-storage": "2Gi"},
        },
        "nodeSelector": {"pool": "authz"},
        "tolerations": [{
            "key": "authz",
            "operator": "Equal",
            "value": "yes",
            "effect": "NoExecute",
            "tolerationSeconds": 60,
        }],
    })
}

/// An EdgeRegion below it.
pub(crate) fn edge_json() -> Value {
    let placed = placed(2);
    json!({
        "apiVersion": "meridian.dev/v1alpha1",
        "kind": "EdgeRegion",
        "metadata": {"name": "till", "namespace": NAMESPACE, "uid": "edge-uid", "generation": 1},
        "spec": {
            "parentRegion": "eu-1",
            "subscriptions": [{"storeRef": {"name": "payments"}}],
            "replicas": 2,
            "resources": placed["resources"],
            "nodeSelector": placed["nodeSelector"],
            "tolerations": placed["tolerations"],
            "storage": {"size": "2Gi", "storageClassName": "fast"},
            "freshness": {"maxStaleness": "30s", "answerMaxAge": "2m"},
            "service": {"trafficDistribution": "PreferSameZone", "type": "NodePort"},
        },
    })
}

pub(crate) fn store(json: Value) -> AuthzStore {
    serde_json::from_value(json).unwrap()
}

pub(crate) fn edge(json: Value) -> EdgeRegion {
    serde_json::from_value(json).unwrap()
}

pub(crate) fn settings() -> Settings {
    Settings {
        node_image: "registry.example/default:9".to_owned(),
        traffic_distribution: "PreferSameNode".to_owned(),
    }
}

/// The Secrets that the fixtures name, each with its keys.
pub(crate) const SECRETS: [(&str, &str); 4] = [
    ("central-db", "url"),
    ("eu-1-db", "url"),
    ("us-1-db", "url"),
    ("kafka", "client.properties"),
];

fn hashes() -> SecretHashes {
    let of = |name: &str, key: &str| KeyRef {
        name: name.to_owned(),
        key: key.to_owned(),
    };
    let all = full_secrets().into_iter().flat_map(|(name, values)| {
        let keys = values.into_iter().map(|(key, _)| key);
        keys.map(move |key| (of(name, key), format!("hash of {name}")))
    });
    all.collect()
}

/// What the objects of an AuthzStore are built from.
pub(crate) fn store_input(store: &AuthzStore) -> StoreInput {
    StoreInput {
        name: store.name_any(),
        namespace: NAMESPACE.to_owned(),
        owner: store.controller_owner_ref(&()).unwrap(),
        spec: store.spec.clone(),
        secrets: hashes(),
    }
}

/// What the objects of an EdgeRegion's only subscription are built from.
pub(crate) fn edge_input(edge: &EdgeRegion, store: &AuthzStore) -> EdgeInput {
    EdgeInput {
        name: edge.name_any(),
        namespace: NAMESPACE.to_owned(),
        owner: edge.controller_owner_ref(&()).unwrap(),
        spec: edge.spec.clone(),
        store: store.name_any(),
        store_spec: store.spec.clone(),
        secrets: hashes(),
    }
}
