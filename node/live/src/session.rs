//! One client: its socket, from the first frame to the last, in one task.

mod again;
mod greeting;
mod refreshing;
mod subscribing;
mod turn;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::extract::ws::{Message, WebSocket};
use meridian_model::StoreId;
use ulid::Ulid;

use crate::frames::{Asked, Closing, PROTOCOL, Told, Unread, echoed, time};
use crate::outbox::{End, Outbox, Sub};
use crate::ports::{Connection, Identity, Origin};
use crate::server::Server;
use crate::showing::Showing;
use crate::sockets::{self, CLOSING, Pace, Taken};
use again::Again;
use greeting::{Guest, greet};
use refreshing::Refreshing;
use turn::Writing;

/// Messages without sense, after which a client is closed.
const MALFORMED: u32 = 10;

/// For a client that sends what is no text.
const BINARY: &str = "a binary frame says nothing here: send text frames";

/// What a client brings along.
pub(crate) struct Hello {
    pub(crate) store: StoreId,
    /// Its token, unless it is to come in the first message.
    pub(crate) token: Option<String>,
    pub(crate) origin: Origin,
}

/// A client.
pub(crate) struct Session {
    server: Arc<Server>,
    socket: WebSocket,
    outbox: Arc<Outbox>,
    store: StoreId,
    id: String,
    identity: Identity,
    observed: Arc<dyn Connection>,
    /// For an authority that wants to see it.
    showing: Arc<Showing>,
    subs: HashMap<String, Entry>,
    pace: Pace,
    malformed: u32,
    heard: Instant,
    pinged: bool,
    /// Whether it is to be asked for a sign of life.
    asks: bool,
    writing: Writing,
    /// When the socket last took something.
    moved: Instant,
    expires: Option<Instant>,
    noticed: bool,
    again: Option<Again>,
    refreshing: Option<Refreshing>,
    _seat: Taken<String>,
}

/// A subscription, as its client knows it.
struct Entry {
    sub: Sub,
    object: Arc<str>,
    /// Whether the token itself allows it.
    is_scoped: bool,
}

impl Session {
    /// Serves a client until it goes, or has to.
    pub(crate) async fn run(server: Arc<Server>, mut socket: WebSocket, hello: Hello) {
        let connections = server.hub.meters.connections.clone();
        connections.increment(1);
        match greet(&server, &mut socket, hello).await {
            Ok(guest) => Self::of(server, socket, guest).stay().await,
            Err(closing) => close(&server, &mut socket, closing).await,
        }
        connections.decrement(1);
    }

    fn of(server: Arc<Server>, socket: WebSocket, guest: Guest) -> Self {
        let id = Ulid::generate().to_string();
        let observer = &server.observer;
        let mut session = Self {
            observed: observer.connected(guest.shown, &id, &guest.identity),
            outbox: Arc::new(server.hub.outbox()),
            socket,
            store: guest.store,
            id,
            showing: Arc::default(),
            expires: None,
            subs: HashMap::new(),
            pace: Pace::new(server.settings.limits.messages_per_second),
            malformed: 0,
            heard: Instant::now(),
            pinged: false,
            asks: false,
            writing: Writing::More,
            moved: Instant::now(),
            noticed: false,
            again: None,
            refreshing: None,
            identity: guest.identity,
            _seat: guest.seat,
            server,
        };
        session.shown(guest.token);
        session
    }

    async fn stay(mut self) {
        self.welcome();
        let end = self.serve().await;
        self.leave(end).await;
    }

    fn welcome(&self) {
        let told = Told::Welcome {
            session: &self.id,
            node: &self.server.settings.node,
            user: &self.identity.user,
            expires_at: self.identity.expires_at.map(rfc3339),
            protocol: PROTOCOL,
        };
        self.outbox.tell(told.frame());
    }

    /// Takes a token in that is this client's.
    fn shown(&mut self, token: String) {
        self.identified();
        let token = token.into();
        self.verify_again(&token);
        if self.server.settings.shows_token {
            self.showing.set(token);
        }
    }

    /// Reckons when the token expires.
    fn identified(&mut self) {
        let left = |at: SystemTime| at.duration_since(SystemTime::now()).unwrap_or_default();
        let expires = self.identity.expires_at.map(left);
        self.expires = expires.and_then(|left| Instant::now().checked_add(left));
        self.noticed = false;
    }

    /// When something is to be done if nothing happens.
    fn wake(&self) -> Instant {
        let times = self.server.settings.times;
        let silence = if self.pinged { times.idle } else { times.ping };
        let expires = self.expires.map(|at| {
            let notice = at.checked_sub(times.notice).unwrap_or(at);
            if self.noticed { at } else { notice }
        });
        let mut wake = self.silent_since() + silence;
        if self.writing != Writing::Nothing {
            wake = wake.min(self.moved + times.idle);
        }
        let again = self.again.as_ref().and_then(Again::due);
        [expires, again]
            .into_iter()
            .flatten()
            .fold(wake, Instant::min)
    }

