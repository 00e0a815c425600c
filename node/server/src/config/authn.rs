//! Who may call a node: its clients, and the nodes below.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Uri;
use serde::Deserialize;

use super::ConfigError;
use super::rules::need;

/// How the callers of OpenFGA's API show who they are.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Authn {
    /// Which of the ways below.
    pub method: Method,
    /// Keys that are shared with callers.
    pub preshared: Preshared,
    /// Tokens of an OIDC issuer.
    pub oidc: Oidc,
}

/// A way for callers to show who they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Not at all: whoever reaches the port may do everything.
    #[default]
    None,
    /// A shared key as the bearer token.
    Preshared,
    /// A token of an OIDC issuer as the bearer token.
    Oidc,
}

/// Keys that are shared with callers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Preshared {
    /// The keys, each as good as any other.
    pub keys: Secrets,
    /// A file of more of them, one a line.
    pub keys_file: Option<PathBuf>,
}

/// Tokens of an OIDC issuer.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Oidc {
    /// The issuer: what `iss` must be, and below which its keys are found.
    pub issuer: String,
    /// What `iss` may be besides.
    pub issuer_aliases: Vec<String>,
    /// What `aud` must contain.
    pub audience: String,
    /// What `sub` must be one of; anything where there are none.
    pub subjects: Vec<String>,
    /// The claims that name the client, the first that a token has.
    pub client_id_claims: Vec<String>,
    /// How often the issuer's keys are fetched anew.
    #[serde(with = "humantime_serde")]
    pub refresh_interval: Duration,
    /// How long after a token with an unknown key had the keys fetched another may not.
    #[serde(with = "humantime_serde")]
    pub refetch_pause: Duration,
    /// Certificates (PEM) by which the issuer is trusted; the system's unless set.
    pub ca: Option<PathBuf>,
}

impl Default for Oidc {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            issuer_aliases: Vec::new(),
            audience: String::new(),
            subjects: Vec::new(),
            client_id_claims: ["azp", "client_id"].map(str::to_owned).into(),
            refresh_interval: Duration::from_secs(60 * 60),
            refetch_pause: Duration::from_secs(10),
            ca: None,
        }
    }
}

/// What proves to other nodes that this is one.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Nodes {
    /// Shared by all nodes. The first is shown to the nodes above; each is taken from the nodes below, who need none while
    /// there is none here.
    pub tokens: Secrets,
    /// A file of more of them, one a line.
    pub tokens_file: Option<PathBuf>,
    /// Certificates (PEM) by which the nodes above are trusted; the system's unless set.
    pub ca: Option<PathBuf>,
}

/// Texts that are not shown.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secrets(Vec<String>);

impl Secrets {
    /// These.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        Self(secrets.into_iter().collect())
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Adds those of a file, one a line. Empty lines, and spaces around a line, do not count.
    pub(super) fn add_file(
        &mut self,
        setting: &'static str,
        file: Option<&Path>,
    ) -> Result<(), ConfigError> {
        let Some(file) = file else { return Ok(()) };
        let text = std::fs::read_to_string(file)
            .map_err(|why| ConfigError::Unreadable(setting, file.to_owned(), why))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        self.0.extend(lines.map(str::to_owned));
        Ok(())
    }

    fn check(&self, setting: &'static str) -> Result<(), ConfigError> {
        let is_token =
            |secret: &str| !secret.is_empty() && secret.bytes().all(|b| b.is_ascii_graphic());
        need(
            self.iter().all(is_token),
            setting,
            "(not shown)",
            "use visible ASCII characters without spaces, at least one of them",
        )
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} not shown)", self.0.len())
    }
}

impl Authn {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.preshared.keys.check("authn.preshared.keys")?;
        match self.method {
            Method::None => Ok(()),
            Method::Preshared => need(
                self.preshared.keys.iter().next().is_some(),
                "authn.preshared.keys",
                "[]",
                "name at least one key, here or in authn.preshared.keysFile, since authn.method is preshared",
            ),
            Method::Oidc => {
                let oidc = &self.oidc;
                need(
                    is_http_url(&oidc.issuer),
                    "authn.oidc.issuer",
                    &oidc.issuer,
                    "write the issuer's URL, like https://issuer.example.com, since authn.method is oidc",
                )?;
                need(
                    !oidc.audience.is_empty(),
                    "authn.oidc.audience",
                    &oidc.audience,
                    "name the audience that tokens are made for, since authn.method is oidc",
                )
            }
        }
    }
}

impl Nodes {
    /// Whether nodes have to show anything.
    pub fn has_tokens(&self) -> bool {
        self.tokens.iter().next().is_some()
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.tokens.check("nodes.tokens")
    }
}

pub(super) fn is_http_url(text: &str) -> bool {
    text.parse::<Uri>().is_ok_and(|url| {
        matches!(url.scheme_str(), Some("http" | "https")) && url.authority().is_some()
    })
}
