//! The edge's replicas, as a machine without I/O: what arrives and the time go in, commands come out.
//!
//! Whoever drives it carries out the commands and hands every answer, failure and record back. Anything may be lost,
//! repeated, late or out of order; the machine compares positions, never assumes an order, and asks again through
//! [`Edge::tick`].
//!
//! A store is *loading* (its head was asked for; nothing is published), *live* (a view is published, of which types are
//! covered one by one as their fills come in), or *deleted* (remembered, so that late records do nothing).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meridian_engine::View;
use meridian_model::change::{Change, ChangeSet};
use meridian_model::hash::type_hash;
use meridian_model::ids::{Epoch, Position, Revision, StoreId};
use meridian_model::ports::StoreHead;
use meridian_model::tuple::Tuple;
use meridian_model::watermark::{Admit, admit};

use crate::retry::{Patience, Retry};
use crate::upstream::{Changes, UpstreamError};

mod replica;
#[cfg(test)]
mod tests;

use replica::Replica;

/// What the machine keeps at most, and how long it waits.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Change sets of one store kept for later while earlier ones or a fill are missing. What does not fit is asked for
    /// again.
    pub set_aside: usize,
    /// Waiting times.
    pub patience: Patience,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            set_aside: 4096,
            patience: Patience::default(),
        }
    }
}

/// What happened outside.
#[derive(Debug)]
pub enum Input {
    /// A change set arrived from the topic.
    Record(ChangeSet),
    /// A change set exists that the topic does not carry.
    Announced(StoreId, Position),
    /// Some other sign (a heartbeat) of the writer's reign.
    Reign(Epoch),
    /// Records may have been missed without a trace: the topic was (re)assigned, or held something unreadable.
    Reset,
    /// The answer to [`Command::AskPositions`] with the same ticket.
    Positions {
        /// The command's.
        ticket: u64,
        /// Where every store stands upstream.
        stores: Vec<(StoreId, Position)>,
    },
    /// [`Command::AskPositions`] was not answered.
    PositionsFailed,
    /// The answer to [`Command::AskChanges`].
    Changes(StoreId, Changes),
    /// The answer to [`Command::AskHead`].
    Head(StoreHead),
    /// The answer to [`Command::AskFill`].
    Filled {
        /// The store.
        store: StoreId,
        /// The type.
        object_type: String,
        /// The position all of `tuples` are of.
        position: Position,
        /// Every tuple of the type.
        tuples: Vec<Tuple>,
    },
    /// An ask about a store was not answered.
    Failed(Ask, UpstreamError),
}

/// A question about a store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ask {
    /// For its change sets.
    Changes(StoreId),
    /// For its head.
    Head(StoreId),
    /// For all tuples of a type.
    Fill(StoreId, String),
}

/// What the machine wants done.
pub enum Command {
    /// Ask upstream where every store stands.
    AskPositions {
        /// To be handed back with the answer.
        ticket: u64,
    },
    /// Ask upstream for change sets from behind `after`, thinned out for an edge.
    AskChanges {
        /// The store.
        store: StoreId,
        /// The replica's own position.
        after: Position,
    },
    /// Ask upstream for a store without its tuples, at `min` or later.
    AskHead {
        /// The store.
        store: StoreId,
        /// The earliest position of use.
        min: Position,
    },
    /// Ask upstream for all tuples of a type, at `min` or later.
    AskFill {
        /// The store.
        store: StoreId,
        /// The type.
        object_type: String,
        /// The earliest position of use.
        min: Position,
    },
    /// Show a store's new view to readers, in one step.
    Publish(Publish),
    /// Nothing of the store is held any longer: no view and no kept answer may be used.
    Drop(StoreId),
}

/// A store's new view.
pub struct Publish {
    /// The store.
    pub store: StoreId,
    /// The view.
    pub view: View,
    /// Which kept answers it ends.
    pub touched: Touched,
    /// Whether a later revision is known to exist, or records may have been missed: heartbeats that arrive now do not
    /// prove that this store is fresh.
    pub lagging: bool,
}

/// Which kept answers end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// Those that were true at a position before one of these and rest on one of its hashes.
    Sets(Vec<(Position, Vec<u64>)>),
    /// All of the store.
    All,
}

enum Slot {
    Loading(Loading),
    Live(Box<Replica>),
    Deleted(Position),
}

#[derive(Debug)]
struct Loading {
    min: Position,
    /// The latest position known to exist.
    known: Position,
    ask: Retry,
    aside: BTreeMap<Revision, ChangeSet>,
}

