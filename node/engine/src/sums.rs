//! What the branches and tuples of a set come to together.

use crate::memory::Found;
use crate::value::Value;

/// Whether a tuple counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holds {
    Yes,
    No,
    /// Its condition has no answer.
    Unclear,
    /// Neither has the expression that it brings.
    InlineUnclear,
}

impl Holds {
    pub(crate) fn value(self) -> Value {
        match self {
            Self::Yes => Value::TRUE,
            Self::No => Value::FALSE,
            Self::Unclear | Self::InlineUnclear => Value::ERROR,
        }
    }
}

/// What the conditions on the tuples of one set came to. As upstream: one without an answer is an error only where no tuple
/// of the set counts, an inline one in any case.
#[derive(Default)]
pub(crate) struct Conditions {
    counts: bool,
    unclear: bool,
    inline_unclear: bool,
}

impl Conditions {
    /// Whether the tuple counts.
    pub(crate) fn note(&mut self, holds: Holds) -> bool {
        self.counts |= holds == Holds::Yes;
        self.unclear |= holds == Holds::Unclear;
        self.inline_unclear |= holds == Holds::InlineUnclear;
        holds == Holds::Yes
    }

    pub(crate) fn settle(self, any: &mut Sum, left: u32) {
        if self.inline_unclear || (self.unclear && !self.counts) {
            any.add(Found::plain(Value::ERROR, left));
        }
    }
}

/// A union or intersection under way.
pub(crate) struct Sum {
    pub(crate) found: Found,
    union: bool,
}

impl Sum {
    pub(crate) fn union(left: u32) -> Self {
        Self {
            found: Found::plain(Value::FALSE, left),
            union: true,
        }
    }

    pub(crate) fn intersection(left: u32) -> Self {
        Self {
            found: Found::plain(Value::TRUE, left),
            union: false,
        }
    }

    /// Adds a branch; whether no other branch can change the value any more.
    pub(crate) fn add(&mut self, branch: Found) -> bool {
        let value = if self.union {
            self.found.value.or(branch.value)
        } else {
            self.found.value.and(branch.value)
        };
        self.found = self.found.with(value, branch);
        value
            == if self.union {
                Value::TRUE
            } else {
                Value::FALSE
            }
    }
}
