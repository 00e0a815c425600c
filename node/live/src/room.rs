//! The subscriptions of one store, what they rest on, and what was said lately.
//!
//! Everything of a store happens under one lock, in one order: a record being matched, a subscription being opened, a change
//! putting permissions in doubt. So a record is matched before a change or held because of it, never in between.

mod resting;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_model::Position;
use serde_json::{Map, Value};

use crate::frames::{Filter, Frame, Reason, Told};
use crate::history::{History, Kept, fields};
use crate::hub::Touched;
use crate::outbox::{Addressed, End, Given, Outbox, Pushed, Sub};
use crate::ports::{Decided, Question, Rests};
use crate::showing::Showing;
use resting::Resting;

/// A subscription.
pub(crate) struct Subscription {
    /// What the client calls it.
    pub(crate) id: Arc<str>,
    pub(crate) object: Arc<str>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) filter: Option<Arc<Filter>>,
    /// What was asked of the authority; `None` where the token itself allows it.
    pub(crate) question: Option<Question>,
    /// With which token it is asked.
    pub(crate) showing: Arc<Showing>,
}

impl Subscription {
    /// Whether its filter lets a record through.
    pub(crate) fn wants(&self, kept: &Kept) -> bool {
        let filter = self.filter.as_ref();
        filter.is_none_or(|filter| filter.lets_through(&fields(&kept.frame)))
    }
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
    conflates: bool,
}

/// A question that is under way, and what was touched meanwhile.
pub(crate) type Ticket = u64;

/// A permission to be checked again.
pub(crate) struct Due {
    pub(crate) sub: Sub,
    pub(crate) question: Question,
    /// The position that it is to be decided at, or later.
    pub(crate) position: Position,
}

/// What is noted while a question is under way.
struct Noted {
    /// Up to where changes were told before: what is decided of an earlier position may have missed one.
    from: Position,
    touched: Vec<(Position, Arc<Touched>)>,
}

impl Noted {
    fn is_before(&self, decided: &Decided) -> bool {
        decided.rests != Rests::Elsewhere && decided.position < self.from
    }

    fn touched_since(&self, decided: &Decided) -> Option<Position> {
        let ends = |(upto, touched): &(Position, Arc<Touched>)| {
            touched.ends(*upto, decided.position, &decided.rests)
        };
        self.touched.iter().filter_map(ends).max()
    }
}

/// What became of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is none any longer.
    Gone,
    /// It goes on; its records were held so long.
    GoesOn(Option<Duration>),
    /// Something it rests on changed meanwhile.
    StillInDoubt,
    /// It has ended.
    Ended(Reason),
}

pub(crate) struct Room {
    subs: HashMap<Sub, Held>,
    members: HashMap<Arc<str>, Vec<Member>>,
    resting: Resting,
    doubted: HashSet<Sub>,
    /// Those that somebody can be asked about, longest unchecked first.
    by_age: BTreeSet<(Instant, Sub)>,
    tickets: HashMap<Ticket, Noted>,
    /// Up to where changes of the store were told.
    told: Position,
    pub(crate) history: History,
    /// Whether somebody is at the doubted ones.
    pub(crate) is_reviewed: bool,
    /// Whether somebody is at the old ones.
    pub(crate) is_renewed: bool,
}

