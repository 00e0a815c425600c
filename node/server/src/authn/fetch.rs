//! Asking an issuer for its keys over HTTP.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::token::{KeySet, Keys};

/// Longest that one document may take to arrive.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest document in bytes.
const MAX_BYTES: usize = 1024 * 1024;
/// Where an issuer says what it has, below its own URL.
const DISCOVERY: &str = "/.well-known/openid-configuration";

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why an issuer's keys could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// There is nothing to trust the issuer's certificate by.
    #[error(
        "authn.oidc.issuer: the system's certificates cannot be read; install them, or name a file of them in SSL_CERT_FILE"
    )]
    NoRoots(#[source] std::io::Error),
    /// The certificates named for that cannot be used.
    #[error("authn.oidc.ca: {0} has no certificates in PEM that can be read")]
    NoCertificates(PathBuf, #[source] BoxError),
    /// A document did not come in time.
    #[error("{0} did not answer within {TIMEOUT:?}")]
    Late(String),
    /// Nobody answers, or not as HTTP.
    #[error("cannot ask {0}")]
    Unreachable(String, #[source] BoxError),
    /// An answer that is none.
    #[error("{0} answered {1}")]
    Status(String, http::StatusCode),
    /// A document of another kind.
    #[error("{0} is not what it should be")]
    Unreadable(String, #[source] BoxError),
    /// A document that leaves out what is needed, or sends to where nothing can be trusted.
    #[error("{0} {1}")]
    Wrong(String, &'static str),
}

/// Asks one issuer.
pub(super) struct Fetcher {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    issuer: String,
}

#[derive(Deserialize)]
struct Discovered {
    jwks_uri: String,
}

impl Fetcher {
    /// Asks the issuer at this URL, which is trusted by the certificates in the file `ca`, or by the system's.
    ///
    /// # Errors
    /// [`FetchError::NoRoots`] and [`FetchError::NoCertificates`].
    pub(super) fn new(issuer: &str, ca: Option<&Path>) -> Result<Self, FetchError> {
        let builder = HttpsConnectorBuilder::new();
        let builder = match ca {
            Some(file) => builder.with_tls_config(trusting(file)?),
            None => builder
                .with_provider_and_native_roots(ring::default_provider())
                .map_err(FetchError::NoRoots)?,
        };
        let connector = builder.https_or_http().enable_http1().build();
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            issuer: issuer.to_owned(),
        })
    }

    /// The keys that the issuer has now.
    ///
    /// # Errors
    /// [`FetchError`] naming the document that could not be had, and why.
    pub(super) async fn keys(&self) -> Result<Keys, FetchError> {
        let discovery = format!("{}{DISCOVERY}", self.issuer.trim_end_matches('/'));
        let Discovered { jwks_uri } = self.document(&discovery).await?;
        if is_secure(&self.issuer) && !is_secure(&jwks_uri) {
            let what = "names a jwks_uri without https, which the issuer's own URL has";
            return Err(FetchError::Wrong(discovery, what));
        }
        let set: KeySet = self.document(&jwks_uri).await?;
        let what = "has no key that an RS256 or ES256 token can be signed with";
        Keys::of(set).ok_or(FetchError::Wrong(jwks_uri, what))
    }

    async fn document<T: DeserializeOwned>(&self, url: &str) -> Result<T, FetchError> {
        let bytes = tokio::time::timeout(TIMEOUT, self.get(url)).await;
        let bytes = bytes.map_err(|_| FetchError::Late(url.to_owned()))??;
        serde_json::from_slice(&bytes)
            .map_err(|why| FetchError::Unreadable(url.to_owned(), why.into()))
    }

    async fn get(&self, url: &str) -> Result<Bytes, FetchError> {
        let unreachable = |why| FetchError::Unreachable(url.to_owned(), why);
        let uri: Uri = url
            .parse()
            .map_err(|why| unreachable(BoxError::from(why)))?;
        let response = self.client.get(uri).await;
        let response = response.map_err(|why| unreachable(why.into()))?;
        if response.status() != http::StatusCode::OK {
            return Err(FetchError::Status(url.to_owned(), response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_BYTES)
            .collect()
            .await;
        body.map(|body| body.to_bytes()).map_err(unreachable)
    }
}

fn trusting(file: &Path) -> Result<ClientConfig, FetchError> {
    let unusable = |why: BoxError| FetchError::NoCertificates(file.to_owned(), why);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|why| unusable(why.into()))? {
        let certificate = certificate.map_err(|why| unusable(why.into()))?;
        roots.add(certificate).map_err(|why| unusable(why.into()))?;
    }
    if roots.is_empty() {
        return Err(unusable("there is none".into()));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|why| unusable(why.into()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn is_secure(url: &str) -> bool {
    url.starts_with("https://")
}
