//! The edge's replicas, as a machine without I/O: what arrives and the time go in, commands come out.
//!
//! Whoever drives it carries out the commands and hands every answer, failure and record back. Anything may be lost,
//! repeated, late or out of order; the machine compares positions, never assumes an order, and asks again through
//! [`Edge::tick`].
//!
//! The topic says what there may be, upstream what there is: a reign never seen, or a revision far ahead, that only the topic
//! speaks of makes the machine ask, and what upstream does not confirm is let go.
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
use meridian_model::watermark::{Admit, admit};

use crate::retry::Retry;
use crate::upstream::{Changes, UpstreamError};

mod loading;
mod messages;
mod replica;
mod slot;
#[cfg(test)]
mod tests;

use loading::Loading;
pub use messages::{Ask, Command, Input, Limits, Publish, Touched};
use replica::Replica;
use slot::Slot;

/// The replicas of one product's stores.
pub struct Edge {
    limits: Limits,
    epoch: Epoch,
    slots: BTreeMap<StoreId, Slot>,
    /// The newest ask for positions: its ticket, and the retry while it is unanswered.
    positions: (u64, Option<Retry>),
    /// Records may have been missed, and no answer has come since.
    unsure: bool,
    /// From when on upstream is asked again about a reign that only the topic speaks of.
    ask_reign: Duration,
}

impl Edge {
    /// Knows nothing; the first [`Self::tick`] asks upstream for every store.
    pub fn new(limits: Limits, now: Duration) -> Self {
        Self {
            limits,
            epoch: Epoch(0),
            slots: BTreeMap::new(),
            positions: (0, Some(Retry::new(now))),
            unsure: false,
            ask_reign: now,
        }
    }