impl Room {
    pub(crate) fn new(history: History) -> Self {
        Self {
            subs: HashMap::new(),
            members: HashMap::new(),
            resting: Resting::default(),
            doubted: HashSet::new(),
            by_age: BTreeSet::new(),
            tickets: HashMap::new(),
            told: Position::default(),
            history,
            is_reviewed: false,
            is_renewed: false,
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

    /// Matches a record of this number, and keeps it. Returns for how many clients it took the place of another.
    pub(crate) fn publish(&mut self, kept: Kept, number: u64) -> u64 {
        let mut merged = 0;
        if let Some(object) = kept.names.first() {
            let record = Addressed {
                frame: &kept.frame,
                names: &kept.names,
                object,
                number,
            };
            let mut waits = Vec::new();
            for member in self.matched(&kept) {
                match member.outbox.push(member.sub, &record) {
                    Pushed::Waits => waits.push(&member.outbox),
                    Pushed::Merged => merged += 1,
                    Pushed::Repeats | Pushed::Overflowed | Pushed::Unwanted => {}
                }
            }
            for outbox in waits {
                outbox.release(number);
            }
        }
        self.history.add(Arc::new(kept));
        merged
    }

    /// Who wants a record. Those that conflate come last: a client that gets it anyway gets it once.
    fn matched(&self, kept: &Kept) -> Vec<&Member> {
        let mut read = None::<Map<String, Value>>;
        let (mut all, mut conflating) = (Vec::new(), Vec::new());
        let names = kept.names.iter().filter_map(|name| self.members.get(name));
        for member in names.flatten() {
            let wants = member.filter.as_ref().is_none_or(|filter| {
                filter.lets_through(read.get_or_insert_with(|| fields(&kept.frame)))
            });
            match (wants, member.conflates) {
                (false, _) => {}
                (true, false) => all.push(member),
                (true, true) => conflating.push(member),
            }
        }
        all.append(&mut conflating);
        all
    }

    /// Up to where changes of the store were told, or need not be.
    pub(crate) fn told(&self) -> Position {
        self.told
    }

    /// Takes note that changes up to a position were told, or need not be.
    pub(crate) fn tell(&mut self, upto: Position) {
        self.told = self.told.max(upto);
    }

    /// Begins to note what is touched from now on.
    pub(crate) fn begin(&mut self, ticket: Ticket) {
        let noted = Noted {
            from: self.told,
            touched: Vec::new(),
        };
        self.tickets.insert(ticket, noted);
    }

    /// Takes note that only changes after `from` will be told. Returns the position to decide at, or later.
    pub(crate) fn follows(&mut self, ticket: Ticket, from: Position) -> Position {
        self.tell(from);
        if let Some(noted) = self.tickets.get_mut(&ticket) {
            noted.from = noted.from.max(from);
        }
        self.told
    }

    pub(crate) fn finish(&mut self, ticket: Ticket) {
        self.tickets.remove(&ticket);
    }

    /// Where a decision must be made again, at this position or later: it is older than the changes that the ticket notes, so
    /// that it may have missed one, or something that it rests on was touched after it.
    pub(crate) fn outdated(&self, ticket: Ticket, decided: &Decided) -> Option<Position> {
        let noted = self.tickets.get(&ticket)?;
        if noted.is_before(decided) {
            return Some(self.told);
        }
        noted.touched_since(decided)
    }

    /// Opens a subscription: tells `told` and then `records`, in front of all that comes from now on. Whether its client still
    /// wanted it.
    pub(crate) fn open(
        &mut self,
        sub: Sub,
        subscription: Subscription,
        decided: Decided,
        (told, records): (Frame, Vec<Given>),
    ) -> bool {
        let outbox = &subscription.outbox;
        if !outbox.open(sub, told, records) {
            return false;
        }
        let member = Member {
            sub,
            outbox: Arc::clone(outbox),
            filter: subscription.filter.clone(),
            conflates: outbox.conflates(sub),
        };
        let object = Arc::clone(&subscription.object);
        self.members.entry(object).or_default().push(member);
        self.resting.add(sub, &decided.rests);
        let checked = Instant::now();
        if subscription.question.is_some() {
            self.by_age.insert((checked, sub));
        }
        let held = Held {
            subscription,
            rests: decided.rests,
            position: decided.position,
            doubt: None,
            checked,
        };
        self.subs.insert(sub, held);
        true
    }

    /// Ends a subscription, which its client may be told.
    pub(crate) fn leave(&mut self, sub: Sub, reason: Option<Reason>) -> bool {
        let Some(held) = self.subs.remove(&sub) else {
            return false;
        };
        self.resting.remove(sub, &held.rests);
        self.doubted.remove(&sub);
        self.by_age.remove(&(held.checked, sub));
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
        for noted in self.tickets.values_mut() {
            noted.touched.push((upto, Arc::clone(touched)));
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
                    let subs = self.resting.on(hashes);
                    doubted.extend(subs.map(|sub| (sub, *position)));
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

    /// All that are in doubt.
    pub(crate) fn doubted(&self) -> Vec<Due> {
        self.doubted
            .iter()
            .filter_map(|sub| self.due(*sub))
            .collect()
    }

    /// Those that were not checked since `before`, the oldest first: at least `least` where there are so many, or this part
    /// of all.
    pub(crate) fn old(&self, before: Instant, least: usize, part: usize) -> Vec<Due> {
        let most = least.max(self.by_age.len() / part.max(1));
        let old = self.by_age.iter().take_while(|(at, _)| *at < before);
        // Those in doubt are asked about anyway.
        let old = old.filter(|(_, sub)| !self.doubted.contains(sub));
        old.filter_map(|(_, sub)| self.due(*sub))
            .take(most)
            .collect()
    }

    fn due(&self, sub: Sub) -> Option<Due> {
        let held = self.subs.get(&sub)?;
        Some(Due {
            sub,
            question: Question {
                token: held.subscription.showing.get(),
                ..held.subscription.question.clone()?
            },
            position: held
                .doubt
                .map_or(held.position, |doubt| doubt.position.max(held.position)),
        })
    }

    /// Notes when a subscription was last checked.
    fn checked(&mut self, sub: Sub, at: Instant) {
        if let Some(held) = self.subs.get_mut(&sub) {
            let before = std::mem::replace(&mut held.checked, at);
            if self.by_age.remove(&(before, sub)) {
                self.by_age.insert((at, sub));
            }
        }
    }

    /// Ends all that have been in doubt for longer than `grace`: returns how many.
    pub(crate) fn end_doubted(&mut self, grace: Duration) -> usize {
        let is_late = |sub: &&Sub| {
            let doubt = self.subs.get(sub).and_then(|held| held.doubt);
            doubt.is_some_and(|doubt| doubt.since.elapsed() >= grace)
        };
        let late: Vec<Sub> = self.doubted.iter().filter(is_late).copied().collect();
        let ended = late
            .into_iter()
            .filter(|sub| self.leave(*sub, Some(Reason::AuthorityUnreachable)));
        ended.count()
    }

    /// Takes in what was decided of a subscription anew; `None` where that is older than what is known, and says nothing.
    pub(crate) fn decided(
        &mut self,
        sub: Sub,
        decided: Decided,
        ticket: Ticket,
    ) -> Option<Outcome> {
        let noted = self.tickets.get(&ticket);
        let later = noted.and_then(|noted| noted.touched_since(&decided));
        let Some(held) = self.subs.get(&sub) else {
            return Some(Outcome::Gone);
        };
        let is_older = decided.rests != Rests::Elsewhere && decided.position < held.position;
        if is_older || noted.is_some_and(|noted| noted.is_before(&decided)) {
            return None;
        }
        if !decided.allowed {
            return Some(self.ends(sub, Reason::Revoked));
        }
        let now = Instant::now();
        self.checked(sub, now);
        let held = self.subs.get_mut(&sub)?;
        let before = std::mem::replace(&mut held.rests, decided.rests.clone());
        held.position = held.position.max(decided.position);
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
        self.resting.remove(sub, &before);
        self.resting.add(sub, &decided.rests);
        Some(match doubt {
            Some(_) => Outcome::StillInDoubt,
            None => Outcome::GoesOn(was.map(|was| was.since.elapsed())),
        })
    }

    /// Nobody can say what holds of a subscription: one in doubt waits, another is asked about again as if it had been checked
    /// at `checked`.
    pub(crate) fn undecided(&mut self, sub: Sub, checked: Instant) -> Outcome {
        let Some(held) = self.subs.get(&sub) else {
            return Outcome::Gone;
        };
        if held.doubt.is_some() {
            return Outcome::StillInDoubt;
        }
        self.checked(sub, checked);
        Outcome::GoesOn(None)
    }

    /// Ends a subscription for a reason.
    pub(crate) fn ends(&mut self, sub: Sub, reason: Reason) -> Outcome {
        if self.leave(sub, Some(reason)) {
            Outcome::Ended(reason)
        } else {
            Outcome::Gone
        }
    }
}
