//! Tokens of an OIDC issuer, checked with the keys that it publishes.
//!
//! The keys are fetched when the node starts, from time to time, and when a token names one that is not known: so an issuer
//! may change them whenever it likes. While it is away the keys that were fetched go on counting, and a token that names
//! another is refused. The hazard: whoever makes up names of keys must not have the issuer asked for each; so it is asked at
//! most once in a while, by one request for all that wait.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use meridian_model::{ApiError, Code};
use serde_json::{Map, Value};
use tokio::sync::{Mutex, watch};

use super::Unknown;
use super::claims::{Caller, Claims};
use super::fetch::{FetchError, Fetcher};
use super::token::{Keys, Token};
use crate::config::authn;
use crate::outage::Outage;

/// How long after a failure the issuer is asked again: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Checks the tokens of one issuer.
pub struct Oidc {
    settings: authn::Oidc,
    fetcher: Fetcher,
    keys: watch::Sender<Option<Arc<Keys>>>,
    /// When the issuer was last asked for the sake of a token. Held while it is asked.
    asked: Arc<Mutex<Option<Instant>>>,
    outage: Outage,
}

impl Oidc {
    /// By these settings. Nothing is fetched yet: see [`Oidc::keep_keys`].
    ///
    /// # Errors
    /// When the certificates by which the issuer is trusted cannot be read.
    pub fn new(settings: authn::Oidc) -> Result<Self, FetchError> {
        Ok(Self {
            fetcher: Fetcher::new(&settings.issuer, settings.ca.as_deref())?,
            settings,
            keys: watch::Sender::new(None),
            asked: Arc::default(),
            outage: Outage::new(),
        })
    }

    /// Fetches the keys now and from time to time.
    pub async fn keep_keys(&self) {
        let (first, most) = RETRY;
        let mut retry = first;
        loop {
            if self.fetch().await {
                retry = first;
                tokio::time::sleep(self.settings.refresh_interval).await;
            } else {
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(most);
            }
        }
    }

    /// Waits until there are keys.
    pub(super) async fn ready(&self) {
        // The sender is `self.keys`, so the wait cannot fail.
        let _ = self.keys.subscribe().wait_for(Option::is_some).await;
    }

    /// Who bears the token, and when it expires.
    ///
    /// # Errors
    /// `invalid_claims`, with the reason; unavailable before there are keys.
    pub(super) async fn caller(
        self: &Arc<Self>,
        token: &str,
    ) -> Result<(Caller, Option<SystemTime>), Unknown> {
        let (caller, claims) = self.verified(token).await?;
        Ok((caller, claims.expires_at()))
    }

    /// What the token claims, if it may be used here.
    ///
    /// # Errors
    /// `invalid_claims`, with the reason; unavailable before there are keys.
    pub async fn claims(self: &Arc<Self>, token: &str) -> Result<Map<String, Value>, Unknown> {
        self.verified(token).await.map(|(_, claims)| claims.0)
    }

    async fn verified(self: &Arc<Self>, token: &str) -> Result<(Caller, Claims), Unknown> {
        let token = Token::read(token).ok_or_else(|| {
            invalid("it is no JWT that is signed with RS256 or ES256 and names its key by kid")
        })?;
        let mut keys = self.known().ok_or_else(no_keys)?;
        let no_key = || invalid("its kid is none of the issuer's keys");
        if keys.find(&token.key_id).is_none() {
            keys = self.fetched_for(&token.key_id).await.ok_or_else(no_key)?;
        }
        let key = keys.find(&token.key_id).ok_or_else(no_key)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs_f64();
        let claims = token
            .verify(key)
            .ok_or_else(|| invalid("it is not signed with the key that it names"))?;
        let caller = claims.caller(&self.settings, now).map_err(invalid)?;
        Ok((caller, claims))
    }

    fn known(&self) -> Option<Arc<Keys>> {
        self.keys.borrow().clone()
    }

    /// The keys, among them the one of this id; `None` where the issuer does not have it either, or was asked just now.
    async fn fetched_for(self: &Arc<Self>, key_id: &str) -> Option<Arc<Keys>> {
        let mut asked = Arc::clone(&self.asked).lock_owned().await;
        let has = |keys: &Arc<Keys>| keys.find(key_id).is_some();
        // Fetched while this request waited for its turn.
        if let Some(keys) = self.known().filter(has) {
            return Some(keys);
        }
        if asked.is_some_and(|asked| asked.elapsed() < self.settings.refetch_pause) {
            return None;
        }
        *asked = Some(Instant::now());
        // In a task of its own: a caller who leaves, or whose time is up, must not keep the keys from all others.
        let this = Arc::clone(self);
        let fetching = tokio::spawn(async move {
            this.fetch().await;
            drop(asked);
        });
        fetching.await.ok()?;
        self.known().filter(has)
    }

    /// Takes in the keys that the issuer has now; what was known stays where it does not answer. Whether it did.
    async fn fetch(&self) -> bool {
        match self.fetcher.keys().await {
            Ok(keys) => {
                if let Some(away) = self.outage.worked() {
                    let issuer = &self.settings.issuer;
                    tracing::info!(issuer, ?away, "the keys of an issuer can be fetched again");
                }
                self.keys.send_replace(Some(Arc::new(keys)));
                true
            }
            Err(error) => {
                if self.outage.failed() {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        issuer = self.settings.issuer,
                        error,
                        has_keys = self.known().is_some(),
                        "the keys of an issuer cannot be fetched"
                    );
                }
                false
            }
        }
    }
}

fn invalid(reason: &'static str) -> Unknown {
    Unknown {
        error: ApiError::new(Code::InvalidClaims, "invalid claims"),
        reason,
    }
}

fn no_keys() -> Unknown {
    ApiError::new(
        Code::Unavailable,
        "the keys of the token issuer have not been fetched yet; try again",
    )
    .into()
}
