//! The order in which a client gets what waits for it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::{Addressed, End, Given, Sub};
use crate::frames::{Frame, position_of, with_position};

/// What waits, and for which subscriptions.
///
/// While records are held back, each further one has the client's task look for what may go, under the lock that whoever brings
/// records needs. So what may not is put aside, and looked at again only once something has happened that may let it go: each
/// entry costs one look, however many are held.
pub(super) struct Queue {
    /// In front of all others: those that may not go, as everything stands.
    held: VecDeque<Entry>,
    /// What those subscriptions are to that the client would count these for: nothing that it counts for one of them goes past.
    wait: Vec<Arc<str>>,
    /// Those that are to be looked at.
    entries: VecDeque<Entry>,
    /// The records among all of them.
    pub(super) records: usize,
    /// What those count for together.
    pub(super) bytes: usize,
    /// Bytes of what is no record.
    pub(super) told: usize,
    /// Bytes that a record counts for at most.
    largest: usize,
    pub(super) standing: HashMap<Sub, Standing>,
    /// What stands for a conflated entry: the latest record of the object.
    latest: HashMap<(Sub, Arc<str>), Latest>,
    pub(super) ended: Option<End>,
    #[cfg(test)]
    looks: usize,
}

/// A subscription that has its place.
pub(super) struct Standing {
    /// What the client calls it.
    pub(super) id: Arc<str>,
    /// What it is to: clients know by it which records it has got.
    pub(super) object: Arc<str>,
    /// While it is not, its records are held.
    pub(super) is_open: bool,
    pub(super) conflates: bool,
}

struct Latest {
    given: Given,
    /// The position of the first record that waited here, where this is a later one: others may wait between the two.
    position: Option<Box<str>>,
}

struct Entry {
    what: What,
    owner: Sub,
    /// Further subscriptions of the client that want it.
    others: Vec<Sub>,
    number: u64,
}

/// What an entry is.
pub(super) enum What {
    Control(Frame),
    /// Tells of a subscription that is open.
    Opened(Frame),
    /// An answer to a sign of life, and the position up to which everything is in front of it.
    Pong(Option<String>),
    Record(Given),
    Latest(Arc<str>),
}

impl What {
    /// Bytes of what is no record.
    fn told(&self) -> usize {
        match self {
            Self::Control(frame) | Self::Opened(frame) => frame.len(),
            Self::Pong(position) => position.as_ref().map_or(0, String::len),
            Self::Record(_) | Self::Latest(_) => 0,
        }
    }
}

/// What was taken out of a queue.
pub(super) enum Taken {
    Control(Frame),
    /// With its position, unless records are held in front of it.
    Pong(Option<String>),
    Record(Frame),
}

impl Queue {
    pub(super) fn new(largest: usize) -> Self {
        Self {
            held: VecDeque::new(),
            wait: Vec::new(),
            entries: VecDeque::new(),
            records: 0,
            bytes: 0,
            told: 0,
            largest,
            standing: HashMap::new(),
            latest: HashMap::new(),
            ended: None,
            #[cfg(test)]
            looks: 0,
        }
    }

    /// What a record counts for.
    pub(super) fn weight(&self, record: &Frame) -> usize {
        record.len().min(self.largest)
    }

    pub(super) fn len(&self) -> usize {
        self.held.len() + self.entries.len()
    }

    /// Has something wait that is no record.
    pub(super) fn tell(&mut self, what: What) {
        if self.ended.is_none() {
            self.told += what.told();
            self.entries.push_back(Entry::control(what));
        }
    }

    /// Tells of a subscription that is open.
    pub(super) fn tell_opened(&mut self, told: Frame, sub: Sub) {
        if self.ended.is_none() {
            self.told += told.len();
            self.entries.push_back(Entry {
                owner: sub,
                ..Entry::control(What::Opened(told))
            });
        }
    }

    /// Tells something at a place in the queue.
    pub(super) fn tell_at(&mut self, at: usize, told: Frame) {
        self.look_again();
        self.told += told.len();
        self.entries.insert(at, Entry::control(What::Control(told)));
    }

    /// Has a record wait for a subscription.
    pub(super) fn put(&mut self, given: Given, owner: Sub, number: u64) {
        let weight = self.weight(&given.frame);
        self.add(What::Record(given), weight, owner, number);
    }

    /// Has a record wait of which later ones of its object may take the place.
    pub(super) fn put_latest(&mut self, record: &Addressed<'_>, owner: Sub) {
        let weight = self.weight(record.frame);
        let latest = Latest {
            given: record.given(),
            position: None,
        };
        let object = || Arc::clone(record.object);
        self.latest.insert((owner, object()), latest);
        self.add(What::Latest(object()), weight, owner, record.number);
    }

    fn add(&mut self, what: What, weight: usize, owner: Sub, number: u64) {
        self.records += 1;
        self.bytes += weight;
        self.entries.push_back(Entry {
            what,
            owner,
            others: Vec::new(),
            number,
        });
    }