    /// Since when it has said nothing, though it could be heard.
    fn silent_since(&self) -> Instant {
        match self.refreshing {
            Some(_) => Instant::now(),
            None => self.heard,
        }
    }

    /// Does what is due.
    fn tick(&mut self) -> Result<(), End> {
        let (now, times) = (Instant::now(), self.server.settings.times);
        if self.expires.is_some_and(|at| at <= now) {
            return Err(End::Closing(Closing::Unauthorized));
        }
        if let Some(at) = self.identity.expires_at
            && !self.noticed
            && self.expires.is_some_and(|at| at <= now + times.notice)
        {
            self.noticed = true;
            self.outbox.tell(Told::Expiring { at: rfc3339(at) }.frame());
        }
        self.ask_again(now);
        let silent = now.saturating_duration_since(self.silent_since());
        let takes = self.writing == Writing::Nothing || now < self.moved + times.idle;
        if silent >= times.idle || !takes {
            return Err(End::Closing(Closing::Late));
        }
        if silent >= times.ping && !self.pinged {
            (self.pinged, self.asks) = (true, true);
            self.has_more();
        }
        Ok(())
    }

    fn heard(&mut self, message: Option<Result<Message, axum::Error>>) -> Result<(), Closing> {
        let message = message
            .ok_or(Closing::Gone)?
            .map_err(|why| closing_of(&why))?;
        (self.heard, self.pinged) = (Instant::now(), false);
        match message {
            Message::Close(_) => return Err(Closing::Gone),
            Message::Text(_) | Message::Binary(_) | Message::Ping(_) | Message::Pong(_) => {}
        }
        if !self.pace.step() {
            self.error(None, 429, "too many messages (live.messagesPerSecond)");
            return Err(Closing::Limit);
        }
        let read = match &message {
            Message::Text(text) => Asked::read(text.as_str()),
            Message::Binary(_) => Err(Unread {
                id: None,
                why: BINARY.to_owned(),
            }),
            _ => return Ok(()),
        };
        match read {
            Ok(asked) => {
                self.asked(asked);
                Ok(())
            }
            Err(Unread { id, why }) => {
                self.error(id.as_deref().and_then(echoed), 400, &why);
                self.malformed += 1;
                if self.malformed < MALFORMED {
                    Ok(())
                } else {
                    Err(Closing::Malformed)
                }
            }
        }
    }

    fn asked(&mut self, asked: Asked) {
        match asked {
            Asked::Ping => self.server.hub.pong(self.store, &self.outbox),
            Asked::Auth { token } => self.refresh(token),
            Asked::Subscribe(subscribe) => self.subscribe(subscribe),
            Asked::Unsubscribe { id } => self.unsubscribe(&id),
        }
    }

    fn error(&self, id: Option<&str>, code: u16, message: &str) {
        let told = Told::Error {
            id,
            code,
            message,
            denied: None,
        };
        self.outbox.tell(told.frame());
    }

    /// Says goodbye. What a client that goes on without its subscriptions would miss is told first.
    async fn leave(mut self, end: End) {
        // What is told besides, like the reason, goes out first.
        let mut last = self.outbox.last_words();
        self.outbox.end(end);
        for entry in self.subs.values() {
            self.server.hub.leave(self.store, entry.sub, None);
        }
        let closing = match end {
            End::Closing(closing) => closing,
            End::Lagged(lost) => {
                last.push(Told::Lagged { lost }.frame());
                Closing::Slow
            }
        };
        self.observed.ended(closing.code());
        if closing != Closing::Gone {
            let socket = &mut self.socket;
            let telling = async move {
                for frame in last {
                    if socket.send(Message::Text(frame)).await.is_err() {
                        return;
                    }
                }
            };
            // A client that takes nothing is not waited for.
            let _told = tokio::time::timeout(CLOSING, telling).await;
        }
        close(&self.server, &mut self.socket, closing).await;
    }
}

fn closing_of(why: &axum::Error) -> Closing {
    if sockets::is_too_large(why) {
        Closing::TooLarge
    } else {
        Closing::Gone
    }
}

async fn close(server: &Server, socket: &mut WebSocket, closing: Closing) {
    let code = closing.code();
    server.hub.meters.closed(code);
    sockets::close(socket, (closing != Closing::Gone).then_some(code)).await;
}

fn rfc3339(at: SystemTime) -> String {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    time(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
