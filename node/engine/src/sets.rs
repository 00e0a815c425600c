//! The sets `object#relation` of a view: compact arrays, and beside them what changed since they were laid out.
//!
//! A shard's arrays are never changed. A change makes a new shard that shares them and holds the difference in a
//! persistent map; when the difference has grown, the shard's arrays are laid out anew, one shard at a time, so no
//! change ever waits for the whole view.

use std::sync::Arc;

use foldhash::fast::FixedState;
use std::hash::BuildHasher;

use hashbrown::HashTable;
use imbl::shared_ptr::DefaultSharedPtr;

use crate::facts::{Members, SetKey, SetRef};
use crate::names::ObjectId;

const SHARDS: usize = 64;
/// A shard is laid out anew when more than this share of its sets differ (and more than [`FOLD_MIN`]), or when one set's
/// difference has grown long ([`Shard::longest`]).
const FOLD_SHARE: usize = 4;
const FOLD_MIN: usize = 64;

/// A tuple's subject by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// An object, or a typed wildcard.
    Object(ObjectId),
    /// A userset.
    Userset(SetKey),
}

impl Subject {
    /// The object, of a userset its own.
    pub(crate) fn object(self) -> ObjectId {
        match self {
            Self::Object(id) => id,
            Self::Userset(set) => set.object(),
        }
    }
}

#[derive(Clone)]
pub(crate) struct Sets {
    shards: Arc<[Arc<Shard>]>,
}

#[derive(Clone, Default)]
struct Shard {
    base: Arc<Base>,
    delta: imbl::GenericHashMap<SetKey, Arc<Delta>, FixedState, DefaultSharedPtr>,
}

#[derive(Default)]
struct Base {
    sets: HashTable<BaseSet>,
    objects: Vec<ObjectId>,
    usersets: Vec<SetKey>,
}

/// A set, with the ranges of its members in the two arrays.
#[derive(Clone, Copy)]
struct BaseSet {
    key: SetKey,
    objects: (u32, u32),
    usersets: (u32, u32),
}

#[derive(Clone, Default)]
struct Delta {
    objects: Difference<ObjectId>,
    usersets: Difference<SetKey>,
}

/// Sorted, disjoint; what was added is not in the base, what was removed is.
#[derive(Clone)]
struct Difference<T> {
    added: Vec<T>,
    removed: Vec<T>,
}

impl<T> Default for Difference<T> {
    fn default() -> Self {
        Self {
            added: Vec::new(),
            removed: Vec::new(),
        }
    }
}

impl<T: Ord + Copy> Difference<T> {
    fn len(&self) -> usize {
        self.added.len() + self.removed.len()
    }

    fn change(&mut self, member: T, in_base: bool, present: bool) {
        // Each of the two lists holds exactly what differs from the base.
        set_presence(&mut self.added, member, present && !in_base);
        set_presence(&mut self.removed, member, !present && in_base);
    }
}

fn set_presence<T: Ord>(sorted: &mut Vec<T>, member: T, present: bool) {
    match (sorted.binary_search(&member), present) {
        (Err(at), true) => sorted.insert(at, member),
        (Ok(at), false) => {
            sorted.remove(at);
        }
        _ => {}
    }
}

fn hash(key: SetKey) -> u64 {
    FixedState::default().hash_one(key.0)
}

impl Base {
    fn get(&self, key: SetKey) -> Option<(&[ObjectId], &[SetKey])> {
        let set = self.sets.find(hash(key), |set| set.key == key)?;
        let range = |(start, end): (u32, u32)| start as usize..end as usize;
        Some((
            self.objects.get(range(set.objects))?,
            self.usersets.get(range(set.usersets))?,
        ))
    }

    /// Adds a set that is not there yet, unless it is empty.
    fn push(
        &mut self,
        key: SetKey,
        objects: impl Iterator<Item = ObjectId>,
        usersets: impl Iterator<Item = SetKey>,
    ) {
        let length = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let start = (length(self.objects.len()), length(self.usersets.len()));
        self.objects.extend(objects);
        self.usersets.extend(usersets);
        let end = (length(self.objects.len()), length(self.usersets.len()));
        if end == start {
            return;
        }
        let set = BaseSet {
            key,
            objects: (start.0, end.0),
            usersets: (start.1, end.1),
        };
        self.sets.insert_unique(hash(key), set, |set| hash(set.key));
    }

    fn shrink(&mut self) {
        self.sets.shrink_to_fit(|set| hash(set.key));
        self.objects.shrink_to_fit();
        self.usersets.shrink_to_fit();
    }
}

