//! What waits for one client: bounded, and given out one frame at a time.
//!
//! The hazard: between a record being matched and its being sent, the permission that it rests on may fall in doubt. So a
//! record stays here, with the subscriptions that want it, until the socket has room for it; and while none of those is open
//! it is held. What was handed to the socket is delivered.
//!
//! Every record has a position, and a client goes on from the last that it was told. So what a subscription gets, it gets in
//! order: no record goes past an earlier one that is held where the client would count both for one subscription, and none is
//! given out before all of the client's subscriptions that want it are known.

mod queue;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::frames::{Closing, Frame, Told, for_subscription};
use queue::{Queue, Standing, Taken, What};

/// What may wait for a client that is no record, until it is not heard any longer: answers, and bytes of them.
const ANSWERS: usize = 256;
const ANSWER_BYTES: usize = 64 * 1024;

/// A subscription's number, unique in the process.
pub(crate) type Sub = u64;

/// Everything by which a record can be subscribed to: the object that it is of comes first.
pub(crate) type Names = Arc<[Arc<str>]>;

/// The frames of one client.
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    wake: Notify,
    /// Records have been taken out, or dropped.
    taken: Notify,
    /// The last record that was offered to all who want it.
    released: AtomicU64,
    max_records: usize,
    max_bytes: usize,
}

/// A record as a client gets it.
#[derive(Clone)]
pub(crate) struct Given {
    pub(crate) frame: Frame,
    /// By which the client finds the subscriptions that it counts it for.
    pub(crate) names: Names,
}

impl Given {
    /// A record for the subscription of this name to this object, and for no other.
    pub(crate) fn alone(record: &Frame, id: &str, object: &Arc<str>) -> Self {
        Self {
            frame: for_subscription(record, id),
            names: [Arc::clone(object)].into(),
        }
    }
}

/// A record on its way to many.
pub(crate) struct Addressed<'a> {
    pub(crate) frame: &'a Frame,
    pub(crate) names: &'a Names,
    /// The first of the names.
    pub(crate) object: &'a Arc<str>,
    /// Grows from record to record of a store.
    pub(crate) number: u64,
}

