//! A store of which nothing is held yet.

use std::time::Duration;

use meridian_model::change::ChangeSet;
use meridian_model::ids::Position;

use super::Limits;
use crate::aside::Aside;
use crate::retry::Retry;

/// A store whose head was asked for.
#[derive(Debug)]
pub(super) struct Loading {
    /// As far as the head must be at least.
    pub(super) min: Position,
    /// The latest position known to exist.
    pub(super) known: Position,
    /// The newest ticket of an ask for positions when `known` last rose: the answer to a later one may lower both.
    risen: u64,
    pub(super) ask: Retry,
    pub(super) aside: Aside,
}

impl Loading {
    pub(super) fn new(min: Position, ticket: u64, now: Duration) -> Self {
        Self {
            min,
            known: min,
            risen: ticket,
            ask: Retry::new(now),
            aside: Aside::default(),
        }
    }

    /// See [`super::Replica::learn`].
    pub(super) fn learn(&mut self, position: Position, ticket: u64) {
        if position > self.known {
            (self.known, self.risen) = (position, ticket);
        }
    }

    /// See [`super::Replica::stands_at`].
    pub(super) fn stands_at(&mut self, position: Position, ticket: u64) {
        if ticket > self.risen {
            (self.min, self.known) = (self.min.min(position), position);
            self.aside.drop_after(position.revision);
        }
    }

    pub(super) fn set_aside(&mut self, set: ChangeSet, ticket: u64, limits: &Limits) {
        self.learn(set.position(), ticket);
        self.aside.insert(set);
        self.aside.keep_nearest(limits);
    }
}
