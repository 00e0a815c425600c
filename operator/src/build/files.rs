//! The values of Secrets that pods read as files: all in one projected volume, where Kubernetes replaces those of a Secret
//! at once when it changes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    KeyToPath, ProjectedVolumeSource, SecretProjection, Volume, VolumeProjection,
};

use super::Role;
use crate::api::callers::{Certificate, TLS_CERT, TLS_KEY};
use crate::api::common::KeyRef;
use crate::api::edge::EdgeRegionSpec;
use crate::api::store::AuthzStoreSpec;

/// Where they are.
pub(super) const FOLDER: &str = "/etc/meridian-secrets";
/// The volume.
pub(super) const VOLUME: &str = "secrets";
/// Read by their owner and group only, which a pod's user is of.
const MODE: i32 = 0o440;

pub(super) const KAFKA_PROPERTIES: &str = "kafka.properties";
pub(super) const CALLERS_KEYS: &str = "callers.keys";
pub(super) const ISSUER_CA: &str = "issuer-ca.crt";
pub(super) const NODES_TOKENS: &str = "nodes.tokens";
pub(super) const NODES_CA: &str = "nodes-ca.crt";
pub(super) const API_CERT: &str = "api/tls.crt";
pub(super) const API_KEY: &str = "api/tls.key";
pub(super) const NODES_CERT: &str = "nodes/tls.crt";
pub(super) const NODES_KEY: &str = "nodes/tls.key";

/// A value of a Secret that pods of a role read as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile {
    /// Where it is named, for people.
    pub at: String,
    /// The value.
    pub of: KeyRef,
    /// What it must be.
    pub holds: Holds,
    /// The file's name.
    path: &'static str,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Settings of Kafka's client.
    Properties,
    /// Keys or tokens, one a line.
    Lines,
    /// A certificate of the API's ports (PEM).
    Certificate,
    /// A certificate of the port between nodes (PEM), which nodes below reach by the names of Services.
    NodesCertificate,
    /// A certificate's private key (PEM).
    PrivateKey,
    /// Certificates that others are trusted by (PEM).
    Authorities,
}

impl SecretFile {
    fn new(at: &str, of: &KeyRef, holds: Holds, path: &'static str) -> Self {
        Self {
            at: at.to_owned(),
            of: of.clone(),
            holds,
            path,
        }
    }

    /// Whether pods are replaced when it changes: certificates and their keys nodes take in while they run.
    pub(super) fn rolls(&self) -> bool {
        matches!(
            self.holds,
            Holds::Properties | Holds::Lines | Holds::Authorities
        )
    }
}

/// Those that the pods of an AuthzStore's own nodes read, which edges are not.
#[must_use]
pub fn store_files(spec: &AuthzStoreSpec, role: Role) -> Vec<SecretFile> {
    let mut files = of_all(spec, role);
    files.extend(api_certificate(spec).into_iter().flat_map(api_files));
    if let Some(of) = nodes_certificate(spec).filter(|_| role.has_below()) {
        files.extend(pair(
            "tls.nodes.secretRef",
            of,
            (Holds::NodesCertificate, NODES_CERT, NODES_KEY),
        ));
    }
    files
}

/// Those that the pods of an EdgeRegion read for a store of this name.
#[must_use]
pub fn edge_files(edge: &EdgeRegionSpec, store: &str, spec: &AuthzStoreSpec) -> Vec<SecretFile> {
    let mut files = of_all(spec, Role::Edge);
    if edge.tls.is_none() {
        files.extend(api_certificate(spec).into_iter().flat_map(api_files));
    }
    for file in &mut files {
        file.at.push_str(&format!(" of AuthzStore '{store}'"));
    }
    let own = edge.tls.iter();
    files.extend(own.flat_map(|of| pair("tls.secretRef", of, API_FILES)));
    files
}

/// What nodes of a role read but for the certificates that they show.
fn of_all(spec: &AuthzStoreSpec, role: Role) -> Vec<SecretFile> {
    let preshared = spec.authn.as_ref().and_then(|of| of.preshared.as_ref());
    let oidc = spec.authn.as_ref().and_then(|of| of.oidc.as_ref());
    let above = nodes_certificate(spec).filter(|_| role != Role::Central);
    let ca_at = |of: &Certificate| match of.ca_secret_ref {
        Some(_) => "tls.nodes.caSecretRef",
        None => "tls.nodes.secretRef",
    };
    let all = [
        spec.kafka.properties_secret_ref.as_ref().map(|of| {
            let at = "kafka.propertiesSecretRef";
            SecretFile::new(at, of, Holds::Properties, KAFKA_PROPERTIES)
        }),
        preshared.map(|of| {
            let at = "authn.preshared.keysSecretRef";
            SecretFile::new(at, &of.keys_secret_ref, Holds::Lines, CALLERS_KEYS)
        }),
        oidc.and_then(|of| of.ca_secret_ref.as_ref()).map(|of| {
            let at = "authn.oidc.caSecretRef";
            SecretFile::new(at, of, Holds::Authorities, ISSUER_CA)
        }),
        spec.nodes.as_ref().map(|of| {
            let at = "nodes.tokensSecretRef";
            SecretFile::new(at, &of.tokens_secret_ref, Holds::Lines, NODES_TOKENS)
        }),
        above.map(|of| SecretFile::new(ca_at(of), &of.ca(), Holds::Authorities, NODES_CA)),
    ];
    all.into_iter().flatten().collect()
}

/// What a certificate is, and the names of its file and its key's.
type Pair = (Holds, &'static str, &'static str);

const API_FILES: Pair = (Holds::Certificate, API_CERT, API_KEY);

fn api_files(of: &Certificate) -> [SecretFile; 2] {
    pair("tls.api.secretRef", of, API_FILES)
}

fn pair(at: &str, of: &Certificate, (holds, cert, key): Pair) -> [SecretFile; 2] {
    [
        SecretFile::new(at, &of.key(TLS_CERT), holds, cert),
        SecretFile::new(at, &of.key(TLS_KEY), Holds::PrivateKey, key),
    ]
}

/// The certificate of the API's ports of an AuthzStore's own nodes.
#[must_use]
pub fn api_certificate(spec: &AuthzStoreSpec) -> Option<&Certificate> {
    spec.tls.as_ref()?.api.as_ref()
}

/// The certificate of the port between nodes.
#[must_use]
pub fn nodes_certificate(spec: &AuthzStoreSpec) -> Option<&Certificate> {
    spec.tls.as_ref()?.nodes.as_ref()
}

/// Where a file is in a pod.
pub(super) fn path(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

/// The volume of these files, if there are any.
pub(super) fn volume(files: &[SecretFile]) -> Option<Volume> {
    let mut by_secret: BTreeMap<&str, Vec<KeyToPath>> = BTreeMap::new();
    for file in files {
        let items = by_secret.entry(&file.of.name).or_default();
        items.push(KeyToPath {
            key: file.of.key.clone(),
            path: file.path.to_owned(),
            ..Default::default()
        });
    }
    if by_secret.is_empty() {
        return None;
    }
    let sources = by_secret.into_iter().map(|(name, items)| VolumeProjection {
        secret: Some(SecretProjection {
            name: name.to_owned(),
            items: Some(items),
            ..Default::default()
        }),
        ..Default::default()
    });
    Some(Volume {
        name: VOLUME.to_owned(),
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(MODE),
            sources: Some(sources.collect()),
        }),
        ..Default::default()
    })
}
