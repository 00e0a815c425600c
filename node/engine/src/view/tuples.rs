//! The tuples of a view, by name.

use std::sync::Arc;

use meridian_model::{Object, TupleCondition, TupleKey};

use super::{Member, Root, View};
use crate::bound::{Binding, Conditioned};
use crate::facts::SetKey;
use crate::sets::Subject;

impl View {
    /// The tuples held of a type with their conditions, in no particular order: all of them when the type is covered, else
    /// none.
    pub fn tuples_of_type(&self, object_type: &str) -> Vec<(TupleKey, Option<TupleCondition>)> {
        let Some(id) = self.root.symbols.object_type(object_type) else {
            return Vec::new();
        };
        let members = self.root.members();
        let of_type = members.filter(|(set, ..)| self.root.names.type_of(set.object()) == Some(id));
        of_type
            .filter_map(|(set, subject, binding)| self.root.tuple(set, subject, binding))
            .collect()
    }

    /// The tuples of one relation of an object, with their conditions, in no particular order; no more than one beyond `most`.
    /// `None` where they are not known.
    pub fn tuples_of_set(
        &self,
        object: &Object,
        relation: &str,
        most: usize,
    ) -> Option<Vec<(TupleKey, Option<TupleCondition>)>> {
        if !self.is_covered(object.object_type()) {
            return None;
        }
        let root = &*self.root;
        let set = root
            .names
            .get(object.as_str())
            .zip(root.symbols.relation(relation));
        let set = set.map(|(object, relation)| SetKey::new(object, relation));
        let members = set.into_iter().flat_map(|set| root.members_of(set));
        let tuples =
            members.filter_map(|(set, subject, binding)| root.tuple(set, subject, binding));
        Some(tuples.take(most.saturating_add(1)).collect())
    }
}

impl Root {
    /// Every member, with what it is bound to.
    pub(crate) fn members(&self) -> impl Iterator<Item = Member> {
        let plain = self.sets.iter().flat_map(|(key, set)| {
            let objects = set.objects.iter().map(Subject::Object);
            let usersets = set.usersets.iter().map(Subject::Userset);
            objects
                .chain(usersets)
                .map(move |subject| (key, subject, None))
        });
        let bound = self.conditioned.iter().flat_map(|(key, members)| {
            let members = members.iter();
            members.map(|(subject, binding)| (*key, *subject, Some(Arc::clone(binding))))
        });
        plain.chain(bound)
    }

    /// Every member of a set, with what it is bound to.
    fn members_of(&self, set: SetKey) -> impl Iterator<Item = Member> {
        let plain = self.sets.get(set);
        let objects = plain.objects.iter().map(Subject::Object);
        let plain = objects.chain(plain.usersets.iter().map(Subject::Userset));
        let bound = self.conditioned.get(&set);
        let bound = bound.into_iter().flat_map(Conditioned::iter);
        let bound = bound.map(|(subject, binding)| (*subject, Some(Arc::clone(binding))));
        let plain = plain.map(|subject| (subject, None));
        plain
            .chain(bound)
            .map(move |(subject, binding)| (set, subject, binding))
    }

    /// A tuple by name, with its condition.
    fn tuple(
        &self,
        set: SetKey,
        subject: Subject,
        binding: Option<Arc<Binding>>,
    ) -> Option<(TupleKey, Option<TupleCondition>)> {
        let condition = binding.map(|binding| binding.stored().clone());
        Some((self.key(set, subject)?, condition))
    }

    /// A tuple's key by name.
    fn key(&self, set: SetKey, subject: Subject) -> Option<TupleKey> {
        let of = |set: SetKey| {
            let relation = self.symbols.relation_name(set.relation());
            (self.names.text(set.object()), relation)
        };
        let (object, relation) = of(set);
        match subject {
            Subject::Object(id) => TupleKey::parse(object, relation, self.names.text(id)),
            Subject::Userset(member) => {
                let (at, of) = of(member);
                TupleKey::parse(object, relation, &format!("{at}#{of}"))
            }
        }
        .ok()
    }
}
