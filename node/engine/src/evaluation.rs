//! The walk of an evaluation.

use crate::budget::Meter;
use crate::check::{Outcome, Scratch};
use crate::facts::{Facts, ObjectId, SetKey, SetRef};
use crate::memory::Found;
use crate::missing::Missing;
use crate::overlay::Asked;
use crate::program::{Node, Program, Relation};
use crate::sets::Subject;
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
    nested: u32,
}

impl<'a, 'b, F: Facts> Evaluation<'a, 'b, F> {
    /// An evaluation for `asked`. What the scratch memory remembers must be of the same user over the same facts.
    pub(crate) fn new(
        facts: &'a F,
        program: &'a Program,
        asked: Asked,
        scratch: &'a mut Scratch,
        meter: &'a mut Meter<'b>,
    ) -> Self {
        Self {
            facts,
            program,
            asked,
            scratch,
            meter,
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
        match (found.value.decided(), self.meter.stopped) {
            // Branches were left out, so the value says nothing: below an exclusion even a yes turns into a no.
            (_, Some(stopped)) => stopped,
            (Some(true), None) => Outcome::Allowed,
            (Some(false), None) => Outcome::Denied,
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
        if !self.meter.spend() {
            return plain(Value::UNKNOWN);
        }
        if definition.leaf {
            let stored = self.facts.direct(object_type, key);
            return plain(self.direct(definition, key, stored));
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
            Node::FromParent { tupleset, computed } => {
                self.at_parents(object_type, key.object(), *tupleset, *computed, left)
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
        let value = self.direct(definition, key, stored);
        if any.add(Found::plain(value, left)) || !definition.has_usersets() {
            return any.found;
        }
        for index in 0..self.scratch.overlay.get(key).len() {
            let Some((_, Subject::Userset(of))) = self.scratch.overlay.get(key).get(index).copied()
            else {
                continue;
            };
            if self.userset(&mut any, definition, of, left) {
                return any.found;
            }
        }
        for of in stored.into_iter().flat_map(|set| set.usersets.iter()) {
            if self.userset(&mut any, definition, of, left) {
                return any.found;
            }
        }
        any.found
    }

    /// Adds what a userset gives; whether that settles it.
    fn userset(&mut self, any: &mut Sum, definition: &Relation, of: SetKey, left: u32) -> bool {
        if !self.meter.spend() {
            any.add(Found::plain(Value::UNKNOWN, left));
            return true;
        }
        let Some(object_type) = self.scratch.overlay.type_of(self.facts, of.object()) else {
            return false;
        };
        if !definition.admits_userset(object_type, of.relation()) {
            return false;
        }
        any.add(self.set(of.object(), object_type, of.relation(), left - 1))
            || self.meter.stopped.is_some()
    }

    /// Whether the subject stands in the relation's own tuples, itself or by its type's wildcard. `stored` are the facts'.
    fn direct(&mut self, definition: &Relation, key: SetKey, stored: Option<SetRef<'_>>) -> Value {
        let Asked {
            object_type: asked_type,
            object,
            userset,
            is_wildcard,
            wildcard,
        } = self.asked;
        let admits_wildcard = definition.admits_wildcard(asked_type);
        let admits_self = match userset {
            Some(set) => definition.admits_userset(asked_type, set.relation()),
            None => !is_wildcard && definition.admits_object(asked_type),
        };
        let overlay = &self.scratch.overlay;
        let contextual = !overlay.is_empty()
            && overlay.get(key).iter().any(|(_, subject)| match *subject {
                Subject::Userset(set) => admits_self && userset == Some(set),
                Subject::Object(id) if overlay.is_wildcard(self.facts, id) => {
                    admits_wildcard && overlay.is_wildcard_of(self.facts, id, asked_type)
                }
                Subject::Object(id) => admits_self && userset.is_none() && id == object,
            });
        if contextual {
            return Value::TRUE;
        }
        if !admits_self && !admits_wildcard && !definition.has_usersets() {
            return Value::FALSE;
        }
        let Some(set) = stored else {
            self.scratch.missed.push(Missing::Direct(key));
            return Value::UNKNOWN;
        };
        let itself = admits_self
            && userset.map_or_else(
                || set.objects.contains(object),
                |asked| set.usersets.contains(asked),
            );
        Value::of(
            itself || (admits_wildcard && wildcard.is_some_and(|id| set.objects.contains(id))),
        )
    }

    /// `computed from tupleset`: the relation at every parent.
    fn at_parents(
        &mut self,
        object_type: TypeId,
        object: ObjectId,
        tupleset: RelationId,
        computed: RelationId,
        left: u32,
    ) -> Found {
        let mut any = Sum::union(left);
        let Some(definition) = self.program.relation(object_type, tupleset) else {
            return any.found;
        };
        let key = SetKey::new(object, tupleset);
        for index in 0..self.scratch.overlay.get(key).len() {
            let Some((_, Subject::Object(parent))) =
                self.scratch.overlay.get(key).get(index).copied()
            else {
                continue;
            };
            if self.parent(&mut any, definition, parent, computed, left) {
                return any.found;
            }
        }
        let Some(set) = self.facts.parents(object_type, key) else {
            self.scratch.missed.push(Missing::Parents(key));
            any.add(Found::plain(Value::UNKNOWN, left));
            return any.found;
        };
        for parent in set.objects.iter() {
            if self.parent(&mut any, definition, parent, computed, left) {
                break;
            }
        }
        any.found
    }

    /// Adds what a parent gives; whether that settles it.
    fn parent(
        &mut self,
        any: &mut Sum,
        definition: &Relation,
        parent: ObjectId,
        computed: RelationId,
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
        if !definition.admits_object(object_type)
            || overlay.is_wildcard(self.facts, parent)
            || self.program.relation(object_type, computed).is_none()
        {
            return false;
        }
        any.add(self.set(parent, object_type, computed, left - 1)) || self.meter.stopped.is_some()
    }
}

/// A union or intersection under way.
struct Sum {
    found: Found,
    union: bool,
}

impl Sum {
    fn union(left: u32) -> Self {
        Self {
            found: Found::plain(Value::FALSE, left),
            union: true,
        }
    }

    fn intersection(left: u32) -> Self {
        Self {
            found: Found::plain(Value::TRUE, left),
            union: false,
        }
    }

    /// Adds a branch; whether no other branch can change the value any more.
    fn add(&mut self, branch: Found) -> bool {
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
