//! One live store: a view, what is missing from it, and what was set aside until that arrives.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meridian_engine::View;
use meridian_model::change::{Change, ChangeSet, Tier, Tiers};
use meridian_model::hash::type_hash;
use meridian_model::ids::{Position, Revision, StoreId};
use meridian_model::tuple::{Tuple, TupleCondition, TupleKey};
use meridian_model::watermark::{Admit, admit};

use super::{Ask, Command, Limits, Publish, Touched, spread};
use crate::aside::Aside;
use crate::retry::Retry;
use crate::tier;

/// A type on its way into the view.
#[derive(Debug)]
struct Fill {
    /// Change sets from behind here on are kept in `recent`, so a reply may be of this position or a later one.
    min: Position,
    ask: Retry,
    /// A reply that is ahead of the view waits here until the view has come so far.
    arrived: Option<(Position, Vec<Tuple>)>,
}

/// A live store.
pub(super) struct Replica {
    store: StoreId,
    view: View,
    /// The latest revision known to exist.
    known: Revision,
    /// The newest ticket of an ask for positions when `known` last rose: the answer to a later one may lower it.
    risen: u64,
    /// Later revisions may exist without this node having seen any sign of them. The ticket of the first ask for positions
    /// whose answer must list the store.
    doubted: Option<u64>,
    /// The ask for missing change sets, while some are missing.
    repair: Option<Retry>,
    /// Change sets that came before their predecessors.
    ahead: Aside,
    fills: BTreeMap<String, Fill>,
    /// Change sets applied since the oldest fill was asked for.
    recent: Aside,
    touched: Touched,
    changed: bool,
    published_lagging: bool,
}

impl Replica {
    /// Starts from a view that is true of its position, whatever it covers.
    pub(super) fn new(store: StoreId, view: View, now: Duration) -> Self {
        let mut replica = Self {
            store,
            known: view.position().revision,
            risen: 0,
            view,
            doubted: None,
            repair: None,
            ahead: Aside::default(),
            fills: BTreeMap::new(),
            recent: Aside::default(),
            touched: Touched::All,
            changed: true,
            published_lagging: false,
        };
        let (tiers, from) = (replica.view.tiers().clone(), replica.view.position());
        replica.follow_tiers(&tiers, from, now);
        replica
    }

    pub(super) fn view(&self) -> &View {
        &self.view
    }

    /// The latest position known to exist.
    pub(super) fn known(&self) -> Position {
        Position {
            revision: self.known,
            ..self.view.position()
        }
    }

    /// Whether the answer to the ask with that ticket would end the doubt, if it listed the store.
    pub(super) fn is_doubted_since(&self, ticket: u64) -> bool {
        self.doubted.is_some_and(|since| since <= ticket)
    }

    /// Records may have been missed. An ask with the ticket `since`, or a later one, is made while the store is here.
    pub(super) fn doubt(&mut self, since: u64) {
        self.doubted = Some(since);
    }

    /// When something is to be asked (again).
    pub(super) fn due(&self) -> Option<Duration> {
        let fills = self
            .fills
            .values()
            .filter(|fill| fill.arrived.is_none())
            .map(|fill| fill.ask.due());
        fills.chain(self.repair.map(|ask| ask.due())).min()
    }

    /// Takes a change set of the topic: applied if it is the next, else set aside or left.
    pub(super) fn offer(&mut self, set: ChangeSet, ticket: u64, now: Duration, limits: &Limits) {
        match admit(self.view.position(), set.position()) {
            Admit::Apply => {
                self.apply(set, now, limits);
                self.drain(now, limits);
            }
            Admit::Gap => {
                self.learn(set.position(), ticket, now);
                self.ahead.insert(set);
                self.ahead.keep_nearest(limits);
            }
            // A newer epoch starts the store over before anything is offered.
            Admit::Skip | Admit::Fenced | Admit::NewEpoch => {}
        }
    }

    /// Takes upstream's word on where the store stands, asked with `ticket` after whatever cast doubt. Of what was known
    /// before it was asked, upstream has all that there is.
    pub(super) fn stands_at(&mut self, position: Position, ticket: u64) {
        self.doubted = None;
        let here = self.view.position();
        if ticket > self.risen && position.epoch == here.epoch {
            self.known = position.revision.max(here.revision);
            self.ahead.drop_after(position.revision);
            if self.known == here.revision {
                self.repair = None;
            }
        }
    }

