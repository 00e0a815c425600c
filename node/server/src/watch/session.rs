//! One watcher: its socket, from the first frame to the last, in one task.
//!
//! What it has had is one position, behind which it takes what comes next from the store's feed, or from the change log where the
//! feed does not reach. So nothing can be left out or come twice, and however slow it is, nothing piles up for it.

mod greeting;
mod sending;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::extract::ws::{Message, WebSocket};
use futures::FutureExt as _;
use meridian_flow::tap::{Tap, Tapped};
use meridian_live_channel::sockets::{self, Pace};
use meridian_model::change::ChangeSet;
use meridian_model::ports::DatastoreError;
use meridian_model::{Code, Position};

use super::Watch;
use super::asked::{Asked, From};
use super::feed::{Behind, Seat};
use super::frames::{Changed, PROTOCOL, Reason, Recording, Said, Told, time};
use crate::authn::Caller;
use crate::following::{NotFollowed, PERIOD, TIMEOUT, is_next};
use greeting::{end_of, greet, standing, tell};

/// Change sets that are read from the change log at once.
const PAGE: u32 = 64;
/// How long after a read that failed the database is asked again.
const RETRY: Duration = Duration::from_secs(1);
/// Messages without sense, after which a watcher is closed.
const MALFORMED: u32 = 10;
/// Messages of a watcher a second; twice as many at once.
const MESSAGES: u32 = 50;
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
    /// Too many messages: wait, then connect again.
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
    /// When the database is to be asked again.
    retry: Option<Instant>,
    pace: Pace,
    malformed: u32,
    heard: Instant,
    pinged: bool,
}

