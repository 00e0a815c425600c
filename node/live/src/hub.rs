//! All subscriptions of a node: records in, frames out.

mod beginning;
mod forgetting;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use meridian_model::{Position, StoreId};
use tokio::sync::{Notify, watch};

pub(crate) use beginning::Beginning;
use beginning::{Begun, begin_with, judged};

use crate::cursor::{Cursor, topic_hash};
use crate::frames::{Reason, Told, time};
use crate::history::{History, Kept};
use crate::meters::Meters;
use crate::outbox::{Outbox, Sub};
use crate::ports::{Decided, Rests};
use crate::record::Record;
use crate::room::{Room, Subscription, Ticket};
use crate::settings::Limits;

/// What changes of a store have touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// By position, hashes of sets and types ([`meridian_model::hash`]).
    Sets(Vec<(Position, Vec<u64>)>),
    /// Anything.
    All,
}

impl Touched {
    /// Where changes up to `upto` that touched this end what was decided at `position` and rests on `rests`, if they do.
    pub(crate) fn ends(
        &self,
        upto: Position,
        position: Position,
        rests: &Rests,
    ) -> Option<Position> {
        match (self, rests) {
            (_, Rests::Elsewhere) => None,
            (Self::All, _) => (position < upto).then_some(upto),
            (Self::Sets(revisions), rests) => {
                let later = revisions.iter().filter(|(at, _)| *at > position);
                let hit = later.filter(|(_, hashes)| match rests {
                    Rests::On(on) => hashes.iter().any(|hash| on.contains(hash)),
                    Rests::OnAnything | Rests::Elsewhere => true,
                });
                hit.map(|(at, _)| *at).max()
            }
        }
    }
}

/// Why a subscription that was allowed is not opened.
#[derive(Debug)]
pub(crate) enum Unopened {
    /// What it rests on has been touched since: it is to be decided at this position, or later.
    Outdated(Position),
    /// So much waits for its client that there is no room for the last record.
    NoRoom,
}

/// How often it is looked whether the topic was read far enough, while somebody waits for that.
const TICK: Duration = Duration::from_millis(10);

/// All subscriptions of a node.
pub struct Hub {
    rooms: DashMap<StoreId, Arc<Mutex<Room>>>,
    seen: Mutex<Seen>,
    /// Whether the topic is read: until then nobody can be told of a gap.
    begun: watch::Sender<bool>,
    limits: Limits,
    /// Bytes of all histories.
    kept: AtomicUsize,
    numbers: AtomicU64,
    pub(crate) meters: Meters,
    pub(crate) doubts: Notify,
}

/// Up to where the topic was read.
struct Seen {
    cursor: Cursor,
    /// Where reading began.
    from: Vec<i64>,
    /// Whether clients may have missed something and are not all told yet: until then no position is good.
    is_broken: bool,
}