/// The replicas of one product's stores.
pub struct Edge {
    limits: Limits,
    epoch: Epoch,
    slots: BTreeMap<StoreId, Slot>,
    /// The newest ask for positions: its ticket, and the retry while it is unanswered.
    positions: (u64, Option<Retry>),
}

impl Edge {
    /// Knows nothing; the first [`Self::tick`] asks upstream for every store.
    pub fn new(limits: Limits, now: Duration) -> Self {
        Self {
            limits,
            epoch: Epoch(0),
            slots: BTreeMap::new(),
            positions: (0, Some(Retry::new(now))),
        }
    }

    /// Takes over a view from before a restart. Its store counts as lagging until upstream has said where it stands.
    pub fn restore(&mut self, view: View, now: Duration) -> Vec<Command> {
        let Some(store) = view.info().map(|info| info.id) else {
            return Vec::new();
        };
        if view.is_deleted()
            || view.position().epoch < self.epoch
            || self.slots.contains_key(&store)
        {
            return Vec::new();
        }
        let mut commands = Vec::new();
        self.reign(view.position().epoch, now, &mut commands);
        let mut replica = Replica::new(store, view, now);
        replica.doubt();
        self.slots.insert(store, Slot::Live(Box::new(replica)));
        self.positions.1.get_or_insert(Retry::new(now));
        self.settle(store, now, &mut commands);
        commands
    }

    /// Works in what happened at `now` (the node's monotonic clock, since some fixed start).
    pub fn handle(&mut self, input: Input, now: Duration) -> Vec<Command> {
        let mut out = Vec::new();
        match input {
            Input::Record(set) => self.record(set, now, &mut out),
            Input::Announced(store, position) => self.exists(store, position, false, now, &mut out),
            Input::Reign(epoch) => self.reign(epoch, now, &mut out),
            Input::Reset => self.reset(now, &mut out),
            Input::Positions { ticket, stores } => self.stand(ticket, &stores, now, &mut out),
            Input::PositionsFailed => {
                if let Some(ask) = &mut self.positions.1 {
                    ask.failed(now, &self.limits.patience, self.positions.0);
                }
            }
            Input::Changes(store, changes) => self.changes(store, changes, now, &mut out),
            Input::Head(head) => self.head(head, now, &mut out),
            Input::Filled {
                store,
                object_type,
                position,
                tuples,
            } => {
                self.reign(position.epoch, now, &mut out);
                if let Some(Slot::Live(replica)) = self.slots.get_mut(&store) {
                    replica.filled(&object_type, position, tuples, now, &self.limits);
                }
                self.settle(store, now, &mut out);
            }
            Input::Failed(ask, error) => self.failed(ask, &error, now, &mut out),
        }
        out
    }

