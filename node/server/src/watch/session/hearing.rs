//! What a watcher says: little, and a newer token. That is verified by the way of what it is told.

use std::time::Instant;

use axum::extract::ws::Message;
use futures::future::BoxFuture;
use meridian_model::Code;

use super::greeting::end_of;
use super::{End, Session};
use crate::authn::Unknown;
use crate::watch::admission::Shown;
use crate::watch::frames::{PROTOCOL, Said, Told};

/// Messages of a watcher a second; twice as many at once.
pub(super) const MESSAGES: u32 = 50;
/// Messages without sense, after which a watcher is closed.
const MALFORMED: u32 = 10;
/// Characters that such a watcher is told of what makes no sense: some of it may be its own.
const MAX_WHY: usize = 200;

/// A newer token that is being verified.
pub(super) type Refreshing<'a> = BoxFuture<'a, Result<Shown, Unknown>>;

impl Session<'_> {
    pub(super) async fn heard(
        &mut self,
        message: Option<Result<Message, axum::Error>>,
    ) -> Result<(), End> {
        let message = message.ok_or(End::Gone)?.map_err(|why| end_of(&why))?;
        (self.heard, self.pinged) = (Instant::now(), false);
        if let Message::Close(_) = message {
            return Err(End::Gone);
        }
        if !self.pace.step() {
            self.error(429, "too many messages").await?;
            return Err(End::Limit);
        }
        let text = match &message {
            Message::Text(text) => text.as_str(),
            Message::Binary(_) => "",
            _ => return Ok(()),
        };
        match serde_json::from_str(text) {
            Ok(Said::Ping) => self.send(&Told::Pong).await,
            Ok(Said::Auth { token }) => {
                self.refresh(token);
                Ok(())
            }
            Err(why) => {
                let why: String = why.to_string().chars().take(MAX_WHY).collect();
                let why = format!("the message is none of {PROTOCOL}: {why}");
                self.error(400, &why).await?;
                self.malformed += 1;
                if self.malformed < MALFORMED {
                    Ok(())
                } else {
                    Err(End::Malformed)
                }
            }
        }
    }

    /// Has a newer token verified. Until then the watcher is not heard.
    fn refresh(&mut self, token: String) {
        let watch = self.watch;
        self.refreshing = Some(Box::pin(async move { watch.verify(Some(&token)).await }));
    }

    /// Takes a newer token in.
    pub(super) async fn refreshed(&mut self, verified: Result<Shown, Unknown>) -> Result<(), End> {
        // It could not be heard meanwhile.
        self.heard = Instant::now();
        match verified {
            Ok((caller, expires_at)) if caller.subject == self.caller.subject => {
                self.welcome(expires_at).await
            }
            Ok(_) => {
                let message = "the token is of somebody else; connect anew with it";
                self.error(403, message).await?;
                Err(End::OtherCaller)
            }
            Err(unknown) if unknown.error.code != Code::Unavailable => {
                self.error(401, &unknown.error.message).await?;
                Err(End::Unauthorized)
            }
            Err(_) => {
                let message = "the token cannot be verified now; try again";
                self.error(503, message).await
            }
        }
    }

    async fn error(&mut self, code: u16, message: &str) -> Result<(), End> {
        self.send(&Told::Error { code, message }).await
    }
}