impl Addressed<'_> {
    fn given(&self) -> Given {
        Given {
            frame: self.frame.clone(),
            names: Arc::clone(self.names),
        }
    }

    /// Whether the client may be reached by several of its subscriptions.
    fn may_repeat(&self) -> bool {
        self.names.len() > 1
    }
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
            // None is too large by itself.
            queue: Mutex::new(Queue::new(max_bytes / 2)),
            wake: Notify::new(),
            taken: Notify::new(),
            released: AtomicU64::new(0),
            max_records,
            max_bytes,
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there may be something.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Waits until there may be more room than now, when this is called.
    pub(crate) fn taken(&self) -> Notified<'_> {
        self.taken.notified()
    }

    /// Tells the client something that is no record.
    pub(crate) fn tell(&self, frame: Frame) {
        self.queue().tell(What::Control(frame));
        self.wake.notify_one();
    }

    /// Answers a sign of life. Everything of the client's subscriptions before `position` was pushed already.
    pub(crate) fn pong(&self, position: Option<String>) {
        self.queue().tell(What::Pong(position));
        self.wake.notify_one();
    }

    /// Keeps a place for a subscription of this name, to an object, that is about to be opened. There is none where everything
    /// has ended.
    pub(crate) fn reserve(&self, sub: Sub, id: Arc<str>, object: Arc<str>, conflates: bool) {
        let standing = Standing {
            id,
            object,
            is_open: false,
            conflates,
        };
        let mut queue = self.queue();
        if queue.ended.is_none() {
            queue.standing.insert(sub, standing);
        }
    }

    /// Whether a subscription is open, or about to be; or may be, where everything has ended: who was there is not told apart
    /// then.
    pub(crate) fn knows(&self, sub: Sub) -> bool {
        let queue = self.queue();
        queue.ended.is_some() || queue.standing.contains_key(&sub)
    }

    /// Opens a subscription that has its place: tells `told`, then `records`. Whether it had it still.
    pub(crate) fn open(&self, sub: Sub, told: Frame, records: Vec<Given>) -> bool {
        let mut queue = self.queue();
        match queue.standing.get_mut(&sub) {
            Some(standing) => standing.is_open = true,
            None => return false,
        }
        queue.tell_opened(told, sub);
        for record in records {
            queue.put(record, sub, 0);
        }
        drop(queue);
        self.wake.notify_one();
        true
    }

    /// Whether these would leave room for as much again; none take no room.
    pub(crate) fn has_room(&self, records: &[Given]) -> bool {
        if records.is_empty() {
            return true;
        }
        let queue = self.queue();
        let bytes = records.iter().map(|given| queue.weight(&given.frame));
        let bytes: usize = bytes.sum();
        queue.records + records.len() <= self.max_records / 2
            && queue.bytes + bytes <= self.max_bytes / 2
    }

    /// Holds a subscription's records back from now on.
    pub(crate) fn pause(&self, sub: Sub) {
        if let Some(standing) = self.queue().standing.get_mut(&sub) {
            standing.is_open = false;
        }
    }

    /// Lets them go.
    pub(crate) fn resume(&self, sub: Sub) {
        self.queue().resume(sub);
        self.wake.notify_one();
    }

    /// Whether a subscription that has its place conflates.
    pub(crate) fn conflates(&self, sub: Sub) -> bool {
        let queue = self.queue();
        queue.standing.get(&sub).is_some_and(|it| it.conflates)
    }

    /// Ends a subscription, or gives its place up, unless that was done. What waits for it alone is not delivered, and what
    /// comes behind that is told after `told`: until then the client takes it for this subscription's.
    pub(crate) fn close(&self, sub: Sub, told: Frame) {
        let mut queue = self.queue();
        if queue.standing.remove(&sub).is_none() {
            return;
        }
        let at = queue.drop_records_of(sub);
        queue.tell_at(at, told);
        drop(queue);
        self.taken.notify_waiters();
        self.wake.notify_one();
    }

    /// Gives the client nothing more; the first reason counts.
    pub(crate) fn end(&self, end: End) {
        self.queue().end(end);
        self.taken.notify_waiters();
        self.wake.notify_one();
    }

    /// Has a record wait for the client; it is given out once it is [`Self::release`]d. Subscriptions that conflate come last.
    pub(crate) fn push(&self, sub: Sub, record: &Addressed<'_>) -> Pushed {
        let mut queue = self.queue();
        let Some(standing) = queue.standing.get(&sub) else {
            return Pushed::Unwanted;
        };
        let conflates = standing.conflates;
        if record.may_repeat() && queue.repeats(sub, record.number) {
            if conflates {
                queue.settle(sub, record.object);
            }
            return Pushed::Repeats;
        }
        if conflates && queue.merge(sub, record) {
            return Pushed::Merged;
        }
        let weight = queue.weight(record.frame);
        if queue.records >= self.max_records || queue.bytes + weight > self.max_bytes {
            let lost = u64::try_from(queue.records).unwrap_or(u64::MAX);
            queue.end(End::Lagged(lost.saturating_add(1)));
            drop(queue);
            self.wake.notify_one();
            return Pushed::Overflowed;
        }
        match conflates {
            true => queue.put_latest(record, sub),
            false => queue.put(record.given(), sub, record.number),
        }
        Pushed::Waits
    }

    /// All of the client's subscriptions were offered the record of this number, which grows from record to record.
    pub(crate) fn release(&self, number: u64) {
        self.released.store(number, Ordering::Release);
        self.wake.notify_one();
    }

    /// What the client is to get now.
    pub(crate) fn next(&self) -> Next {
        let mut queue = self.queue();
        if let Some(end) = queue.ended {
            return Next::End(end);
        }
        let told = |frame| Next::Frame {
            frame,
            is_record: false,
        };
        match queue.take(self.released.load(Ordering::Acquire)) {
            None => Next::Nothing,
            Some(Taken::Control(frame)) => told(frame),
            Some(Taken::Pong(position)) => {
                let position = position.as_deref();
                told(Told::Pong { position }.frame())
            }
            Some(Taken::Record(frame)) => {
                self.taken.notify_waiters();
                Next::Frame {
                    frame,
                    is_record: true,
                }
            }
        }
    }

    /// What a client that gets nothing more is still told: all but records, and what would tell of having got them.
    pub(crate) fn last_words(&self) -> Vec<Frame> {
        self.queue().last_words()
    }

    /// Why it gets nothing more, if so.
    pub(crate) fn ended(&self) -> Option<End> {
        self.queue().ended
    }

    /// Whether so much waits for the client that is no record that it is to take some of that before it is heard again.
    pub(crate) fn is_full_of_answers(&self) -> bool {
        let queue = self.queue();
        queue.len().saturating_sub(queue.records) >= ANSWERS || queue.told >= ANSWER_BYTES
    }
}

#[cfg(test)]
mod tests;
