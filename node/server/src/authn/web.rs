//! Asking others over HTTP, with a deadline and a limit.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::fetch::FetchError;

/// Longest that one document may take to arrive.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest document in bytes.
const MAX_BYTES: usize = 1024 * 1024;

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A token as requests show it.
pub struct Bearer(HeaderValue);

impl Bearer {
    /// `None` for what no header can have, like a line break: no server ever sees such a token.
    pub fn new(token: &str) -> Option<Self> {
        let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
        value.set_sensitive(true);
        Some(Self(value))
    }
}

/// Asks over HTTP.
pub struct Web(Client<HttpsConnector<HttpConnector>, Empty<Bytes>>);

impl Web {
    /// Trusts whom the certificates in the file `ca` name, or the system's.
    ///
    /// # Errors
    /// [`FetchError::NoRoots`] and [`FetchError::NoCertificates`].
    pub fn new(ca: Option<&Path>) -> Result<Self, FetchError> {
        let builder = HttpsConnectorBuilder::new();
        let builder = match ca {
            Some(file) => builder.with_tls_config(trusting(file)?),
            None => builder
                .with_provider_and_native_roots(ring::default_provider())
                .map_err(FetchError::NoRoots)?,
        };
        let connector = builder.https_or_http().enable_http1().build();
        Ok(Self(Client::builder(TokioExecutor::new()).build(connector)))
    }

    /// What there is at a URL, whatever its status; `bearer` is shown where there is one.
    ///
    /// # Errors
    /// [`FetchError::Late`] and [`FetchError::Unreachable`].
    pub async fn get(
        &self,
        url: &str,
        bearer: Option<&Bearer>,
    ) -> Result<(StatusCode, Bytes), FetchError> {
        let unreachable = |why| FetchError::Unreachable(url.to_owned(), why);
        let mut request = Request::get(url);
        if let Some(Bearer(value)) = bearer {
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request
            .body(Empty::new())
            .map_err(|why| unreachable(why.into()))?;
        let asking = async {
            let response = self.0.request(request).await;
            let response = response.map_err(|why| unreachable(why.into()))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_BYTES);
            let body = body.collect().await.map_err(unreachable)?;
            Ok((status, body.to_bytes()))
        };
        let asked = tokio::time::timeout(TIMEOUT, asking).await;
        asked.map_err(|_| FetchError::Late(url.to_owned()))?
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
