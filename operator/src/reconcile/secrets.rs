//! The Secrets that a spec names: what was read of them, and what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};

use kube::Client;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use webpki::EndEntityCert;

use super::read::{self, SecretValue, Secrets};
use super::status::not_read;
use super::{Error, Missing};
use crate::api::callers::{Certificate, TLS_CERT};
use crate::api::common::KeyRef;
use crate::api::conditions::Finding;
use crate::api::store::AuthzStoreSpec;
use crate::build::{Holds, SecretFile};
use crate::nodes::{Access, Hidden, Identity};

/// Secrets as they were read.
#[derive(Debug, Default)]
pub struct Seen {
    /// But for those that cannot be read.
    pub secrets: Secrets,
    /// Why those cannot be, by their names.
    pub unread: BTreeMap<String, Error>,
}

impl Seen {
    /// Reads those of these names, for the object with the uid `owner`.
    pub async fn read(
        client: &Client,
        namespace: &str,
        names: BTreeSet<String>,
        owner: &str,
    ) -> Self {
        let mut seen = Self::default();
        for name in names {
            match read::secret(client, namespace, &name, owner).await {
                Ok(found) => {
                    seen.secrets.insert(name, found);
                }
                Err(error) => {
                    seen.unread.insert(name, error);
                }
            }
        }
        seen
    }

    /// A hash of a value that is named `at` some place of a spec.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn hash(&self, at: &str, of: &KeyRef) -> Result<String, Finding> {
        if let Some(error) = self.unread.get(&of.name) {
            let why = not_read(error);
            let message = format!("{at}: {}", why.message);
            return Err(Finding { message, ..why });
        }
        let Some(secret) = self.secrets.get(&of.name).and_then(Option::as_ref) else {
            return Err(Finding::fault(
                "SecretNotFound",
                format!("{at}: there is no Secret '{}' in this namespace", of.name),
            ));
        };
        let value = secret.get(&of.key).map(|value| value.hash.clone());
        value.ok_or_else(|| {
            Finding::fault(
                "SecretKeyNotFound",
                format!("{at}: Secret '{}' has no key '{}'", of.name, of.key),
            )
        })
    }

    /// Says of each file that cannot be used why: with it nodes would not start. `hosts` are the names by which nodes below
    /// reach those above.
    pub fn check(&self, files: &[SecretFile], hosts: &[String], missing: &mut Missing) {
        for SecretFile { at, of, holds, .. } in files {
            let Some(value) = self.value(of) else {
                continue;
            };
            let text = value.text.as_ref().map_or("", |text| &text.0);
            if let Err(flaw) = usable(*holds, text, hosts) {
                let (name, key) = (&of.name, &of.key);
                let told = format!("{at}: key '{key}' of Secret '{name}' {flaw}");
                missing.add(of, Finding::fault("SecretInvalid", told));
            }
        }
    }

    /// How the nodes of a store are spoken to that show `api` at the API's ports. What is not known is left out, and nodes
    /// refuse then; conditions say what is missing.
    #[must_use]
    pub fn access(&self, spec: &AuthzStoreSpec, api: Option<&Certificate>) -> Access {
        let tokens = spec.nodes.as_ref().filter(|_| spec.authn.is_some());
        let tokens = tokens.and_then(|of| self.text(&of.tokens_secret_ref));
        let token = tokens.and_then(|text| lines(text).next());
        let name = |of| name(self.text(&of)?);
        Access {
            token: token.map(|token| Hidden(token.to_owned())),
            identity: api.map(|of| Identity {
                name: name(of.key(TLS_CERT)).unwrap_or_else(|| "unknown.invalid".to_owned()),
                ca: self
                    .text(&of.ca())
                    .filter(|pem| authorities(pem).is_ok())
                    .map(str::to_owned),
            }),
        }
    }

    fn text(&self, of: &KeyRef) -> Option<&str> {
        Some(&self.value(of)?.text.as_ref()?.0)
    }

    fn value(&self, of: &KeyRef) -> Option<&SecretValue> {
        self.secrets.get(&of.name)?.as_ref()?.get(&of.key)
    }
}

/// The Secrets that the operator itself needs to speak to nodes that show `api`.
pub fn names_for_access<'a>(
    spec: &'a AuthzStoreSpec,
    api: Option<&'a Certificate>,
) -> impl Iterator<Item = String> + 'a {
    let tokens = spec
        .nodes
        .iter()
        .map(|of| of.tokens_secret_ref.name.clone());
    tokens.chain(
        api.into_iter()
            .flat_map(|of| [of.secret_ref.name.clone(), of.ca().name]),
    )
}

/// Whether nodes can use a value; if not, what is wrong with it.
fn usable(holds: Holds, text: &str, hosts: &[String]) -> Result<(), String> {
    match holds {
        Holds::Properties => Ok(()),
        Holds::Lines => {
            if lines(text).next().is_none() {
                return Err("is empty: write one a line".to_owned());
            }
            let is_visible = |line: &str| line.bytes().all(|byte| byte.is_ascii_graphic());
            let told = "has a line with other than visible ASCII characters";
            lines(text)
                .all(is_visible)
                .then_some(())
                .ok_or(told.to_owned())
        }
        Holds::Certificate => match name(text) {
            Some(_) => Ok(()),
            None => leaf(text)
                .map(|_| ())
                .and(Err("is a certificate for no DNS name".to_owned())),
        },
        Holds::NodesCertificate => reaches(&leaf(text)?, hosts),
        Holds::PrivateKey => PrivateKeyDer::from_pem_slice(text.as_bytes())
            .map(|_| ())
            .map_err(|_| "is no private key in PEM".to_owned()),
        Holds::Authorities => authorities(text),
    }
}

/// Keys and tokens as nodes read them.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

fn leaf(pem: &str) -> Result<CertificateDer<'static>, String> {
    let told = || "is no certificate in PEM".to_owned();
    let first = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| told())?;
    EndEntityCert::try_from(&first).map_err(|_| told())?;
    Ok(first)
}

fn authorities(pem: &str) -> Result<(), String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(()),
        _ => Err("has no certificates in PEM".to_owned()),
    }
}

fn reaches(leaf: &CertificateDer<'_>, hosts: &[String]) -> Result<(), String> {
    let leaf = EndEntityCert::try_from(leaf).map_err(|why| why.to_string())?;
    let is_for = |host: &str| {
        let name = ServerName::try_from(host);
        name.is_ok_and(|name| leaf.verify_is_valid_for_subject_name(&name).is_ok())
    };
    match hosts.iter().find(|host| !is_for(host)) {
        Some(host) => Err(format!(
            "is a certificate that is not for {host}, by which nodes below reach this one"
        )),
        None => Ok(()),
    }
}

/// A name that a certificate is for, of those it has the first.
fn name(pem: &str) -> Option<String> {
    let leaf = leaf(pem).ok()?;
    let leaf = EndEntityCert::try_from(&leaf).ok()?;
    let first = leaf.valid_dns_names().next()?;
    Some(match first.strip_prefix('*') {
        Some(rest) => format!("any{rest}"),
        None => first.to_owned(),
    })
}
