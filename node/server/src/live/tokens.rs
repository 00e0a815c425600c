//! Whose a token is: by keys held here, by asking who issued it, or by its word where nobody has to show anything.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::StatusCode;
use meridian_live_channel::ports::{Identity, TokenError, Tokens};
use meridian_model::Code;
use moka::future::Cache;
use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use crate::authn::{Bearer, FetchError, Oidc, Web};
use crate::config::Live;
use crate::config::authn::Method;
use crate::outage::Outage;

/// Answers kept of whoever is asked whose a token is.
const KEPT: u64 = 100_000;
/// How long at most a refusal is kept: as long as it takes a client to see that it needs another token.
const REFUSED: Duration = Duration::from_secs(5);
/// Questions that are on their way at a time, for those who come back all at once.
const ASKED: usize = 32;
/// How long a question waits for its turn.
const TURN: Duration = Duration::from_secs(5);
/// How often at most it is asked again of an open socket.
const SHORTEST: Duration = Duration::from_secs(1);

/// Says whose a token is.
pub struct Verifier {
    way: Way,
    user_type: String,
    scope_claim: String,
    client_claims: Vec<String>,
}

enum Way {
    /// By keys held here.
    Keys(Arc<Oidc>),
    /// By asking.
    Asking(Box<Asking>),
    /// Callers have to show nothing: a token is the user's name.
    Word,
}

struct Asking {
    web: Web,
    url: String,
    known: Cache<Digest, Arc<Map<String, Value>>>,
    refused: Cache<Digest, ()>,
    turns: Semaphore,
    outage: Outage,
    every: Duration,
}

/// A token's digest: a cache of tokens would be one of secrets.
type Digest = [u8; 32];

impl Verifier {
    /// By the settings of the live channel; `node` is what callers of the API show their tokens to.
    ///
    /// # Errors
    /// When the system's certificates cannot be read.
    pub fn new(live: &Live, method: Method, node: Option<Arc<Oidc>>) -> Result<Self, FetchError> {
        let own = !live.oidc.issuer.is_empty();
        let way = match (&live.userinfo_url, node) {
            (Some(url), _) => {
                let web = Web::new(live.oidc.ca.as_deref())?;
                Way::Asking(Box::new(Asking::new(web, url, live.userinfo_max_age)))
            }
            (None, _) if own => Way::Keys(Arc::new(Oidc::new(live.oidc.clone())?)),
            (None, Some(node)) => Way::Keys(node),
            (None, None) if method == Method::None => Way::Word,
            // The settings were checked: there is an issuer, or nobody has to show anything.
            (None, None) => Way::Keys(Arc::new(Oidc::new(live.oidc.clone())?)),
        };
        Ok(Self {
            way,
            user_type: live.user_type.clone(),
            scope_claim: live.scope_claim.clone(),
            client_claims: live.oidc.client_id_claims.clone(),
        })
    }

    /// How clients show who they are, among the recorder's grant types.
    pub fn grant(&self) -> &'static str {
        match &self.way {
            Way::Keys(_) => "live_jwt",
            Way::Asking(_) => "live_userinfo",
            Way::Word => "live_none",
        }
    }

    /// Fetches the issuer's keys, again and again.
    pub async fn keep_keys(&self) {
        match &self.way {
            Way::Keys(oidc) => oidc.keep_keys().await,
            Way::Asking(_) | Way::Word => std::future::pending().await,
        }
    }

    fn identity(&self, claims: &Map<String, Value>) -> Result<Identity, TokenError> {
        let text = |claim: &str| claims.get(claim).and_then(Value::as_str);
        let id = || text("sub").or_else(|| text("id"));
        let subject = id().filter(|id| !id.is_empty());
        let subject = subject.ok_or_else(|| TokenError::Invalid("the token has no sub".into()))?;
        let scopes = claims.get(&self.scope_claim).and_then(Value::as_array);
        let scopes = scopes.into_iter().flatten().filter_map(Value::as_str);
        let mut clients = self.client_claims.iter().map(String::as_str);
        Ok(Identity {
            subject: subject.to_owned(),
            user: self.user(subject)?,
            expires_at: at(claims),
            scopes: scopes.map(str::to_owned).collect(),
            client: clients.find_map(text).map(str::to_owned),
        })
    }

    /// The user that a subject is, as tuples name it.
    fn user(&self, subject: &str) -> Result<String, TokenError> {
        let plain = !subject
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || "#*".contains(c));
        if subject.is_empty() || !plain || subject.len() > 256 {
            let why = "the token's sub cannot be the id of a user: 1 to 256 bytes without spaces, # and *";
            return Err(TokenError::Invalid(why.into()));
        }
        Ok(format!("{}:{subject}", self.user_type))
    }
}

#[async_trait]
impl Tokens for Verifier {
    fn verify_every(&self) -> Option<Duration> {
        match &self.way {
            Way::Asking(asking) => Some(asking.every),
            Way::Keys(_) | Way::Word => None,
        }
    }

