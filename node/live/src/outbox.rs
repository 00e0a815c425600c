//! What waits for one client: bounded, and given out one frame at a time.
//!
//! The hazard: between a record being matched and its being sent, the permission that it rests on may fall in doubt. So a
//! record stays here, with the subscriptions that want it, until the socket has room for it; and while none of those is open
//! it is held. What was handed to the socket is delivered.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::frames::{Closing, Frame};

/// A subscription's number, unique in the process.
pub(crate) type Sub = u64;

/// The frames of one client.
pub(crate) struct Outbox {
    state: Mutex<State>,
    wake: Notify,
    max_records: usize,
    max_bytes: usize,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Entry>,
    /// The records among them.
    records: usize,
    bytes: usize,
    standing: HashMap<Sub, Standing>,
    /// What stands for a conflated entry: the latest record of the object.
    latest: HashMap<(Sub, Arc<str>), Frame>,
    /// The last record that was given out.
    taken: u64,
    ended: Option<End>,
}

#[derive(Clone, Copy)]
struct Standing {
    /// While it is not, its records are held.
    is_open: bool,
    conflates: bool,
}

struct Entry {
    what: What,
    owner: Sub,
    /// Further subscriptions of the client that want it.
    others: Vec<Sub>,
    number: u64,
}

enum What {
    Control(Frame),
    Record(Frame),
    Latest(Arc<str>),
}

/// A record on its way to many.
#[derive(Clone)]
pub(crate) struct Addressed<'a> {
    pub(crate) frame: &'a Frame,
    pub(crate) object: &'a Arc<str>,
    /// Grows from record to record of a store.
    pub(crate) number: u64,
    /// Whether the client may be reached by several of its subscriptions.
    pub(crate) may_repeat: bool,
}

/// Why a client gets nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It was too slow, and lost so many records.
    Lagged(u64),
    /// For another reason.
    Closing(Closing),
}

/// What there is for the client.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    Frame { frame: Frame, is_record: bool },
    Nothing,
    End(End),
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    Waits,
    /// It took the place of another.
    Merged,
    /// It is there already, by another subscription.
    Repeats,
    /// The client is too slow: it gets nothing more.
    Overflowed,
    /// The client is gone, or does not want it any longer.
    Unwanted,
}

