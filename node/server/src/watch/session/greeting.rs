//! Before a watch begins: who watches, and whether there is what they want to.

use std::time::Instant;

use axum::extract::ws::{Message, WebSocket};
use meridian_live_channel::sockets::{self, CLOSING};
use meridian_model::{Code, Position, StoreId};

use super::End;
use crate::authn::Unknown;
use crate::following::{NotFollowed, TIMEOUT};
use crate::watch::Watch;
use crate::watch::admission::{Guest, Shown};
use crate::watch::asked::Asked;
use crate::watch::frames::{Said, Told};

/// Finds out who watches; the token comes with the first message, unless it came before. Who may watch has a seat from then on.
pub(super) async fn greet(
    watch: &Watch,
    socket: &mut WebSocket,
    guest: &mut Guest,
) -> Result<Shown, End> {
    let shown = match guest.shown.take() {
        Some(shown) => shown,
        None => {
            let first = tokio::time::timeout(watch.settings.hello_timeout, first(socket));
            let token = first.await.unwrap_or(Err(End::Late))?;
            let shown = watch.verify(Some(&token)).await;
            if shown.is_ok() {
                match watch.seat() {
                    Ok(seat) => guest.place = seat,
                    Err(why) => return Err(refuse(socket, (429, End::Limit), &why).await),
                }
            }
            shown
        }
    };
    match shown {
        Ok(shown) => Ok(shown),
        Err(Unknown { error, reason }) => {
            tracing::info!(reason, code = error.code.name(), "a watch was not let in");
            let refused = match error.code {
                Code::Unavailable => (503, End::Unavailable),
                _ => (401, End::Unauthorized),
            };
            Err(refuse(socket, refused, &error.message).await)
        }
    }
}

/// Tells one who is about to be closed why.
async fn refuse(socket: &mut WebSocket, (code, end): (u16, End), message: &str) -> End {
    tell(socket, &Told::Error { code, message }).await;
    end
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

/// Has a store followed. Returns where it stands now.
pub(super) async fn standing(
    watch: &Watch,
    socket: &mut WebSocket,
    asked: &Asked,
) -> Result<Position, End> {
    let why = match head(watch, asked.store).await {
        Ok(head) => return Ok(head),
        Err(why) => why,
    };
    let refused = match why {
        NotFollowed::NoStore => (404, End::NoStore),
        NotFollowed::Unreachable => (503, End::Unavailable),
    };
    Err(refuse(socket, refused, &why.to_string()).await)
}

async fn head(watch: &Watch, store: StoreId) -> Result<Position, NotFollowed> {
    let following = &watch.following;
    following.follow(store, TIMEOUT).await?;
    let deadline = Instant::now() + TIMEOUT;
    let record = following.datastore().store(store, deadline).await;
    let record = record.map_err(|_| NotFollowed::Unreachable)?;
    let record = record.filter(|record| record.deleted_at.is_none());
    record.map_or(Err(NotFollowed::NoStore), |record| Ok(record.position))
}
