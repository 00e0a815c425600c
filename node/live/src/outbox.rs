//! What waits for one client: bounded, and given out one frame at a time.
//!
//! The hazard: between a record being matched and its being sent, the permission that it rests on may fall in doubt. So a
//! record stays here, with the subscriptions that want it, until the socket has room for it; and while none of those is open
//! it is held. What was handed to the socket is delivered.
//!
//! A position that a client is told must not be past anything that it was not given. What goes out in front of a held
//! record, or stays when one is dropped, therefore loses its own.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::frames::{Closing, Frame, Told, position_of, with_position};

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
    latest: HashMap<(Sub, Arc<str>), Latest>,
    /// The last record that was given out.
    taken: u64,
    ended: Option<End>,
}

struct Standing {
    /// What it is to: clients know by it which records it has got.
    object: Arc<str>,
    /// While it is not, its records are held.
    is_open: bool,
    conflates: bool,
}

struct Latest {
    frame: Frame,
    /// The position of the first record that waited here, where this is a later one: others may wait between the two.
    position: Option<Box<str>>,
}

struct Entry {
    what: What,
    owner: Sub,
    /// Further subscriptions of the client that want it.
    others: Vec<Sub>,
    /// Those that get it another time, though the client will take this one for theirs too.
    also: Vec<Sub>,
    number: u64,
    /// Whether one of its subscriptions ended while another record of that was in front of it.
    outlives: bool,
}

enum What {
    Control(Frame),
    /// An answer to a sign of life, and the position up to which everything is in front of it.
    Pong(Option<String>),
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

/// A record for one who was away.
pub(crate) struct Missed {
    pub(crate) frame: Frame,
    /// Everything by which it can be subscribed to.
    pub(crate) names: Vec<Arc<str>>,
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

    /// Answers a sign of life. Everything of the client's subscriptions before `position` was pushed already.
    pub(crate) fn pong(&self, position: Option<String>) {
        self.state().put_control(What::Pong(position));
        self.wake.notify_one();
    }

