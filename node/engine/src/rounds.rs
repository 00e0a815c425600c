//! The part of a store that one request has read so far.
//!
//! Central and regional nodes evaluate in rounds: the evaluator runs over what is known, says what it missed, all of
//! that is read in one query, and it runs again. The number of rounds is the depth of the graph, not its size, and of a
//! set with a million direct users only the asked one is ever read.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use meridian_model::ports::Read;
use meridian_model::{Object, Subject as TupleSubject, Tuple};

use crate::facts::{Facts, Members, ObjectId, SetKey, SetRef, intern};
use crate::names::Names;
use crate::symbols::{RelationId, Symbols, TypeId};

/// What a request has read, all of one snapshot.
pub struct RoundFacts {
    symbols: Symbols,
    names: Names,
    direct: HashMap<SetKey, Set, FixedState>,
    parents: HashMap<SetKey, Set, FixedState>,
}

#[derive(Default)]
struct Set {
    objects: Vec<ObjectId>,
    usersets: Vec<SetKey>,
}

impl Set {
    fn as_ref(&self) -> SetRef<'_> {
        SetRef {
            objects: Members::whole(&self.objects),
            usersets: Members::whole(&self.usersets),
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
        }
    }

    /// Takes in what a round read: for each of `reads`, the tuples found (none for a set without an entry).
    pub fn add(&mut self, reads: &[Read], mut found: BTreeMap<(Object, Box<str>), Vec<Tuple>>) {
        for read in reads {
            let (Read::Direct { object, relation } | Read::Parents { object, relation }) = read;
            let tuples = found.get_mut(&(object.clone(), relation.clone()));
            let Some(key) = self.set_key(object, relation) else {
                continue;
            };
            let mut set = Set::default();
            for tuple in tuples.into_iter().flat_map(|tuples| tuples.iter()) {
                self.member(&tuple.key.subject, &mut set);
            }
            set.objects.sort_unstable();
            set.usersets.sort_unstable();
            match read {
                Read::Direct { .. } => self.direct.insert(key, set),
                Read::Parents { .. } => self.parents.insert(key, set),
            };
        }
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

    /// Adds a subject to a set, unless it is a userset of a relation that the model does not name.
    fn member(&mut self, subject: &TupleSubject, set: &mut Set) {
        match subject {
            TupleSubject::Object(object) => {
                set.objects
                    .extend(intern(&mut self.names, &mut self.symbols, object.as_str()))
            }
            TupleSubject::Wildcard(object_type) => set.objects.extend(intern(
                &mut self.names,
                &mut self.symbols,
                &format!("{object_type}:*"),
            )),
            TupleSubject::Userset(object, relation) => {
                set.usersets.extend(self.set_key(object, relation))
            }
        }
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

    fn direct(&self, _: TypeId, set: SetKey) -> Option<SetRef<'_>> {
        self.direct.get(&set).map(Set::as_ref)
    }

    fn parents(&self, _: TypeId, set: SetKey) -> Option<SetRef<'_>> {
        self.parents.get(&set).map(Set::as_ref)
    }
}
