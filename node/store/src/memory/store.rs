//! One store in memory. Everything is persistent maps: a clone is cheap and never changes.

use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use meridian_model::AuthorizationModel;
use meridian_model::change::{Change, ChangeSet, StoreInfo, StoredModel, Tiers};
use meridian_model::ids::{ModelId, Position, Revision, Timestamp};
use meridian_model::ports::{
    ChangeCursor, DatastoreError, Read, Result, StoreHead, StoreRecord, TupleChange, TupleFilter,
    WriteOptions,
};
use meridian_model::tuple::{Object, Subject, Tuple, TupleCondition, TupleKey};

/// The lowest character that an object's id may hold: where the ids of a type begin.
const LOWEST_ID: &str = "!";

/// A tuple's value beside its key.
type Stored = (Option<TupleCondition>, Timestamp);

#[derive(Clone)]
pub(super) struct Store {
    pub(super) info: StoreInfo,
    pub(super) position: Position,
    pub(super) deleted_at: Option<Timestamp>,
    pub(super) models: OrdMap<ModelId, Arc<AuthorizationModel>>,
    /// Not of any revision.
    pub(super) assertions: OrdMap<ModelId, Box<str>>,
    pub(super) tiers: Tiers,
    pub(super) log: OrdMap<Revision, Arc<ChangeSet>>,
    tuples: OrdMap<TupleKey, Stored>,
    /// Keys whose subject is a userset, so that an object's direct users need not be walked to find them.
    usersets: OrdSet<TupleKey>,
    by_subject: OrdSet<BySubject>,
}

impl Store {
    /// A store of which nothing has been committed yet.
    pub(super) fn new(info: StoreInfo) -> Self {
        Self {
            info,
            position: Position::default(),
            deleted_at: None,
            models: OrdMap::new(),
            assertions: OrdMap::new(),
            tiers: Tiers::default(),
            log: OrdMap::new(),
            tuples: OrdMap::new(),
            usersets: OrdSet::new(),
            by_subject: OrdSet::new(),
        }
    }

    /// A store as the head of a snapshot says, without tuples and history.
    pub(super) fn from_head(head: &StoreHead) -> Self {
        let mut store = Self::new(head.info.clone());
        store.position = head.position;
        store.deleted_at = head.deleted_at;
        store.models = head
            .models
            .iter()
            .map(|m| (m.id, Arc::clone(&m.model)))
            .collect();
        store.tiers = head.tiers.clone();
        store
    }

    pub(super) fn latest_model(&self) -> Option<ModelId> {
        self.models.get_max().map(|(id, _)| *id)
    }

    pub(super) fn record(&self) -> StoreRecord {
        StoreRecord {
            info: self.info.clone(),
            position: self.position,
            deleted_at: self.deleted_at,
        }
    }

    pub(super) fn head(&self) -> StoreHead {
        StoreHead {
            info: self.info.clone(),
            position: self.position,
            models: self
                .models
                .iter()
                .map(|(id, model)| StoredModel {
                    id: *id,
                    model: Arc::clone(model),
                })
                .collect(),
            tiers: self.tiers.clone(),
            deleted_at: self.deleted_at,
        }
    }

    /// The changes of a Write; fails as a whole without effect.
    pub(super) fn tuple_changes(
        &self,
        deletes: &[TupleKey],
        writes: &[Tuple],
        options: WriteOptions,
        at: Timestamp,
    ) -> Result<Vec<Change>> {
        let mut after = self.tuples.clone();
        let mut changes = Vec::with_capacity(deletes.len() + writes.len());
        for key in deletes {
            if after.remove(key).is_some() {
                changes.push(Change::TupleDeleted(key.clone()));
            } else if !options.ignore_missing {
                return Err(DatastoreError::TupleMissing(key.clone()));
            }
        }
        for tuple in writes {
            match after.get(&tuple.key) {
                None => {}
                Some(_) if !options.ignore_duplicate => {
                    return Err(DatastoreError::TupleExists(tuple.key.clone()));
                }
                Some((condition, _)) if *condition == tuple.condition => continue,
                Some(_) => return Err(DatastoreError::ConditionDiffers(tuple.key.clone())),
            }
            after.insert(tuple.key.clone(), (tuple.condition.clone(), at));
            changes.push(Change::TupleWritten(Tuple {
                timestamp: at,
                ..tuple.clone()
            }));
        }
        Ok(changes)
    }