    /// Asks what is due to be asked (again).
    pub fn tick(&mut self, now: Duration) -> Vec<Command> {
        let mut out = Vec::new();
        let ticket = self.positions.0;
        if self
            .positions
            .1
            .as_mut()
            .is_some_and(|ask| ask.take(now, &self.limits.patience))
        {
            out.push(Command::AskPositions { ticket });
        }
        let stores: Vec<_> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.due().is_some_and(|due| due <= now))
            .map(|(id, _)| *id)
            .collect();
        for store in stores {
            self.settle(store, now, &mut out);
        }
        out
    }

    /// When the next [`Self::tick`] has something to do; `None` while everything is answered.
    pub fn next_tick(&self) -> Option<Duration> {
        let positions = self.positions.1.as_ref().map(Retry::due);
        self.slots
            .values()
            .filter_map(Slot::due)
            .chain(positions)
            .min()
    }

    /// Asks upstream where the stores stand, beside whatever the topic says: when the broker is silent.
    pub fn poll(&mut self, now: Duration) -> Vec<Command> {
        if self.positions.1.is_none() {
            self.positions = (self.positions.0 + 1, Some(Retry::new(now)));
        }
        self.tick(now)
    }

    /// The views of all live stores.
    pub fn views(&self) -> impl Iterator<Item = (StoreId, &View)> {
        self.slots.iter().filter_map(|(id, slot)| match slot {
            Slot::Live(replica) => Some((*id, replica.view())),
            Slot::Loading(_) | Slot::Deleted(_) => None,
        })
    }

    /// Whether no store and no type is still being loaded, and no change is known to be missing.
    pub fn is_settled(&self) -> bool {
        self.next_tick().is_none()
    }

    fn record(&mut self, set: ChangeSet, now: Duration, out: &mut Vec<Command>) {
        let (store, position) = (set.store, set.position());
        self.reign(position.epoch, now, out);
        if position.epoch < self.epoch {
            return;
        }
        match self.slots.get_mut(&store) {
            Some(Slot::Live(replica)) => replica.offer(set, now, &self.limits),
            Some(Slot::Loading(loading)) => loading.set_aside(set, &self.limits),
            Some(Slot::Deleted(_)) => return,
            None if admit(Position::default(), position) == Admit::Apply && creates(&set) => {
                let mut replica = Replica::new(
                    store,
                    View::new(Position {
                        revision: Revision::ZERO,
                        ..position
                    }),
                    now,
                );
                replica.offer(set, now, &self.limits);
                self.slots.insert(store, Slot::Live(Box::new(replica)));
            }
            None => {
                let mut loading = Loading::new(position, now);
                loading.set_aside(set, &self.limits);
                self.slots.insert(store, Slot::Loading(loading));
            }
        }
        self.settle(store, now, out);
    }

    /// A newer reign: whatever is held may be of a history that was given up. Nothing of it is served any longer.
    fn reign(&mut self, epoch: Epoch, now: Duration, out: &mut Vec<Command>) {
        if epoch <= self.epoch {
            return;
        }
        self.epoch = epoch;
        let stale: Vec<_> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.epoch() < epoch)
            .map(|(id, _)| *id)
            .collect();
        for store in stale {
            self.reload(
                store,
                Position {
                    epoch,
                    revision: Revision::ZERO,
                },
                now,
                out,
            );
            self.settle(store, now, out);
        }
    }

    /// Starts a store over.
    fn reload(&mut self, store: StoreId, min: Position, now: Duration, out: &mut Vec<Command>) {
        if let Some(Slot::Live(_)) = self
            .slots
            .insert(store, Slot::Loading(Loading::new(min, now)))
        {
            out.push(Command::Drop(store));
        }
    }

    /// Upstream does not know the store. That it was deleted here stays remembered.
    fn forget(&mut self, store: StoreId, out: &mut Vec<Command>) {
        if let Some(slot) = self
            .slots
            .get(&store)
            .filter(|slot| !matches!(slot, Slot::Deleted(_)))
        {
            if matches!(slot, Slot::Live(_)) {
                out.push(Command::Drop(store));
            }
            self.slots.remove(&store);
        }
    }

    fn reset(&mut self, now: Duration, out: &mut Vec<Command>) {
        // A new ticket: an answer to an earlier question may be from before what was missed.
        self.positions = (self.positions.0 + 1, Some(Retry::new(now)));
        let stores: Vec<_> = self.slots.keys().copied().collect();
        for store in stores {
            if let Some(Slot::Live(replica)) = self.slots.get_mut(&store) {
                replica.doubt();
            }
            self.settle(store, now, out);
        }
        out.extend(self.tick(now));
    }

    fn stand(
        &mut self,
        ticket: u64,
        stores: &[(StoreId, Position)],
        now: Duration,
        out: &mut Vec<Command>,
    ) {
        let current = ticket == self.positions.0;
        if current {
            self.positions.1 = None;
        }
        for (store, position) in stores {
            self.exists(*store, *position, current, now, out);
        }
        if current {
            // What upstream does not list, and was here when it was asked, is of a history that was given up.
            let listed: BTreeSet<_> = stores.iter().map(|(id, _)| *id).collect();
            let gone = |(id, slot): (&StoreId, &Slot)| {
                matches!(slot, Slot::Live(replica) if replica.is_doubted() && !listed.contains(id))
                    .then_some(*id)
            };
            let gone: Vec<_> = self.slots.iter().filter_map(gone).collect();
            gone.into_iter().for_each(|store| self.forget(store, out));
        }
    }

    /// Upstream has a store at `position`. `current` when it was asked after whatever cast doubt.
    fn exists(
        &mut self,
        store: StoreId,
        position: Position,
        current: bool,
        now: Duration,
        out: &mut Vec<Command>,
    ) {
        self.reign(position.epoch, now, out);
        if position.epoch < self.epoch {
            return;
        }
        match self.slots.get_mut(&store) {
            Some(Slot::Live(replica)) => replica.stands_at(position, current, now),
            Some(Slot::Loading(loading)) => loading.known = loading.known.max(position),
            Some(Slot::Deleted(_)) => {}
            None => {
                self.slots
                    .insert(store, Slot::Loading(Loading::new(position, now)));
            }
        }
        self.settle(store, now, out);
    }

    fn changes(&mut self, store: StoreId, changes: Changes, now: Duration, out: &mut Vec<Command>) {
        self.reign(changes.position.epoch, now, out);
        let sets: Vec<_> = changes
            .change_sets
            .into_iter()
            .filter(|set| set.store == store)
            .collect();
        if let Some(newest) = sets.iter().map(|set| set.epoch).max() {
            self.reign(newest, now, out);
        }
        if let Some(Slot::Live(replica)) = self.slots.get_mut(&store) {
            replica.repaired(sets, changes.position, now, &self.limits);
        }
        self.settle(store, now, out);
    }

    fn head(&mut self, head: StoreHead, now: Duration, out: &mut Vec<Command>) {
        let store = head.info.id;
        self.reign(head.position.epoch, now, out);
        let Some(Slot::Loading(loading)) = self.slots.get_mut(&store) else {
            return;
        };
        if head.position < loading.min {
            loading
                .ask
                .failed(now, &self.limits.patience, spread(store));
            return;
        }
        if head.deleted_at.is_some() {
            self.slots.insert(store, Slot::Deleted(head.position));
            return;
        }
        let (aside, known) = (std::mem::take(&mut loading.aside), loading.known);
        let view = View::new(head.position)
            .with_head(head.info, head.tiers)
            .with_models(head.models);
        let mut replica = Replica::new(store, view, now);
        for set in aside.into_values() {
            replica.offer(set, now, &self.limits);
        }
        replica.stands_at(known, false, now);
        self.slots.insert(store, Slot::Live(Box::new(replica)));
        self.settle(store, now, out);
    }

    fn failed(&mut self, ask: Ask, error: &UpstreamError, now: Duration, out: &mut Vec<Command>) {
        let (Ask::Changes(store) | Ask::Head(store) | Ask::Fill(store, _)) = ask;
        match (error, self.slots.get_mut(&store)) {
            (UpstreamError::UnknownStore, _) => self.forget(store, out),
            (UpstreamError::Trimmed, Some(Slot::Live(replica))) => {
                let min = replica.known();
                self.reload(store, min, now, out);
                self.settle(store, now, out);
            }
            (_, Some(Slot::Live(replica))) => replica.failed(&ask, now, &self.limits),
            (_, Some(Slot::Loading(loading))) if matches!(ask, Ask::Head(_)) => {
                loading
                    .ask
                    .failed(now, &self.limits.patience, spread(store));
            }
            (_, Some(Slot::Loading(_) | Slot::Deleted(_)) | None) => {}
        }
    }

    /// Says what a store now wants: asks that are due, and its view if that changed.
    fn settle(&mut self, store: StoreId, now: Duration, out: &mut Vec<Command>) {
        match self.slots.get_mut(&store) {
            Some(Slot::Live(replica)) => {
                if replica.view().is_deleted() {
                    let position = replica.view().position();
                    self.slots.insert(store, Slot::Deleted(position));
                    out.push(Command::Drop(store));
                } else {
                    replica.settle(now, &self.limits, out);
                }
            }
            Some(Slot::Loading(loading)) => {
                if loading.ask.take(now, &self.limits.patience) {
                    out.push(Command::AskHead {
                        store,
                        min: loading.min,
                    });
                }
            }
            Some(Slot::Deleted(_)) | None => {}
        }
    }
}

impl Slot {
    fn epoch(&self) -> Epoch {
        match self {
            Self::Loading(loading) => loading.min.epoch,
            Self::Live(replica) => replica.view().position().epoch,
            Self::Deleted(position) => position.epoch,
        }
    }

    fn due(&self) -> Option<Duration> {
        match self {
            Self::Loading(loading) => Some(loading.ask.due()),
            Self::Live(replica) => replica.due(),
            Self::Deleted(_) => None,
        }
    }
}

impl Loading {
    fn new(min: Position, now: Duration) -> Self {
        Self {
            min,
            known: min,
            ask: Retry::new(now),
            aside: BTreeMap::new(),
        }
    }

    fn set_aside(&mut self, set: ChangeSet, limits: &Limits) {
        self.known = self.known.max(set.position());
        if self.aside.len() < limits.set_aside {
            self.aside.insert(set.revision, set);
        }
    }
}

fn creates(set: &ChangeSet) -> bool {
    set.changes
        .iter()
        .any(|change| matches!(change, Change::StoreCreated(_)))
}

/// A number by which stores that fail together come back at different times.
fn spread(store: StoreId) -> u64 {
    type_hash(store.as_str())
}
