//! The sets of a recursion, evaluated together ([`crate::recursion`]).

use super::Evaluation;
use crate::facts::{Facts, SetKey};
use crate::memory::Found;
use crate::program::Relation;
use crate::sums::Sum;
use crate::symbols::TypeId;
use crate::value::Value;

impl<'a, F: Facts> Evaluation<'a, '_, F> {
    /// The value of a set of a recursion, with `left` steps to go.
    pub(super) fn recursion(
        &mut self,
        set: (SetKey, TypeId),
        definition: &'a Relation,
        left: u32,
    ) -> Found {
        let below = self.scratch.members.len();
        self.enter(set, definition, left);
        loop {
            let of = self.scratch.members.value().map(|sum| sum.found);
            let found = of.unwrap_or(Found::plain(Value::FALSE, left));
            if self.meter.stopped.is_some() {
                self.scratch.members.give_up(below, |_| ());
                return Found::plain(Value::UNKNOWN, left);
            }
            if found.value == Value::TRUE {
                // All on the way lead here.
                let (members, memory) = (&mut self.scratch.members, &mut self.scratch.memory);
                members.give_up(below, |(set, _)| memory.keep(set, found, left));
                return found;
            }
            let Some(next) = self.scratch.members.next() else {
                let (members, memory) = (&mut self.scratch.members, &mut self.scratch.memory);
                members.leave(|(set, _)| memory.keep(set, found, left));
                if members.len() == below {
                    return found;
                }
                self.add(found);
                continue;
            };
            if self.scratch.members.closes(next) {
                self.add(Found::plain(Value::CYCLE, left));
                continue;
            }
            match self.begin(next.0, next.1, left) {
                Ok(definition) => self.enter(next, definition, left),
                Err(found) => self.add(found),
            }
        }
    }

    /// Enters a set with what it has of its own, that is without the others of its recursion.
    fn enter(&mut self, (set, object_type): (SetKey, TypeId), definition: &Relation, left: u32) {
        let mark = self.scratch.members.mark();
        let mut sum = Sum::union(left);
        sum.add(self.rewrite(&definition.rewrite, definition, object_type, set, left));
        self.scratch.members.enter((set, object_type), mark, sum);
    }

    fn add(&mut self, found: Found) {
        if let Some(sum) = self.scratch.members.value() {
            sum.add(found);
        }
    }
}