    /// The writer's reign, by upstream's word.
    pub fn epoch(&self) -> Epoch {
        self.epoch
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
        replica.doubt(self.positions.0);
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
            Input::Announced(store, position) => self.announced(store, position, now, &mut out),
            Input::Reign(epoch) => drop(self.is_of_now(epoch, now, &mut out)),
            Input::Reset => self.reset(now, &mut out),
            Input::Positions {
                ticket,
                epoch,
                stores,
            } => {
                self.reign(epoch.unwrap_or_default(), now, &mut out);
                self.stand(ticket, &stores, now, &mut out);
            }
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
                    let ticket = self.positions.0;
                    replica.filled(&object_type, (position, tuples), ticket, now, &self.limits);
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

    /// Whether what the topic says is of the reign known. Of a newer one the topic's word is not enough, since it would end
    /// all that is held: upstream is asked.
    fn is_of_now(&mut self, epoch: Epoch, now: Duration, out: &mut Vec<Command>) -> bool {
        if epoch > self.epoch && now >= self.ask_reign {
            self.ask_reign = now + self.limits.patience.first_pause;
            out.extend(self.poll(now));
        }
        epoch == self.epoch
    }

    fn record(&mut self, set: ChangeSet, now: Duration, out: &mut Vec<Command>) {
        let (store, position) = (set.store, set.position());
        if !self.is_of_now(position.epoch, now, out) {
            return;
        }
        let ticket = self.positions.0;
        match self.slots.get_mut(&store) {
            Some(Slot::Live(replica)) => replica.offer(set, ticket, now, &self.limits),
            Some(Slot::Loading(loading)) => loading.set_aside(set, ticket, &self.limits),
            Some(Slot::Deleted(_)) => return,
            None if admit(Position::default(), position) == Admit::Apply && creates(&set) => {
                let mut replica = Replica::new(store, View::new(start_of(position.epoch)), now);
                replica.offer(set, ticket, now, &self.limits);
                self.go_live(store, replica);
            }
            None => {
                let mut loading = Loading::new(position, ticket, now);
                loading.set_aside(set, ticket, &self.limits);
                self.slots.insert(store, Slot::Loading(loading));
            }
        }
        self.settle(store, now, out);
    }

    fn announced(
        &mut self,
        store: StoreId,
        position: Position,
        now: Duration,
        out: &mut Vec<Command>,
    ) {
        if !self.is_of_now(position.epoch, now, out) {
            return;
        }
        let ticket = self.positions.0;
        match self.slots.get_mut(&store) {
            Some(Slot::Live(replica)) => replica.learn(position, ticket, now),
            Some(Slot::Loading(loading)) => loading.learn(position, ticket),
            Some(Slot::Deleted(_)) => {}
            None => {
                let loading = Loading::new(position, ticket, now);
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
            let loading = Loading::new(start_of(epoch), self.positions.0, now);
            self.reload(store, loading, out);
            self.settle(store, now, out);
        }
    }

    /// Starts a store over.
    fn reload(&mut self, store: StoreId, loading: Loading, out: &mut Vec<Command>) {
        if let Some(Slot::Live(_)) = self.slots.insert(store, Slot::Loading(loading)) {
            out.push(Command::Drop(store));
        }
    }

    /// What a replica is made of may have been asked for, or sent, before records were missed. Nor need the answer that is
    /// awaited list a store that was not here when it was asked for.
    fn go_live(&mut self, store: StoreId, mut replica: Replica) {
        if self.unsure {
            replica.doubt(self.positions.0 + 1);
        }
        self.slots.insert(store, Slot::Live(Box::new(replica)));
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
        self.unsure = true;
        let stores: Vec<_> = self.slots.keys().copied().collect();
        for store in stores {
            if let Some(Slot::Live(replica)) = self.slots.get_mut(&store) {
                replica.doubt(self.positions.0);
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
            (self.positions.1, self.unsure) = (None, false);
        }
        for (store, position) in stores {
            self.exists(*store, *position, current, now, out);
        }
        if current {
            // What upstream does not list, and was here when it was asked, is of a history that was given up.
            let listed: BTreeSet<_> = stores.iter().map(|(id, _)| *id).collect();
            let gone = |(id, slot): (&StoreId, &Slot)| {
                matches!(slot, Slot::Live(replica) if replica.is_doubted_since(ticket) && !listed.contains(id))
                    .then_some(*id)
            };
            let gone: Vec<_> = self.slots.iter().filter_map(gone).collect();
            gone.into_iter().for_each(|store| self.forget(store, out));
            // Of a store that came to be here meanwhile only the next answer tells.
            let in_doubt = |slot: &Slot| matches!(slot, Slot::Live(replica) if replica.is_doubted_since(ticket + 1));
            if self.slots.values().any(in_doubt) {
                out.extend(self.poll(now));
            }
        }
    }

    /// Upstream has a store at `position`. `current` when that answers the newest question.
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
        let ticket = self.positions.0;
        match self.slots.get_mut(&store) {
            Some(Slot::Live(replica)) => {
                if current {
                    replica.stands_at(position, ticket);
                }
                replica.learn(position, ticket, now);
            }
            Some(Slot::Loading(loading)) => {
                if current {
                    loading.stands_at(position, ticket);
                }
                loading.learn(position, ticket);
            }
            Some(Slot::Deleted(_)) => {}
            None => {
                let loading = Loading::new(position, ticket, now);
                self.slots.insert(store, Slot::Loading(loading));
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
        let mut unconfirmed = false;
        if let Some(Slot::Live(replica)) = self.slots.get_mut(&store) {
            let ticket = self.positions.0;
            replica.repaired(sets, changes.position, ticket, now, &self.limits);
            unconfirmed = replica.known() > changes.position;
        }
        self.settle(store, now, out);
        if unconfirmed {
            out.extend(self.poll(now));
        }
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
            out.extend(self.poll(now));
            return;
        }
        if head.deleted_at.is_some() {
            self.slots.insert(store, Slot::Deleted(head.position));
            return;
        }
        let (mut aside, known) = (std::mem::take(&mut loading.aside), loading.known);
        let view = View::new(head.position)
            .with_head(head.info, head.tiers)
            .with_models(head.models);
        let (mut replica, ticket) = (Replica::new(store, view, now), self.positions.0);
        while let Some(set) = aside.pop_first() {
            replica.offer(set, ticket, now, &self.limits);
        }
        replica.learn(known, ticket, now);
        self.go_live(store, replica);
        self.settle(store, now, out);
    }

    fn failed(&mut self, ask: Ask, error: &UpstreamError, now: Duration, out: &mut Vec<Command>) {
        let (Ask::Changes(store) | Ask::Head(store) | Ask::Fill(store, _)) = ask;
        match (error, self.slots.get_mut(&store)) {
            (UpstreamError::UnknownStore, _) => self.forget(store, out),
            (UpstreamError::Trimmed, Some(Slot::Live(replica))) => {
                let loading = Loading::new(replica.known(), self.positions.0, now);
                self.reload(store, loading, out);
                self.settle(store, now, out);
            }
            (_, Some(Slot::Live(replica))) => replica.failed(&ask, now, &self.limits),
            (_, Some(Slot::Loading(loading))) if matches!(ask, Ask::Head(_)) => {
                loading
                    .ask
                    .failed(now, &self.limits.patience, spread(store));
                if matches!(error, UpstreamError::Behind) {
                    out.extend(self.poll(now));
                }
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

/// Before the first revision that a reign could hold of a store.
fn start_of(epoch: Epoch) -> Position {
    Position {
        epoch,
        revision: Revision::ZERO,
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