    async fn verify(&self, token: &str) -> Result<Identity, TokenError> {
        match &self.way {
            Way::Keys(oidc) => {
                let verified = oidc.claims(token).await.map_err(|unknown| {
                    if unknown.error.code == Code::Unavailable {
                        return TokenError::Unavailable;
                    }
                    TokenError::Invalid(format!("the token is not good: {}", unknown.reason))
                })?;
                self.identity(&verified)
            }
            Way::Asking(asking) => {
                let mut identity = self.identity(&*asking.ask(token).await?)?;
                // Who says whose it is seldom says for how long; the token itself often does, and its issuer takes it as it is.
                identity.expires_at = [identity.expires_at, expiry(token)]
                    .into_iter()
                    .flatten()
                    .min();
                if identity
                    .expires_at
                    .is_some_and(|at| at <= SystemTime::now())
                {
                    return Err(TokenError::Invalid("the token has expired".into()));
                }
                Ok(identity)
            }
            Way::Word => {
                let of_type = format!("{}:", self.user_type);
                let subject = token.strip_prefix(&of_type).unwrap_or(token);
                Ok(Identity {
                    subject: subject.to_owned(),
                    user: self.user(subject)?,
                    expires_at: None,
                    scopes: Vec::new(),
                    client: None,
                })
            }
        }
    }
}

/// When a token expires, if it is a JWT that says so.
fn expiry(token: &str) -> Option<SystemTime> {
    let payload = token.split('.').nth(1)?;
    let payload = BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: Map<String, Value> = serde_json::from_slice(&payload).ok()?;
    at(&claims)
}

/// When claims say that a token expires.
fn at(claims: &Map<String, Value>) -> Option<SystemTime> {
    let seconds = claims.get("exp")?.as_f64()?;
    let since = Duration::try_from_secs_f64(seconds).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(since)
}

impl Asking {
    fn new(web: Web, url: &str, max_age: Duration) -> Self {
        Self {
            web,
            url: url.to_owned(),
            known: kept_for(max_age),
            refused: kept_for(REFUSED.min(max_age)),
            turns: Semaphore::new(ASKED),
            outage: Outage::new(),
            every: max_age.max(SHORTEST),
        }
    }

    /// What is known of a token. Who shows it while somebody asks about it waits for that answer.
    async fn ask(&self, token: &str) -> Result<Arc<Map<String, Value>>, TokenError> {
        let bearer = Bearer::new(token).ok_or_else(|| {
            let why = "the token has characters that no header can have; send it as it was issued";
            TokenError::Invalid(why.into())
        })?;
        let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        let digest = Digest::try_from(digest.as_ref()).unwrap_or_default();
        let asked = self.known.try_get_with(digest, self.fetch(digest, &bearer));
        asked.await.map_err(Arc::unwrap_or_clone)
    }

    async fn fetch(
        &self,
        digest: Digest,
        bearer: &Bearer,
    ) -> Result<Arc<Map<String, Value>>, TokenError> {
        let refused = || TokenError::Invalid("the token is not good, says its issuer".into());
        if self.refused.contains_key(&digest) {
            return Err(refused());
        }
        let turn = tokio::time::timeout(TURN, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(TokenError::Unavailable);
        };
        match self.question(bearer).await {
            Ok(answer) => {
                if let Some(away) = self.outage.worked() {
                    tracing::info!(?away, "live.userinfoUrl says again whose a token is");
                }
                if answer.is_none() {
                    self.refused.insert(digest, ()).await;
                }
                answer.map(Arc::new).ok_or_else(refused)
            }
            Err(error) => {
                if self.outage.failed() {
                    tracing::warn!(
                        error = &*error as &dyn std::error::Error,
                        "live.userinfoUrl cannot be asked whose a token is"
                    );
                }
                Err(TokenError::Unavailable)
            }
        }
    }

    /// What the issuer says of a token; `None` where it is not good.
    async fn question(
        &self,
        bearer: &Bearer,
    ) -> Result<Option<Map<String, Value>>, Box<dyn std::error::Error + Send + Sync>> {
        let (status, body) = self.web.get(&self.url, Some(bearer)).await?;
        match status {
            StatusCode::OK => {}
            // RFC 6750, section 3.1: 400 where the token makes no sense. One that is too long comes no further than to 431.
            StatusCode::BAD_REQUEST
            | StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => return Ok(None),
            other => return Err(format!("it answers with status {other}").into()),
        }
        let mut claims: Map<String, Value> = serde_json::from_slice(&body)?;
        // Some wrap what they say.
        if let Some(Value::Object(data)) = claims.remove("data") {
            claims = data;
        }
        Ok(Some(claims))
    }
}

fn kept_for<V: Clone + Send + Sync + 'static>(age: Duration) -> Cache<Digest, V> {
    Cache::builder()
        .max_capacity(KEPT)
        .time_to_live(age.max(Duration::from_millis(1)))
        .build()
}
