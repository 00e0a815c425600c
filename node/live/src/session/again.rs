//! Tokens that do not say when they expire: whose they are is asked again, by the way of what the client is given.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;

use super::Session;
use crate::frames::Closing;
use crate::ports::{Identity, TokenError};

/// A token that is verified again and again.
pub(super) struct Again {
    token: Arc<str>,
    every: Duration,
    at: Instant,
    /// While it is asked.
    pub(super) asking: Option<BoxFuture<'static, Result<Identity, TokenError>>>,
}

impl Again {
    fn new(token: Arc<str>, every: Duration) -> Self {
        Self {
            token,
            every,
            at: Instant::now() + every,
            asking: None,
        }
    }

    /// When it is to be asked.
    pub(super) fn due(&self) -> Option<Instant> {
        self.asking.is_none().then_some(self.at)
    }
}

impl Session {
    /// Has a token verified again and again, where nothing else ends it.
    pub(super) fn verify_again(&mut self, token: &Arc<str>) {
        let every = self.server.tokens.verify_every();
        let every = every.filter(|_| self.identity.expires_at.is_none());
        self.again = every.map(|every| Again::new(Arc::clone(token), every));
    }

    /// Asks again, if it is time.
    pub(super) fn ask_again(&mut self, now: Instant) {
        let (tokens, hello) = (
            Arc::clone(&self.server.tokens),
            self.server.settings.times.hello,
        );
        let Some(again) = &mut self.again else { return };
        if again.due().is_some_and(|at| at <= now) {
            let token = Arc::clone(&again.token);
            again.asking = Some(Box::pin(async move {
                let verified = tokio::time::timeout(hello, tokens.verify(&token)).await;
                verified.unwrap_or(Err(TokenError::Unavailable))
            }));
        }
    }

    /// Takes in whose the token is now. While nobody can say so, what was said holds.
    pub(super) fn verified(
        &mut self,
        verified: Result<Identity, TokenError>,
    ) -> Result<(), Closing> {
        if let Some(again) = &mut self.again {
            (again.asking, again.at) = (None, Instant::now() + again.every);
        }
        match verified {
            Ok(identity) if !self.is_same(&identity) => Err(Closing::OtherSubject),
            Ok(identity) => {
                self.identity = identity;
                self.identified();
                self.rescope();
                Ok(())
            }
            Err(TokenError::Unavailable) => Ok(()),
            Err(TokenError::Invalid(why)) => {
                self.error(None, 401, &why);
                Err(Closing::Unauthorized)
            }
        }
    }

    /// Whether a token is of the one who connected.
    pub(super) fn is_same(&self, identity: &Identity) -> bool {
        (&identity.subject, &identity.user) == (&self.identity.subject, &self.identity.user)
    }
}