impl Shard {
    fn get(&self, key: SetKey) -> SetRef<'_> {
        let (objects, usersets) = self.base.get(key).unwrap_or_default();
        match (!self.delta.is_empty())
            .then(|| self.delta.get(&key))
            .flatten()
        {
            None => SetRef {
                objects: Members::whole(objects),
                usersets: Members::whole(usersets),
                conditioned: None,
            },
            Some(delta) => SetRef {
                objects: Members {
                    base: objects,
                    added: &delta.objects.added,
                    removed: &delta.objects.removed,
                },
                usersets: Members {
                    base: usersets,
                    added: &delta.usersets.added,
                    removed: &delta.usersets.removed,
                },
                conditioned: None,
            },
        }
    }

    fn change(&mut self, key: SetKey, subject: Subject, present: bool) {
        let (objects, usersets) = self.base.get(key).unwrap_or_default();
        let mut delta = self
            .delta
            .get(&key)
            .map(|delta| (**delta).clone())
            .unwrap_or_default();
        match subject {
            Subject::Object(id) => {
                delta
                    .objects
                    .change(id, objects.binary_search(&id).is_ok(), present)
            }
            Subject::Userset(set) => {
                delta
                    .usersets
                    .change(set, usersets.binary_search(&set).is_ok(), present)
            }
        }
        let long = delta.objects.len() + delta.usersets.len() > self.longest();
        self.delta.insert(key, Arc::new(delta));
        if long || self.delta.len() > FOLD_MIN.max(self.base.sets.len() / FOLD_SHARE) {
            self.lay_out(|_| true);
        }
    }

    /// How far one set may differ. Each change copies its set's difference, and laying out copies all members: of the
    /// two, neither is more than about the square root of the members for each change.
    fn longest(&self) -> usize {
        let members = self.base.objects.len() + self.base.usersets.len();
        FOLD_MIN.max((2 * members).isqrt())
    }

    /// Every set that is not empty.
    fn iter(&self) -> impl Iterator<Item = (SetKey, SetRef<'_>)> {
        let in_base = self.base.sets.iter().map(|set| set.key);
        let only_in_delta = self
            .delta
            .keys()
            .copied()
            .filter(|key| self.base.get(*key).is_none());
        in_base
            .chain(only_in_delta)
            .map(|key| (key, self.get(key)))
            .filter(|(_, set)| !set.is_empty())
    }

    fn lay_out(&mut self, keep: impl Fn(SetKey) -> bool) {
        let mut base = Base::default();
        for (key, set) in self.iter().filter(|(key, _)| keep(*key)) {
            base.push(key, set.objects.iter(), set.usersets.iter());
        }
        base.shrink();
        *self = Self {
            base: Arc::new(base),
            delta: imbl::GenericHashMap::default(),
        };
    }
}

impl Default for Sets {
    fn default() -> Self {
        Self {
            shards: std::iter::repeat_with(Arc::default).take(SHARDS).collect(),
        }
    }
}

impl Sets {
    fn shard_of(key: SetKey) -> usize {
        key.object().0 as usize % SHARDS
    }

    /// A set; empty when nothing of it is held.
    pub(crate) fn get(&self, key: SetKey) -> SetRef<'_> {
        self.shards
            .get(Self::shard_of(key))
            .map_or(SetRef::EMPTY, |shard| shard.get(key))
    }

    /// Every set that is not empty, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SetKey, SetRef<'_>)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    /// Puts a member in or takes it out. Doing so twice changes nothing.
    pub(crate) fn change(&mut self, key: SetKey, subject: Subject, present: bool) {
        if let Some(shard) = Arc::make_mut(&mut self.shards).get_mut(Self::shard_of(key)) {
            Arc::make_mut(shard).change(key, subject, present);
        }
    }

    /// Frees the sets that `keep` refuses, and lays the rest out anew.
    pub(crate) fn retain(&mut self, keep: impl Fn(SetKey) -> bool) {
        for shard in Arc::make_mut(&mut self.shards) {
            Arc::make_mut(shard).lay_out(&keep);
        }
    }

    /// Adds many members at once, of sets of which nothing is held yet.
    pub(crate) fn extend(&mut self, mut members: Vec<(SetKey, Subject)>) {
        members.sort_unstable_by_key(|(key, subject)| (Self::shard_of(*key), *key, *subject));
        members.dedup();
        let mut rest = members.as_slice();
        for (number, shard) in Arc::make_mut(&mut self.shards).iter_mut().enumerate() {
            let (mine, others) =
                rest.split_at(rest.partition_point(|(key, _)| Self::shard_of(*key) == number));
            rest = others;
            if mine.is_empty() {
                continue;
            }
            let mut base = Base::default();
            for (key, set) in shard.iter() {
                base.push(key, set.objects.iter(), set.usersets.iter());
            }
            for set in mine.chunk_by(|a, b| a.0 == b.0) {
                let Some((key, _)) = set.first() else {
                    continue;
                };
                let objects = set.iter().filter_map(|(_, subject)| {
                    if let Subject::Object(id) = subject {
                        Some(*id)
                    } else {
                        None
                    }
                });
                let usersets = set.iter().filter_map(|(_, subject)| {
                    if let Subject::Userset(key) = subject {
                        Some(*key)
                    } else {
                        None
                    }
                });
                base.push(*key, objects, usersets);
            }
            base.shrink();
            *shard = Arc::new(Shard {
                base: Arc::new(base),
                delta: imbl::GenericHashMap::default(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_a_large_set_copies_little() {
        let key = SetKey(7);
        let mut sets = Sets::default();
        let mut longest = 0;
        for id in 0..20_000 {
            sets.change(key, Subject::Object(ObjectId(id)), true);
            let shard = &sets.shards[Sets::shard_of(key)];
            let delta = shard.delta.get(&key);
            longest = longest.max(delta.map_or(0, |delta| delta.objects.len()));
        }
        assert!(longest <= 200, "{longest} members copied by a change");
        assert_eq!(sets.get(key).objects.iter().count(), 20_000);
    }
}
