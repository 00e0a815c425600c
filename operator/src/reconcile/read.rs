//! Reads of the API server, each with a deadline.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};

use super::Error;
use crate::api::common::KeyRef;

/// For one call of the API server.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Runs a call within [`DEADLINE`].
///
/// # Errors
/// [`Error::Api`] and [`Error::Timeout`], with what was attempted.
pub async fn call<T>(
    attempt: impl FnOnce() -> String,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, Error> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(source)) => Err(Error::Api {
            attempt: attempt(),
            source: Box::new(source),
        }),
        Err(_) => Err(Error::Timeout {
            attempt: attempt(),
            deadline: DEADLINE,
        }),
    }
}

/// A Secret as far as it concerns the operator: never its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretInfo {
    /// Which version of it this is.
    pub version: String,
    /// The keys it has.
    pub keys: BTreeSet<String>,
}

/// Reads which keys a Secret has.
///
/// # Errors
/// As [`call`]; that it is not there is none.
pub async fn secret(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<SecretInfo>, Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let found = call(|| format!("read Secret '{name}'"), api.get_opt(name)).await?;
    Ok(found.map(|secret| SecretInfo {
        version: secret.metadata.resource_version.unwrap_or_default(),
        keys: secret.data.unwrap_or_default().into_keys().collect(),
    }))
}

/// What became of reading a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keyed {
    /// Its value.
    Found(String),
    /// The object is not there.
    NoObject,
    /// The object has no such key.
    NoKey,
}

/// Reads a key of a ConfigMap.
///
/// # Errors
/// As [`call`]; that it is not there is none.
pub async fn config_map(client: &Client, namespace: &str, of: &KeyRef) -> Result<Keyed, Error> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let found = call(
        || format!("read ConfigMap '{}'", of.name),
        api.get_opt(&of.name),
    )
    .await?;
    Ok(match found.map(|map| map.data.unwrap_or_default()) {
        None => Keyed::NoObject,
        Some(mut data) => data.remove(&of.key).map_or(Keyed::NoKey, Keyed::Found),
    })
}
