//! Asking an issuer for its keys over HTTP.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::token::{KeySet, Keys};
use super::web::{BoxError, TIMEOUT, Web};

/// Where an issuer says what it has, below its own URL.
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// Why an issuer's keys could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// There is nothing to trust the issuer's certificate by.
    #[error(
        "oidc.issuer: the system's certificates cannot be read; install them, or name a file of them in SSL_CERT_FILE"
    )]
    NoRoots(#[source] std::io::Error),
    /// The certificates named for that cannot be used.
    #[error("oidc.ca: {0} has no certificates in PEM that can be read")]
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
    web: Web,
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
        Ok(Self {
            web: Web::new(ca)?,
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
        let (status, bytes) = self.web.get(url, None).await?;
        if status != http::StatusCode::OK {
            return Err(FetchError::Status(url.to_owned(), status));
        }
        serde_json::from_slice(&bytes)
            .map_err(|why| FetchError::Unreadable(url.to_owned(), why.into()))
    }
}

fn is_secure(url: &str) -> bool {
    url.starts_with("https://")
}
