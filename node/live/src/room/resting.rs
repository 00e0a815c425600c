//! Which subscriptions rest on what.

use std::collections::{HashMap, HashSet};

use crate::outbox::Sub;
use crate::ports::Rests;

/// By what changes name, the subscriptions that rest on it.
#[derive(Default)]
pub(super) struct Resting {
    /// On a set or a type.
    on: HashMap<u64, HashSet<Sub>>,
    on_anything: HashSet<Sub>,
}

impl Resting {
    /// Those that a change of these sets and types may end.
    pub(super) fn on<'a>(&'a self, hashes: &'a [u64]) -> impl Iterator<Item = Sub> + 'a {
        let resting = hashes.iter().filter_map(|hash| self.on.get(hash));
        resting.flatten().chain(&self.on_anything).copied()
    }

    pub(super) fn add(&mut self, sub: Sub, rests: &Rests) {
        match rests {
            Rests::On(hashes) => {
                for hash in hashes {
                    self.on.entry(*hash).or_default().insert(sub);
                }
            }
            Rests::OnAnything => {
                self.on_anything.insert(sub);
            }
            Rests::Elsewhere => {}
        }
    }

    pub(super) fn remove(&mut self, sub: Sub, rests: &Rests) {
        match rests {
            Rests::On(hashes) => {
                for hash in hashes {
                    if let Some(subs) = self.on.get_mut(hash) {
                        subs.remove(&sub);
                        if subs.is_empty() {
                            self.on.remove(hash);
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
