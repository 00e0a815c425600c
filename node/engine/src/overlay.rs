//! What a request brings along: names the facts do not have, and contextual tuples laid over them.

use meridian_model::{Object, Subject as TupleSubject, Tuple, TupleKey};

use crate::bound::Binding;
use crate::facts::{Facts, ObjectId, SetKey, type_part};
use crate::program::Facet;
use crate::question::User;
use crate::sets::Subject;
use crate::symbols::TypeId;

/// Numbers of names only this request knows count down from here; views never get so far.
const LOCAL_TOP: u32 = u32::MAX;

/// A contextual tuple by number.
pub(crate) struct Given {
    pub(crate) set: SetKey,
    pub(crate) subject: Subject,
    pub(crate) binding: Option<Binding>,
}

#[derive(Default)]
pub(crate) struct Overlay {
    names: Vec<(String, TypeId)>,
    /// Sorted.
    members: Vec<Given>,
}

/// The asked subject, by number. Where its name is unknown to the facts it can still be in a contextual tuple.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) object_type: TypeId,
    /// The object or typed wildcard; for a userset, its object.
    pub(crate) object: ObjectId,
    pub(crate) userset: Option<SetKey>,
    /// Whether the subject is a typed wildcard itself.
    pub(crate) is_wildcard: bool,
    /// The wildcard that takes the subject in, where its name is known.
    pub(crate) wildcard: Option<ObjectId>,
}

impl Overlay {
    pub(crate) fn clear(&mut self) {
        self.names.clear();
        self.members.clear();
    }

    /// An object's number, a local one if the facts have none. `None` for a type that no model of these facts names.
    pub(crate) fn object(&mut self, facts: &impl Facts, name: &str) -> Option<ObjectId> {
        if let Some(id) = facts.object(name) {
            return Some(id);
        }
        let object_type = facts.symbols().object_type(type_part(name))?;
        Some(self.local_object(name).unwrap_or_else(|| {
            self.names.push((name.to_owned(), object_type));
            local_id(self.names.len() - 1)
        }))
    }

    fn local(&self, id: ObjectId) -> Option<&(String, TypeId)> {
        self.names.get((LOCAL_TOP - id.0) as usize)
    }

    pub(crate) fn type_of(&self, facts: &impl Facts, id: ObjectId) -> Option<TypeId> {
        self.local(id)
            .map(|(_, object_type)| *object_type)
            .or_else(|| facts.type_of(id))
    }

    pub(crate) fn name<'a>(&'a self, facts: &'a impl Facts, id: ObjectId) -> &'a str {
        self.local(id)
            .map_or_else(|| facts.object_name(id), |(name, _)| name)
    }

    /// The user's numbers, local ones where the facts have none. `None` for a type or relation that no model of these facts
    /// names.
    pub(crate) fn ask(&mut self, facts: &impl Facts, user: &User<'_>) -> Option<Asked> {
        let object_type = facts.symbols().object_type(user.object_type())?;
        let (object, userset) = match user.userset() {
            None => (self.object(facts, user.text())?, None),
            Some((of, relation)) => {
                let object = self.object(facts, of)?;
                (
                    object,
                    Some(SetKey::new(object, facts.symbols().relation(relation)?)),
                )
            }
        };
        Some(Asked {
            object_type,
            object,
            userset,
            is_wildcard: user.is_wildcard(),
            // As upstream: "every user" means no set of users.
            wildcard: userset
                .is_none()
                .then(|| self.wildcard(facts, user.object_type()))
                .flatten(),
        })
    }

    /// The number of a type's wildcard, where its name is known.
    pub(crate) fn wildcard(&self, facts: &impl Facts, object_type: &str) -> Option<ObjectId> {
        // "type:*" of a type of at most 254 bytes.
        let mut name = [0; 256];
        let name = wildcard_name(object_type, &mut name)?;
        facts.object(name).or_else(|| self.local_object(name))
    }

    fn local_object(&self, name: &str) -> Option<ObjectId> {
        let index = self.names.iter().position(|(known, _)| known == name)?;
        Some(local_id(index))
    }

