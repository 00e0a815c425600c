//! One watcher: its socket, from the first frame to the last, in one task.
//!
//! What it has had is one position, behind which it takes what comes next from the store's feed, or from the change log where the
//! feed does not reach. So nothing can be left out or come twice, and however slow it is, nothing piles up for it.

mod greeting;
mod hearing;
mod reading;
mod sending;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::extract::ws::{Message, WebSocket};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use meridian_flow::tap::{Tap, Tapped};
use meridian_live_channel::sockets::{self, Pace};
use meridian_model::Position;

use super::Watch;
use super::admission::{Guest, Shown};
use super::asked::{Asked, From};
use super::feed::Seat;
use super::frames::{PROTOCOL, Reason, Recording, Told, time};
use crate::authn::Caller;
use greeting::{greet, standing, tell};
use hearing::{MESSAGES, Refreshing};
use reading::Reading;

/// Decisions, and messages of the watcher, that are seen to before changes and clock have their turn again.
const TURN: usize = 64;

/// How a watch ends, and what its client does best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The client closed it, or is gone.
    Gone,
    /// The node stops: connect again, to another.
    Stopping,
    /// A message was too large: mend the client.
    TooLarge,
    /// Too many messages made no sense: mend the client.
    Malformed,
    /// No token that is good, or it has expired: get a new one.
    Unauthorized,
    /// The new token is of somebody else: connect again with it.
    OtherCaller,
    /// There is no such store, or it was deleted.
    NoStore,
    /// No token in time, or no sign of life: connect again.
    Late,
    /// Too many messages, or watchers: wait, then connect again.
    Limit,
    /// Nobody can say who calls, or whether the store is there: wait, then connect again.
    Unavailable,
    /// It was too slow, and so far behind: connect again, and go on from the last position.
    Slow(u64),
}

impl End {
    /// How the socket is closed; the codes of `/live`, and one more.
    pub(super) fn code(self) -> u16 {
        match self {
            Self::Gone => 1000,
            Self::Stopping => 1001,
            Self::TooLarge => 1009,
            Self::Malformed => 4400,
            Self::Unauthorized => 4401,
            Self::OtherCaller => 4403,
            Self::NoStore => 4404,
            Self::Late => 4408,
            Self::Limit => 4429,
            Self::Unavailable => 4503,
            Self::Slow(_) => 4508,
        }
    }
}

/// A watcher.
struct Session<'a> {
    watch: &'a Watch,
    socket: &'a mut WebSocket,
    asked: Asked,
    caller: Caller,
    expires: Option<Instant>,
    seat: Seat,
    decisions: Option<Tap>,
    /// What it has had: nothing behind it was told, nothing up to it is left.
    had: Position,
    /// The position that it was last told.
    told: Position,
    told_at: Instant,
    /// Whether it has kept up with the feed since it was last read for.
    is_live: bool,
    /// What is being read from the database.
    reading: Option<Reading<'a>>,
    /// When the database is to be asked again.
    retry: Option<Instant>,
    /// A newer token that is being verified.
    refreshing: Option<Refreshing<'a>>,
    pace: Pace,
    malformed: u32,
    heard: Instant,
    pinged: bool,
}

/// Serves a watcher until it goes, or has to.
pub(super) async fn run(watch: Arc<Watch>, mut socket: WebSocket, asked: Asked, mut guest: Guest) {
    watch.meters.watchers.increment(1);
    // It keeps its place until its socket is closed.
    let end = match serve(&watch, &mut socket, asked, &mut guest).await {
        Ok(never) => match never {},
        Err(end) => end,
    };
    if let End::Slow(behind) = end {
        let lagged = Told::Lagged { behind };
        tell(&mut socket, &lagged).await;
    }
    watch.meters.closed(end.code());
    let code = (end != End::Gone).then(|| end.code());
    sockets::close(&mut socket, code).await;
    watch.meters.watchers.decrement(1);
}

