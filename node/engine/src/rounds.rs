//! The part of a store that one request has read so far.
//!
//! Central and regional nodes evaluate in rounds: the evaluator runs over what is known, says what it missed, all of
//! that is read in one query, and it runs again. The number of rounds is the depth of the graph, not its size, and of a
//! set with a million direct users only the asked one is ever read.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use meridian_model::ports::Read;
use meridian_model::{Object, Subject as TupleSubject, Tuple};

use crate::bound::{Binding, Conditioned};
use crate::facts::{Facts, Members, ObjectId, SetKey, SetRef, Subject, intern, type_part};
use crate::names::Names;
use crate::symbols::{RelationId, Symbols, TypeId};

/// What a request has read, all of one snapshot. What was read for one user is good for questions about that user only.
pub struct RoundFacts {
    symbols: Symbols,
    names: Names,
    direct: HashMap<SetKey, Set, FixedState>,
    parents: HashMap<SetKey, Set, FixedState>,
    members: HashMap<SetKey, Set, FixedState>,
    objects: HashMap<(Subject, TypeId, RelationId), Objects, FixedState>,
}

/// Objects in whose relation a subject stands, and of each whether a condition is on it.
type Objects = Vec<(ObjectId, bool)>;

#[derive(Default)]
struct Set {
    objects: Vec<ObjectId>,
    usersets: Vec<SetKey>,
    conditioned: Conditioned,
}

impl Set {
    fn as_ref(&self) -> SetRef<'_> {
        SetRef {
            objects: Members::whole(&self.objects),
            usersets: Members::whole(&self.usersets),
            conditioned: (!self.conditioned.is_empty()).then_some(&self.conditioned),
        }
    }
}

impl RoundFacts {
    /// Nothing read yet. `symbols` are those the program was compiled with.
    pub fn new(symbols: &Arc<Symbols>) -> Self {
        Self {
            symbols: Symbols::clone(symbols),
            names: Names::default(),
            direct: HashMap::default(),
            parents: HashMap::default(),
            members: HashMap::default(),
            objects: HashMap::default(),
        }
    }

    /// Gives numbers to the names of a request, an object's or a user's and those of contextual tuples, so that they are
    /// found under the same ones in every round.
    pub fn know(&mut self, name: &str, contextual: &[Tuple]) {
        let object = name.split_once('#').map_or(name, |(of, _)| of);
        let wildcard = format!("{}:*", type_part(object));
        for name in [object, &wildcard] {
            intern(&mut self.names, &mut self.symbols, name);
        }
        for Tuple { key, .. } in contextual {
            intern(&mut self.names, &mut self.symbols, key.object.as_str());
            self.subject(&key.subject);
        }
    }

    /// Takes in what a round read: for each of `reads`, in their order, the tuples found.
    pub fn add(&mut self, reads: &[Read], found: &[Vec<Tuple>]) {
        for (read, tuples) in reads.iter().zip(found) {
            match read {
                Read::Direct {
                    object, relation, ..
                }
                | Read::Parents { object, relation }
                | Read::Members { object, relation } => {
                    let Some(key) = self.set_key(object, relation) else {
                        continue;
                    };
                    let set = self.set(tuples);
                    match read {
                        Read::Direct { .. } => self.direct.insert(key, set),
                        Read::Parents { .. } => self.parents.insert(key, set),
                        _ => self.members.insert(key, set),
                    };
                }
                Read::Objects {
                    subject,
                    object_type,
                    relation,
                } => {
                    let (Some(subject), Some(object_type), Some(relation)) = (
                        self.subject(subject),
                        self.symbols.object_type(object_type),
                        self.symbols.relation(relation),
                    ) else {
                        continue;
                    };
                    let objects = tuples
                        .iter()
                        .filter_map(|tuple| {
                            let name = tuple.key.object.as_str();
                            let id = intern(&mut self.names, &mut self.symbols, name)?;
                            Some((id, tuple.condition.is_some()))
                        })
                        .collect();
                    self.objects
                        .insert((subject, object_type, relation), objects);
                }
            }
        }
    }

    fn set(&mut self, tuples: &[Tuple]) -> Set {
        let mut set = Set::default();
        for tuple in tuples {
            // `None` for a userset of a relation that the model does not name.
            let Some(subject) = self.subject(&tuple.key.subject) else {
                continue;
            };
            match (&tuple.condition, subject) {
                (Some(condition), subject) => {
                    let binding = Arc::new(Binding::new(condition.clone()));
                    set.conditioned.insert(subject, binding);
                }
                (None, Subject::Object(id)) => set.objects.push(id),
                (None, Subject::Userset(of)) => set.usersets.push(of),
            }
        }
        set.objects.sort_unstable();
        set.usersets.sort_unstable();
        set
    }

    /// Every set read so far, each once.
    pub fn sets_read(&self) -> impl Iterator<Item = (&str, &str)> {
        let parents_only = self
            .parents
            .keys()
            .filter(|key| !self.direct.contains_key(*key));
        self.direct.keys().chain(parents_only).map(|key| {
            (
                self.names.text(key.object()),
                self.symbols.relation_name(key.relation()),
            )
        })
    }

    fn set_key(&mut self, object: &Object, relation: &str) -> Option<SetKey> {
        let relation: RelationId = self.symbols.relation(relation)?;
        Some(SetKey::new(
            intern(&mut self.names, &mut self.symbols, object.as_str())?,
            relation,
        ))
    }

    fn subject(&mut self, subject: &TupleSubject) -> Option<Subject> {
        let (names, symbols) = (&mut self.names, &mut self.symbols);
        Some(match subject {
            TupleSubject::Object(object) => {
                Subject::Object(intern(names, symbols, object.as_str())?)
            }
            TupleSubject::Wildcard(object_type) => {
                Subject::Object(intern(names, symbols, &format!("{object_type}:*"))?)
            }
            TupleSubject::Userset(object, relation) => {
                Subject::Userset(self.set_key(object, relation)?)
            }
        })
    }
}

impl Facts for RoundFacts {
    fn object(&self, name: &str) -> Option<ObjectId> {
        self.names.get(name)
    }

    fn object_name(&self, id: ObjectId) -> &str {
        self.names.text(id)
    }

    fn type_of(&self, id: ObjectId) -> Option<TypeId> {
        self.names.type_of(id)
    }

    fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    fn direct(&self, object_type: TypeId, set: SetKey) -> Option<SetRef<'_>> {
        let read = self.direct.get(&set).map(Set::as_ref);
        read.or_else(|| self.members(object_type, set))
    }

    fn parents(&self, object_type: TypeId, set: SetKey) -> Option<SetRef<'_>> {
        let read = self.parents.get(&set).map(Set::as_ref);
        read.or_else(|| self.members(object_type, set))
    }

    fn members(&self, _: TypeId, set: SetKey) -> Option<SetRef<'_>> {
        let read = self.members.get(&set).map(Set::as_ref);
        // No tuple has a typed wildcard as its object, but ListUsers may be asked about one.
        read.or_else(|| self.is_wildcard(set.object()).then_some(SetRef::EMPTY))
    }

    fn objects_of(
        &self,
        subject: Subject,
        object_type: TypeId,
        relation: RelationId,
    ) -> Option<impl Iterator<Item = (ObjectId, bool)>> {
        let objects = self.objects.get(&(subject, object_type, relation))?;
        Some(objects.iter().copied())
    }
}
