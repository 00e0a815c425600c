//! The subscriptions of one store, what they rest on, and what was said lately.
//!
//! Everything of a store happens under one lock, in one order: a record being matched, a subscription being opened, a change
//! putting permissions in doubt. So a record is matched before a change or held because of it, never in between.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use meridian_model::Position;
use serde_json::{Map, Value};

use crate::frames::{Filter, Frame, Reason, Told};
use crate::history::{History, Kept, fields};
use crate::hub::Touched;
use crate::outbox::{Addressed, End, Missed, Outbox, Pushed, Sub};
use crate::ports::{Decided, Question, Rests};

/// A subscription.
pub(crate) struct Subscription {
    /// What the client calls it.
    pub(crate) id: Arc<str>,
    pub(crate) object: Arc<str>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) filter: Option<Arc<Filter>>,
    /// What was asked of the authority; `None` where the token itself allows it.
    pub(crate) question: Option<Question>,
}

struct Held {
    subscription: Subscription,
    rests: Rests,
    /// The position that the permission is known to hold at.
    position: Position,
    doubt: Option<Doubt>,
    checked: Instant,
}

/// A permission that a change has put in doubt.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    /// What is decided at this position or later ends it.
    position: Position,
    since: Instant,
}

/// One of those who get an object's records.
struct Member {
    sub: Sub,
    outbox: Arc<Outbox>,
    filter: Option<Arc<Filter>>,
}

/// A question that is under way, and what was touched meanwhile.
pub(crate) type Ticket = u64;

/// A permission to be checked again.
pub(crate) struct Due {
    pub(crate) sub: Sub,
    pub(crate) question: Question,
    /// Decided at this position or later.
    pub(crate) at_least: Option<Position>,
}

/// What became of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is none any longer.
    Gone,
    /// It goes on; its records were held so long.
    GoesOn(Option<std::time::Duration>),
    /// Something it rests on changed meanwhile.
    StillInDoubt,
    /// It has ended.
    Ended(Reason),
}

pub(crate) struct Room {
    subs: HashMap<Sub, Held>,
    members: HashMap<Arc<str>, Vec<Member>>,
    /// Who rests on a set or a type.
    resting: HashMap<u64, HashSet<Sub>>,
    on_anything: HashSet<Sub>,
    doubted: HashSet<Sub>,
    tickets: HashMap<Ticket, Vec<(Position, Arc<Touched>)>>,
    pub(crate) history: History,
    number: u64,
    /// Whether somebody is at the doubted ones.
    pub(crate) is_reviewed: bool,
}