    /// Takes change sets from upstream, and upstream's own position.
    pub(super) fn repaired(
        &mut self,
        sets: Vec<ChangeSet>,
        upstream: Position,
        ticket: u64,
        now: Duration,
        limits: &Limits,
    ) {
        let before = self.view.position();
        for set in sets {
            self.offer(set, ticket, now, limits);
        }
        self.learn(upstream, ticket, now);
        match &mut self.repair {
            Some(ask) if self.view.position() == before => {
                ask.failed(now, &limits.patience, spread(self.store))
            }
            Some(ask) => *ask = Retry::new(now),
            None => {}
        }
    }

    /// Takes the tuples of a type. Of use if it is still wanted and not older than asked for.
    pub(super) fn filled(
        &mut self,
        object_type: &str,
        (position, tuples): (Position, Vec<Tuple>),
        ticket: u64,
        now: Duration,
        limits: &Limits,
    ) {
        let Some(fill) = self.fills.get_mut(object_type) else {
            return;
        };
        if position < fill.min || position.epoch != fill.min.epoch {
            fill.ask.failed(now, &limits.patience, spread(self.store));
            return;
        }
        fill.arrived = Some((position, tuples));
        self.learn(position, ticket, now);
        self.cover_arrived();
    }

    pub(super) fn failed(&mut self, ask: &Ask, now: Duration, limits: &Limits) {
        let retry = match ask {
            Ask::Changes(_) => self.repair.as_mut(),
            Ask::Fill(_, object_type) => self.fills.get_mut(object_type).map(|fill| &mut fill.ask),
            Ask::Head(_) => None,
        };
        if let Some(retry) = retry {
            retry.failed(now, &limits.patience, spread(self.store));
        }
    }

    /// Says what is to be asked now, and the view if it changed since it was last said.
    pub(super) fn settle(&mut self, now: Duration, limits: &Limits, out: &mut Vec<Command>) {
        let store = self.store;
        if self
            .repair
            .as_mut()
            .is_some_and(|ask| ask.take(now, &limits.patience))
        {
            out.push(Command::AskChanges {
                store,
                after: self.view.position(),
            });
        }
        for (object_type, fill) in &mut self.fills {
            if fill.arrived.is_none() && fill.ask.take(now, &limits.patience) {
                out.push(Command::AskFill {
                    store,
                    object_type: object_type.clone(),
                    min: fill.min,
                });
            }
        }
        let lagging = self.doubted.is_some() || self.known > self.view.position().revision;
        if self.changed || lagging != self.published_lagging {
            let touched = std::mem::replace(&mut self.touched, Touched::Sets(Vec::new()));
            out.push(Command::Publish(Publish {
                store,
                view: self.view.clone(),
                touched,
                lagging,
            }));
            (self.changed, self.published_lagging) = (false, lagging);
        }
    }

    /// A later revision exists, or so it is said while `ticket` is the newest: what lies between is asked for.
    pub(super) fn learn(&mut self, position: Position, ticket: u64, now: Duration) {
        if position.epoch == self.view.position().epoch && position.revision > self.known {
            (self.known, self.risen) = (position.revision, ticket);
        }
        if self.known > self.view.position().revision && self.repair.is_none() {
            self.repair = Some(Retry::new(now));
        }
    }

    fn apply(&mut self, set: ChangeSet, now: Duration, limits: &Limits) {
        if let Some(tiers) = assigned(&set) {
            self.follow_tiers(tiers, set.position(), now);
        }
        self.distrust_left_out(&set, now);
        self.view = self.view.apply(&set);
        self.known = self.known.max(set.revision);
        self.changed = true;
        if assigned(&set).is_some() {
            // Types may have become Cold, of which no answer is kept.
            self.touched = Touched::All;
        }
        if let Touched::Sets(sets) = &mut self.touched {
            sets.push((set.position(), tier::touched(&set)));
        }
        self.keep_for_fills(set, now, limits);
        self.cover_arrived();
    }

    /// Applies what was set aside, as far as it follows on.
    fn drain(&mut self, now: Duration, limits: &Limits) {
        while let Some(set) = self.ahead.pop_first() {
            match admit(self.view.position(), set.position()) {
                Admit::Apply => self.apply(set, now, limits),
                Admit::Gap => {
                    self.ahead.insert(set);
                    break;
                }
                Admit::Skip | Admit::Fenced | Admit::NewEpoch => {}
            }
        }
        if self.known <= self.view.position().revision {
            self.repair = None;
        }
    }

