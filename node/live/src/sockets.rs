//! What every endpoint for WebSockets needs: tokens, seats, a pace, and an end that both sides know of.

use std::future::poll_fn;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use axum::http::{HeaderMap, header};
use dashmap::DashMap;
use futures::{SinkExt as _, StreamExt as _};

/// Bytes that a socket reads and writes at a time: most have nothing to say most of the time.
pub const BUFFER: usize = 4096;
/// How long a client has to take note that it is closed.
pub const CLOSING: Duration = Duration::from_secs(5);

/// How a token stands among the subprotocols that a browser offers: it can set no header.
const BEARER: &str = "bearer.";

/// The token that a request brings along, in its header or among its subprotocols.
#[must_use]
pub fn token(headers: &HeaderMap) -> Option<String> {
    let authorization = headers.get(header::AUTHORIZATION);
    let by_header = authorization.and_then(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then(|| token.to_owned())
    });
    by_header.or_else(|| {
        let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
        let mut offered = offered
            .filter_map(|value| value.to_str().ok())
            .flat_map(|list| list.split(','));
        offered.find_map(|one| Some(one.trim().strip_prefix(BEARER)?.to_owned()))
    })
}

/// Closes a socket with a code, and waits a little for the client to take note. Without a code the client is gone; one that
/// said goodbye is answered.
pub async fn close(socket: &mut WebSocket, code: Option<u16>) {
    let Some(code) = code else {
        let flushed = poll_fn(|cx| socket.poll_flush_unpin(cx).map(|_| ()));
        let _flushed = tokio::time::timeout(CLOSING, flushed).await;
        return;
    };
    let frame = CloseFrame {
        code,
        reason: meaning(code).into(),
    };
    let goodbye = async {
        if socket.send(Message::Close(Some(frame))).await.is_ok() {
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    let _closed = tokio::time::timeout(CLOSING, goodbye).await;
}

/// What a code says to who looks at it, at most 123 bytes.
fn meaning(code: u16) -> &'static str {
    match code {
        1001 => "the node stops; connect again",
        1009 => "a message was too large",
        4400 => "the messages made no sense; the first is auth, where no token was shown before",
        4401 => "no good token, or it has expired; connect again with another",
        4403 => "a token of somebody else; connect again with it",
        4404 => "there is no such store",
        4408 => "no token in time, or no sign of life; connect again",
        4429 => "too many sockets or messages; wait, and connect again",
        4503 => "nobody can say now whose the token is; wait, and connect again",
        4508 => "too slow; connect again, and go on from the last position",
        _ => "",
    }
}

/// Whether a message could not be read because it is larger than the socket takes.
#[must_use]
pub fn is_too_large(why: &axum::Error) -> bool {
    // The library names the kind of its error in its text only.
    let text = why.to_string();
    text.contains("too long") || text.contains("too big")
}

/// How many of each there are.
pub struct Counts<K: Eq + Hash>(DashMap<K, usize>);

impl<K: Eq + Hash> Default for Counts<K> {
    fn default() -> Self {
        Self(DashMap::new())
    }
}

/// One of them, until it is dropped.
pub struct Taken<K: Eq + Hash> {
    counts: Arc<Counts<K>>,
    key: K,
}

impl<K: Eq + Hash + Clone> Counts<K> {
    /// One more; `None` when there are `limit` already.
    #[must_use]
    pub fn take(counts: &Arc<Self>, key: K, limit: usize) -> Option<Taken<K>> {
        let mut count = counts.0.entry(key.clone()).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        drop(count);
        Some(Taken {
            counts: Arc::clone(counts),
            key,
        })
    }
}

impl<K: Eq + Hash> Drop for Taken<K> {
    fn drop(&mut self) {
        self.counts.0.remove_if_mut(&self.key, |_, count| {
            *count = count.saturating_sub(1);
            *count == 0
        });
    }
}

/// How fast a client may speak: so many messages a second, and twice as many at once.
pub struct Pace {
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Pace {
    /// `per_second` messages.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        let per_second = f64::from(per_second);
        Self {
            per_second,
            left: per_second * 2.0,
            at: Instant::now(),
        }
    }

    /// Whether another message is not too many.
    pub fn step(&mut self) -> bool {
        let now = Instant::now();
        let come = now.duration_since(self.at).as_secs_f64() * self.per_second;
        self.left = (self.left + come).min(self.per_second * 2.0) - 1.0;
        self.at = now;
        let may = self.left >= 0.0;
        self.left = self.left.max(0.0);
        may
    }
}