impl Room {
    pub(crate) fn new(history: History) -> Self {
        Self {
            subs: HashMap::new(),
            members: HashMap::new(),
            resting: HashMap::new(),
            on_anything: HashSet::new(),
            doubted: HashSet::new(),
            tickets: HashMap::new(),
            history,
            number: 0,
            is_reviewed: false,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.subs.is_empty() && self.tickets.is_empty()
    }

    pub(crate) fn has_doubts(&self) -> bool {
        !self.doubted.is_empty()
    }

    pub(crate) fn doubts(&self) -> usize {
        self.doubted.len()
    }

    /// Closes every client as one that was too slow: it has missed something.
    pub(crate) fn disrupt(&self) {
        for held in self.subs.values() {
            held.subscription.outbox.end(End::Lagged(0));
        }
    }

    /// Matches a record, and keeps it. Returns for how many clients it took the place of another.
    pub(crate) fn publish(&mut self, kept: Kept) -> u64 {
        self.number += 1;
        let mut merged = 0;
        let mut read = None::<Map<String, Value>>;
        if let Some(object) = kept.names.first() {
            let record = Addressed {
                frame: &kept.frame,
                object,
                number: self.number,
                may_repeat: kept.names.len() > 1,
            };
            for name in &kept.names {
                for member in self.members.get(name).into_iter().flatten() {
                    if let Some(filter) = &member.filter
                        && !filter.lets_through(read.get_or_insert_with(|| fields(&kept.frame)))
                    {
                        continue;
                    }
                    let pushed = member.outbox.push(member.sub, &record);
                    merged += u64::from(pushed == Pushed::Merged);
                }
            }
        }
        self.history.add(Arc::new(kept));
        merged
    }

    /// Begins to note what is touched from now on.
    pub(crate) fn begin(&mut self, ticket: Ticket) {
        self.tickets.insert(ticket, Vec::new());
    }

    pub(crate) fn finish(&mut self, ticket: Ticket) {
        self.tickets.remove(&ticket);
    }

    /// Where something that a decision rests on was touched after it, since the ticket's beginning.
    pub(crate) fn touched_since(&self, ticket: Ticket, decided: &Decided) -> Option<Position> {
        let touched = self.tickets.get(&ticket)?;
        let ends = |(upto, touched): &(Position, Arc<Touched>)| {
            touched.ends(*upto, decided.position, &decided.rests)
        };
        touched.iter().filter_map(ends).max()
    }

    /// Opens a subscription: tells `told` and then `records`, in front of all that comes from now on. Whether its client still
    /// wanted it.
    pub(crate) fn open(
        &mut self,
        sub: Sub,
        subscription: Subscription,
        decided: Decided,
        (told, records): (Frame, Vec<Missed>),
    ) -> bool {
        let outbox = &subscription.outbox;
        if !outbox.open(sub, told, records) {
            return false;
        }
        let member = Member {
            sub,
            outbox: Arc::clone(outbox),
            filter: subscription.filter.clone(),
        };
        let object = Arc::clone(&subscription.object);
        self.members.entry(object).or_default().push(member);
        self.rest(sub, &decided.rests);
        let held = Held {
            subscription,
            rests: decided.rests,
            position: decided.position,
            doubt: None,
            checked: Instant::now(),
        };
        self.subs.insert(sub, held);
        true
    }

    /// Has a subscription be asked about with another token.
    pub(crate) fn show(&mut self, sub: Sub, token: &Arc<str>) {
        let held = self.subs.get_mut(&sub);
        if let Some(question) = held.and_then(|held| held.subscription.question.as_mut()) {
            question.token = Some(Arc::clone(token));
        }
    }

    /// Ends a subscription, which its client may be told.
    pub(crate) fn leave(&mut self, sub: Sub, reason: Option<Reason>) -> bool {
        let Some(held) = self.subs.remove(&sub) else {
            return false;
        };
        self.unrest(sub, &held.rests);
        self.doubted.remove(&sub);
        let subscription = held.subscription;
        if let Some(members) = self.members.get_mut(&subscription.object) {
            if let Some(at) = members.iter().position(|member| member.sub == sub) {
                members.swap_remove(at);
            }
            if members.is_empty() {
                self.members.remove(&subscription.object);
            }
        }
        if let Some(reason) = reason {
            let told = Told::Unsubscribed {
                id: &subscription.id,
                object: &subscription.object,
                reason,
            };
            subscription.outbox.close(sub, told.frame());
        }
        true
    }

    /// Puts in doubt what rests on what was touched.
    pub(crate) fn touch(&mut self, upto: Position, touched: &Arc<Touched>) {
        for ticket in self.tickets.values_mut() {
            ticket.push((upto, Arc::clone(touched)));
        }
        let mut doubted = Vec::new();
        match &**touched {
            Touched::All => {
                let asked = |held: &Held| held.rests != Rests::Elsewhere && held.position < upto;
                let subs = self.subs.iter().filter(|(_, held)| asked(held));
                doubted.extend(subs.map(|(sub, _)| (*sub, upto)));
            }
            Touched::Sets(revisions) => {
                for (position, hashes) in revisions {
                    let resting = hashes.iter().filter_map(|hash| self.resting.get(hash));
                    let subs = resting.flatten().chain(&self.on_anything);
                    doubted.extend(subs.map(|sub| (*sub, *position)));
                }
            }
        }
        let since = Instant::now();
        for (sub, position) in doubted {
            if let Some(held) = self
                .subs
                .get_mut(&sub)
                .filter(|held| held.position < position)
            {
                let doubt = held.doubt.get_or_insert(Doubt { position, since });
                doubt.position = doubt.position.max(position);
                held.subscription.outbox.pause(sub);
                self.doubted.insert(sub);
            }
        }
    }

    /// All that are in doubt; or, where `periodic` says before when, so many that were not checked since.
    pub(crate) fn due(&self, periodic: Option<(Instant, usize)>) -> Vec<Due> {
        let due = |(sub, held): (&Sub, &Held)| {
            Some(Due {
                sub: *sub,
                question: held.subscription.question.clone()?,
                at_least: held.doubt.map(|doubt| doubt.position),
            })
        };
        match periodic {
            None => {
                let held = |sub: &Sub| self.subs.get_key_value(sub);
                self.doubted
                    .iter()
                    .filter_map(held)
                    .filter_map(due)
                    .collect()
            }
            Some((before, most)) => {
                let old = |(_, held): &(&Sub, &Held)| held.doubt.is_none() && held.checked < before;
                self.subs
                    .iter()
                    .filter(old)
                    .filter_map(due)
                    .take(most)
                    .collect()
            }
        }
    }

    /// Takes in what was decided of a subscription anew.
    pub(crate) fn decided(&mut self, sub: Sub, decided: Decided, ticket: Ticket) -> Outcome {
        if !decided.allowed {
            return self.ends(sub, Reason::Revoked);
        }
        let later = self.touched_since(ticket, &decided);
        let Some(held) = self.subs.get_mut(&sub) else {
            return Outcome::Gone;
        };
        let now = Instant::now();
        let before = std::mem::replace(&mut held.rests, decided.rests.clone());
        held.position = held.position.max(decided.position);
        held.checked = now;
        let open = held.doubt.filter(|doubt| doubt.position > decided.position);
        let doubt = match (open, later) {
            (open, Some(position)) => Some(Doubt {
                position: open.map_or(position, |open| open.position.max(position)),
                since: held.doubt.map_or(now, |doubt| doubt.since),
            }),
            (open, None) => open,
        };
        let was = std::mem::replace(&mut held.doubt, doubt);
        if doubt.is_some() {
            held.subscription.outbox.pause(sub);
            self.doubted.insert(sub);
        } else if was.is_some() {
            held.subscription.outbox.resume(sub);
            self.doubted.remove(&sub);
        }
        self.unrest(sub, &before);
        self.rest(sub, &decided.rests);
        match doubt {
            Some(_) => Outcome::StillInDoubt,
            None => Outcome::GoesOn(was.map(|was| was.since.elapsed())),
        }
    }

    /// Nobody can say what holds of a subscription. One in doubt for longer than `grace` ends; another is asked of again after
    /// `again`.
    pub(crate) fn undecided(
        &mut self,
        sub: Sub,
        grace: std::time::Duration,
        checked: Instant,
    ) -> Outcome {
        let Some(held) = self.subs.get_mut(&sub) else {
            return Outcome::Gone;
        };
        match held.doubt {
            None => {
                held.checked = checked;
                Outcome::GoesOn(None)
            }
            Some(doubt) if doubt.since.elapsed() < grace => Outcome::StillInDoubt,
            Some(_) => self.ends(sub, Reason::AuthorityUnreachable),
        }
    }

    /// Ends a subscription for a reason.
    pub(crate) fn ends(&mut self, sub: Sub, reason: Reason) -> Outcome {
        if self.leave(sub, Some(reason)) {
            Outcome::Ended(reason)
        } else {
            Outcome::Gone
        }
    }

    fn rest(&mut self, sub: Sub, rests: &Rests) {
        match rests {
            Rests::On(hashes) => {
                for hash in hashes {
                    self.resting.entry(*hash).or_default().insert(sub);
                }
            }
            Rests::OnAnything => {
                self.on_anything.insert(sub);
            }
            Rests::Elsewhere => {}
        }
    }

    fn unrest(&mut self, sub: Sub, rests: &Rests) {
        match rests {
            Rests::On(hashes) => {
                for hash in hashes {
                    if let Some(subs) = self.resting.get_mut(hash) {
                        subs.remove(&sub);
                        if subs.is_empty() {
                            self.resting.remove(hash);
                        }
                    }
                }
            }
            Rests::OnAnything => {
                self.on_anything.remove(&sub);
            }
            Rests::Elsewhere => {}
        }
    }
}
