//! What may be set so and is hardly meant so, or leaves a node open: told when it starts.

use std::fmt;

use http::Uri;

use super::Config;
use super::authn::Method;
use super::authzen::FEATURE as AUTHZEN;
use super::openfga::INLINE_EXPRESSIONS;
use super::rules::is_loopback;
use super::settings::SETTINGS;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The only writer.
    Central,
    /// A full copy.
    Regional,
    /// The needed part.
    Edge,
    /// The live channel alone, by what an edge holds.
    Live,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Central => "central",
            Self::Regional => "regional",
            Self::Edge => "edge",
            Self::Live => "live",
        })
    }
}

/// What the settings of parts that not every role has begin with, and who has the part. Whoever sets them elsewhere counts on
/// something that is not there; of other settings that a role does not read, files for all roles are full.
const PARTS: &[(&str, &[Role])] = &[
    ("listen.nodes", &[Role::Central, Role::Regional]),
    ("tls.nodes.", &[Role::Central, Role::Regional]),
    ("nodes.ca", &[Role::Regional, Role::Edge, Role::Live]),
    ("datastore.", &[Role::Central, Role::Regional]),
    ("checkCache.", &[Role::Central, Role::Regional]),
    ("upstream", &[Role::Regional, Role::Edge, Role::Live]),
    ("edge.", &[Role::Edge, Role::Live]),
    ("live.durable", &[Role::Central, Role::Regional]),
    ("live.retention", &[Role::Central, Role::Regional]),
    ("recorder.url", &[Role::Central, Role::Regional]),
    ("recorder.retention", &[Role::Central, Role::Regional]),
    ("recorder.regions", &[Role::Central]),
    ("watch.", &[Role::Central, Role::Regional]),
];

impl Config {
    /// What is worth a warning when a node of this role starts, one sentence each.
    pub fn advice(&self, role: Role) -> Vec<String> {
        let mut told = Vec::new();
        told.extend(self.open_ports(role));
        told.extend(self.keys_of_no_method());
        told.extend(self.tokens_in_clear(role));
        told.extend(self.of_other_roles(role));
        let others = self
            .experimentals
            .iter()
            .filter(|name| ![INLINE_EXPRESSIONS, AUTHZEN].contains(&name.as_str()));
        told.extend(others.map(|name| format!("experimentals: '{name}' has no effect")));
        told
    }

    /// Ports that ask for nothing, and those that do not encrypt.
    fn open_ports(&self, role: Role) -> Vec<String> {
        let mut told = Vec::new();
        if role == Role::Live && self.authn.method == Method::None {
            let knows_users = !self.live.oidc.issuer.is_empty() || self.live.userinfo_url.is_some();
            if !knows_users {
                told.push("authn.method is none: whoever reaches listen.http is whom they say, as neither live.oidc.issuer nor live.userinfoUrl is set".into());
            }
        } else if self.authn.method == Method::None {
            told.push(
                "authn.method is none: whoever reaches listen.grpc or listen.http may do everything".into(),
            );
        }
        let has_nodes = matches!(role, Role::Central | Role::Regional);
        if has_nodes && !self.nodes.has_tokens() {
            told.push(
                "nodes.tokens is empty: whoever reaches listen.nodes can read and write all".into(),
            );
        }
        let tls = &self.tls;
        let ports = [
            ("grpc", Some(&tls.grpc)),
            ("http", Some(&tls.http)),
            ("nodes", Some(&tls.nodes).filter(|_| has_nodes)),
        ];
        let plain = ports.into_iter().filter_map(|(name, files)| {
            let is_plain = files?.both().is_none();
            is_plain.then(|| format!("listen.{name}"))
        });
        let plain: Vec<_> = plain.collect();
        if !plain.is_empty() {
            let ports = plain.join(", ");
            told.push(format!("without TLS, as tls is not set for it: {ports}"));
        }
        told
    }

    /// What callers were to show by a method that is not in use.
    fn keys_of_no_method(&self) -> Option<String> {
        let (method, authn) = (self.authn.method, &self.authn);
        let has_keys = authn.preshared.keys.iter().next().is_some();
        let has_issuer = !authn.oidc.issuer.is_empty() || !authn.oidc.audience.is_empty();
        let unused = match method {
            Method::Preshared => has_issuer.then_some("authn.oidc"),
            Method::Oidc => has_keys.then_some("authn.preshared"),
            Method::None if has_keys => Some("authn.preshared"),
            Method::None => has_issuer.then_some("authn.oidc"),
        }?;
        Some(format!(
            "{unused} has no effect: authn.method is {}",
            format!("{method:?}").to_lowercase()
        ))
    }

    /// A network that encrypts by itself is not seen from here, so this is no error.
    fn tokens_in_clear(&self, role: Role) -> Option<String> {
        let is_clear = |url: &&String| {
            let Ok(url) = url.parse::<Uri>() else {
                return false;
            };
            url.scheme_str() == Some("http") && !url.host().is_some_and(is_loopback)
        };
        let shows = role != Role::Central && self.nodes.has_tokens();
        let url = self.upstream.iter().find(is_clear).filter(|_| shows)?;
        Some(format!(
            "upstream is '{url}': the token of the nodes goes there in clear; write https://, with tls.nodes at that node, unless the network encrypts"
        ))
    }

    fn of_other_roles(&self, role: Role) -> Vec<String> {
        let usual = Self::default();
        let is_elsewhere = |path: &str| {
            let mut parts = PARTS.iter();
            parts.any(|(part, roles)| path.starts_with(part) && !roles.contains(&role))
        };
        let set = SETTINGS.iter().filter(|setting| {
            is_elsewhere(setting.path) && setting.show(self) != setting.show(&usual)
        });
        set.map(|setting| {
            format!(
                "{} has no effect: a node that is {role} has no use for it",
                setting.path
            )
        })
        .collect()
    }
}