async fn serve(
    watch: &Watch,
    socket: &mut WebSocket,
    asked: Asked,
    guest: &mut Guest,
) -> Result<Infallible, End> {
    let ((caller, expires_at), head) = tokio::select! {
        biased;
        () = watch.stop.cancelled() => return Err(End::Stopping),
        let_in = let_in(watch, socket, &asked, guest) => let_in?,
    };
    let mut session = Session::of(watch, socket, asked, (caller, head));
    session.begin(head, expires_at).await?;
    session.go_on().await
}

/// Finds out who watches, and where the store stands.
async fn let_in(
    watch: &Watch,
    socket: &mut WebSocket,
    asked: &Asked,
    guest: &mut Guest,
) -> Result<(Shown, Position), End> {
    let shown = greet(watch, socket, guest).await?;
    Ok((shown, standing(watch, socket, asked).await?))
}

impl<'a> Session<'a> {
    /// One whose store stands at `head`.
    fn of(
        watch: &'a Watch,
        socket: &'a mut WebSocket,
        asked: Asked,
        (caller, head): (Caller, Position),
    ) -> Self {
        let (subject, client) = (caller.subject.as_deref(), caller.client_id.as_deref());
        tracing::info!(store = %asked.store, subject, client, "a watch of the store begins");
        let now = Instant::now();
        Self {
            seat: watch.following.feeds().join(asked.store, head),
            decisions: asked
                .decisions
                .then(|| watch.recorder.tap(asked.store, watch.settings.decisions)),
            watch,
            socket,
            caller,
            expires: None,
            had: head,
            told: head,
            told_at: now,
            is_live: false,
            reading: None,
            retry: None,
            refreshing: None,
            pace: Pace::new(MESSAGES),
            malformed: 0,
            heard: now,
            pinged: false,
            asked,
        }
    }

    /// Welcomes the watcher, from where it wants to go on.
    async fn begin(&mut self, head: Position, expires_at: Option<SystemTime>) -> Result<(), End> {
        let (from, unknown) = match self.asked.from {
            From::Now => (head, None),
            From::Start => (Position::new(head.epoch.0, 0), None),
            From::After(after) if after <= head && after.epoch == head.epoch => (after, None),
            // It was at a node that is further than this one.
            From::After(after) if after > head && self.watch.following.lags() => (after, None),
            From::After(after) if after > head => (head, Some(Reason::Unknown)),
            From::After(_) => (head, Some(Reason::NewEpoch)),
        };
        (self.had, self.told) = (from, from);
        self.welcome(expires_at).await?;
        match unknown {
            Some(reason) => self.reset(reason, head).await,
            None => Ok(()),
        }
    }

    async fn welcome(&mut self, expires_at: Option<SystemTime>) -> Result<(), End> {
        let left = expires_at.map(|at| at.duration_since(SystemTime::now()));
        let left = left.map(Result::unwrap_or_default);
        self.expires = left.and_then(|left| Instant::now().checked_add(left));
        let watch = self.watch;
        let recorder = &watch.recorder;
        let settings = recorder.settings_of(self.asked.store);
        let recording = || Recording::of(recorder.is_on(), settings);
        let store = self.asked.store.to_string();
        let welcome = Told::Welcome {
            node: &watch.settings.node,
            store_id: &store,
            position: self.had.to_string(),
            expires_at: expires_at.map(time),
            recording: self.asked.decisions.then(recording),
            protocol: PROTOCOL,
        };
        self.send(&welcome).await
    }

    async fn go_on(&mut self) -> Result<Infallible, End> {
        loop {
            while self.next_changes().await? {
                self.attend().await?;
            }
            self.flush().await?;
            let (wake, stop) = (self.wake(), self.watch.stop.clone());
            let hears = self.refreshing.is_none();
            let waits = self.reading.is_none() && self.retry.is_none();
            tokio::select! {
                () = stop.cancelled() => return Err(End::Stopping),
                () = self.seat.moved(), if waits => {}
                read = done(&mut self.reading) => self.has_read(read).await?,
                verified = done(&mut self.refreshing) => self.refreshed(verified).await?,
                tapped = next(&mut self.decisions) => self.decided(tapped).await?,
                message = self.socket.recv(), if hears => self.heard(message).await?,
                () = tokio::time::sleep_until(wake.into()) => self.tick().await?,
            }
        }
    }

