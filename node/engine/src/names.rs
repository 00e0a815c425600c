//! The object names of a view: each text once, in one byte arena, known by a `u32`.
//!
//! A typed wildcard `user:*` is a name like any other. Requests only look names up. A number
//! means the same name until the view forgets the names that are no longer in use, and numbers the others anew.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use imbl::shared_ptr::DefaultSharedPtr;

use crate::symbols::TypeId;

/// Number of an object's name within one view (or one request).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(pub(crate) u32);

/// Names added since the last fold are moved into the arena when they exceed this share of it (and [`FOLD_MIN`]).
const FOLD_SHARE: usize = 4;
const FOLD_MIN: usize = 1024;

/// The names. Cloning is cheap: the arena is shared, what was added since is a persistent map.
#[derive(Clone)]
pub(crate) struct Names {
    arena: Arc<Arena>,
    added: imbl::Vector<(Arc<str>, TypeId)>,
    added_ids: imbl::GenericHashMap<Arc<str>, u32, RandomState, DefaultSharedPtr>,
    /// Bytes of those in `added`.
    added_bytes: usize,
    limit: Limit,
}

/// So many bytes of text are held at most, and so many names.
#[derive(Clone, Copy)]
pub(crate) struct Limit(pub(crate) u32);

impl Limit {
    /// What the arena's numbers reach to.
    pub(crate) const MOST: Self = Self(u32::MAX);

    fn allows(self, names: usize, bytes: usize) -> bool {
        names.max(bytes) <= self.0 as usize
    }
}

impl Default for Names {
    fn default() -> Self {
        Self::new(Limit::MOST)
    }
}

#[derive(Default)]
struct Arena {
    bytes: Vec<u8>,
    /// End of each name in `bytes`; its start is the end of the one before.
    ends: Vec<u32>,
    types: Vec<TypeId>,
    table: HashTable<u32>,
    hasher: RandomState,
}

impl Arena {
    fn text(&self, index: usize) -> Option<&str> {
        std::str::from_utf8(self.bytes(index)?).ok()
    }

    fn bytes(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let start = index
            .checked_sub(1)
            .and_then(|before| self.ends.get(before))
            .map_or(0, |start| *start);
        self.bytes.get(start as usize..end as usize)
    }

    fn find(&self, name: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(name.as_bytes());
        self.table
            .find(hash, |&id| self.bytes(id as usize) == Some(name.as_bytes()))
            .copied()
    }

    /// Adds a name; `None`, and it is not added, when `limit` would be passed.
    fn push(&mut self, name: &str, object_type: TypeId, limit: Limit) -> Option<()> {
        let bytes = self.bytes.len() + name.len();
        if !limit.allows(self.ends.len() + 1, bytes) {
            return None;
        }
        let end = u32::try_from(bytes).ok()?;
        self.bytes.extend_from_slice(name.as_bytes());
        self.ends.push(end);
        self.types.push(object_type);
        Some(())
    }

    /// Rebuilds the table over all names.
    fn index(&mut self) {
        let mut table = HashTable::with_capacity(self.ends.len());
        let hash = |arena: &Self, id: u32| {
            arena
                .hasher
                .hash_one(arena.bytes(id as usize).unwrap_or_default())
        };
        for id in 0..u32::try_from(self.ends.len()).unwrap_or(u32::MAX) {
            table.insert_unique(hash(self, id), id, |&other| hash(self, other));
        }
        self.table = table;
    }
}

impl Names {
    pub(crate) fn new(limit: Limit) -> Self {
        Self {
            arena: Arc::default(),
            added: imbl::Vector::default(),
            added_ids: imbl::GenericHashMap::default(),
            added_bytes: 0,
            limit,
        }
    }

    pub(crate) fn limit(&self) -> Limit {
        self.limit
    }

    pub(crate) fn get(&self, name: &str) -> Option<ObjectId> {
        if !self.added_ids.is_empty()
            && let Some(id) = self.added_ids.get(name)
        {
            return Some(ObjectId(*id));
        }
        self.arena.find(name).map(ObjectId)
    }

    /// The name's number, new if need be; `None` when there is no room for it.
    pub(crate) fn add(&mut self, name: &str, object_type: TypeId) -> Option<ObjectId> {
        if let Some(id) = self.get(name) {
            return Some(id);
        }
        let bytes = self.arena.bytes.len() + self.added_bytes + name.len();
        if !self.limit.allows(self.len() + 1, bytes) {
            return None;
        }
        let id = u32::try_from(self.len()).ok()?;
        self.added_bytes += name.len();
        let name: Arc<str> = name.into();
        self.added.push_back((name.clone(), object_type));
        self.added_ids.insert(name, id);
        if self.added.len() > FOLD_MIN.max(self.arena.ends.len() / FOLD_SHARE) {
            self.fold();
        }
        Some(ObjectId(id))
    }

    pub(crate) fn text(&self, id: ObjectId) -> &str {
        let index = id.0 as usize;
        match index.checked_sub(self.arena.ends.len()) {
            None => self.arena.text(index).unwrap_or_default(),
            Some(added) => self.added.get(added).map_or("", |(name, _)| name),
        }
    }

    /// Whether it is a typed wildcard.
    pub(crate) fn is_wildcard(&self, id: ObjectId) -> bool {
        match self.arena.bytes(id.0 as usize) {
            Some(name) => name.ends_with(b":*"),
            None => self.text(id).ends_with(":*"),
        }
    }

    pub(crate) fn type_of(&self, id: ObjectId) -> Option<TypeId> {
        let index = id.0 as usize;
        match index.checked_sub(self.arena.ends.len()) {
            None => self.arena.types.get(index).copied(),
            Some(added) => self.added.get(added).map(|(_, object_type)| *object_type),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.arena.ends.len() + self.added.len()
    }

    /// Moves everything into one arena.
    pub(crate) fn fold(&mut self) {
        let mut arena = Arena {
            bytes: self.arena.bytes.clone(),
            ends: self.arena.ends.clone(),
            types: self.arena.types.clone(),
            ..Arena::default()
        };
        for (name, object_type) in &self.added {
            // There is room: `add` saw to it.
            let _ = arena.push(name, *object_type, self.limit);
        }
        arena.index();
        *self = Self {
            arena: Arc::new(arena),
            ..Self::new(self.limit)
        };
    }

    /// Names in the order of their numbers, from outside; the caller numbered them so. `None` when they are more than
    /// `limit`.
    pub(crate) fn from_ordered<'a>(
        mut names: impl Iterator<Item = (&'a str, TypeId)>,
        limit: Limit,
    ) -> Option<Self> {
        let mut arena = Arena::default();
        names.try_for_each(|(name, object_type)| arena.push(name, object_type, limit))?;
        arena.index();
        Some(Self {
            arena: Arc::new(arena),
            ..Self::new(limit)
        })
    }
}