    /// Takes a committed change set in. What is there already is overwritten and what is gone stays gone, so that
    /// replication is idempotent.
    pub(super) fn apply(&mut self, change_set: Arc<ChangeSet>) {
        for change in &change_set.changes {
            match change {
                Change::TupleWritten(tuple) => self.insert(tuple.clone()),
                Change::TupleDeleted(key) => {
                    self.tuples.remove(key);
                    self.usersets.remove(key);
                    self.by_subject.remove(&BySubject(key.clone()));
                }
                Change::ModelWritten(stored) => {
                    self.models.insert(stored.id, Arc::clone(&stored.model));
                }
                Change::StoreCreated(info) => self.info = info.clone(),
                Change::StoreDeleted => {
                    self.deleted_at = Some(change_set.committed_at);
                    self.tuples = OrdMap::new();
                    self.usersets = OrdSet::new();
                    self.by_subject = OrdSet::new();
                    self.models = OrdMap::new();
                    self.assertions = OrdMap::new();
                }
                Change::TiersAssigned(tiers) => self.tiers = tiers.clone(),
            }
        }
        self.position = change_set.position();
        self.log.insert(change_set.revision, change_set);
    }

    /// See [`meridian_model::ports::Datastore::change_sets`].
    pub(super) fn change_sets(&self, after: Revision, limit: u32) -> Result<Vec<ChangeSet>> {
        let oldest = self
            .log
            .get_min()
            .map_or(self.position.revision.next(), |(revision, _)| *revision);
        if after < self.position.revision && after.next() < oldest {
            return Err(DatastoreError::Trimmed { oldest });
        }
        Ok(self
            .log
            .range(after.next()..)
            .take(limit as usize)
            .map(|(_, set)| ChangeSet::clone(set))
            .collect())
    }

    /// Forgets the history before a revision.
    pub(super) fn trim(&mut self, first_kept: Revision) {
        self.log = self
            .log
            .range(first_kept..)
            .map(|(revision, set)| (*revision, Arc::clone(set)))
            .collect();
    }

    pub(super) fn insert(&mut self, tuple: Tuple) {
        if matches!(tuple.key.subject, Subject::Userset(..)) {
            self.usersets.insert(tuple.key.clone());
        }
        self.by_subject.insert(BySubject(tuple.key.clone()));
        self.tuples
            .insert(tuple.key, (tuple.condition, tuple.timestamp));
    }

    pub(super) fn tuple_count(&self) -> usize {
        self.tuples.len()
    }

