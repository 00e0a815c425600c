//! Who may call the nodes of an AuthzStore, and how nodes show who they are.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{KeyRef, LocalRef};

/// How callers of the API show who they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.preshared) != has(self.oidc)").message("set exactly one of preshared and oidc; to ask callers for nothing, leave authn out"))]
pub struct Authn {
    /// By a key that is shared with them, as the bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preshared: Option<Preshared>,
    /// By a token of an OIDC issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oidc: Option<Oidc>,
}

/// Keys that are shared with callers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Preshared {
    /// The key of a Secret that holds them, one a line, each as good as any other.
    pub keys_secret_ref: KeyRef,
}

/// Tokens of an OIDC issuer: JWTs signed with RS256 or ES256.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Oidc {
    /// The issuer's URL: what a token's `iss` must be, and below which `/.well-known/openid-configuration` is found.
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^/?#\s]+[^?#\s]*$"))]
    pub issuer: String,
    /// What `iss` may be besides.
    #[schemars(length(max = 16), inner(length(min = 1, max = 2048)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub issuer_aliases: Vec<String>,
    /// What a token's `aud` must contain.
    #[schemars(length(min = 1, max = 2048))]
    pub audience: String,
    /// What `sub` must be one of; anything where there are none.
    #[schemars(length(max = 256), inner(length(min = 1, max = 2048)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
    /// The claims that name the client, the first that a token has; `azp` and `client_id` where unset.
    #[schemars(length(max = 16), inner(length(min = 1, max = 256)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub client_id_claims: Vec<String>,
    /// How often the issuer's keys are fetched anew, like `1h`, which it is where unset.
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(ms|s|m|h))+$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('48h')").message("refreshInterval must be 1s to 48h"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_interval: Option<String>,
    /// How long after a token with an unknown key had the keys fetched another may not, like `10s`, which it is where
    /// unset.
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(ms|s|m|h))+$"))]
    #[x_kube(validation = Rule::new("duration(self) <= duration('1h')").message("refetchPause must be 0s to 1h"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refetch_pause: Option<String>,
    /// The key of a Secret that holds the certificates (PEM) an `https` issuer is trusted by; the system's where unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<KeyRef>,
}

/// How nodes show each other who they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Nodes {
    /// The key of a Secret that holds tokens, one a line. The first is shown to the nodes above, and by the operator; each
    /// is taken.
    pub tokens_secret_ref: KeyRef,
}

/// The ports that speak TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.api) || has(self.nodes)").message("set api, nodes or both"))]
pub struct Tls {
    /// The certificate of the API's ports (gRPC and HTTP) of all nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<Certificate>,
    /// The certificate of the port between nodes, for the names `STORE-central.NAMESPACE.svc` and
    /// `STORE-regional-REGION.NAMESPACE.svc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Certificate>,
}

/// A certificate, and what it is trusted by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// A Secret of type kubernetes.io/tls, as cert-manager makes it. When it changes, nodes take it in without a restart.
    pub secret_ref: LocalRef,
    /// The key of a Secret that holds the certificates (PEM) it is trusted by. Where unset they are under `ca.crt` in
    /// `secretRef`'s; if there are none, of the API the system's count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<KeyRef>,
}

/// The certificate in a Secret of type kubernetes.io/tls.
pub const TLS_CERT: &str = "tls.crt";
/// Its private key there.
pub const TLS_KEY: &str = "tls.key";
/// Certificates it is trusted by, where who makes the Secret puts them.
pub const TLS_CA: &str = "ca.crt";

impl Certificate {
    /// A key of its Secret.
    #[must_use]
    pub fn key(&self, key: &str) -> KeyRef {
        KeyRef {
            name: self.secret_ref.name.clone(),
            key: key.to_owned(),
        }
    }

    /// What it is trusted by.
    #[must_use]
    pub fn ca(&self) -> KeyRef {
        self.ca_secret_ref
            .clone()
            .unwrap_or_else(|| self.key(TLS_CA))
    }
}
