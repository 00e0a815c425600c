//! The walk of an evaluation.

mod recursive;
mod tuples;

use std::cell::RefCell;

use crate::bound::Circumstances;
use crate::budget::Meter;
use crate::check::{Outcome, Scratch};
use crate::facts::{Facts, ObjectId, SetKey};
use crate::memory::Found;
use crate::missing::Missing;
use crate::overlay::Asked;
use crate::program::{Node, Program, Relation};
use crate::sets::Subject;
use crate::stands::Place;
use crate::sums::{Conditions, Holds, Sum};
use crate::symbols::{RelationId, TypeId};
use crate::trace::{Plain, Trace};
use crate::value::Value;

/// Sets on one path at most, computed relations included: keeps hostile models off the end of the stack.
const MAX_PATH: usize = 512;
/// Rewrites under evaluation at a time, those within one relation included, for the same reason.
const MAX_NESTED: u32 = 1_500;

/// An evaluation under way: one user, any number of objects.
pub(crate) struct Evaluation<'a, 'b, F, T> {
    facts: &'a F,
    program: &'a Program,
    asked: Asked,
    scratch: &'a mut Scratch,
    meter: &'a mut Meter<'b>,
    circumstances: &'a Circumstances<'b>,
    /// Why the first condition without an answer has none.
    fault: RefCell<Option<String>>,
    nested: u32,
    trace: T,
}

impl<'a, 'b, F: Facts, T: Trace> Evaluation<'a, 'b, F, T> {
    /// An evaluation for `asked`. What the scratch memory remembers must be of the same user over the same facts, and where
    /// such users can stand must be found. `trace` is told of what it does; `()` of nothing.
    pub(crate) fn new(
        facts: &'a F,
        program: &'a Program,
        asked: Asked,
        scratch: &'a mut Scratch,
        meter: &'a mut Meter<'b>,
        circumstances: &'a Circumstances<'b>,
        trace: T,
    ) -> Self {
        Self {
            facts,
            program,
            asked,
            scratch,
            meter,
            circumstances,
            fault: RefCell::default(),
            nested: 0,
            trace,
        }
    }

    /// Whether the user is in a set, by no more than `depth` steps.
    pub(crate) fn decide(
        &mut self,
        object: ObjectId,
        object_type: TypeId,
        relation: RelationId,
        depth: u32,
    ) -> Outcome {
        let left = depth.saturating_add(1);
        let found = self.set(object, object_type, relation, left);
        self.scratch.steps = left.saturating_sub(found.fewest_left);
        let fault = self.fault.take();
        let is_faulty = fault.is_some() || self.scratch.fault.is_some();
        self.scratch.fault = self.scratch.fault.take().or(fault);
        match (found.value.decided(), self.meter.stopped) {
            // Branches were left out, so the value says nothing: below an exclusion even a yes turns into a no.
            (_, Some(stopped)) => stopped,
            (Some(true), None) => Outcome::Allowed,
            (Some(false), None) => Outcome::Denied,
            (None, None) if found.value == Value::ERROR && is_faulty => Outcome::Unclear,
            (None, None) if found.value == Value::ERROR => Outcome::TooDeep,
            (None, None) => Outcome::Unknown,
        }
    }

    /// The value of a set for the asked subject; the limit is met where no step is `left`.
    fn set(
        &mut self,
        object: ObjectId,
        object_type: TypeId,
        relation: RelationId,
        left: u32,
    ) -> Found {
        let key = SetKey::new(object, relation);
        if let Some(cycle) = self.scratch.memory.cycle(key, left) {
            return cycle;
        }
        let definition = match self.begin(key, object_type, left) {
            Ok(definition) => definition,
            Err(found) => return found,
        };
        if self.scratch.memory.path_len() >= MAX_PATH {
            return Found::too_long();
        }
        self.scratch.memory.enter(key);
        let found = if definition.recursion.is_some() {
            self.recursion((key, object_type), definition, left)
        } else {
            self.whole(key, object_type, definition, left)
        };
        self.scratch
            .memory
            .leave(found, left, self.meter.stopped.is_none())
    }

    /// The value of a set's rewrite.
    #[inline]
    fn whole(
        &mut self,
        key: SetKey,
        object_type: TypeId,
        definition: &Relation,
        left: u32,
    ) -> Found {
        self.trace.enter(key);
        let found = self.rewrite(&definition.rewrite, definition, object_type, key, left);
        self.trace.leave(found.value);
        found
    }

