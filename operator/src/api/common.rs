//! What both kinds have in their specs.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::api::resource;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

/// One key of a Secret or ConfigMap in the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyRef {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in its data.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// An object in the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalRef {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// An amount of a resource, like `500m` or `1Gi`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Quantity(pub String);

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(i64),
            Text(String),
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::Number(number) => Self(number.to_string()),
            Form::Text(text) => Self(text),
        })
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An amount of a resource, like 500m or 1Gi.",
            "x-kubernetes-int-or-string": true,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": "^[0-9]+(\\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$",
            "maxLength": 32,
        })
    }
}

/// Amounts of resources.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Amounts {
    /// Processors, like `500m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Quantity>,
    /// Memory, like `1Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
    /// Scratch space, like `1Gi`.
    #[serde(
        default,
        rename = "ephemeral-storage",
        skip_serializing_if = "Option::is_none"
    )]
    pub ephemeral_storage: Option<Quantity>,
}

/// What a node gets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Resources {
    /// What is set aside for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Amounts>,
    /// What it may use at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Amounts>,
}

impl Resources {
    /// As a container has it.
    #[must_use]
    pub fn to_kubernetes(&self) -> v1::ResourceRequirements {
        let amounts = |of: &Amounts| {
            [
                ("cpu", &of.cpu),
                ("memory", &of.memory),
                ("ephemeral-storage", &of.ephemeral_storage),
            ]
            .into_iter()
            .filter_map(|(name, amount)| {
                Some((
                    name.to_owned(),
                    resource::Quantity(amount.as_ref()?.0.clone()),
                ))
            })
            .collect::<BTreeMap<_, _>>()
        };
        v1::ResourceRequirements {
            requests: self.requests.as_ref().map(amounts),
            limits: self.limits.as_ref().map(amounts),
            claims: None,
        }
    }
}

/// Which taint a toleration speaks of by its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TolerationOperator {
    /// The taint has the key, whatever its value.
    Exists,
    /// The taint has the key and the value.
    Equal,
}

/// What a taint does to pods that do not tolerate it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    /// They are not placed there.
    NoSchedule,
    /// They are placed there only if there is no other place.
    PreferNoSchedule,
    /// They are not placed there, and those that are there leave.
    NoExecute,
}

/// A taint that pods may be placed in spite of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Toleration {
    /// The taint's key; every key where unset, with operator Exists.
    #[schemars(length(max = 316))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How the value is compared; Equal where unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<TolerationOperator>,
    /// The taint's value, with operator Equal.
    #[schemars(length(max = 63))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The taint's effect; every effect where unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
    /// Seconds for which a NoExecute taint is tolerated; for ever where unset.
    #[schemars(range(min = 0))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<i64>,
}

impl Toleration {
    /// As a pod has it.
    #[must_use]
    pub fn to_kubernetes(&self) -> v1::Toleration {
        v1::Toleration {
            key: self.key.clone(),
            operator: self.operator.map(|operator| format!("{operator:?}")),
            value: self.value.clone(),
            effect: self.effect.map(|effect| format!("{effect:?}")),
            toleration_seconds: self.toleration_seconds,
        }
    }
}

/// A database and how a node uses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.minConnections) || !has(self.maxConnections) || self.minConnections <= self.maxConnections").message("minConnections must not be more than maxConnections")
)]
pub struct Datastore {
    /// The key of a Secret that holds the database's URL, like `postgres://user:password@host:5432/database`.
    pub url_secret_ref: KeyRef,
    /// The key of a Secret that holds the URL of a read replica of that database, which then answers what it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_replica_url_secret_ref: Option<KeyRef>,
    /// Connections that each pod keeps open even when idle.
    #[schemars(range(min = 0, max = 10_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_connections: Option<i32>,
    /// Connections of each pod at most.
    #[schemars(range(min = 1, max = 10_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<i32>,
    /// How long changes are kept for ReadChanges and for nodes below that were away, like `168h`; for ever where unset.
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(ms|s|m|h))+$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('876000h')").message("changelogRetention must be 1m to 876000h; leave it out to keep all changes"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changelog_retention: Option<String>,
}

/// When the image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// At every start.
    Always,
    /// When it is not there.
    IfNotPresent,
    /// Never: it must be there.
    Never,
}

/// Labels of machines; schemars has no bounds for maps.
pub(super) fn node_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {"type": "string", "maxLength": 63},
    })
}

pub(super) fn one() -> i32 {
    1
}