impl Hub {
    /// Nobody, of a topic that is not read yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            rooms: DashMap::new(),
            seen: Mutex::new(Seen {
                cursor: Cursor {
                    topic: 0,
                    next: Vec::new(),
                },
                from: Vec::new(),
                is_broken: false,
            }),
            begun: watch::Sender::new(false),
            limits,
            kept: AtomicUsize::new(0),
            numbers: AtomicU64::new(1),
            meters: Meters::new(),
            doubts: Notify::new(),
        }
    }

    /// The topic is read (again) from these offsets on, by partition. When that leaves a gap to what was read before, all that
    /// is kept goes and every client is closed as one that was too slow: it must not take what comes for all there was.
    pub fn reading(&self, cluster: &str, topic: &str, next: &[i64]) {
        let topic = topic_hash(cluster, topic);
        let mut seen = self.seen();
        let goes_on = seen.cursor.topic == topic && seen.cursor.next == next;
        let is_first = seen.from.is_empty();
        if goes_on && !is_first {
            return;
        }
        *seen = Seen {
            cursor: Cursor {
                topic,
                next: next.to_vec(),
            },
            from: next.to_vec(),
            is_broken: !is_first,
        };
        drop(seen);
        for room in self.rooms() {
            let mut room = lock(&room);
            self.changed(&mut room, |room| room.history = self.history(next.to_vec()));
            if !is_first {
                room.disrupt();
            }
        }
        self.seen().is_broken = false;
        self.begun.send_replace(true);
    }

    /// Waits until the topic is read for the first time.
    pub(crate) async fn begun(&self) {
        // The sender is `self.begun`, so the wait cannot fail.
        let _ = self.begun.subscribe().wait_for(|begun| *begun).await;
    }

    /// Waits until the topic is read as far as a position says, where that is one of this topic.
    pub(crate) async fn reached(&self, position: &str) {
        let Some(there) = Cursor::decode(position) else {
            return;
        };
        while self.seen().cursor.is_short_of(&there) {
            tokio::time::sleep(TICK).await;
        }
    }

    /// Answers a client's sign of life with the position up to which it was given everything of its subscriptions.
    pub(crate) fn pong(&self, store: StoreId, outbox: &Outbox) {
        // Under the store's lock: all that was read of it is in the client's queue.
        let room = self.there(store);
        let room = room.as_deref().map(lock);
        let position = room.as_ref().and_then(|_| {
            let seen = self.seen();
            (!seen.is_broken).then(|| seen.cursor.encode())
        });
        outbox.pong(position);
    }

    /// Gives a record to all who may see it.
    pub fn publish(&self, record: Record) {
        self.meters.records.increment(1);
        let room = self.room(record.store);
        let mut room = lock(&room);
        let position = {
            let mut seen = self.seen();
            if let Some(next) = seen.cursor.next.get_mut(record.place.partition) {
                *next = record.place.offset + 1;
            }
            seen.cursor.encode()
        };
        let told = Told::Record {
            object: &record.object,
            objects: &record.objects,
            position: &position,
            at: time(record.at),
            data: &record.data,
        };
        let frame = told.frame();
        let mut names: Vec<Arc<str>> = vec![record.object.as_str().into()];
        if let Some((object_type, _)) = record.object.split_once(':') {
            names.push(format!("{object_type}:*").into());
        }
        for object in &record.objects {
            if !names.iter().any(|name| **name == **object) {
                names.push(object.as_str().into());
            }
        }
        let kept = Kept {
            frame,
            place: record.place,
            names: names.into(),
        };
        // Under the store's lock: the numbers of its records grow.
        let merged = self.changed(&mut room, |room| room.publish(kept, self.number()));
        drop(room);
        self.meters.merged.increment(merged);
        if self.kept.load(Ordering::Relaxed) > self.limits.history_total_bytes {
            self.shrink();
        }
    }

    /// A record of the topic that is of no store, or that nobody can read: it is skipped.
    pub fn skip(&self, place: crate::record::Place) {
        if let Some(next) = self.seen().cursor.next.get_mut(place.partition) {
            *next = place.offset + 1;
        }
    }

    /// Changes of a store up to `upto` touched this: what rests on it is held back from now on, until it was checked again. To
    /// be called before the node shows anybody that position.
    pub fn touched(&self, store: StoreId, upto: Position, touched: Touched) {
        self.touch(store, |room| {
            room.tell(upto);
            room.touch(upto, &Arc::new(touched));
        });
    }

    /// A store that the node knew up to `last` is not there any longer: whatever rests on it is held back until it was checked
    /// at a later position.
    pub fn dropped(&self, store: StoreId, last: Position) {
        let later = Position::new(last.epoch.0, last.revision.0.saturating_add(1));
        self.touch(store, |room| room.touch(later, &Arc::new(Touched::All)));
    }

    fn touch(&self, store: StoreId, touch: impl FnOnce(&mut Room)) {
        let Some(room) = self.there(store) else {
            return;
        };
        let mut room = lock(&room);
        let before = room.doubts();
        touch(&mut room);
        let after = room.doubts();
        drop(room);
        self.paused(before, after);
        if after > 0 {
            self.doubts.notify_one();
        }
    }

    /// The stores that somebody has subscribed in, or is about to.
    pub fn stores(&self) -> Vec<StoreId> {
        let used = |room: &Arc<Mutex<Room>>| !lock(room).is_empty();
        let rooms = self.rooms.iter().filter(|room| used(room.value()));
        rooms.map(|room| *room.key()).collect()
    }

    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn outbox(&self) -> Outbox {
        Outbox::new(self.limits.queue_records, self.limits.queue_bytes)
    }

    pub(crate) fn room(&self, store: StoreId) -> Arc<Mutex<Room>> {
        let room = self.rooms.entry(store).or_insert_with(|| {
            let from = self.seen().from.clone();
            Arc::new(Mutex::new(Room::new(self.history(from))))
        });
        Arc::clone(&room)
    }

    /// The store's room, if it has one.
    fn there(&self, store: StoreId) -> Option<Arc<Mutex<Room>>> {
        self.rooms.get(&store).map(|room| Arc::clone(&room))
    }

    pub(crate) fn rooms_by_store(&self) -> Vec<(StoreId, Arc<Mutex<Room>>)> {
        let rooms = self.rooms.iter();
        rooms.map(|room| (*room.key(), Arc::clone(&room))).collect()
    }

    /// Begins to note what is touched of a store from now on.
    pub(crate) fn begin(&self, store: StoreId) -> Ticket {
        let ticket = self.number();
        lock(&self.room(store)).begin(ticket);
        ticket
    }

    pub(crate) fn finish(&self, store: StoreId, ticket: Ticket) {
        if let Some(room) = self.there(store) {
            lock(&room).finish(ticket);
        }
        self.free(store);
    }

    /// Opens a subscription that was allowed.
    ///
    /// # Errors
    /// [`Unopened`].
    pub(crate) fn open(
        &self,
        (store, ticket, sub): (StoreId, Ticket, Sub),
        subscription: Subscription,
        decided: Decided,
        beginning: &Beginning<'_>,
    ) -> Result<(), Unopened> {
        let room = self.room(store);
        let judged = judged(&room, &subscription, beginning);
        let mut room = lock(&room);
        if let Some(position) = room.outdated(ticket, &decided) {
            return Err(Unopened::Outdated(position));
        }
        let here = {
            let seen = self.seen();
            (!seen.is_broken).then(|| seen.cursor.clone())
        };
        let begun = begin_with(&room, &subscription, beginning, (here.as_ref(), &judged));
        let Begun {
            recovered,
            position,
            records,
        } = begun.ok_or(Unopened::NoRoom)?;
        let told = Told::Subscribed {
            id: &subscription.id,
            object: &subscription.object,
            position: &position,
            recovered,
        };
        let told = told.frame();
        if room.open(sub, subscription, decided, (told, records)) {
            self.meters.subscriptions.increment(1);
            if let Some(recovered) = recovered {
                self.meters.recovered(recovered);
            }
        }
        Ok(())
    }

    /// Where a decision must be made again.
    pub(crate) fn outdated(
        &self,
        store: StoreId,
        ticket: Ticket,
        decided: &Decided,
    ) -> Option<Position> {
        let room = self.there(store)?;
        let room = lock(&room);
        room.outdated(ticket, decided)
    }

    /// Takes note that only a store's changes after `from` will be told. Returns the position to decide at, or later.
    pub(crate) fn follows(&self, store: StoreId, ticket: Ticket, from: Position) -> Position {
        let room = self.there(store);
        room.map_or(from, |room| lock(&room).follows(ticket, from))
    }

    /// Ends a subscription. Whether there was one.
    pub(crate) fn leave(&self, store: StoreId, sub: Sub, reason: Option<Reason>) -> bool {
        let Some(room) = self.there(store) else {
            return false;
        };
        let mut locked = lock(&room);
        let before = locked.doubts();
        let left = locked.leave(sub, reason);
        let after = locked.doubts();
        drop(locked);
        drop(room);
        self.paused(before, after);
        if left {
            self.left(reason);
            self.free(store);
        }
        left
    }

    /// Ends what has been in doubt for longer than `grace`.
    pub(crate) fn end_doubted(&self, grace: Duration) {
        for room in self.rooms() {
            let mut room = lock(&room);
            let before = room.doubts();
            let ended = room.end_doubted(grace);
            let after = room.doubts();
            drop(room);
            self.paused(before, after);
            for _ in 0..ended {
                self.left(Some(Reason::AuthorityUnreachable));
            }
        }
    }

    /// Counts the end of a subscription.
    pub(crate) fn left(&self, reason: Option<Reason>) {
        self.meters.subscriptions.decrement(1);
        if let Some(reason) = reason {
            self.meters.ended(reason.name());
        }
    }

    /// Measures that a store had so many subscriptions in doubt, and now has so many.
    pub(crate) fn paused(&self, before: usize, after: usize) {
        let size = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        self.meters.paused.increment(size(after) - size(before));
    }

    fn history(&self, from: Vec<i64>) -> History {
        History::new(from, self.limits.history_records, self.limits.history_bytes)
    }

    fn rooms(&self) -> Vec<Arc<Mutex<Room>>> {
        self.rooms.iter().map(|room| Arc::clone(&room)).collect()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A poisoned lock is as good as any: what is under it is changed in whole steps.
pub(crate) fn lock(room: &Mutex<Room>) -> MutexGuard<'_, Room> {
    room.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