    /// What can be said of a set without its rewrite, else its definition.
    fn begin(
        &mut self,
        key: SetKey,
        object_type: TypeId,
        left: u32,
    ) -> Result<&'a Relation, Found> {
        let plain = |value| Err(Found::plain(value, left));
        if self.asked.userset == Some(key) {
            self.trace.plain(key, Plain::Itself);
            return plain(Value::TRUE);
        }
        let Some(definition) = self.program.relation(object_type, key.relation()) else {
            self.trace.plain(key, Plain::Undefined);
            return plain(Value::FALSE);
        };
        if !self.scratch.stands.can(definition.place) {
            self.trace.plain(key, Plain::Impossible);
            return plain(Value::FALSE);
        }
        if left == 0 {
            return plain(Value::ERROR);
        }
        if !self.meter.spend() {
            return plain(Value::UNKNOWN);
        }
        if definition.leaf {
            let stored = self.facts.direct(object_type, key);
            self.trace.enter(key);
            self.trace.begin(&definition.rewrite);
            let value = self.direct(definition, key, stored);
            self.trace.end(value);
            self.trace.leave(value);
            return plain(value);
        }
        match self.scratch.memory.recall(key, left) {
            Some(found) => Err(found),
            None => Ok(definition),
        }
    }

    /// The value of a set that a relation leads to, `cost` steps away; of one of the relation's own recursion nothing, since
    /// the walk over that looks at it.
    #[inline(never)]
    fn lower(
        &mut self,
        from: &Relation,
        to: SetKey,
        object_type: TypeId,
        left: u32,
        cost: u32,
    ) -> Found {
        if self.program.recurs(from, (object_type, to.relation())) {
            self.scratch.members.lead((to, object_type));
            self.trace.lead(to, None);
            return Found::plain(Value::FALSE, left);
        }
        let left = left.saturating_sub(cost);
        let found = self.set(to.object(), object_type, to.relation(), left);
        self.trace.lead(to, Some(found.value));
        found
    }

    fn rewrite(
        &mut self,
        node: &Node,
        definition: &Relation,
        object_type: TypeId,
        key: SetKey,
        left: u32,
    ) -> Found {
        self.trace.begin(node);
        let found = if self.nested >= MAX_NESTED {
            Found::too_long()
        } else {
            self.nested += 1;
            let found = self.rewrite_node(node, definition, object_type, key, left);
            self.nested -= 1;
            found
        };
        self.trace.end(found.value);
        found
    }

    /// Looks at leaves in functions of their own, so that operators within one another take little of the stack.
    fn rewrite_node(
        &mut self,
        node: &Node,
        definition: &Relation,
        object_type: TypeId,
        key: SetKey,
        left: u32,
    ) -> Found {
        match node {
            Node::This => self.this(definition, object_type, key, left),
            Node::Computed(relation) => {
                let same = SetKey::new(key.object(), *relation);
                self.lower(definition, same, object_type, left, 0)
            }
            Node::FromParent {
                tupleset,
                computed,
                place,
            } => {
                let parents = self.program.relation(object_type, *tupleset);
                let of_interest = |of: &&Relation| self.matters(*place, of.has_conditions());
                match parents.filter(of_interest) {
                    Some(parents) => {
                        let key = SetKey::new(key.object(), *tupleset);
                        self.at_parents((definition, parents), object_type, key, *computed, left)
                    }
                    None => {
                        self.trace.impossible();
                        Found::plain(Value::FALSE, left)
                    }
                }
            }
            Node::Union(children) => {
                let mut all = Sum::union(left);
                for child in children {
                    let found = self.rewrite(child, definition, object_type, key, left);
                    if all.add(found) || self.meter.stopped.is_some() {
                        break;
                    }
                }
                all.found
            }
            Node::Intersection(children) => {
                let mut all = Sum::intersection(left);
                for child in children {
                    let found = self.rewrite(child, definition, object_type, key, left);
                    if all.add(found) || self.meter.stopped.is_some() {
                        break;
                    }
                }
                all.found
            }
            Node::Exclusion(of) => {
                let mut both = Sum::intersection(left);
                if !both.add(self.rewrite(&of.0, definition, object_type, key, left)) {
                    let mut subtract = self.rewrite(&of.1, definition, object_type, key, left);
                    subtract.value = subtract.value.invert();
                    both.add(subtract);
                }
                both.found
            }
        }
    }

    /// The relation's own tuples: the subject itself, its type's wildcard, and whoever is in the usersets.
    #[inline(never)]
    fn this(
        &mut self,
        definition: &Relation,
        object_type: TypeId,
        key: SetKey,
        left: u32,
    ) -> Found {
        let mut any = Sum::union(left);
        let stored = self.facts.direct(object_type, key);
        let value = self.direct(definition, key, stored);
        if any.add(Found::plain(value, left)) || !self.usersets_matter(definition) {
            return any.found;
        }
        let mut conditions = Conditions::default();
        for index in 0..self.scratch.overlay.get(key).len() {
            let Some(given) = self.scratch.overlay.get(key).get(index) else {
                continue;
            };
            if let Subject::Userset(of) = given.subject {
                let holds = self.given(definition, given);
                if conditions.note(holds) && self.userset(&mut any, definition, of, left) {
                    return any.found;
                }
            }
        }
        for of in stored.into_iter().flat_map(|set| set.usersets.iter()) {
            let subject = Subject::Userset(of);
            if self.admits(definition, subject) && !self.is_hidden(key, subject) {
                conditions.note(Holds::Yes);
                if self.userset(&mut any, definition, of, left) {
                    return any.found;
                }
            }
        }
        if definition.has_conditions() {
            for (subject, binding) in stored.into_iter().flat_map(|set| set.bindings()) {
                let Subject::Userset(of) = subject else {
                    continue;
                };
                if self.is_hidden(key, subject) {
                    continue;
                }
                if !self.meter.spend() {
                    any.add(Found::plain(Value::UNKNOWN, left));
                    return any.found;
                }
                let holds = self.bound(definition, key, subject, binding);
                if conditions.note(holds) && self.userset(&mut any, definition, of, left) {
                    return any.found;
                }
            }
        }
        // Among what is not known a tuple may count.
        if stored.is_some() {
            conditions.settle(&mut any, left);
        }
        any.found
    }

    /// Whether what leads to a place can matter: the user can stand there, or conditions on the way can have no answer.
    fn matters(&self, place: Place, has_conditions: bool) -> bool {
        self.scratch.stands.can(place) || has_conditions
    }

    /// Whether usersets among a relation's own tuples can matter.
    fn usersets_matter(&self, definition: &Relation) -> bool {
        definition.has_usersets()
            && self.matters(definition.userset_place, definition.has_bound_usersets())
    }

    /// Adds what a userset gives; whether that settles it.
    fn userset(&mut self, any: &mut Sum, from: &Relation, of: SetKey, left: u32) -> bool {
        if !self.meter.spend() {
            any.add(Found::plain(Value::UNKNOWN, left));
            return true;
        }
        let Some(object_type) = self.scratch.overlay.type_of(self.facts, of.object()) else {
            return false;
        };
        any.add(self.lower(from, of, object_type, left, 1)) || self.meter.stopped.is_some()
    }

    /// `computed from tupleset`, in a relation: the computed one at every parent that the tupleset's set names.
    #[inline(never)]
    fn at_parents(
        &mut self,
        (from, definition): (&Relation, &Relation),
        object_type: TypeId,
        key: SetKey,
        computed: RelationId,
        left: u32,
    ) -> Found {
        let mut any = Sum::union(left);
        let mut conditions = Conditions::default();
        for index in 0..self.scratch.overlay.get(key).len() {
            let Some(given) = self.scratch.overlay.get(key).get(index) else {
                continue;
            };
            if let Subject::Object(parent) = given.subject {
                let holds = self.given(definition, given);
                if conditions.note(holds) && self.parent(&mut any, from, (parent, computed), left) {
                    return any.found;
                }
            }
        }
        let Some(stored) = self.facts.parents(object_type, key) else {
            self.scratch.missed.push(Missing::Parents(key));
            any.add(Found::plain(Value::UNKNOWN, left));
            return any.found;
        };
        for parent in stored.objects.iter() {
            let subject = Subject::Object(parent);
            if self.admits(definition, subject) && !self.is_hidden(key, subject) {
                conditions.note(Holds::Yes);
                if self.parent(&mut any, from, (parent, computed), left) {
                    return any.found;
                }
            }
        }
        if definition.has_conditions() {
            for (subject, binding) in stored.bindings() {
                let Subject::Object(parent) = subject else {
                    continue;
                };
                if self.is_hidden(key, subject) {
                    continue;
                }
                if !self.meter.spend() {
                    any.add(Found::plain(Value::UNKNOWN, left));
                    return any.found;
                }
                let holds = self.bound(definition, key, subject, binding);
                if conditions.note(holds) && self.parent(&mut any, from, (parent, computed), left) {
                    return any.found;
                }
            }
        }
        conditions.settle(&mut any, left);
        any.found
    }

    /// Adds what a parent gives; whether that settles it.
    fn parent(
        &mut self,
        any: &mut Sum,
        from: &Relation,
        (parent, computed): (ObjectId, RelationId),
        left: u32,
    ) -> bool {
        if !self.meter.spend() {
            any.add(Found::plain(Value::UNKNOWN, left));
            return true;
        }
        let overlay = &self.scratch.overlay;
        let Some(object_type) = overlay.type_of(self.facts, parent) else {
            return false;
        };
        if overlay.is_wildcard(self.facts, parent)
            || self.program.relation(object_type, computed).is_none()
        {
            return false;
        }
        let of = SetKey::new(parent, computed);
        any.add(self.lower(from, of, object_type, left, 1)) || self.meter.stopped.is_some()
    }
}
