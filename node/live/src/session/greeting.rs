//! The first word: whose a client's token is, and whether there is room for it.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::extract::ws::{Message, WebSocket};
use meridian_model::StoreId;

use super::{BINARY, CLOSING, Hello, closing_of};
use crate::frames::{Asked, Closing, Told};
use crate::ports::{Identity, Shown, TokenError};
use crate::server::Server;
use crate::sockets::{Counts, Taken};

/// A client that is let in.
pub(super) struct Guest {
    pub(super) store: StoreId,
    pub(super) identity: Identity,
    pub(super) token: String,
    pub(super) shown: Shown,
    /// Its place among those of its user.
    pub(super) seat: Taken<String>,
}

/// For a client that says something else before it has shown a token.
const NO_TOKEN: &str = "show a token first: {\"type\":\"auth\",\"token\":\"…\"}";

/// Finds out who a client is; its token comes with its first message, unless it came before.
pub(super) async fn greet(
    server: &Arc<Server>,
    socket: &mut WebSocket,
    hello: Hello,
) -> Result<Guest, Closing> {
    let deadline = tokio::time::Instant::now() + server.settings.times.hello;
    let token = match hello.token {
        Some(token) => token,
        None => {
            let first = tokio::time::timeout_at(deadline, first(socket)).await;
            first.unwrap_or(Err(Closing::Late))?
        }
    };
    let (at, since) = (SystemTime::now(), Instant::now());
    let verified = tokio::time::timeout_at(deadline, server.tokens.verify(&token)).await;
    let shown = Shown {
        store: hello.store,
        origin: hello.origin,
        at,
        took: since.elapsed(),
    };
    let identity = match verified {
        Ok(Ok(identity)) => identity,
        Ok(Err(why)) => {
            let closing = match why {
                TokenError::Unavailable => Closing::NotThere,
                TokenError::Invalid(_) => Closing::Unauthorized,
            };
            let why = why.to_string();
            server.observer.refused(shown, closing.code(), &why);
            if closing == Closing::Unauthorized {
                tell(socket, 401, &why).await;
            }
            return Err(closing);
        }
        Err(_) => {
            let (closing, why) = (Closing::NotThere, "nobody said in time whose the token is");
            server.observer.refused(shown, closing.code(), why);
            return Err(closing);
        }
    };
    let most = server.settings.limits.connections_per_user;
    let Some(seat) = Counts::take(&server.users, identity.user.clone(), most) else {
        let why = "the user has too many connections (live.connectionsPerUser)";
        server.observer.refused(shown, Closing::Limit.code(), why);
        tell(socket, 429, why).await;
        return Err(Closing::Limit);
    };
    Ok(Guest {
        store: hello.store,
        identity,
        token,
        shown,
        seat,
    })
}

/// Tells what is wrong to a client that is closed then.
async fn tell(socket: &mut WebSocket, code: u16, message: &str) {
    let told = Told::Error {
        id: None,
        code,
        message,
        denied: None,
    };
    // One that does not take it is closed all the same.
    let _told = tokio::time::timeout(CLOSING, socket.send(Message::Text(told.frame()))).await;
}

async fn first(socket: &mut WebSocket) -> Result<String, Closing> {
    loop {
        let message = socket.recv().await.ok_or(Closing::Gone)?;
        match message.map_err(|why| closing_of(&why))? {
            Message::Text(text) => match Asked::read(text.as_str()) {
                Ok(Asked::Auth { token }) => return Ok(token),
                Ok(_) => {
                    tell(socket, 401, NO_TOKEN).await;
                    return Err(Closing::Unauthorized);
                }
                Err(unread) => {
                    tell(socket, 400, &unread.why).await;
                    return Err(Closing::Malformed);
                }
            },
            Message::Binary(_) => {
                tell(socket, 400, BINARY).await;
                return Err(Closing::Malformed);
            }
            Message::Close(_) => return Err(Closing::Gone),
            Message::Ping(_) | Message::Pong(_) => {}
        }
    }
}