    /// Types that are no longer Critical leave the view before the change set that says so is applied; those that have
    /// become so are asked for, as of `from`: before it their tuples were not carried.
    fn follow_tiers(&mut self, tiers: &Tiers, from: Position, now: Duration) {
        let lost: Vec<_> = self
            .view
            .covered_types()
            .filter(|name| tiers.of(name) != Tier::Critical)
            .map(str::to_owned)
            .collect();
        for object_type in lost {
            self.view = self.view.uncover(&object_type);
        }
        self.fills
            .retain(|object_type, _| tiers.of(object_type) == Tier::Critical);
        for object_type in &tiers.critical {
            if !self.view.is_covered(object_type) && !self.fills.contains_key(object_type) {
                self.want(object_type, from, now);
            }
        }
    }

    fn want(&mut self, object_type: &str, min: Position, now: Duration) {
        self.fills.insert(
            object_type.to_owned(),
            Fill {
                min,
                ask: Retry::new(now),
                arrived: None,
            },
        );
    }

    /// A type whose changes were left out of a change set cannot be known from change sets, whatever tiers the sender went
    /// by: what is held of it ends there, and is asked for anew as of then.
    fn distrust_left_out(&mut self, set: &ChangeSet, now: Duration) {
        if set.touched.is_empty() {
            return;
        }
        let mut held: BTreeSet<String> = self.view.covered_types().map(str::to_owned).collect();
        held.extend(self.fills.keys().cloned());
        held.retain(|object_type| set.touched.contains(&type_hash(object_type)));
        for object_type in held {
            self.view = self.view.uncover(&object_type);
            self.want(&object_type, set.position(), now);
        }
    }

    fn keep_for_fills(&mut self, set: ChangeSet, now: Duration, limits: &Limits) {
        let Some(oldest) = self.fills.values().map(|fill| fill.min).min() else {
            self.recent = Aside::default();
            return;
        };
        self.recent.insert(set);
        self.recent.drop_through(oldest);
        while self.recent.is_over(limits) {
            let Some(lost) = self.recent.pop_first() else {
                break;
            };
            for fill in self.fills.values_mut() {
                fill.min = fill.min.max(lost.position());
                let min = fill.min;
                if fill
                    .arrived
                    .take_if(|(position, _)| *position < min)
                    .is_some()
                {
                    fill.ask = Retry::new(now);
                }
            }
        }
    }

    /// Brings the fills that have arrived into the view, as soon as it has reached their position.
    fn cover_arrived(&mut self) {
        let here = self.view.position();
        let ready: Vec<_> = self
            .fills
            .iter()
            .filter(|(_, fill)| matches!(&fill.arrived, Some((at, _)) if *at <= here))
            .map(|(name, _)| name.clone())
            .collect();
        for object_type in ready {
            let Some(Fill {
                arrived: Some((at, tuples)),
                ..
            }) = self.fills.remove(&object_type)
            else {
                continue;
            };
            let tuples = tuples.into_iter();
            let mut held: Held = tuples.map(|tuple| (tuple.key, tuple.condition)).collect();
            for set in self.recent.after(at) {
                replay(&mut held, set, &object_type);
            }
            self.view = self.view.cover(&object_type, held);
            self.changed = true;
        }
        if self.fills.is_empty() {
            self.recent = Aside::default();
        }
    }
}

/// The tiers that a change set leaves in force, if it says so.
fn assigned(set: &ChangeSet) -> Option<&Tiers> {
    set.changes.iter().rev().find_map(|change| match change {
        Change::TiersAssigned(tiers) => Some(tiers),
        _ => None,
    })
}

/// Tuples, with their conditions.
type Held = BTreeMap<TupleKey, Option<TupleCondition>>;

/// What a change set did to the tuples of one type.
fn replay(held: &mut Held, set: &ChangeSet, object_type: &str) {
    for change in &set.changes {
        match change {
            Change::TupleWritten(tuple) if tuple.key.object.object_type() == object_type => {
                held.insert(tuple.key.clone(), tuple.condition.clone());
            }
            Change::TupleDeleted(key) => {
                held.remove(key);
            }
            _ => {}
        }
    }
}
