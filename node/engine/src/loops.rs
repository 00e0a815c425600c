//! A walk over a graph that finds what leads to one another (Tarjan's algorithm).
//!
//! Its stack is its own, so that long chains do not run off the thread's. What it walks over, and what it finds out about
//! each, is the caller's. While one is looked at, before it is entered, another walk may be made on top of this one, as long
//! as it never comes to what is open below.

use std::hash::Hash;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// A walk under way over keys `K`, with a value `V` of each on the way to where it stands.
pub(crate) struct Walk<K, V> {
    /// Entered, and not left yet together with all that leads back to it.
    open: Vec<K>,
    /// Where each of these stands there.
    places: HashMap<K, usize, FixedState>,
    way: Vec<Step<V>>,
    /// Where those on the way lead, those of the last one on top.
    ahead: Vec<K>,
}

struct Step<V> {
    /// Its place among the open ones.
    place: usize,
    /// The lowest place that it leads back to.
    back: usize,
    /// Where its own part of `ahead` begins, and what of it comes next.
    first: usize,
    next: usize,
    value: V,
}

impl<K, V> Default for Walk<K, V> {
    fn default() -> Self {
        Self {
            open: Vec::new(),
            places: HashMap::default(),
            way: Vec::new(),
            ahead: Vec::new(),
        }
    }
}

impl<K: Copy + Eq + Hash, V> Walk<K, V> {
    /// How many are on the way to where it stands.
    pub(crate) fn len(&self) -> usize {
        self.way.len()
    }

    /// Where the next one's part of what lies ahead begins.
    pub(crate) fn mark(&self) -> usize {
        self.ahead.len()
    }

    /// Notes that the one to be entered next leads to `key`.
    pub(crate) fn lead(&mut self, key: K) {
        self.ahead.push(key);
    }

    /// Enters one that leads where was noted since `mark`.
    pub(crate) fn enter(&mut self, key: K, mark: usize, value: V) {
        let place = self.open.len();
        self.open.push(key);
        self.places.insert(key, place);
        self.way.push(Step {
            place,
            back: place,
            first: mark,
            next: mark,
            value,
        });
    }

    /// The value of the one entered last.
    pub(crate) fn value(&mut self) -> Option<&mut V> {
        self.way.last_mut().map(|step| &mut step.value)
    }

    /// The one entered last.
    pub(crate) fn last(&self) -> Option<K> {
        let step = self.way.last()?;
        self.open.get(step.place).copied()
    }

    /// Where the one entered last leads besides.
    pub(crate) fn next(&mut self) -> Option<K> {
        let step = self.way.last_mut()?;
        let key = self.ahead.get(step.next).copied()?;
        step.next += 1;
        Some(key)
    }

    /// Whether it leads back to `key`.
    pub(crate) fn closes(&mut self, key: K) -> bool {
        let Some(place) = self.places.get(&key).copied() else {
            return false;
        };
        if let Some(step) = self.way.last_mut() {
            step.back = step.back.min(place);
        }
        true
    }

    /// Leaves the one entered last: its value. If it leads no further back than to itself, `each` is told of all that lead to
    /// one another with it.
    pub(crate) fn leave(&mut self, mut each: impl FnMut(K)) -> Option<V> {
        let step = self.way.pop()?;
        self.ahead.truncate(step.first);
        if let Some(below) = self.way.last_mut() {
            below.back = below.back.min(step.back);
        }
        if step.back == step.place {
            for key in self.open.drain(step.place..) {
                self.places.remove(&key);
                each(key);
            }
        }
        Some(step.value)
    }

    /// Gives up the walk down to where `len` were on the way; `each` is told of those that are.
    pub(crate) fn give_up(&mut self, len: usize, mut each: impl FnMut(K)) {
        let Some(lowest) = self.way.get(len).map(|step| (step.place, step.first)) else {
            return;
        };
        for step in self.way.drain(len..) {
            if let Some(key) = self.open.get(step.place) {
                each(*key);
            }
        }
        let (place, first) = lowest;
        for key in self.open.drain(place..) {
            self.places.remove(&key);
        }
        self.ahead.truncate(first);
    }
}
