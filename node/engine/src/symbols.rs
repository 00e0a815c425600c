//! Numbers for the names of types and relations.
//!
//! There are few of them and they are asked for at every step of an evaluation, so each gets a small number once. A
//! table only grows: a number means the same name in every later version of the table, which lets models compiled
//! earlier keep theirs.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// Number of an object type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId(pub(crate) u16);

/// Number of a relation name. Relations of the same name share it, whatever their types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationId(pub(crate) u16);

/// The type and relation names met so far.
#[derive(Debug, Clone, Default)]
pub struct Symbols {
    types: Table,
    relations: Table,
}

#[derive(Debug, Clone, Default)]
struct Table {
    names: Vec<Box<str>>,
    ids: HashMap<Box<str>, u16, RandomState>,
}

impl Table {
    fn get(&self, name: &str) -> Option<u16> {
        self.ids.get(name).copied()
    }

    fn add(&mut self, name: &str) -> Option<u16> {
        if let Some(id) = self.get(name) {
            return Some(id);
        }
        let id = u16::try_from(self.names.len()).ok()?;
        self.names.push(name.into());
        self.ids.insert(name.into(), id);
        Some(id)
    }
}

impl Symbols {
    /// The type's number, if its name was ever met.
    pub fn object_type(&self, name: &str) -> Option<TypeId> {
        self.types.get(name).map(TypeId)
    }

    /// The relation's number, if its name was ever met.
    pub fn relation(&self, name: &str) -> Option<RelationId> {
        self.relations.get(name).map(RelationId)
    }

    /// The type's number, new if need be; `None` once 65,536 names are taken.
    pub fn add_type(&mut self, name: &str) -> Option<TypeId> {
        self.types.add(name).map(TypeId)
    }

    /// The relation's number, new if need be; `None` once 65,536 names are taken.
    pub fn add_relation(&mut self, name: &str) -> Option<RelationId> {
        self.relations.add(name).map(RelationId)
    }

    /// The type's name.
    pub fn type_name(&self, id: TypeId) -> &str {
        self.types
            .names
            .get(usize::from(id.0))
            .map_or("", |name| name)
    }

    /// The relation's name.
    pub fn relation_name(&self, id: RelationId) -> &str {
        self.relations
            .names
            .get(usize::from(id.0))
            .map_or("", |name| name)
    }

    pub(crate) fn type_names(&self) -> &[Box<str>] {
        &self.types.names
    }

    pub(crate) fn relation_names(&self) -> &[Box<str>] {
        &self.relations.names
    }
}
