//! Which tuples of a set count.

use super::{Asked, Evaluation};
use crate::bound::Binding;
use crate::facts::{Facts, SetKey, SetRef};
use crate::missing::Missing;
use crate::overlay::Given;
use crate::program::{Facet, Relation};
use crate::sets::Subject;
use crate::sums::Holds;
use crate::trace::Trace;
use crate::value::Value;

impl<F: Facts, T: Trace> Evaluation<'_, '_, F, T> {
    /// Whether tuples with such a subject and no condition count.
    pub(super) fn admits(&self, definition: &Relation, subject: Subject) -> bool {
        let facet = self.scratch.overlay.facet(self.facts, subject);
        facet.is_some_and(|facet| definition.admits(facet))
    }

    /// Whether a contextual tuple of the same key stands in a stored one's place.
    pub(super) fn is_hidden(&self, set: SetKey, subject: Subject) -> bool {
        self.scratch.overlay.find(set, subject).is_some()
    }

    /// Whether a contextual tuple counts.
    pub(super) fn given(&self, definition: &Relation, given: &Given) -> Holds {
        match &given.binding {
            Some(binding) => self.bound(definition, given.set, given.subject, binding),
            None if self.admits(definition, given.subject) => Holds::Yes,
            None => Holds::No,
        }
    }

    /// Whether a tuple that is bound to a condition counts.
    pub(super) fn bound(
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
            Ok(false) => {
                self.trace.unmet(subject);
                Holds::No
            }
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
    pub(super) fn direct(
        &mut self,
        definition: &Relation,
        key: SetKey,
        stored: Option<SetRef<'_>>,
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
        self.trace.tuple(itself, value);
        if value == Value::TRUE {
            return value;
        }
        let value = wildcard.map_or(value, |wildcard| {
            let by_it = self.member(definition, key, stored, wildcard, by_wildcard);
            self.trace.tuple(wildcard, by_it);
            value.or(by_it)
        });
        if value == Value::TRUE || stored.is_some() {
            return value;
        }
        if !by_itself && !by_wildcard && !self.usersets_matter(definition) {
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
}
