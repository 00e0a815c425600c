//! A newer token on the open socket: it is verified by the way of what the client is given.

use std::sync::Arc;
use std::time::Instant;

use futures::future::BoxFuture;

use super::Session;
use crate::frames::Closing;
use crate::ports::{Identity, TokenError};

/// A token, and whose it is.
pub(super) type Verified = (String, Result<Identity, TokenError>);

/// A token that is being verified.
pub(super) type Refreshing = BoxFuture<'static, Verified>;

impl Session {
    /// Has a newer token verified. Until then the client is not heard: what it says next may rest on that token.
    pub(super) fn refresh(&mut self, token: String) {
        let (tokens, hello) = (
            Arc::clone(&self.server.tokens),
            self.server.settings.times.hello,
        );
        self.refreshing = Some(Box::pin(async move {
            let verified = tokio::time::timeout(hello, tokens.verify(&token)).await;
            let verified = verified.unwrap_or(Err(TokenError::Unavailable));
            (token, verified)
        }));
    }

    /// Takes a newer token in.
    pub(super) fn refreshed(&mut self, (token, verified): Verified) -> Result<(), Closing> {
        self.refreshing = None;
        // It could not be heard meanwhile.
        self.heard = Instant::now();
        let identity = match verified {
            Ok(identity) => identity,
            Err(TokenError::Unavailable) => {
                self.error(None, 503, &TokenError::Unavailable.to_string());
                return Ok(());
            }
            Err(TokenError::Invalid(why)) => {
                self.error(None, 401, &why);
                return Err(Closing::Unauthorized);
            }
        };
        if !self.is_same(&identity) {
            self.error(
                None,
                403,
                "the token is of somebody else; connect anew with it",
            );
            return Err(Closing::OtherSubject);
        }
        self.identity = identity;
        self.shown(token);
        self.rescope();
        self.welcome();
        Ok(())
    }
}
