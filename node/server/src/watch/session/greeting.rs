//! Before a watch begins: who watches, and whether there is what they want to.

use std::time::{Instant, SystemTime};

use axum::extract::ws::{Message, WebSocket};
use meridian_live_channel::sockets::{self, CLOSING};
use meridian_model::Code;
use meridian_model::ports::StoreRecord;

use super::End;
use crate::authn::{Caller, Unknown};
use crate::following::{NotFollowed, TIMEOUT};
use crate::watch::Watch;
use crate::watch::asked::Asked;
use crate::watch::frames::{Said, Told};

/// Who watches, and when the token expires.
type Shown = (Caller, Option<SystemTime>);

/// Finds out who watches; the token comes with the first message, unless it came before.
pub(super) async fn greet(
    watch: &Watch,
    socket: &mut WebSocket,
    token: Option<String>,
) -> Result<Shown, End> {
    let token = match token {
        None if watch.authenticator.is_on() => Some(first(socket).await?),
        token => token,
    };
    let verified = watch.authenticator.verify(token.as_deref()).await;
    match verified {
        Ok(shown) => Ok(shown),
        Err(Unknown { error, reason }) => {
            tracing::info!(reason, code = error.code.name(), "a watch was not let in");
            let (code, end) = match error.code {
                Code::Unavailable => (503, End::Unavailable),
                _ => (401, End::Unauthorized),
            };
            let message = &error.message;
            tell(socket, &Told::Error { code, message }).await;
            Err(end)
        }
    }
}

async fn first(socket: &mut WebSocket) -> Result<String, End> {
    loop {
        let message = socket.recv().await.ok_or(End::Gone)?;
        match message.map_err(|why| end_of(&why))? {
            Message::Text(text) => match serde_json::from_str(text.as_str()) {
                Ok(Said::Auth { token }) => return Ok(token),
                Ok(Said::Ping) => return Err(End::Unauthorized),
                Err(_) => return Err(End::Malformed),
            },
            Message::Binary(_) => return Err(End::Malformed),
            Message::Close(_) => return Err(End::Gone),
            Message::Ping(_) | Message::Pong(_) => {}
        }
    }
}

/// Tells one who is about to be closed something; it is not waited for for long.
pub(super) async fn tell(socket: &mut WebSocket, told: &Told<'_>) {
    let telling = socket.send(Message::Text(told.frame()));
    let _told = tokio::time::timeout(CLOSING, telling).await;
}

pub(super) fn end_of(why: &axum::Error) -> End {
    if sockets::is_too_large(why) {
        End::TooLarge
    } else {
        End::Gone
    }
}

/// Has a store followed; as it stands now.
pub(super) async fn standing(watch: &Watch, asked: &Asked) -> Result<StoreRecord, NotFollowed> {
    let following = &watch.following;
    following.follow(asked.store, TIMEOUT).await?;
    let deadline = Instant::now() + TIMEOUT;
    let record = following.datastore().store(asked.store, deadline).await;
    let record = record.map_err(|_| NotFollowed::Unreachable)?;
    record
        .filter(|record| record.deleted_at.is_none())
        .ok_or(NotFollowed::NoStore)
}
