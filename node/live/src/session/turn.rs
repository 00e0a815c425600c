//! What comes next for a client: it is heard, something is due, or it is given what waits. Nobody is only ever given: who
//! always has something waiting is heard all the same, and its token expires.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use axum::extract::ws::{Message, WebSocket};
use futures::{FutureExt as _, SinkExt as _, StreamExt as _};

use super::Session;
use super::refreshing::Verified;
use crate::frames::Closing;
use crate::outbox::{End, Next};
use crate::ports::{Identity, TokenError};

/// Frames that are handed to a socket before its client is heard again.
const FRAMES: usize = 64;

/// What is to be done for a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writing {
    /// Nothing: all there was has been sent.
    Nothing,
    /// What it was given is to be sent; there is no more.
    Flush,
    /// There may be more.
    More,
}

/// What comes next.
enum Turn {
    Stopping,
    Heard(Option<Result<Message, axum::Error>>),
    /// Whose the newer token is.
    Refreshed(Verified),
    /// Whose the token is now.
    Verified(Result<Identity, TokenError>),
    /// Something is to be done at this time.
    Due,
    /// There is something for the client, or the socket takes what there is.
    Write,
}

impl Session {
    /// Serves a client until it goes, or has to.
    pub(super) async fn serve(&mut self) -> End {
        loop {
            // Who gets nothing more is not heard any longer either.
            if let Some(end) = self.outbox.ended() {
                return end;
            }
            let done = match self.turn().await {
                Turn::Stopping => Err(End::Closing(Closing::Stopping)),
                Turn::Heard(message) => self.heard(message).map_err(End::Closing),
                Turn::Refreshed(verified) => self.refreshed(verified).map_err(End::Closing),
                Turn::Verified(verified) => self.verified(verified).map_err(End::Closing),
                Turn::Due => self.tick(),
                Turn::Write => self.write().await,
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    async fn turn(&mut self) -> Turn {
        let hears = self.refreshing.is_none() && !self.outbox.is_full_of_answers();
        let writing = self.writing;
        let (outbox, stop) = (Arc::clone(&self.outbox), self.server.stop.clone());
        let mut due = pin!(tokio::time::sleep_until(self.wake().into()));
        let socket = &mut self.socket;
        let mut refreshing = self.refreshing.as_mut();
        let verifying = self.again.as_mut().and_then(|again| again.asking.as_mut());
        // A newer token comes in place of the one that is asked about.
        let mut verifying = verifying.filter(|_| refreshing.is_none());
        // What a client has said counts before its silence does; both before it is given more.
        let moved = poll_fn(|cx| {
            if hears && let Poll::Ready(message) = socket.poll_next_unpin(cx) {
                return Poll::Ready(Turn::Heard(message));
            }
            if let Some(asking) = &mut refreshing
                && let Poll::Ready(verified) = asking.poll_unpin(cx)
            {
                return Poll::Ready(Turn::Refreshed(verified));
            }
            if let Some(asking) = &mut verifying
                && let Poll::Ready(verified) = asking.poll_unpin(cx)
            {
                return Poll::Ready(Turn::Verified(verified));
            }
            if due.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Turn::Due);
            }
            let moved = match writing {
                Writing::Nothing => Poll::Pending,
                Writing::Flush => socket.poll_flush_unpin(cx),
                Writing::More => socket.poll_ready_unpin(cx),
            };
            // Whether it failed shows as it is written to.
            moved.map(|_| Turn::Write)
        });
        tokio::select! {
            biased;
            () = stop.cancelled() => Turn::Stopping,
            turn = moved => turn,
            () = outbox.woken() => Turn::Write,
        }
    }

    /// Hands what waits to the socket, one frame whenever it has room: what is not handed over may still be held back.
    async fn write(&mut self) -> Result<(), End> {
        self.has_more();
        for _ in 0..FRAMES {
            if !has_room(&mut self.socket).await? {
                // Who is to be closed is not kept for want of room.
                return self.outbox.ended().map_or(Ok(()), Err);
            }
            let Some(message) = self.next_message()? else {
                return self.flush().await;
            };
            let sent = self.socket.start_send_unpin(message);
            sent.map_err(|_| End::Closing(Closing::Gone))?;
            self.moved = Instant::now();
        }
        Ok(())
    }

    /// There may be something for the socket.
    pub(super) fn has_more(&mut self) {
        if self.writing == Writing::Nothing {
            self.moved = Instant::now();
        }
        self.writing = Writing::More;
    }

    fn next_message(&mut self) -> Result<Option<Message>, End> {
        if std::mem::take(&mut self.asks) {
            return Ok(Some(Message::Ping(Default::default())));
        }
        match self.outbox.next() {
            Next::Frame { frame, is_record } => {
                if is_record {
                    self.server.hub.meters.delivered.increment(1);
                }
                Ok(Some(Message::Text(frame)))
            }
            Next::Nothing => Ok(None),
            Next::End(end) => Err(end),
        }
    }

    async fn flush(&mut self) -> Result<(), End> {
        let socket = &mut self.socket;
        let sent = poll_fn(|cx| Poll::Ready(socket.poll_flush_unpin(cx))).await;
        self.writing = if sent.is_ready() {
            Writing::Nothing
        } else {
            Writing::Flush
        };
        done(sent).map(|_| ())
    }
}

/// Whether a socket takes another frame now.
async fn has_room(socket: &mut WebSocket) -> Result<bool, End> {
    done(poll_fn(|cx| Poll::Ready(socket.poll_ready_unpin(cx))).await)
}

/// Whether something that may fail is done.
fn done(moved: Poll<Result<(), axum::Error>>) -> Result<bool, End> {
    match moved {
        Poll::Ready(Ok(())) => Ok(true),
        Poll::Ready(Err(_)) => Err(End::Closing(Closing::Gone)),
        Poll::Pending => Ok(false),
    }
}
