//! The settings of AuthZEN, which is served where `experimentals` names it.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::Config;
use crate::api::authzen::{self, BaseUrl};

/// The name in `experimentals`.
pub(super) const FEATURE: &str = "authzen";

/// Where clients of AuthZEN find it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AuthZen {
    /// The URL under which clients reach `listen.http`, as the metadata document shows it. Without it there is no such
    /// document.
    #[serde(deserialize_with = "base_url")]
    pub base_url: Option<BaseUrl>,
}

fn base_url<'de, D: Deserializer<'de>>(from: D) -> Result<Option<BaseUrl>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    let parsed = text.map(|text| {
        text.parse()
            .map_err(|why| D::Error::custom(format_args!("'{text}' is no base URL: {why}")))
    });
    parsed.transpose()
}

impl Config {
    /// How the node serves AuthZEN.
    pub fn authzen(&self) -> authzen::AuthZen {
        authzen::AuthZen {
            enabled: self.experimentals.iter().any(|name| name == FEATURE),
            base_url: self.authzen.base_url.clone(),
        }
    }
}
