//! What an evaluation reads: sets by number, where they are known.

use std::sync::Arc;

use crate::bound::{Binding, Conditioned};
use crate::names::Names;
pub use crate::names::ObjectId;
pub use crate::sets::Subject;
use crate::symbols::{RelationId, Symbols, TypeId};

/// A set `object#relation` by number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetKey(pub(crate) u64);

impl SetKey {
    /// The set of a relation of an object.
    pub fn new(object: ObjectId, relation: RelationId) -> Self {
        Self(u64::from(object.0) << 32 | u64::from(relation.0))
    }

    /// The object.
    pub fn object(self) -> ObjectId {
        ObjectId((self.0 >> 32) as u32)
    }

    /// The relation.
    pub fn relation(self) -> RelationId {
        RelationId(self.0 as u16)
    }
}

impl std::fmt::Debug for SetKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}#{}", self.object().0, self.relation().0)
    }
}

/// The members of a set: a sorted array and its difference to now.
#[derive(Debug, Clone, Copy)]
pub struct Members<'a, T> {
    pub(crate) base: &'a [T],
    pub(crate) added: &'a [T],
    pub(crate) removed: &'a [T],
}

impl<'a, T: Ord + Copy> Members<'a, T> {
    /// Nothing but a sorted array.
    pub(crate) const fn whole(base: &'a [T]) -> Self {
        Self {
            base,
            added: &[],
            removed: &[],
        }
    }

    /// Whether it is a member.
    pub fn contains(&self, member: T) -> bool {
        if self.base.binary_search(&member).is_ok() {
            self.removed.is_empty() || self.removed.binary_search(&member).is_err()
        } else {
            !self.added.is_empty() && self.added.binary_search(&member).is_ok()
        }
    }

    /// Every member, in order.
    pub fn iter(&self) -> impl Iterator<Item = T> + use<'a, T> {
        let removed = self.removed;
        let mut kept = self
            .base
            .iter()
            .copied()
            .filter(move |member| removed.is_empty() || removed.binary_search(member).is_err())
            .peekable();
        let mut added = self.added.iter().copied().peekable();
        std::iter::from_fn(move || match (kept.peek(), added.peek()) {
            (Some(a), Some(b)) if b < a => added.next(),
            (Some(_), _) => kept.next(),
            (None, _) => added.next(),
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.base.len() == self.removed.len()
    }
}

/// What is held of one set.
#[derive(Debug, Clone, Copy)]
pub struct SetRef<'a> {
    /// Objects and typed wildcards.
    pub objects: Members<'a, ObjectId>,
    /// Usersets.
    pub usersets: Members<'a, SetKey>,
    /// Members of either kind that are bound to a condition; none of them is among the others.
    pub conditioned: Option<&'a Conditioned>,
}

impl SetRef<'_> {
    /// The empty set.
    pub const EMPTY: Self = SetRef {
        objects: Members::whole(&[]),
        usersets: Members::whole(&[]),
        conditioned: None,
    };

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.usersets.is_empty() && self.conditioned.is_none()
    }
}

impl<'a> SetRef<'a> {
    /// What a member is bound to, if it is one that has a condition.
    pub(crate) fn binding(&self, subject: Subject) -> Option<&'a Arc<Binding>> {
        self.conditioned?.get(&subject)
    }

    /// The members that have a condition.
    pub(crate) fn bindings(&self) -> impl Iterator<Item = (Subject, &'a Arc<Binding>)> + use<'a> {
        let members = self.conditioned.into_iter().flat_map(Conditioned::iter);
        members.map(|(subject, binding)| (*subject, binding))
    }
}

/// Part of a store, with numbers for its names and knowledge of what it does not hold.
pub trait Facts {
    /// The number of an object or typed wildcard, where its name is known.
    fn object(&self, name: &str) -> Option<ObjectId>;

    /// The text of an object's number.
    fn object_name(&self, id: ObjectId) -> &str;

    /// Whether an object's number stands for a typed wildcard.
    fn is_wildcard(&self, id: ObjectId) -> bool {
        self.object_name(id).ends_with(":*")
    }

    /// The type of a known object.
    fn type_of(&self, id: ObjectId) -> Option<TypeId>;

    /// Numbers of types and relations.
    fn symbols(&self) -> &Symbols;

    /// Everything of the set that can decide a direct relation of the asked subject; `None` when that is not known.
    fn direct(&self, object_type: TypeId, set: SetKey) -> Option<SetRef<'_>>;

    /// The objects the set names; `None` when they are not known.
    fn parents(&self, object_type: TypeId, set: SetKey) -> Option<SetRef<'_>>;

    /// Everything of the set; `None` when that is not known.
    fn members(&self, object_type: TypeId, set: SetKey) -> Option<SetRef<'_>>;

    /// The objects of the type in whose `relation` the subject itself stands, and of each whether a condition is on it;
    /// `None` when they are not known.
    fn objects_of(
        &self,
        subject: Subject,
        object_type: TypeId,
        relation: RelationId,
    ) -> Option<impl Iterator<Item = (ObjectId, bool)>>;
}

/// The type's text of an object's text.
pub(crate) fn type_part(name: &str) -> &str {
    name.split_once(':')
        .map_or("", |(object_type, _)| object_type)
}

/// Adds an object's name, and its type's; `None` when there is no room for them.
pub(crate) fn intern(names: &mut Names, symbols: &mut Symbols, name: &str) -> Option<ObjectId> {
    if let Some(id) = names.get(name) {
        return Some(id);
    }
    let object_type = symbols.add_type(type_part(name))?;
    names.add(name, object_type)
}
