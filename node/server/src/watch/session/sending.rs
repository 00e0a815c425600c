//! How frames go out: never waiting longer for a watcher than it may be silent or its token is good, nor for one that the feed has
//! left behind.

use std::future::poll_fn;
use std::time::Instant;

use axum::extract::ws::Message;
use futures::SinkExt as _;

use super::{End, Session};
use crate::watch::frames::Told;

impl Session<'_> {
    /// Hands a frame to the socket once it has room.
    pub(super) async fn send(&mut self, told: &Told<'_>) -> Result<(), End> {
        self.hand_over(Message::Text(told.frame())).await
    }

    pub(super) async fn hand_over(&mut self, message: Message) -> Result<(), End> {
        self.progress(false).await?;
        // Nothing is told any longer once its token has ended, whatever was under way until then.
        if self.expires.is_some_and(|at| at <= Instant::now()) {
            return Err(End::Unauthorized);
        }
        let sent = self.socket.start_send_unpin(message);
        sent.map_err(|_| End::Gone)
    }

    /// Waits until the socket has sent all it was given.
    pub(super) async fn flush(&mut self) -> Result<(), End> {
        self.progress(true).await
    }

    async fn progress(&mut self, flush: bool) -> Result<(), End> {
        let (idle, stop) = (self.watch.settings.idle_timeout, &self.watch.stop);
        let (socket, seat) = (&mut *self.socket, &mut self.seat);
        let moved = poll_fn(|cx| match flush {
            true => socket.poll_flush_unpin(cx),
            false => socket.poll_ready_unpin(cx),
        });
        let (is_live, had, expires) = (self.is_live, self.had, self.expires);
        let left_behind = async {
            while !is_live || !seat.is_left_behind(had) {
                seat.moved().await;
            }
        };
        let expired = async {
            match expires {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        // Most of the time there is nothing to wait for.
        let end = tokio::select! {
            biased;
            moved = moved => return moved.map_err(|_| End::Gone),
            () = stop.cancelled() => End::Stopping,
            () = expired => End::Unauthorized,
            () = left_behind => self.left_behind(),
            () = tokio::time::sleep(idle) => End::Late,
        };
        Err(end)
    }
}
