//! The walk of an evaluation.

use std::cell::RefCell;

use crate::bound::{Binding, Circumstances};
use crate::budget::Meter;
use crate::check::{Outcome, Scratch};
use crate::facts::{Facts, ObjectId, SetKey, SetRef};
use crate::memory::Found;
use crate::missing::Missing;
use crate::overlay::{Asked, Given};
use crate::program::{Facet, Node, Program, Relation};
use crate::sets::Subject;
use crate::stands::Place;
use crate::sums::{Conditions, Holds, Sum};
use crate::symbols::{RelationId, TypeId};
use crate::value::Value;

/// Sets on one path at most, computed relations included: keeps hostile models off the end of the stack.
const MAX_PATH: usize = 512;
/// Rewrites under evaluation at a time, those within one relation included, for the same reason.
const MAX_NESTED: u32 = 1_500;

/// An evaluation under way: one user, any number of objects.
pub(crate) struct Evaluation<'a, 'b, F> {
    facts: &'a F,
    program: &'a Program,
    asked: Asked,
    scratch: &'a mut Scratch,
    meter: &'a mut Meter<'b>,
    circumstances: &'a Circumstances<'b>,
    /// Why the first condition without an answer has none.
    fault: RefCell<Option<String>>,
    nested: u32,
}

impl<'a, 'b, F: Facts> Evaluation<'a, 'b, F> {
    /// An evaluation for `asked`. What the scratch memory remembers must be of the same user over the same facts, and where
    /// such users can stand must be found.
    pub(crate) fn new(
        facts: &'a F,
        program: &'a Program,
        asked: Asked,
        scratch: &'a mut Scratch,
        meter: &'a mut Meter<'b>,
        circumstances: &'a Circumstances<'b>,
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
        }
    }

    /// Whether the user is in a set, with `depth` steps to go.
    pub(crate) fn decide(
        &mut self,
        object: ObjectId,
        object_type: TypeId,
        relation: RelationId,
        depth: u32,
    ) -> Outcome {
        let found = self.set(object, object_type, relation, depth);
        self.scratch.steps = depth.saturating_sub(found.fewest_left);
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

    /// The value of a set for the asked subject, with `left` steps to go.
    fn set(
        &mut self,
        object: ObjectId,
        object_type: TypeId,
        relation: RelationId,
        left: u32,
    ) -> Found {
        let key = SetKey::new(object, relation);
        let plain = |value| Found::plain(value, left);
        if left == 0 {
            return plain(Value::ERROR);
        }
        if let Some(cycle) = self.scratch.memory.cycle(key, left) {
            return cycle;
        }
        if self.asked.userset == Some(key) {
            return plain(Value::TRUE);
        }
        let Some(definition) = self.program.relation(object_type, relation) else {
            return plain(Value::FALSE);
        };
        if !self.scratch.stands.can(definition.place) {
            return plain(Value::FALSE);
        }
        if !self.meter.spend() {
            return plain(Value::UNKNOWN);
        }
        if definition.leaf {
            let stored = self.facts.direct(object_type, key);
            return plain(self.direct(definition, key, stored, left));
        }
        if let Some(found) = self.scratch.memory.recall(key, left) {
            return found;
        }
        if self.scratch.memory.path_len() >= MAX_PATH {
            return Found::too_long();
        }
        self.scratch.memory.enter(key);
        let found = self.rewrite(&definition.rewrite, definition, object_type, key, left);
        self.scratch
            .memory
            .leave(found, left, self.meter.stopped.is_none())
    }

    fn rewrite(
        &mut self,
        node: &Node,
        definition: &Relation,
        object_type: TypeId,
        key: SetKey,
        left: u32,
    ) -> Found {
        if self.nested >= MAX_NESTED {
            return Found::too_long();
        }
        self.nested += 1;
        let found = self.rewrite_node(node, definition, object_type, key, left);
        self.nested -= 1;
        found
    }

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
            Node::Computed(relation) => self.set(key.object(), object_type, *relation, left),
            Node::FromParent {
                tupleset,
                computed,
                place,
            } => {
                let definition = self.program.relation(object_type, *tupleset);
                let of_interest = |of: &&Relation| self.matters(*place, of.has_conditions(), left);
                match definition.filter(of_interest) {
                    Some(definition) => {
                        let parents = SetKey::new(key.object(), *tupleset);
                        self.at_parents(definition, object_type, parents, *computed, left)
                    }
                    None => Found::plain(Value::FALSE, left),
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
    fn this(
        &mut self,
        definition: &Relation,
        object_type: TypeId,
        key: SetKey,
        left: u32,
    ) -> Found {
        let mut any = Sum::union(left);
        let stored = self.facts.direct(object_type, key);
        let value = self.direct(definition, key, stored, left);
        if any.add(Found::plain(value, left)) || !self.usersets_matter(definition, left) {
            return any.found;
        }
        let mut conditions = Conditions::default();
        for index in 0..self.scratch.overlay.get(key).len() {
            let Some(given) = self.scratch.overlay.get(key).get(index) else {
                continue;
            };
            if let Subject::Userset(of) = given.subject {
                let holds = self.given(definition, given);
                if conditions.note(holds) && self.userset(&mut any, of, left) {
                    return any.found;
                }
            }
        }
        for of in stored.into_iter().flat_map(|set| set.usersets.iter()) {
            let subject = Subject::Userset(of);
            if self.admits(definition, subject) && !self.is_hidden(key, subject) {
                conditions.note(Holds::Yes);
                if self.userset(&mut any, of, left) {
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
                if conditions.note(holds) && self.userset(&mut any, of, left) {
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

    /// Whether what leads to a place can matter: the user can stand there, or conditions on the way can have no answer, or
    /// the step to it meets the depth limit. As upstream, which asks where a user can stand after each step.
    fn matters(&self, place: Place, has_conditions: bool, left: u32) -> bool {
        self.scratch.stands.can(place) || has_conditions || left <= 1
    }

    /// Whether usersets among a relation's own tuples can matter.
    fn usersets_matter(&self, definition: &Relation, left: u32) -> bool {
        definition.has_usersets()
            && self.matters(
                definition.userset_place,
                definition.has_bound_usersets(),
                left,
            )
    }

    /// Adds what a userset gives; whether that settles it.
    fn userset(&mut self, any: &mut Sum, of: SetKey, left: u32) -> bool {
        if !self.meter.spend() {
            any.add(Found::plain(Value::UNKNOWN, left));
            return true;
        }
        let Some(object_type) = self.scratch.overlay.type_of(self.facts, of.object()) else {
            return false;
        };
        any.add(self.set(of.object(), object_type, of.relation(), left - 1))
            || self.meter.stopped.is_some()
    }

    /// Whether tuples with such a subject and no condition count.
    fn admits(&self, definition: &Relation, subject: Subject) -> bool {
        let facet = self.scratch.overlay.facet(self.facts, subject);
        facet.is_some_and(|facet| definition.admits(facet))
    }

    /// Whether a contextual tuple of the same key stands in a stored one's place.
    fn is_hidden(&self, set: SetKey, subject: Subject) -> bool {
        self.scratch.overlay.find(set, subject).is_some()
    }

    /// Whether a contextual tuple counts.
    fn given(&self, definition: &Relation, given: &Given) -> Holds {
        match &given.binding {
            Some(binding) => self.bound(definition, given.set, given.subject, binding),
            None if self.admits(definition, given.subject) => Holds::Yes,
            None => Holds::No,
        }
    }

    /// Whether a tuple that is bound to a condition counts.
    fn bound(
        &self,
        definition: &Relation,
        set: SetKey,
        subject: Subject,
        binding: &Binding,
    ) -> Holds {
        let overlay = &self.scratch.overlay;
        let facet = overlay.facet(self.facts, subject);
        let name = &binding.stored().name;
        let Some(declared) = facet.and_then(|facet| definition.admits_bound(facet, name)) else {
            return Holds::No;
        };
        let (met, work) = binding.is_met(declared, self.circumstances);
        self.meter.charge(work);
        match met {
            Ok(true) => Holds::Yes,
            Ok(false) => Holds::No,
            Err(why) => {
                let describe = || why.on(binding, &overlay.describe(self.facts, set, subject));
                self.fault.borrow_mut().get_or_insert_with(describe);
                match declared {
                    Some(_) => Holds::Unclear,
                    None => Holds::InlineUnclear,
                }
            }
        }
    }

    /// Whether the subject stands in the relation's own tuples, itself or by its type's wildcard. `stored` are the facts'.
    fn direct(
        &mut self,
        definition: &Relation,
        key: SetKey,
        stored: Option<SetRef<'_>>,
        left: u32,
    ) -> Value {
        let Asked {
            object_type,
            object,
            userset,
            is_wildcard,
            wildcard,
        } = self.asked;
        let (itself, facet) = match userset {
            Some(set) => (
                Subject::Userset(set),
                Facet::Userset(object_type, set.relation()),
            ),
            None if is_wildcard => (Subject::Object(object), Facet::Wildcard(object_type)),
            None => (Subject::Object(object), Facet::Object(object_type)),
        };
        let wildcard = wildcard
            .map(Subject::Object)
            .filter(|wildcard| *wildcard != itself);
        let by_itself = definition.admits_any(facet);
        let by_wildcard = userset.is_none() && definition.admits_any(Facet::Wildcard(object_type));
        let value = self.member(definition, key, stored, itself, by_itself);
        if value == Value::TRUE {
            return value;
        }
        let value = wildcard.map_or(value, |wildcard| {
            value.or(self.member(definition, key, stored, wildcard, by_wildcard))
        });
        if value == Value::TRUE || stored.is_some() {
            return value;
        }
        if !by_itself && !by_wildcard && !self.usersets_matter(definition, left) {
            return value;
        }
        self.scratch.missed.push(Missing::Direct(key));
        value.or(Value::UNKNOWN)
    }

    /// Whether a subject stands in a set by a tuple that counts. A contextual tuple hides a stored one of the same key.
    fn member(
        &self,
        definition: &Relation,
        key: SetKey,
        stored: Option<SetRef<'_>>,
        subject: Subject,
        admitted: bool,
    ) -> Value {
        if !admitted {
            return Value::FALSE;
        }
        if let Some(given) = self.scratch.overlay.find(key, subject) {
            return self.given(definition, given).value();
        }
        let Some(stored) = stored else {
            return Value::FALSE;
        };
        let is_plain = match subject {
            Subject::Object(id) => stored.objects.contains(id),
            Subject::Userset(set) => stored.usersets.contains(set),
        };
        match stored.binding(subject) {
            Some(binding) => self.bound(definition, key, subject, binding).value(),
            None => Value::of(is_plain && self.admits(definition, subject)),
        }
    }

    /// `computed from tupleset`: the relation at every parent that the tupleset's set names.
    fn at_parents(
        &mut self,
        definition: &Relation,
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
                if conditions.note(holds) && self.parent(&mut any, parent, computed, left) {
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
                if self.parent(&mut any, parent, computed, left) {
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
                if conditions.note(holds) && self.parent(&mut any, parent, computed, left) {
                    return any.found;
                }
            }
        }
        conditions.settle(&mut any, left);
        any.found
    }

    /// Adds what a parent gives; whether that settles it.
    fn parent(&mut self, any: &mut Sum, parent: ObjectId, computed: RelationId, left: u32) -> bool {
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
        any.add(self.set(parent, object_type, computed, left - 1)) || self.meter.stopped.is_some()
    }
}