    /// Keeps a place for a subscription to an object that is about to be opened.
    pub(crate) fn reserve(&self, sub: Sub, object: Arc<str>, conflates: bool) {
        let standing = Standing {
            object,
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
    pub(crate) fn open(&self, sub: Sub, told: Frame, records: Vec<Missed>) -> bool {
        let mut state = self.state();
        match state.standing.get_mut(&sub) {
            Some(standing) => standing.is_open = true,
            None => return false,
        }
        state.tell(told);
        for Missed { frame, names } in records {
            let also = state.named(sub, &names);
            let bytes = frame.len();
            state.put(What::Record(frame), bytes, sub, 0, also);
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
        let Some(standing) = state.standing.get(&sub) else {
            return Pushed::Unwanted;
        };
        let conflates = standing.conflates;
        if record.may_repeat && state.repeats(sub, record.number) {
            return Pushed::Repeats;
        }
        let bytes = record.frame.len();
        let what = if conflates {
            let key = (sub, Arc::clone(record.object));
            if let Some(waits) = state.latest.get_mut(&key) {
                let before = std::mem::replace(&mut waits.frame, record.frame.clone());
                if waits.position.is_none() {
                    waits.position = position_of(&before).map(Box::from);
                }
                state.bytes = state.bytes.saturating_sub(before.len()) + bytes;
                return Pushed::Merged;
            }
            let latest = Latest {
                frame: record.frame.clone(),
                position: None,
            };
            state.latest.insert(key, latest);
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
        state.put(what, bytes, sub, record.number, Vec::new());
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
        let passes = state.passes_its_own(at);
        let Some(entry) = state.queue.remove(at) else {
            return Next::Nothing;
        };
        let passes = passes || entry.outlives;
        if state.queue.is_empty() {
            // Most clients have nothing waiting most of the time.
            state.queue = VecDeque::new();
        }
        let told = |frame| Next::Frame {
            frame,
            is_record: false,
        };
        let (frame, position) = match entry.what {
            What::Control(frame) => return told(frame),
            What::Pong(position) => {
                // All that is in front of it is held.
                let position = position.as_deref().filter(|_| at == 0);
                return told(Told::Pong { position }.frame());
            }
            What::Record(frame) => (frame, None),
            What::Latest(object) => match state.latest.remove(&(entry.owner, object)) {
                Some(latest) => (latest.frame, latest.position),
                None => return Next::Nothing,
            },
        };
        state.records -= 1;
        state.bytes = state.bytes.saturating_sub(frame.len());
        state.taken = state.taken.max(entry.number);
        let frame = match position {
            _ if passes => with_position(&frame, None),
            Some(position) => with_position(&frame, Some(&position)),
            None => frame,
        };
        Next::Frame {
            frame,
            is_record: true,
        }
    }

    /// What a client that gets nothing more is still told: all but records, and what would tell of having got them.
    pub(crate) fn last_words(&self) -> Vec<Frame> {
        let mut state = self.state();
        let waits = std::mem::take(&mut state.queue).into_iter();
        let told = waits.filter_map(|entry| match entry.what {
            What::Control(frame) => Some(frame),
            What::Pong(_) | What::Record(_) | What::Latest(_) => None,
        });
        told.collect()
    }

    /// Whether it gets nothing more.
    pub(crate) fn has_ended(&self) -> bool {
        self.state().ended.is_some()
    }
}

impl State {
    fn tell(&mut self, frame: Frame) {
        self.put_control(What::Control(frame));
    }

    fn put_control(&mut self, what: What) {
        if self.ended.is_none() {
            self.queue.push_back(Entry {
                what,
                owner: 0,
                others: Vec::new(),
                also: Vec::new(),
                number: 0,
                outlives: false,
            });
        }
    }

    fn put(&mut self, what: What, bytes: usize, owner: Sub, number: u64, also: Vec<Sub>) {
        self.records += 1;
        self.bytes += bytes;
        self.queue.push_back(Entry {
            what,
            owner,
            others: Vec::new(),
            also,
            number,
            outlives: false,
        });
    }

    /// The other subscriptions of the client that are to one of these.
    fn named(&self, sub: Sub, names: &[Arc<str>]) -> Vec<Sub> {
        let others = self.standing.iter().filter(|(other, _)| **other != sub);
        let named = others.filter(|(_, standing)| names.contains(&standing.object));
        named.map(|(other, _)| *other).collect()
    }

    fn may_go(&self, entry: &Entry) -> bool {
        let is_open = |sub: &Sub| self.standing.get(sub).is_some_and(|it| it.is_open);
        !entry.is_record() || is_open(&entry.owner) || entry.others.iter().any(is_open)
    }

    /// Whether the record at `at`, the first that may go, belongs also to a subscription whose earlier records are held.
    fn passes_its_own(&self, at: usize) -> bool {
        let Some(entry) = self.queue.get(at).filter(|_| at > 0) else {
            return false;
        };
        let mut in_front = self.queue.iter().take(at);
        let counted_for = || entry.subs().chain(entry.also.iter().copied());
        in_front.any(|held| counted_for().any(|sub| held.subs().any(|of| of == sub)))
    }

    /// Whether a record is there already, by another subscription; this one then has it in common.
    fn repeats(&mut self, sub: Sub, number: u64) -> bool {
        if self.taken == number {
            return true;
        }
        // Nothing but what the client is told itself can have come behind it.
        let mut last = self.queue.iter_mut().rev();
        let waits = last.find(|entry| entry.is_record());
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
        let mut any = false;
        queue.retain_mut(|entry| {
            match &mut entry.what {
                What::Control(_) => return true,
                What::Pong(position) => {
                    if any {
                        *position = None;
                    }
                    return true;
                }
                What::Record(_) | What::Latest(_) => {}
            }
            let is_its = entry.subs().any(|of| of == sub);
            entry.outlives |= any && (is_its || entry.also.contains(&sub));
            // Also where it stays for another: that one may be held.
            any |= is_its;
            entry.others.retain(|other| *other != sub);
            if entry.owner != sub {
                return true;
            }
            if let Some(heir) = entry.others.pop() {
                entry.owner = heir;
                return true;
            }
            let bytes = match &entry.what {
                What::Record(frame) => frame.len(),
                What::Latest(object) => {
                    let latest = self.latest.remove(&(sub, Arc::clone(object)));
                    latest.map_or(0, |latest| latest.frame.len())
                }
                What::Control(_) | What::Pong(_) => 0,
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

impl Entry {
    fn is_record(&self) -> bool {
        matches!(self.what, What::Record(_) | What::Latest(_))
    }

    /// The subscriptions that it belongs to.
    fn subs(&self) -> impl Iterator<Item = Sub> + '_ {
        let owner = self.is_record().then_some(self.owner);
        owner.into_iter().chain(self.others.iter().copied())
    }
}

#[cfg(test)]
mod tests;
