//! Ways through a recursion that lead to one set only.
//!
//! Over a datastore a recursion is read in rounds, and each round walks it from where it begins. But who is in a set that has
//! nothing of its own, and leads to one other set and else in vain, is who is in that other one. What a round has found out
//! that way stays true in the next ones, since facts only grow; so they go on where it ended. Without it a chain would take
//! time that grows with the square of its length.
//!
//! A cycle through sets that are left out is one through the set they lead to, so it is met there.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::facts::SetKey;
use crate::symbols::TypeId;

/// Sets that lead to one other set only.
#[derive(Default)]
pub(crate) struct Shortcuts(HashMap<SetKey, Shortcut, FixedState>);

/// Where a set leads, found with `left` steps to go: it is good for as many, so that the limit strikes where it would.
#[derive(Clone, Copy)]
pub(crate) struct Shortcut {
    pub(crate) to: (SetKey, TypeId),
    pub(crate) left: u32,
    /// The fewest steps that were left anywhere in what it leaves out.
    pub(crate) fewest_left: u32,
}

impl Shortcuts {
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn add(&mut self, from: SetKey, shortcut: Shortcut) {
        self.0.insert(from, shortcut);
    }

    /// The furthest that one leads from a set with `left` steps to go, if it leads anywhere.
    pub(crate) fn furthest(&mut self, from: SetKey, left: u32) -> Option<Shortcut> {
        let mut furthest = self.get(from, left)?;
        // As many as there are at most, though they lead in no circle: only what may still be true is left out.
        for _ in 0..self.0.len() {
            let Some(next) = self.get(furthest.to.0, left) else {
                break;
            };
            furthest.to = next.to;
            furthest.fewest_left = furthest.fewest_left.min(next.fewest_left);
        }
        // All on the way lead there from now on.
        let mut at = from;
        while let Some(next) = self.get(at, left)
            && next.to != furthest.to
        {
            self.0.insert(at, furthest);
            at = next.to.0;
        }
        Some(furthest)
    }

    fn get(&self, from: SetKey, left: u32) -> Option<Shortcut> {
        self.0.get(&from).copied().filter(|way| way.left == left)
    }
}
