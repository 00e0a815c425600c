//! The flow recorder, the live channel and the watching of an AuthzStore, under the names that `docs/configuration.md` has for their
//! settings. Naming one turns it on.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Resources, Toleration, node_selector, one};
use super::edge::ServiceType;

/// What is recorded of logins and decisions. It can be turned off and on at any time by the nodes' API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Recorder {
    /// The share of decisions that is recorded, `0` for none to `1` for all, like `0.05`; `1` where unset.
    #[schemars(length(max = 16), regex(pattern = r"^(0(\.[0-9]+)?|1(\.0+)?)$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<String>,
    /// The share of recorded Checks whose explanation is kept, `0` for none to `1` for all, like `0.05`; `0` where unset.
    #[schemars(length(max = 16), regex(pattern = r"^(0(\.[0-9]+)?|1(\.0+)?)$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explain: Option<String>,
    /// How long flows are kept, like `720h`, which it is where unset.
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(ms|s|m|h))+$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1h') && duration(self) <= duration('87600h')").message("retention must be 1h to 87600h"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<String>,
    /// How often the same caller's showing who it is is recorded at most, like `1h`, which it is where unset; `0s` for every
    /// request.
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(ms|s|m|h))+$"))]
    #[x_kube(validation = Rule::new("duration(self) <= duration('24h')").message("authenticationInterval must be 0s to 24h"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication_interval: Option<String>,
}

/// Records to whoever may see them, over WebSockets, at every node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.authorityUrl) || has(self.store)").message("authorityUrl knows the objects of one store: name it, as store"))]
#[x_kube(validation = Rule::new("(has(self.historyBytes) ? self.historyBytes : 67108864) <= (has(self.historyTotalBytes) ? self.historyTotalBytes : 268435456)").message("historyTotalBytes (268435456 where unset) must be at least historyBytes, which one store may have (67108864 where unset)"))]
pub struct Live {
    /// The id of the store of clients that name none. The scopes of tokens allow objects of this store alone.
    #[schemars(length(max = 26), regex(pattern = r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// Whose records a node has; those of the whole product where unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Whether records are written to the database as well: those of the product to central's, those of a region to its own.
    /// They are where unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durable: Option<bool>,
    /// How long they are kept there, like `720h`, which it is where unset.
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(ms|s|m|h))+$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1h') && duration(self) <= duration('87600h')").message("retention must be 1h to 87600h"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<String>,
    /// Pods in each region that serve the live channel and nothing else. Where unset there are none: clients connect to the
    /// nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// The type of users: `sub` of a token is the id of one of them. `user` where unset.
    #[schemars(length(min = 1, max = 254))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_type: Option<String>,
    /// The relation that lets a user see an object; `can_watch` where unset.
    #[schemars(length(min = 1, max = 50))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relation: Option<String>,
    /// Other relations by type: `event=can_see`.
    #[schemars(
        length(max = 256),
        inner(length(max = 512), regex(pattern = r"^[^=:#@\s]+=[^=:#@\s]+$"))
    )]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relations: Vec<String>,
    /// What lets a user see all objects of a type: `event=system:live#can_watch_all`. Without it nobody may.
    #[schemars(
        length(max = 256),
        inner(
            length(max = 1024),
            regex(pattern = r"^[^=:#@\s]+=[^=:#@\s]+:[^=#\s]+#[^=:#@\s]+$")
        )
    )]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub whole_types: Vec<String>,
    /// Tokens of the users' own issuer; those of `authn.oidc` where unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oidc: Option<Issuer>,
    /// Whom to ask, with the user's token, whose it is, instead of checking it.
    #[schemars(
        length(max = 2048),
        regex(pattern = r"^https?://[^/?#@\s]+([/?][^#\s]*)?$")
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub userinfo_url: Option<String>,
    /// Whom to ask, with the user's token, who may see an object of `store`, instead of Meridian.
    #[schemars(
        length(max = 2048),
        regex(pattern = r"^https?://[^/?#@\s]+([/?][^#\s]*)?$")
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority_url: Option<String>,
    /// Origins of pages that may connect; `*` for any, also within a name. Any where unset.
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_origins: Option<Vec<String>>,
    /// Sockets of one address at a node; 1000 where unset.
    #[schemars(range(min = 1, max = 1_000_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections_per_address: Option<i32>,
    /// Sockets of one user at a node; 100 where unset.
    #[schemars(range(min = 1, max = 1_000_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections_per_user: Option<i32>,
    /// Records that wait for one client, before it is told that it is too slow; 4096 where unset.
    #[schemars(range(min = 2, max = 1_000_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_records: Option<i32>,
    /// Bytes of them; 2097152 where unset.
    #[schemars(range(min = 1024, max = 67_108_864))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_bytes: Option<i32>,
    /// Records of one object that each node keeps for clients who come back; 2048 where unset.
    #[schemars(range(min = 0, max = 1_000_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_records: Option<i32>,
    /// Bytes of all records kept of one store; 67108864 where unset.
    #[schemars(range(min = 0, max = 4_294_967_296_i64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_bytes: Option<i64>,
    /// Bytes of all records kept of all stores; 268435456 where unset.
    #[schemars(range(min = 0, max = 68_719_476_736_i64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_total_bytes: Option<i64>,
    /// How long they are kept, like `1h`, which it is where unset.
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(ms|s|m|h))+$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('720h')").message("historyAge must be 1s to 720h"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_age: Option<String>,
    /// How long a subscription whose permission may have changed waits for a decision, its records held back, like `5s`, which it is where unset.
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(ms|s|m|h))+$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1ms') && duration(self) <= duration('1h')").message("grace must be 1ms to 1h"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<String>,
    /// How often each permission is checked again, whatever changed, like `5m`, which it is where unset. With `authorityUrl` it is how long a revocation goes unnoticed.
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(ms|s|m|h))+$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')").message("reviewInterval must be 1s to 24h"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review_interval: Option<String>,
}

/// Changes and decisions as they happen, over WebSockets, to whoever may call the API: at central and in the regions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Watch {
    /// Watchers of one node; 100 where unset.
    #[schemars(range(min = 1, max = 1_000_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<i32>,
}

/// Pods that serve the live channel and nothing else, in each region behind a Service of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Pods of each region.
    #[schemars(range(min = 1, max = 100))]
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
    /// The type of the Services.
    #[serde(default)]
    pub service_type: ServiceType,
}

/// Whose records a node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// All of the product.
    Product,
    /// Those of its own region.
    Region,
}

/// An OIDC issuer of users' tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Issuer {
    /// The issuer's URL.
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^/?#\s]+[^?#\s]*$"))]
    pub issuer: String,
    /// What a token's `aud` must contain.
    #[schemars(length(min = 1, max = 2048))]
    pub audience: String,
}