/// Serves a watcher until it goes, or has to.
pub(super) async fn run(
    watch: Arc<Watch>,
    mut socket: WebSocket,
    asked: Asked,
    token: Option<String>,
) {
    watch.meters.watchers.increment(1);
    let end = match serve(&watch, &mut socket, asked, token).await {
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
    token: Option<String>,
) -> Result<Infallible, End> {
    let hello = watch.settings.hello_timeout;
    let greeted = tokio::time::timeout(hello, greet(watch, socket, token));
    let (caller, expires_at) = greeted.await.unwrap_or(Err(End::Late))?;
    let record = match standing(watch, &asked).await {
        Ok(record) => record,
        Err(why) => {
            let (code, end) = match why {
                NotFollowed::NoStore => (404, End::NoStore),
                NotFollowed::Unreachable => (503, End::Unavailable),
            };
            let message = why.to_string();
            let error = Told::Error {
                code,
                message: &message,
            };
            tell(socket, &error).await;
            return Err(end);
        }
    };
    let (subject, client) = (caller.subject.as_deref(), caller.client_id.as_deref());
    tracing::info!(store = %asked.store, subject, client, "a watch of the store begins");
    let head = record.position;
    let now = Instant::now();
    let mut session = Session {
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
        retry: None,
        pace: Pace::new(MESSAGES),
        malformed: 0,
        heard: now,
        pinged: false,
        asked,
    };
    session.begin(head, expires_at).await?;
    session.go_on().await
}

impl Session<'_> {
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
            Some(reason) => self.reset_to(reason, head).await,
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
            tokio::select! {
                () = stop.cancelled() => return Err(End::Stopping),
                () = self.seat.moved(), if self.retry.is_none() => {}
                tapped = next(&mut self.decisions) => self.decided(tapped).await?,
                message = self.socket.recv() => self.heard(message).await?,
                () = tokio::time::sleep_until(wake.into()) => self.tick().await?,
            }
        }
    }

    /// Sends what comes next; whether there may be more.
    async fn next_changes(&mut self) -> Result<bool, End> {
        match self.seat.behind(self.had) {
            Behind::Nothing => {
                self.is_live = true;
                Ok(false)
            }
            Behind::Sets(sets) => {
                self.is_live = true;
                for set in &sets {
                    self.change(set).await?;
                }
                Ok(true)
            }
            Behind::More { made_room: true } if self.is_live => Err(self.left_behind()),
            _ if self.retry.is_some_and(|at| Instant::now() < at) => Ok(false),
            Behind::More { .. } => self.read().await,
            Behind::NewEpoch => self.reset(Reason::NewEpoch).await,
        }
    }

    /// Sends what comes next by the change log.
    async fn read(&mut self) -> Result<bool, End> {
        self.is_live = false;
        let datastore = self.watch.following.datastore();
        // Those who come back all at once must not take all connections.
        let Ok(turn) = self.watch.reads.acquire().await else {
            return Err(End::Stopping);
        };
        let deadline = Instant::now() + TIMEOUT;
        let (store, after) = (self.asked.store, self.had.revision);
        let read = datastore.change_sets(store, after, PAGE, deadline).await;
        drop(turn);
        let is_newer = |set: &ChangeSet| set.epoch > self.had.epoch;
        match read {
            // The store was replaced, and the feed does not know yet.
            Ok(sets) if sets.last().is_some_and(is_newer) => self.reset(Reason::NewEpoch).await,
            Ok(sets) if is_next(&sets, self.had) => {
                self.retry = None;
                for set in &sets {
                    self.change(set).await?;
                }
                Ok(true)
            }
            Ok(_) | Err(DatastoreError::Trimmed { .. }) => self.reset(Reason::Trimmed).await,
            Err(error) => self.later(&error),
        }
    }

    /// Sees to it that the database is asked again.
    fn later(&mut self, error: &DatastoreError) -> Result<bool, End> {
        let error: &dyn std::error::Error = error;
        tracing::debug!(error, store = %self.asked.store, "the change log cannot be read for a watcher; trying again");
        self.retry = Some(Instant::now() + RETRY);
        Ok(false)
    }

    async fn change(&mut self, set: &ChangeSet) -> Result<(), End> {
        let position = Position {
            revision: set.revision,
            ..self.had
        };
        let changed = Changed::of(set, position.epoch, &self.asked.filter);
        let is_last = changed.as_ref().is_some_and(Changed::is_last);
        if let Some(changed) = changed {
            self.send(&Told::Change(Box::new(changed))).await?;
            self.watch.meters.changes.increment(1);
            (self.told, self.told_at) = (position, Instant::now());
        }
        self.had = position;
        if is_last {
            return Err(End::NoStore);
        }
        Ok(())
    }

    /// Goes on from where the store stands now, since what came before cannot be told.
    async fn reset(&mut self, reason: Reason) -> Result<bool, End> {
        let datastore = self.watch.following.datastore();
        let read = datastore.store(self.asked.store, Instant::now() + TIMEOUT);
        match read.await {
            Ok(Some(record)) => {
                self.retry = None;
                self.reset_to(reason, record.position).await?;
                // A replaced store may be read again before the feed knows of its epoch.
                if matches!(self.seat.behind(self.had), Behind::NewEpoch) {
                    self.retry = Some(Instant::now() + PERIOD);
                    return Ok(false);
                }
                Ok(true)
            }
            Ok(None) => Err(End::NoStore),
            Err(error) => self.later(&error),
        }
    }

    async fn reset_to(&mut self, reason: Reason, head: Position) -> Result<(), End> {
        self.watch.meters.reset(reason);
        self.is_live = false;
        (self.had, self.told, self.told_at) = (head, head, Instant::now());
        let position = head.to_string();
        self.send(&Told::Reset { reason, position }).await
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
        for _ in 0..TURN {
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
        let silent = self.heard + silence;
        let passed = (self.had != self.told).then(|| self.told_at + settings.ping_interval);
        let others = [self.expires, self.retry, passed].into_iter().flatten();
        others.fold(silent, Instant::min)
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
        let silent = now.saturating_duration_since(self.heard);
        if silent >= idle {
            return Err(End::Late);
        }
        if silent >= ping && !self.pinged {
            self.pinged = true;
            self.hand_over(Message::Ping(Default::default())).await?;
        }
        Ok(())
    }

    async fn heard(&mut self, message: Option<Result<Message, axum::Error>>) -> Result<(), End> {
        let message = message.ok_or(End::Gone)?.map_err(|why| end_of(&why))?;
        (self.heard, self.pinged) = (Instant::now(), false);
        match message {
            Message::Close(_) => return Err(End::Gone),
            Message::Pong(_) => return Ok(()),
            Message::Text(_) | Message::Binary(_) | Message::Ping(_) => {}
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
            Ok(Said::Auth { token }) => self.refresh(&token).await,
            Err(why) => {
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

    /// Takes a newer token in.
    async fn refresh(&mut self, token: &str) -> Result<(), End> {
        let verify = self.watch.authenticator.verify(Some(token));
        let verified = tokio::time::timeout(self.watch.settings.hello_timeout, verify);
        match verified.await {
            Ok(Ok((caller, expires_at))) if caller.subject == self.caller.subject => {
                self.welcome(expires_at).await
            }
            Ok(Ok(_)) => {
                let message = "the token is of somebody else; connect anew with it";
                self.error(403, message).await?;
                Err(End::OtherCaller)
            }
            Ok(Err(unknown)) if unknown.error.code != Code::Unavailable => {
                self.error(401, &unknown.error.message).await?;
                Err(End::Unauthorized)
            }
            Ok(Err(_)) | Err(_) => {
                let message = "the token cannot be verified now; try again";
                self.error(503, message).await
            }
        }
    }

    async fn error(&mut self, code: u16, message: &str) -> Result<(), End> {
        self.send(&Told::Error { code, message }).await
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