    /// Puts a record in the place of the one of its object that waits for a subscription. Whether one does.
    pub(super) fn merge(&mut self, sub: Sub, record: &Addressed<'_>) -> bool {
        let key = (sub, Arc::clone(record.object));
        let Some(waits) = self.latest.get_mut(&key) else {
            return false;
        };
        let before = std::mem::replace(&mut waits.given, record.given());
        if waits.position.is_none() {
            waits.position = position_of(&before.frame).map(Box::from);
        }
        self.bytes += self.weight(record.frame);
        self.bytes -= self.weight(&before.frame);
        true
    }

    /// Lets a subscription's records go.
    pub(super) fn resume(&mut self, sub: Sub) {
        if let Some(standing) = self.standing.get_mut(&sub) {
            standing.is_open = true;
            self.look_again();
        }
    }

    /// Something has happened that may let go what is held.
    fn look_again(&mut self) {
        if self.held.is_empty() {
            return;
        }
        self.wait.clear();
        self.held.append(&mut self.entries);
        std::mem::swap(&mut self.held, &mut self.entries);
    }

    /// Takes the first entry out that may go, of records up to the number `released`: what comes behind later ones waits for
    /// those.
    pub(super) fn take(&mut self, released: u64) -> Option<Taken> {
        let entry = self.next(released)?;
        self.told -= entry.what.told();
        if self.len() == 0 {
            // Most clients have nothing waiting most of the time.
            (self.held, self.entries) = (VecDeque::new(), VecDeque::new());
        }
        Some(match entry.what {
            What::Control(frame) | What::Opened(frame) => Taken::Control(frame),
            // All that is in front of it is held.
            What::Pong(position) => Taken::Pong(position.filter(|_| self.held.is_empty())),
            What::Record(Given { frame, .. }) => {
                self.lighten(&frame);
                Taken::Record(frame)
            }
            What::Latest(object) => {
                let latest = self.latest.remove(&(entry.owner, object))?;
                self.lighten(&latest.given.frame);
                Taken::Record(self.alone(entry.owner, latest).frame)
            }
        })
    }

    /// A record has gone.
    fn lighten(&mut self, record: &Frame) {
        self.records -= 1;
        self.bytes -= self.weight(record);
    }

    /// The first entry that may go; those in front of it are put aside.
    fn next(&mut self, released: u64) -> Option<Entry> {
        loop {
            #[cfg(test)]
            {
                self.looks += 1;
            }
            let entry = self.entries.pop_front()?;
            if entry.number > released {
                // It is not known yet who wants it.
                self.entries.push_front(entry);
                return None;
            }
            if self.may_go(&entry) {
                return Some(entry);
            }
            self.hold(entry);
        }
    }

    /// Puts an entry aside. Nothing goes past it that the client counts for a subscription that it counts the entry for, also
    /// where that one's filter keeps the entry from it: the client would go back to the entry's older position afterwards.
    fn hold(&mut self, entry: Entry) {
        let names = self.names(&entry);
        let is_counted = |(sub, standing): &(&Sub, &Standing)| {
            **sub == entry.owner || names.contains(&standing.object)
        };
        let counted = self.standing.iter().filter(is_counted);
        let objects = counted.map(|(_, standing)| &standing.object);
        let new = objects.filter(|object| !self.wait.contains(object));
        let new: Vec<_> = new.cloned().collect();
        self.wait.extend(new);
        self.held.push_back(entry);
    }

    /// Whether an entry may go past all that are held.
    fn may_go(&self, entry: &Entry) -> bool {
        let is_open = |sub: Sub| self.standing.get(&sub).is_some_and(|it| it.is_open);
        match entry.what {
            What::Control(_) | What::Pong(_) => true,
            What::Opened(_) => !self.is_named(entry.owner),
            What::Record(_) | What::Latest(_) => {
                entry.subs().any(is_open) && !self.is_told_to_who_waits(entry)
            }
        }
    }

    /// Whether the client counts a record for a subscription that it counts a held one for: unless it is told for which it is,
    /// it does so by names, and knows nothing of who was there when the record came.
    fn is_told_to_who_waits(&self, entry: &Entry) -> bool {
        let mut names = self.names(entry).iter();
        !self.wait.is_empty() && names.any(|name| self.wait.contains(name))
    }

    /// Whether a record that is held names what a subscription is to: once the client knows that this is open, it counts that
    /// record for it.
    fn is_named(&self, sub: Sub) -> bool {
        let Some(standing) = self.standing.get(&sub) else {
            return false;
        };
        let mut held = self.held.iter();
        held.any(|entry| self.names(entry).contains(&standing.object))
    }

    fn names<'a>(&'a self, entry: &'a Entry) -> &'a [Arc<str>] {
        match &entry.what {
            What::Record(given) => &given.names,
            What::Latest(_) => {
                let standing = self.standing.get(&entry.owner);
                standing.map_or(&[], |standing| std::slice::from_ref(&standing.object))
            }
            What::Control(_) | What::Opened(_) | What::Pong(_) => &[],
        }
    }