    /// Sees to what must not wait for a long history to be sent.
    async fn attend(&mut self) -> Result<(), End> {
        if self.watch.stop.is_cancelled() {
            return Err(End::Stopping);
        }
        for _ in 0..TURN {
            let Some(tapped) = next(&mut self.decisions).now_or_never() else {
                break;
            };
            self.decided(tapped).await?;
        }
        if let Some(verified) = done(&mut self.refreshing).now_or_never() {
            self.refreshed(verified).await?;
        }
        for _ in 0..TURN {
            if self.refreshing.is_some() {
                break;
            }
            let Some(message) = self.socket.recv().now_or_never() else {
                break;
            };
            self.heard(message).await?;
        }
        if self.wake() <= Instant::now() {
            self.tick().await?;
        }
        Ok(())
    }

    async fn decided(&mut self, tapped: Tapped) -> Result<(), End> {
        let meters = &self.watch.meters;
        match tapped {
            Tapped::Decision(recorded) => {
                if !self.asked.filter.lets_flow_through(&recorded.flow) {
                    return Ok(());
                }
                meters.decisions.increment(1);
                self.send(&Told::decision(&recorded)).await
            }
            Tapped::Lost(lost) => {
                meters.lost.increment(lost);
                self.send(&Told::Lost { lost }).await
            }
        }
    }

    /// When something is to be done if nothing happens.
    fn wake(&self) -> Instant {
        let settings = &self.watch.settings;
        let silence = if self.pinged {
            settings.idle_timeout
        } else {
            settings.ping_interval
        };
        let silent = self.silent_since() + silence;
        let passed = (self.had != self.told).then(|| self.told_at + settings.ping_interval);
        let others = [self.expires, self.retry, passed].into_iter().flatten();
        others.fold(silent, Instant::min)
    }

    /// Since when it has said nothing, though it could be heard.
    fn silent_since(&self) -> Instant {
        match self.refreshing {
            Some(_) => Instant::now(),
            None => self.heard,
        }
    }

    async fn tick(&mut self) -> Result<(), End> {
        let now = Instant::now();
        let settings = &self.watch.settings;
        let (ping, idle) = (settings.ping_interval, settings.idle_timeout);
        if self.expires.is_some_and(|at| at <= now) {
            return Err(End::Unauthorized);
        }
        if self.retry.is_some_and(|at| at <= now) {
            self.retry = None;
        }
        // What the filter held back has been passed all the same.
        if self.had != self.told && self.told_at + ping <= now {
            (self.told, self.told_at) = (self.had, now);
            let position = self.had.to_string();
            self.send(&Told::Position { position }).await?;
        }
        let silent = now.saturating_duration_since(self.silent_since());
        if silent >= idle {
            return Err(End::Late);
        }
        if silent >= ping && !self.pinged {
            self.pinged = true;
            self.hand_over(Message::Ping(Default::default())).await?;
        }
        Ok(())
    }

    fn left_behind(&self) -> End {
        End::Slow(self.seat.distance(self.had))
    }
}

/// The next decision, where they are wanted.
async fn next(decisions: &mut Option<Tap>) -> Tapped {
    match decisions {
        Some(tap) => tap.next().await,
        None => std::future::pending().await,
    }
}

/// What comes of something that is under way, where it is.
async fn done<T>(under_way: &mut Option<BoxFuture<'_, T>>) -> T {
    let Some(doing) = under_way else {
        return std::future::pending().await;
    };
    let done = doing.await;
    *under_way = None;
    done
}