    /// Lays contextual tuples over the facts. Those of names no model of the facts knows are left out, as invalid stored
    /// ones are.
    pub(crate) fn add(&mut self, facts: &impl Facts, tuples: &[Tuple]) {
        for tuple in tuples {
            let Some((set, subject)) = self.resolve(facts, &tuple.key) else {
                continue;
            };
            self.members.push(Given {
                set,
                subject,
                binding: tuple.condition.clone().map(Binding::new),
            });
        }
        // Stable: of several with one key the first given counts.
        self.members.sort_by_key(|given| (given.set, given.subject));
    }

    fn resolve(&mut self, facts: &impl Facts, key: &TupleKey) -> Option<(SetKey, Subject)> {
        let set_of = |overlay: &mut Self, object: &Object, relation: &str| {
            Some(SetKey::new(
                overlay.object(facts, object.as_str())?,
                facts.symbols().relation(relation)?,
            ))
        };
        let set = set_of(self, &key.object, &key.relation)?;
        let subject = match &key.subject {
            TupleSubject::Object(object) => Subject::Object(self.object(facts, object.as_str())?),
            TupleSubject::Wildcard(object_type) => {
                Subject::Object(self.object(facts, &format!("{object_type}:*"))?)
            }
            TupleSubject::Userset(object, relation) => {
                Subject::Userset(set_of(self, object, relation)?)
            }
        };
        Some((set, subject))
    }

    /// The contextual members of a set.
    pub(crate) fn get(&self, set: SetKey) -> &[Given] {
        let start = self.members.partition_point(|given| given.set < set);
        let rest = self.members.get(start..).unwrap_or_default();
        rest.get(..rest.partition_point(|given| given.set == set))
            .unwrap_or_default()
    }

    /// The contextual tuple of a set and subject.
    pub(crate) fn find(&self, set: SetKey, subject: Subject) -> Option<&Given> {
        let wanted = (set, subject);
        let at = self
            .members
            .partition_point(|given| (given.set, given.subject) < wanted);
        let given = self.members.get(at)?;
        ((given.set, given.subject) == wanted).then_some(given)
    }

    /// The contextual tuples that a subject stands in.
    pub(crate) fn of_subject(&self, subject: Subject) -> impl Iterator<Item = &Given> {
        let of = move |given: &&Given| given.subject == subject;
        self.members.iter().filter(of)
    }

    /// A tuple by name.
    pub(crate) fn describe(&self, facts: &impl Facts, set: SetKey, subject: Subject) -> String {
        let of = |set: SetKey| {
            let relation = facts.symbols().relation_name(set.relation());
            format!("{}#{relation}", self.name(facts, set.object()))
        };
        match subject {
            Subject::Object(id) => format!("{}@{}", of(set), self.name(facts, id)),
            Subject::Userset(member) => format!("{}@{}", of(set), of(member)),
        }
    }

    /// Which restriction a subject would be admitted by.
    pub(crate) fn facet(&self, facts: &impl Facts, subject: Subject) -> Option<Facet> {
        Some(match subject {
            Subject::Userset(set) => {
                Facet::Userset(self.type_of(facts, set.object())?, set.relation())
            }
            Subject::Object(id) if self.is_wildcard(facts, id) => {
                Facet::Wildcard(self.type_of(facts, id)?)
            }
            Subject::Object(id) => Facet::Object(self.type_of(facts, id)?),
        })
    }

    pub(crate) fn is_wildcard(&self, facts: &impl Facts, id: ObjectId) -> bool {
        self.local(id)
            .map_or_else(|| facts.is_wildcard(id), |(name, _)| name.ends_with(":*"))
    }
}

fn local_id(index: usize) -> ObjectId {
    ObjectId(LOCAL_TOP - u32::try_from(index).unwrap_or(LOCAL_TOP))
}

fn wildcard_name<'a>(object_type: &str, buffer: &'a mut [u8; 256]) -> Option<&'a str> {
    let name = buffer.get_mut(..object_type.len() + 2)?;
    let (head, tail) = name.split_at_mut(object_type.len());
    head.copy_from_slice(object_type.as_bytes());
    tail.copy_from_slice(b":*");
    std::str::from_utf8(name).ok()
}
