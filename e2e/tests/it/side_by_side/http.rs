//! HTTP, byte for byte.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, from_slice, from_str};
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::answer::{Answer, chosen};

/// More than any call may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// A request as it goes out.
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// A client of one server.
pub(crate) struct Http {
    pub(crate) address: SocketAddr,
    scheme: &'static str,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Http {
    pub(crate) fn new(address: SocketAddr, authority: Option<&str>) -> Self {
        let mut roots = RootCertStore::empty();
        if let Some(authority) = authority {
            let authority = CertificateDer::from_pem_slice(authority.as_bytes());
            roots.add(authority.unwrap()).unwrap();
        }
        let tls = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        Self {
            address,
            scheme: if authority.is_some() { "https" } else { "http" },
            client: Client::builder(TokioExecutor::new()).build(connector),
        }
    }

    pub(crate) async fn send(&self, request: Request) -> Answer {
        let mut out = http::Request::new(Full::new(Bytes::from(request.body)));
        *out.method_mut() = Method::from_bytes(request.method.as_bytes()).unwrap();
        let uri = format!("{}://{}{}", self.scheme, self.address, request.path);
        *out.uri_mut() = uri.parse().unwrap();
        for (name, value) in request.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            out.headers_mut()
                .insert(name, HeaderValue::from_str(&value).unwrap());
        }
        let response = timeout(DEADLINE, self.client.request(out)).await;
        let (head, body) = response.unwrap().unwrap().into_parts();
        let body = timeout(DEADLINE, body.collect()).await;
        let body = body.unwrap().unwrap().to_bytes();
        Answer {
            status: head.status.as_u16().to_string(),
            headers: chosen(&head.headers),
            body: read(&body),
        }
    }
}

/// JSON; or JSON a line, of a stream; or a text.
fn read(body: &[u8]) -> Value {
    if let Ok(json) = from_slice(body) {
        return json;
    }
    let text = String::from_utf8_lossy(body).into_owned();
    let lines: Result<Vec<Value>, _> = text.lines().map(from_str).collect();
    match lines {
        Ok(lines) if lines.len() > 1 => Value::Array(lines),
        _ => Value::String(text),
    }
}
