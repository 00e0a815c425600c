//! How connections are made: TLS, and what browsers may do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::ConfigError;
use super::rules::need;
use crate::proxies::{Network, Proxies};

/// TLS of each port. A port without a certificate speaks without it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Tls {
    /// Of `listen.grpc`.
    pub grpc: Files,
    /// Of `listen.http`.
    pub http: Files,
    /// Of `listen.nodes`.
    pub nodes: Files,
    /// How often it is looked whether these files have changed.
    #[serde(with = "humantime_serde")]
    pub reload_interval: Duration,
}

/// What a port shows who it is by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Files {
    /// The certificate and those that lead to its issuer (PEM).
    pub cert: Option<PathBuf>,
    /// Its private key (PEM).
    pub key: Option<PathBuf>,
}

/// What browsers are told about pages of other origins, and which proxies in front are believed.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Http {
    /// Origins whose pages may call; `*` for any, also within a name.
    pub cors_allowed_origins: Vec<String>,
    /// Headers that they may send; `*` for any.
    pub cors_allowed_headers: Vec<String>,
    /// Proxies, as addresses or networks like `10.0.0.0/8`, whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<String>,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            grpc: Files::default(),
            http: Files::default(),
            nodes: Files::default(),
            reload_interval: Duration::from_secs(10),
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            cors_allowed_origins: vec!["*".to_owned()],
            cors_allowed_headers: vec!["*".to_owned()],
            trusted_proxies: Vec::new(),
        }
    }
}

impl Http {
    /// The proxies that are believed. What is none was refused when the settings were read.
    pub fn proxies(&self) -> Proxies {
        let proxies = self.trusted_proxies.iter();
        proxies.filter_map(|text| text.parse().ok()).collect()
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.trusted_proxies.iter().try_for_each(|text| {
            need(
                text.parse::<Network>().is_ok(),
                "http.trustedProxies",
                text,
                "name addresses, like 192.0.2.7, or networks, like 10.0.0.0/8",
            )
        })
    }
}

impl Files {
    /// Certificate and key, where both are there.
    pub fn both(&self) -> Option<(&Path, &Path)> {
        Some((self.cert.as_deref()?, self.key.as_deref()?))
    }
}

impl Tls {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (files, cert, key) in [
            (&self.grpc, "tls.grpc.cert", "tls.grpc.key"),
            (&self.http, "tls.http.cert", "tls.http.key"),
            (&self.nodes, "tls.nodes.cert", "tls.nodes.key"),
        ] {
            let remedy = "name a file, since a certificate and its key go together";
            need(
                files.cert.is_some() || files.key.is_none(),
                cert,
                "",
                remedy,
            )?;
            need(files.key.is_some() || files.cert.is_none(), key, "", remedy)?;
        }
        Ok(())
    }
}