    /// Whether a record is there already, by another subscription; this one then has it in common.
    pub(super) fn repeats(&mut self, sub: Sub, number: u64) -> bool {
        // Nothing but what the client is told itself can have come behind it; put aside is only what all were offered.
        let mut last = self.entries.iter_mut().rev();
        let waits = last.find(|entry| entry.is_record());
        match waits.filter(|entry| entry.number == number) {
            Some(entry) if matches!(entry.what, What::Record(_)) => {
                entry.others.push(sub);
                true
            }
            _ => false,
        }
    }

    /// Lets no later record take the place of the one of an object that waits for a subscription: one has come behind it that
    /// the subscription has in common with others.
    pub(super) fn settle(&mut self, sub: Sub, object: &Arc<str>) {
        let Some(latest) = self.latest.remove(&(sub, Arc::clone(object))) else {
            return;
        };
        let waits = |entry: &&mut Entry| {
            entry.owner == sub && matches!(&entry.what, What::Latest(of) if of == object)
        };
        let before = self.weight(&latest.given.frame);
        let given = self.alone(sub, latest);
        self.bytes = self.bytes + self.weight(&given.frame) - before;
        let mut all = self.held.iter_mut().chain(&mut self.entries);
        if let Some(entry) = all.find(waits) {
            entry.what = What::Record(given);
        }
    }

    /// The latest record of an object, for the subscription that it waited for and no other of the client's: those had it, or
    /// are to get it in their own place.
    fn alone(&self, sub: Sub, Latest { given, position }: Latest) -> Given {
        let mut frame = given.frame;
        if let Some(position) = position {
            frame = with_position(&frame, &position);
        }
        let mut others = self.standing.iter().filter(|(other, _)| **other != sub);
        let is_of_others = others.any(|(_, standing)| given.names.contains(&standing.object));
        match self.standing.get(&sub) {
            Some(own) if is_of_others => Given::alone(&frame, &own.id, &own.object),
            _ => Given {
                frame,
                names: given.names,
            },
        }
    }

    /// Drops what waits for a subscription alone, and the word that it is open. Returns where the first was that it wanted, or
    /// the end.
    pub(super) fn drop_records_of(&mut self, sub: Sub) -> usize {
        self.look_again();
        let mut entries = std::mem::take(&mut self.entries);
        let (mut kept, mut first) = (0, None);
        entries.retain_mut(|entry| {
            if entry.subs().any(|of| of == sub) {
                // Also where it stays for another: that one may be held.
                first.get_or_insert(kept);
            }
            if entry.is_left_by(sub) {
                kept += 1;
                return true;
            }
            match &entry.what {
                What::Record(given) => self.lighten(&given.frame),
                What::Latest(object) => {
                    if let Some(latest) = self.latest.remove(&(sub, Arc::clone(object))) {
                        self.lighten(&latest.given.frame);
                    }
                }
                What::Control(_) | What::Opened(_) | What::Pong(_) => {
                    self.told -= entry.what.told();
                }
            }
            false
        });
        self.entries = entries;
        first.unwrap_or(kept)
    }

    /// Takes everything out; returns what is neither a record nor would tell of having got one.
    pub(super) fn last_words(&mut self) -> Vec<Frame> {
        self.told = 0;
        self.look_again();
        let waits = std::mem::take(&mut self.entries).into_iter();
        let told = waits.filter_map(|entry| match entry.what {
            What::Control(frame) | What::Opened(frame) => Some(frame),
            What::Pong(_) | What::Record(_) | What::Latest(_) => None,
        });
        told.collect()
    }

    pub(super) fn end(&mut self, end: End) {
        if self.ended.is_none() {
            *self = Self {
                ended: Some(end),
                ..Self::new(self.largest)
            };
        }
    }
}

impl Entry {
    fn control(what: What) -> Self {
        Self {
            what,
            owner: 0,
            others: Vec::new(),
            number: 0,
        }
    }

    /// Whether it stays when a subscription does not want it any longer.
    fn is_left_by(&mut self, sub: Sub) -> bool {
        self.others.retain(|other| *other != sub);
        if self.owner != sub {
            return true;
        }
        let heir = self.others.pop();
        self.owner = heir.unwrap_or_default();
        heir.is_some()
    }

    fn is_record(&self) -> bool {
        matches!(self.what, What::Record(_) | What::Latest(_))
    }

    /// The subscriptions that it belongs to.
    fn subs(&self) -> impl Iterator<Item = Sub> + '_ {
        let is_any = !matches!(self.what, What::Control(_) | What::Pong(_));
        let owner = is_any.then_some(self.owner);
        owner.into_iter().chain(self.others.iter().copied())
    }
}

#[cfg(test)]
mod tests;
