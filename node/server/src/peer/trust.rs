//! How nodes know each other: by a token that all of them share, and the node above by its certificate besides.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tonic::Status;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Certificate, ClientTlsConfig};

use crate::authn::{SharedKeys, bearer};
use crate::config::ConfigError;
use crate::config::authn::{Nodes, Secrets};
use crate::telemetry::request::carry;

const REFUSED: &str = "this node shows no token that is known there: one of its nodes.tokens, the first, must be among those of the node above";

/// What a node shows those above, and trusts them by.
#[derive(Clone, Default)]
pub struct Trust {
    token: Option<MetadataValue<Ascii>>,
    ca: Option<Certificate>,
}

impl Trust {
    /// By these settings.
    ///
    /// # Errors
    /// [`ConfigError`] where `nodes.ca` cannot be read.
    pub fn read(nodes: &Nodes) -> Result<Self, ConfigError> {
        let read = |file: &PathBuf| {
            std::fs::read(file)
                .map_err(|why| ConfigError::Unreadable("nodes.ca", file.to_owned(), why))
        };
        let ca = nodes.ca.as_ref().map(read).transpose()?;
        Ok(Self::of(nodes.tokens.iter().next(), ca))
    }

    /// Shows this token, and trusts this certificate (PEM) rather than the system's.
    pub(crate) fn of(token: Option<&str>, ca: Option<Vec<u8>>) -> Self {
        let token = token.and_then(|token| format!("Bearer {token}").parse().ok());
        Self {
            token: token.map(|mut token: MetadataValue<Ascii>| {
                token.set_sensitive(true);
                token
            }),
            ca: ca.map(Certificate::from_pem),
        }
    }

    /// How the certificate of a node above is checked.
    pub(crate) fn tls(&self) -> ClientTlsConfig {
        match &self.ca {
            Some(ca) => ClientTlsConfig::new().ca_certificate(ca.clone()),
            None => ClientTlsConfig::new().with_native_roots(),
        }
    }
}

/// Shows the token with every request, and says on whose behalf it is.
impl Interceptor for Trust {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        if let Some(token) = &self.token {
            request
                .metadata_mut()
                .insert("authorization", token.clone());
        }
        carry(request.metadata_mut().as_mut());
        Ok(request)
    }
}

/// Lets only those to the services of `router` who show one of `tokens`; everybody where there is none.
pub(crate) fn guarded(router: axum::Router, tokens: &Secrets) -> axum::Router {
    if tokens.iter().next().is_none() {
        return router;
    }
    let keys = Arc::new(SharedKeys::new(tokens.iter()));
    router.layer(from_fn_with_state(keys, admitted))
}

async fn admitted(State(keys): State<Arc<SharedKeys>>, request: Request, next: Next) -> Response {
    if bearer(request.headers()).is_some_and(|token| keys.accept(token)) {
        return next.run(request).await;
    }
    Status::unauthenticated(REFUSED)
        .into_http::<axum::body::Body>()
        .into_response()
}
