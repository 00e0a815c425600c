//! The sets of a recursion, evaluated together ([`crate::recursion`]).

use super::Evaluation;
use crate::facts::{Facts, SetKey};
use crate::memory::Found;
use crate::program::Relation;
use crate::recursion::{Member, Onward};
use crate::shortcuts::Shortcut;
use crate::symbols::TypeId;
use crate::trace::Trace;
use crate::value::Value;

impl<'a, F: Facts, T: Trace> Evaluation<'a, '_, F, T> {
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
            let of = self.scratch.members.value().map(|member| member.sum.found);
            let found = of.unwrap_or(Found::plain(Value::FALSE, left));
            if self.meter.stopped.is_some() {
                self.scratch.members.give_up(below, |_| ());
                return Found::plain(Value::UNKNOWN, left);
            }
            if found.value == Value::TRUE {
                // All on the way lead here.
                let (members, memory) = (&mut self.scratch.members, &mut self.scratch.memory);
                members.give_up(below, |(set, _)| {
                    memory.keep(set, found, left);
                    self.trace.on_way(set);
                });
                self.trace.arrived();
                return found;
            }
            let Some(mut next) = self.scratch.members.next() else {
                let set = self.leave(found, left);
                if self.scratch.members.len() == below {
                    return found;
                }
                self.add(set, found);
                continue;
            };
            if let Some(shortcut) = self.scratch.memory.shortcuts.furthest(next.0, left) {
                self.add(None, Found::plain(Value::FALSE, shortcut.fewest_left));
                next = shortcut.to;
            }
            if self.scratch.members.closes(next) {
                self.add(Some(next), Found::plain(Value::CYCLE, left));
                continue;
            }
            match self.begin(next.0, next.1, left) {
                Ok(definition) => self.enter(next, definition, left),
                Err(found) => {
                    self.trace.met(next.0, found.value);
                    self.add(Some(next), found);
                }
            }
        }
    }

    /// Enters a set with what it has of its own, that is without the others of its recursion.
    fn enter(&mut self, (set, object_type): (SetKey, TypeId), definition: &Relation, left: u32) {
        let mark = self.scratch.members.mark();
        let own = self.whole(set, object_type, definition, left);
        let member = Member::new(own, left);
        self.scratch.members.enter((set, object_type), mark, member);
    }

    /// Leaves the set entered last, of which `found` came out: which one it was.
    fn leave(&mut self, found: Found, left: u32) -> Option<(SetKey, TypeId)> {
        let (members, memory) = (&mut self.scratch.members, &mut self.scratch.memory);
        let set = members.last();
        let member = members.leave(|(set, _)| {
            memory.keep(set, found, left);
            self.trace.settle(set, found.value);
        });
        if let (Some((from, _)), Some(member)) = (set, member)
            && let Onward::To(to) = member.onward
            && found.value.may_be_true()
        {
            let fewest_left = member.fewest_left;
            memory.shortcuts.add(
                from,
                Shortcut {
                    to,
                    left,
                    fewest_left,
                },
            );
        }
        set
    }

    fn add(&mut self, of: Option<(SetKey, TypeId)>, found: Found) {
        if let Some(member) = self.scratch.members.value() {
            member.add(of, found);
        }
    }
}
