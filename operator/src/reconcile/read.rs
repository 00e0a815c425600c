//! Reads of the API server, each with a deadline.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use sha2::{Digest as _, Sha256};

use super::Error;
use super::endpoint::database as database_of;
use crate::api::common::KeyRef;
use crate::nodes::Hidden;

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

/// A Secret as far as it concerns the operator, by its keys.
pub type SecretInfo = BTreeMap<String, SecretValue>;

/// Secrets by name; `None` for those that are not there.
pub type Secrets = BTreeMap<String, Option<SecretInfo>>;

/// What is known of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretValue {
    /// The value, if it is a text. It goes nowhere but to nodes.
    pub text: Option<Hidden>,
    /// A hash of it.
    pub hash: String,
    /// If it is the URL of a database on a server, which one that is, without user and password.
    pub database: Option<String>,
}

/// Reads which keys a Secret has. Hashes are of the values and `owner`, the uid of what the Secret is read for: they are
/// written where more people can read than a Secret, and must tell nobody who uses the same value elsewhere.
///
/// # Errors
/// As [`call`]; that it is not there is none.
pub async fn secret(
    client: &Client,
    namespace: &str,
    name: &str,
    owner: &str,
) -> Result<Option<SecretInfo>, Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let found = call(|| format!("read Secret '{name}'"), api.get_opt(name)).await?;
    let values = found.map(|secret| secret.data.unwrap_or_default());
    Ok(values.map(|values| {
        let known = |(key, ByteString(value)): (String, ByteString)| {
            let hash = hash_for(owner, &value);
            let text = String::from_utf8(value).ok();
            let known = SecretValue {
                hash,
                database: text.as_deref().and_then(|url| database_of(url, namespace)),
                text: text.map(Hidden),
            };
            (key, known)
        };
        values.into_iter().map(known).collect()
    }))
}

/// A hash of a value that cannot be looked up in a table made for all owners.
fn hash_for(owner: &str, value: &[u8]) -> String {
    let salted = Sha256::new().chain_update(owner).chain_update([0]);
    let digest = salted.chain_update(value).finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
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