impl Outbox {
    pub(crate) fn new(max_records: usize, max_bytes: usize) -> Self {
        Self {
            state: Mutex::default(),
            wake: Notify::new(),
            max_records,
            max_bytes,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there may be something.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Tells the client something that is no record.
    pub(crate) fn tell(&self, frame: Frame) {
        self.state().tell(frame);
        self.wake.notify_one();
    }

    /// Keeps a place for a subscription that is about to be opened.
    pub(crate) fn reserve(&self, sub: Sub, conflates: bool) {
        let standing = Standing {
            is_open: false,
            conflates,
        };
        self.state().standing.insert(sub, standing);
    }

    /// Whether a subscription is open, or about to be.
    pub(crate) fn knows(&self, sub: Sub) -> bool {
        self.state().standing.contains_key(&sub)
    }

    /// Opens a subscription that has its place: tells `told`, then `records`. Whether it had it still.
    pub(crate) fn open(&self, sub: Sub, told: Frame, records: Vec<Frame>) -> bool {
        let mut state = self.state();
        match state.standing.get_mut(&sub) {
            Some(standing) => standing.is_open = true,
            None => return false,
        }
        state.tell(told);
        for frame in records {
            let bytes = frame.len();
            state.put(What::Record(frame), bytes, sub, 0);
        }
        drop(state);
        self.wake.notify_one();
        true
    }

    /// Whether so much more would leave room for as much again.
    pub(crate) fn has_room(&self, records: usize, bytes: usize) -> bool {
        let state = self.state();
        state.records + records <= self.max_records / 2 && state.bytes + bytes <= self.max_bytes / 2
    }

    /// Holds a subscription's records back from now on.
    pub(crate) fn pause(&self, sub: Sub) {
        if let Some(standing) = self.state().standing.get_mut(&sub) {
            standing.is_open = false;
        }
    }

    /// Lets them go.
    pub(crate) fn resume(&self, sub: Sub) {
        if let Some(standing) = self.state().standing.get_mut(&sub) {
            standing.is_open = true;
        }
        self.wake.notify_one();
    }

    /// Ends a subscription, or gives its place up. What waits for it alone is not delivered.
    pub(crate) fn close(&self, sub: Sub, told: Frame) {
        let mut state = self.state();
        state.standing.remove(&sub);
        state.drop_records_of(sub);
        state.tell(told);
        drop(state);
        self.wake.notify_one();
    }

    /// Gives the client nothing more; the first reason counts.
    pub(crate) fn end(&self, end: End) {
        self.state().end(end);
        self.wake.notify_one();
    }

    /// Has a record wait for the client.
    pub(crate) fn push(&self, sub: Sub, record: &Addressed<'_>) -> Pushed {
        let mut state = self.state();
        let Some(standing) = state.standing.get(&sub).copied() else {
            return Pushed::Unwanted;
        };
        if record.may_repeat && state.repeats(sub, record.number) {
            return Pushed::Repeats;
        }
        let bytes = record.frame.len();
        let what = if standing.conflates {
            let key = (sub, Arc::clone(record.object));
            if let Some(waits) = state.latest.get_mut(&key) {
                let before = std::mem::replace(waits, record.frame.clone());
                state.bytes = state.bytes.saturating_sub(before.len()) + bytes;
                return Pushed::Merged;
            }
            state.latest.insert(key, record.frame.clone());
            What::Latest(Arc::clone(record.object))
        } else {
            What::Record(record.frame.clone())
        };
        if state.records >= self.max_records || state.bytes + bytes > self.max_bytes {
            let lost = u64::try_from(state.records).unwrap_or(u64::MAX);
            state.end(End::Lagged(lost.saturating_add(1)));
            drop(state);
            self.wake.notify_one();
            return Pushed::Overflowed;
        }
        state.put(what, bytes, sub, record.number);
        drop(state);
        self.wake.notify_one();
        Pushed::Waits
    }

    /// What the client is to get now.
    pub(crate) fn next(&self) -> Next {
        let mut state = self.state();
        if let Some(end) = state.ended {
            return Next::End(end);
        }
        let Some(at) = state.queue.iter().position(|entry| state.may_go(entry)) else {
            return Next::Nothing;
        };
        let Some(entry) = state.queue.remove(at) else {
            return Next::Nothing;
        };
        if state.queue.is_empty() {
            // Most clients have nothing waiting most of the time.
            state.queue = VecDeque::new();
        }
        let frame = match entry.what {
            What::Control(frame) => {
                return Next::Frame {
                    frame,
                    is_record: false,
                };
            }
            What::Record(frame) => frame,
            What::Latest(object) => {
                let latest = state.latest.remove(&(entry.owner, object));
                latest.unwrap_or_default()
            }
        };
        state.records -= 1;
        state.bytes = state.bytes.saturating_sub(frame.len());
        state.taken = state.taken.max(entry.number);
        Next::Frame {
            frame,
            is_record: true,
        }
    }

    /// Whether it gets nothing more.
    pub(crate) fn has_ended(&self) -> bool {
        self.state().ended.is_some()
    }
}

impl State {
    fn tell(&mut self, frame: Frame) {
        if self.ended.is_none() {
            self.queue.push_back(Entry {
                what: What::Control(frame),
                owner: 0,
                others: Vec::new(),
                number: 0,
            });
        }
    }

    fn put(&mut self, what: What, bytes: usize, owner: Sub, number: u64) {
        self.records += 1;
        self.bytes += bytes;
        self.queue.push_back(Entry {
            what,
            owner,
            others: Vec::new(),
            number,
        });
    }

    fn may_go(&self, entry: &Entry) -> bool {
        let is_open = |sub: &Sub| self.standing.get(sub).is_some_and(|it| it.is_open);
        matches!(entry.what, What::Control(_))
            || is_open(&entry.owner)
            || entry.others.iter().any(is_open)
    }

    /// Whether a record is there already, by another subscription; this one then has it in common.
    fn repeats(&mut self, sub: Sub, number: u64) -> bool {
        if self.taken == number {
            return true;
        }
        // Nothing but what the client is told itself can have come behind it.
        let mut last = self.queue.iter_mut().rev();
        let waits = last.find(|entry| !matches!(entry.what, What::Control(_)));
        match waits.filter(|entry| entry.number == number) {
            Some(entry) if matches!(entry.what, What::Record(_)) => {
                entry.others.push(sub);
                true
            }
            _ => false,
        }
    }

    fn drop_records_of(&mut self, sub: Sub) {
        let mut queue = std::mem::take(&mut self.queue);
        queue.retain_mut(|entry| {
            if matches!(entry.what, What::Control(_)) {
                return true;
            }
            entry.others.retain(|other| *other != sub);
            if entry.owner != sub {
                return true;
            }
            if let Some(heir) = entry.others.pop() {
                entry.owner = heir;
                return true;
            }
            let bytes = match &entry.what {
                What::Record(frame) | What::Control(frame) => frame.len(),
                What::Latest(object) => {
                    let latest = self.latest.remove(&(sub, Arc::clone(object)));
                    latest.map_or(0, |frame| frame.len())
                }
            };
            self.records -= 1;
            self.bytes = self.bytes.saturating_sub(bytes);
            false
        });
        self.queue = queue;
    }

    fn end(&mut self, end: End) {
        if self.ended.is_none() {
            *self = Self {
                ended: Some(end),
                ..Self::default()
            };
        }
    }
}

#[cfg(test)]
mod tests;
