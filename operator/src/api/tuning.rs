//! What of nodes' settings an AuthzStore may set, under the names that `docs/configuration.md` has for them: these types are
//! written into the nodes' configuration as they are.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A feature that is off unless named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Experimental {
    /// Models and tuples may use `$expression`.
    InlineExpressions,
    /// AuthZEN is served.
    Authzen,
}

/// AuthZEN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthZen {
    /// The URL under which clients reach the nodes over HTTP, like `https://pdp.example.com`; may have a path. AuthZEN's
    /// metadata document names it; without it there is none.
    #[schemars(
        length(max = 2048),
        regex(pattern = r"^https?://[^/?#@\s]+(/[^?#\s]*)?$")
    )]
    pub base_url: String,
}

/// What browsers may do, and which proxies in front of nodes are believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Http {
    /// Origins whose pages may call; `*` for any, also within a name. Any where unset.
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors_allowed_origins: Option<Vec<String>>,
    /// Headers that they may send; `*` for any. Any where unset.
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors_allowed_headers: Option<Vec<String>>,
    /// Proxies, as addresses or networks like `10.0.0.0/8`, whose `X-Forwarded-For` is believed.
    #[schemars(length(max = 64), inner(length(min = 1, max = 64)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_proxies: Vec<String>,
}

/// Answers of checks that central and regional nodes keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckCache {
    /// Answers kept at most by each pod; 0 keeps none. 100000 where unset.
    #[schemars(range(min = 0))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_answers: Option<i64>,
    /// How long one is kept at most, like `5m`, which it is where unset; a change ends it sooner.
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(ms|s|m|h))+$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1ms') && duration(self) <= duration('720h')").message("answerMaxAge must be 1ms to 720h"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_max_age: Option<String>,
    /// How old what a node knows of a store's changes may be when it takes a kept answer, like `5ms`. With `0s`, which it is
    /// where unset, it asks the database each time, and no replica answers from before a Write.
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(ms|s|m|h))+$"))]
    #[x_kube(validation = Rule::new("duration(self) <= duration('1m')").message("window must be 0s to 1m"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
}

/// Limits of what callers may ask for: those that OpenFGA's server has too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Longest a call may take when its caller sets no shorter deadline, like `3s`, which it is where unset.
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(ms|s|m|h))+$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1ms') && duration(self) <= duration('1h')").message("requestTimeout must be 1ms to 1h"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_timeout: Option<String>,
    /// Largest request message in bytes; as JSON twice that. 616448 where unset.
    #[schemars(range(min = 1024, max = 67_108_864))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_bytes: Option<i32>,
    /// Writes and deletes of one Write together; 100 where unset.
    #[schemars(range(min = 1, max = 1_000_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuples_per_write: Option<i32>,
    /// Types of one authorization model; 100 where unset.
    #[schemars(range(min = 1, max = 1_000_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub types_per_model: Option<i32>,
    /// Bytes of one authorization model on the wire; 262144 where unset.
    #[schemars(range(min = 1, max = 67_108_864))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_bytes: Option<i32>,
    /// Rows of a page of ReadChanges at most; 100 where unset.
    #[schemars(range(min = 1, max = 10_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_changes_page_size: Option<i32>,
    /// How old a change must be before ReadChanges shows it, like `1m`; `0s` where unset.
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(ms|s|m|h))+$"))]
    #[x_kube(validation = Rule::new("duration(self) <= duration('24h')").message("changelogHorizon must be 0s to 24h"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changelog_horizon: Option<String>,
    /// Steps through usersets and parents of one evaluation; 25 where unset.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolve_node_limit: Option<i32>,
    /// What the evaluation of one condition may cost, as cel-go counts; 100 where unset.
    #[schemars(range(min = 100, max = 1_000_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition_evaluation_cost: Option<i32>,
    /// Checks of one BatchCheck; 50 where unset.
    #[schemars(range(min = 1, max = 1_000_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks_per_batch: Option<i32>,
    /// Objects of one ListObjects, 0 for all there are; 1000 where unset.
    #[schemars(range(min = 0, max = 1_000_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list_objects_results: Option<i32>,
    /// Longest a ListObjects may take before it answers with what it has, like `3s`, which it is where unset; `0s` for as
    /// long as the call may.
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(ms|s|m|h))+$"))]
    #[x_kube(validation = Rule::new("duration(self) <= duration('1h')").message("listObjectsDeadline must be 0s to 1h"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list_objects_deadline: Option<String>,
    /// Users of one ListUsers, 0 for all there are; 1000 where unset.
    #[schemars(range(min = 0, max = 1_000_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list_users_results: Option<i32>,
    /// The same as listObjectsDeadline of a ListUsers.
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(ms|s|m|h))+$"))]
    #[x_kube(validation = Rule::new("duration(self) <= duration('1h')").message("listUsersDeadline must be 0s to 1h"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list_users_deadline: Option<String>,
}

/// Where traces go, and which requests have one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Traces {
    /// The collector's URL, like `http://collector.observability:4317`: OTLP over gRPC.
    #[schemars(
        length(max = 2048),
        regex(pattern = r"^https?://[^/?#@\s]+(/[^?#\s]*)?$")
    )]
    pub endpoint: String,
    /// Which requests have a trace; parentbased_traceidratio where unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampler: Option<Sampler>,
    /// The share of requests of the samplers with traceidratio in their names, 0 to 1, like `0.05`; `0.2` where unset.
    #[schemars(length(max = 16), regex(pattern = r"^(0(\.[0-9]+)?|1(\.0+)?)$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<String>,
}

/// Which requests have a trace, in OpenTelemetry's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Sampler {
    /// Every one.
    #[serde(rename = "always_on")]
    AlwaysOn,
    /// None.
    #[serde(rename = "always_off")]
    AlwaysOff,
    /// A share of them.
    #[serde(rename = "traceidratio")]
    TraceIdRatio,
    /// As the caller's trace says; without one, every one.
    #[serde(rename = "parentbased_always_on")]
    ParentBasedAlwaysOn,
    /// As the caller's trace says; without one, none.
    #[serde(rename = "parentbased_always_off")]
    ParentBasedAlwaysOff,
    /// As the caller's trace says; without one, a share of them.
    #[serde(rename = "parentbased_traceidratio")]
    ParentBasedTraceIdRatio,
}

impl Sampler {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AlwaysOn => "always_on",
            Self::AlwaysOff => "always_off",
            Self::TraceIdRatio => "traceidratio",
            Self::ParentBasedAlwaysOn => "parentbased_always_on",
            Self::ParentBasedAlwaysOff => "parentbased_always_off",
            Self::ParentBasedTraceIdRatio => "parentbased_traceidratio",
        }
    }
}