    /// Tuples that match, in key order, from behind `after`.
    pub(super) fn filtered<'a>(
        &'a self,
        filter: &'a TupleFilter,
        after: Option<&TupleKey>,
    ) -> impl Iterator<Item = Tuple> + 'a {
        let first = filter
            .object_type
            .as_deref()
            .and_then(|object_type| first_key(object_type, filter.object_id.as_deref()));
        let start = match (after, first) {
            (Some(after), Some(first)) if *after < first => Bound::Included(first),
            (Some(after), _) => Bound::Excluded(after.clone()),
            (None, Some(first)) => Bound::Included(first),
            (None, None) => Bound::Unbounded,
        };
        self.tuples
            .range((start, Bound::Unbounded))
            .take_while(move |(key, _)| within(filter, key))
            .filter(move |(key, _)| {
                filter
                    .relation
                    .as_deref()
                    .is_none_or(|relation| relation == &*key.relation)
                    && filter
                        .subject
                        .as_ref()
                        .is_none_or(|subject| *subject == key.subject)
            })
            .map(tuple)
    }

    /// One round of an evaluation; see [`meridian_model::ports::Snapshot::read`].
    pub(super) fn read(&self, reads: &[Read], limit: u32) -> Option<Vec<Vec<Tuple>>> {
        let mut left = limit as usize;
        let answer = |read| {
            let found: Vec<Tuple> = self.answer(read).take(left.saturating_add(1)).collect();
            left = left.checked_sub(found.len())?;
            Some(found)
        };
        reads.iter().map(answer).collect()
    }

    fn answer<'a>(&'a self, read: &'a Read) -> Box<dyn Iterator<Item = Tuple> + 'a> {
        match read {
            Read::Direct {
                object,
                relation,
                user,
            } => Box::new(self.direct(object, relation, user)),
            Read::Parents { object, relation } => Box::new(
                self.members(object, relation)
                    .filter(|(key, _)| matches!(key.subject, Subject::Object(_)))
                    .map(tuple),
            ),
            Read::Members { object, relation } => {
                Box::new(self.members(object, relation).map(tuple))
            }
            Read::Objects {
                subject,
                object_type,
                relation,
            } => Box::new(self.objects(subject, object_type, relation)),
        }
    }

    fn direct<'a>(
        &'a self,
        object: &'a Object,
        relation: &'a str,
        user: &Subject,
    ) -> impl Iterator<Item = Tuple> + 'a {
        let start = lowest(object.clone(), relation);
        let usersets = self
            .usersets
            .range(start..)
            .take_while(move |key| key.object == *object && &*key.relation == relation)
            .cloned();
        // Any userset is among those already, and a wildcard is its own.
        let wildcard = Subject::Wildcard(user.subject_type().into());
        let user = Some(user).filter(|user| matches!(user, Subject::Object(_)));
        let points = user.cloned().into_iter().chain([wildcard]);
        points
            .map(|subject| TupleKey {
                object: object.clone(),
                relation: relation.into(),
                subject,
            })
            .chain(usersets)
            .filter_map(|key| self.tuples.get_key_value(&key).map(tuple))
    }

    fn members<'a>(
        &'a self,
        object: &'a Object,
        relation: &'a str,
    ) -> impl Iterator<Item = (&'a TupleKey, &'a Stored)> + 'a {
        self.tuples
            .range(lowest(object.clone(), relation)..)
            .take_while(move |(key, _)| key.object == *object && &*key.relation == relation)
    }

    fn objects<'a>(
        &'a self,
        subject: &'a Subject,
        object_type: &'a str,
        relation: &'a str,
    ) -> impl Iterator<Item = Tuple> + 'a {
        let first = Object::new(object_type, LOWEST_ID).ok().map(|object| {
            BySubject(TupleKey {
                object,
                relation: relation.into(),
                subject: subject.clone(),
            })
        });
        let keys = first.map(|first| self.by_subject.range(first..));
        keys.into_iter()
            .flatten()
            .map(|BySubject(key)| key)
            .take_while(move |key| {
                key.subject == *subject
                    && key.object.object_type() == object_type
                    && &*key.relation == relation
            })
            .filter_map(|key| self.tuples.get_key_value(key).map(tuple))
    }
}

/// A tuple's key in the order of subject, type and relation, by which the objects of a subject stand together.
#[derive(Debug, Clone, PartialEq, Eq)]
struct BySubject(TupleKey);

impl BySubject {
    fn parts(&self) -> (&Subject, &str, &str, &str) {
        let Self(key) = self;
        let object = &key.object;
        (
            &key.subject,
            object.object_type(),
            &key.relation,
            object.id(),
        )
    }
}

impl Ord for BySubject {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl PartialOrd for BySubject {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn tuple((key, (condition, timestamp)): (&TupleKey, &Stored)) -> Tuple {
    Tuple {
        key: key.clone(),
        condition: condition.clone(),
        timestamp: *timestamp,
    }
}

/// A key that no key of `object#relation` precedes: no type's name is empty.
fn lowest(object: Object, relation: &str) -> TupleKey {
    TupleKey {
        object,
        relation: relation.into(),
        subject: Subject::Wildcard("".into()),
    }
}

fn first_key(object_type: &str, id: Option<&str>) -> Option<TupleKey> {
    Some(lowest(
        Object::new(object_type, id.unwrap_or(LOWEST_ID)).ok()?,
        "",
    ))
}

/// Whether a key lies in the filter's range of the key order; none follows the first that does not.
fn within(filter: &TupleFilter, key: &TupleKey) -> bool {
    filter
        .object_type
        .as_deref()
        .is_none_or(|object_type| object_type == key.object.object_type())
        && filter
            .object_id
            .as_deref()
            .is_none_or(|id| id == key.object.id())
}

/// The tuple changes of a change set, each with its place.
pub(super) fn rows_of(set: &ChangeSet) -> impl Iterator<Item = TupleChange> + '_ {
    let numbered = (0u32..).zip(&set.changes);
    numbered.filter_map(move |(ordinal, change)| {
        let (tuple, deleted) = match change {
            Change::TupleWritten(tuple) => (tuple.clone(), false),
            Change::TupleDeleted(key) => (
                Tuple {
                    key: key.clone(),
                    condition: None,
                    timestamp: set.committed_at,
                },
                true,
            ),
            _ => return None,
        };
        Some(TupleChange {
            cursor: ChangeCursor {
                revision: set.revision,
                ordinal,
            },
            tuple,
            deleted,
        })
    })
}
