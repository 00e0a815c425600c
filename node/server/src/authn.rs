//! Who calls: nobody is asked, a shared key, or a token of an OIDC issuer; as OpenFGA's server. A token of the nodes is as
//! good as any: who has one may read and write everything at `listen.nodes`.
//!
//! A request is authenticated before anything else is done for it, its body included. Health checks are not: whoever asks
//! them has no token. Of a token its subject and its client may be logged, in the access log, and nothing else.

mod claims;
mod fetch;
mod oidc;
mod shared;
mod token;
mod web;

use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, header};
use meridian_model::{ApiError, Code};
use tokio_util::sync::CancellationToken;

use crate::config::authn::{Authn, Method, Nodes};
pub use claims::Caller;
pub use fetch::FetchError;
pub use oidc::Oidc;
pub(crate) use shared::SharedKeys;
pub use web::{Bearer, Web};

/// How callers show who they are.
pub enum Authenticator {
    /// Not at all.
    None,
    /// By one of several keys.
    Preshared(SharedKeys),
    /// By a token of an issuer, or one of several keys.
    Oidc(Arc<Oidc>, SharedKeys),
}

/// A caller that is not known.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Unknown {
    /// What it is told.
    #[source]
    pub error: ApiError,
    /// What only the log is told; empty where the error says all. Never anything of what was shown.
    pub reason: &'static str,
}

impl From<ApiError> for Unknown {
    fn from(error: ApiError) -> Self {
        Self { error, reason: "" }
    }
}

impl Authenticator {
    /// By these settings. Nothing is fetched yet: see [`Authenticator::run`].
    ///
    /// # Errors
    /// When the system's certificates, by which an issuer is trusted, cannot be read.
    pub fn new(settings: &Authn, nodes: &Nodes) -> Result<Self, FetchError> {
        Ok(match settings.method {
            Method::None => Self::None,
            Method::Preshared => {
                let keys = settings.preshared.keys.iter();
                Self::Preshared(SharedKeys::new(keys.chain(nodes.tokens.iter())))
            }
            Method::Oidc => Self::Oidc(
                Arc::new(Oidc::new(settings.oidc.clone())?),
                SharedKeys::new(nodes.tokens.iter()),
            ),
        })
    }

    /// What checks tokens of the issuer, if there is one.
    pub fn oidc(&self) -> Option<&Arc<Oidc>> {
        match self {
            Self::Oidc(oidc, _) => Some(oidc),
            Self::None | Self::Preshared(_) => None,
        }
    }

    /// Whether callers have to show anything.
    pub fn is_on(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Fetches the issuer's keys, again and again until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        if let Self::Oidc(oidc, _) = self {
            tokio::select! {
                () = stop.cancelled() => {}
                () = oidc.keep_keys() => {}
            }
        }
    }

    /// Waits until callers can be told apart.
    pub async fn ready(&self) {
        if let Self::Oidc(oidc, _) = self {
            oidc.ready().await;
        }
    }

    /// Finds out who sent a request with these headers.
    ///
    /// # Errors
    /// `bearer_token_missing`, `unauthenticated` or `invalid_claims`, or unavailable while the issuer's keys were never
    /// fetched.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, Unknown> {
        self.verify(bearer(headers)).await.map(|(caller, _)| caller)
    }

    /// Finds out who shows this token, and until when it is good, where it says so.
    ///
    /// # Errors
    /// As [`Authenticator::authenticate`].
    pub async fn verify(
        &self,
        token: Option<&str>,
    ) -> Result<(Caller, Option<SystemTime>), Unknown> {
        match self {
            Self::None => Ok((Caller::default(), None)),
            Self::Preshared(keys) => {
                if keys.accept(token.ok_or_else(missing)?) {
                    Ok((Caller::default(), None))
                } else {
                    Err(Unknown {
                        error: ApiError::new(Code::Unauthenticated, "unauthenticated"),
                        reason: "it is none of the keys",
                    })
                }
            }
            Self::Oidc(oidc, nodes) => {
                let token = token.ok_or_else(missing)?;
                if nodes.accept(token) {
                    return Ok((Caller::default(), None));
                }
                oidc.caller(token).await
            }
        }
    }
}

fn missing() -> Unknown {
    ApiError::new(Code::BearerTokenMissing, "missing bearer token").into()
}

/// The token of `authorization: Bearer <token>`; of several such headers the first counts.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}
