//! Stores as lists of change sets, and central, which writes them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use meridian_model::change::{Change, ChangeSet, StoreInfo, StoredModel, Tiers};
use meridian_model::ids::{Epoch, Position, Revision, StoreId, Timestamp};
use meridian_model::ports::StoreHead;
use meridian_model::tuple::{Tuple, TupleCondition, TupleKey};
use meridian_model::watermark::{Admit, admit};

use super::random::Random;

pub(crate) const TYPES: [&str; 4] = ["group", "folder", "doc", "log"];
pub(crate) const USERS: [&str; 4] = ["user:a", "user:b", "user:c", "user:d"];
const MODEL: &str = include_str!("model.json");

/// Tuples, with their conditions.
pub(crate) type Tuples = BTreeMap<TupleKey, Option<TupleCondition>>;

/// What a store holds at one position.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Facts {
    pub(crate) info: Option<StoreInfo>,
    pub(crate) tuples: Tuples,
    pub(crate) models: Vec<StoredModel>,
    pub(crate) tiers: Tiers,
    pub(crate) deleted: bool,
}

/// A store as a node with a database keeps it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept {
    pub(crate) position: Position,
    pub(crate) facts: Facts,
    /// Change sets still kept, oldest first, without gaps up to `position`.
    log: VecDeque<ChangeSet>,
}

impl Kept {
    /// Compare and set, as a datastore does it.
    pub(crate) fn apply(&mut self, set: &ChangeSet) -> Admit {
        let verdict = admit(self.position, set.position());
        if verdict == Admit::Apply {
            self.position = set.position();
            set.changes
                .iter()
                .for_each(|change| self.facts.change(change));
            self.log.push_back(set.clone());
        }
        verdict
    }

    /// `None` when trimmed. Nothing for another epoch: the position alone tells the asker.
    pub(crate) fn changes(&self, after: Position, limit: usize) -> Option<Vec<ChangeSet>> {
        if after.epoch != self.position.epoch || after.revision >= self.position.revision {
            return Some(Vec::new());
        }
        let first = self
            .log
            .front()
            .map_or(self.position.revision.next(), |set| set.revision);
        (first <= after.revision.next()).then(|| {
            self.log
                .iter()
                .filter(|set| set.revision > after.revision)
                .take(limit)
                .cloned()
                .collect()
        })
    }

    pub(crate) fn trim(&mut self, keep: usize) {
        while self.log.len() > keep {
            self.log.pop_front();
        }
    }

    pub(crate) fn head(&self) -> Option<StoreHead> {
        let facts = &self.facts;
        Some(StoreHead {
            info: facts.info.clone()?,
            position: self.position,
            models: facts.models.clone(),
            tiers: facts.tiers.clone(),
            deleted_at: facts.deleted.then_some(Timestamp(1)),
        })
    }

    pub(crate) fn replaced_by(other: &Self) -> Self {
        Self {
            log: VecDeque::new(),
            ..other.clone()
        }
    }
}

impl Facts {
    fn change(&mut self, change: &Change) {
        match change {
            Change::TupleWritten(tuple) => {
                let condition = tuple.condition.clone();
                self.tuples.insert(tuple.key.clone(), condition);
            }
            Change::TupleDeleted(key) => drop(self.tuples.remove(key)),
            Change::ModelWritten(model) => self.models.push(model.clone()),
            Change::StoreCreated(info) => self.info = Some(info.clone()),
            Change::StoreDeleted => {
                *self = Self {
                    info: self.info.take(),
                    deleted: true,
                    ..Self::default()
                }
            }
            Change::TiersAssigned(tiers) => self.tiers = tiers.clone(),
        }
    }

    pub(crate) fn of_type(&self, object_type: &str) -> Tuples {
        let mut tuples = self.tuples.clone();
        tuples.retain(|key, _| key.object.object_type() == object_type);
        tuples
    }
}

/// A change set waiting to be published, and the tiers in force after it.
pub(crate) type OutboxRow = (ChangeSet, Tiers);

/// The writer, and everything that ever was true.
#[derive(Default)]
pub(crate) struct Central {
    pub(crate) epoch: u64,
    pub(crate) stores: BTreeMap<StoreId, Kept>,
    pub(crate) outbox: Vec<OutboxRow>,
    history: HashMap<(StoreId, Position), Arc<Facts>>,
    /// When each position was committed, and each reign began.
    committed: HashMap<(StoreId, Position), Duration>,
    reigns: BTreeMap<u64, Duration>,
    pub(crate) now: Duration,
    names: usize,
}

impl Central {
    pub(crate) fn new() -> Self {
        Self {
            epoch: 1,
            ..Self::default()
        }
    }

    pub(crate) fn at(&self, store: StoreId, position: Position) -> Option<&Arc<Facts>> {
        self.history.get(&(store, position))
    }

    /// When a position was followed by the next, or by another reign.
    pub(crate) fn ended(&self, store: StoreId, position: Position) -> Option<Duration> {
        let next = Position {
            revision: position.revision.next(),
            ..position
        };
        let followed = self.committed.get(&(store, next));
        let given_up = self.reigns.get(&(position.epoch.0 + 1));
        followed.into_iter().chain(given_up).min().copied()
    }

    /// Commits something.
    pub(crate) fn write(&mut self, random: &mut Random) {
        let alive: Vec<_> = self
            .stores
            .iter()
            .filter(|(_, kept)| !kept.facts.deleted)
            .map(|(id, _)| *id)
            .collect();
        if alive.is_empty() || (alive.len() < 3 && random.chance(5)) {
            return self.create(random);
        }
        let store = *random.pick(&alive);
        let changes = match random.below(100) {
            0..2 => vec![Change::StoreDeleted],
            2..12 => vec![Change::TiersAssigned(some_tiers(random))],
            12..15 => vec![Change::ModelWritten(self.model())],
            _ => self.some_tuples(store, random),
        };
        self.commit(store, changes);
    }

    /// The writer fails over to a standby that had not seen the last few revisions.
    pub(crate) fn fail_over(&mut self, random: &mut Random) {
        self.epoch += 1;
        self.reigns.insert(self.epoch, self.now);
        for store in self.stores.keys().copied().collect::<Vec<_>>() {
            let lost = random.below(4) as u64;
            let Some(kept) = self.stores.get_mut(&store) else {
                continue;
            };
            let revision = Revision(kept.position.revision.0.saturating_sub(lost));
            let past = Position {
                revision,
                ..kept.position
            };
            self.outbox
                .retain(|(set, _)| set.store != store || set.revision <= revision);
            let Some(facts) = self.history.get(&(store, past)).cloned() else {
                self.stores.remove(&store);
                continue;
            };
            kept.position = Position {
                epoch: Epoch(self.epoch),
                revision,
            };
            kept.facts = Facts::clone(&facts);
            kept.log.retain(|set| set.revision <= revision);
            self.history.insert((store, kept.position), facts);
        }
    }

    fn create(&mut self, random: &mut Random) {
        let id = self.id();
        let info = StoreInfo {
            id,
            name: "s".into(),
            created_at: Timestamp(1),
        };
        self.commit(id, vec![Change::StoreCreated(info)]);
        if random.chance(90) {
            let model = self.model();
            self.commit(id, vec![Change::ModelWritten(model)]);
        }
        if random.chance(80) {
            self.commit(id, vec![Change::TiersAssigned(some_tiers(random))]);
        }
    }

    fn commit(&mut self, store: StoreId, changes: Vec<Change>) {
        let kept = self.stores.entry(store).or_default();
        let revision = kept.position.revision.next();
        let epoch = Epoch(self.epoch);
        let set = ChangeSet {
            store,
            epoch,
            revision,
            committed_at: Timestamp(1),
            changes,
            touched: Vec::new(),
        };
        assert_eq!(
            kept.apply(&set),
            Admit::Apply,
            "central applies its own next revision"
        );
        self.history
            .insert((store, kept.position), Arc::new(kept.facts.clone()));
        self.committed.insert((store, kept.position), self.now);
        self.outbox.push((set, kept.facts.tiers.clone()));
    }

    fn some_tuples(&self, store: StoreId, random: &mut Random) -> Vec<Change> {
        let mut tuples = self
            .stores
            .get(&store)
            .map(|kept| kept.facts.tuples.clone())
            .unwrap_or_default();
        let mut changes = Vec::new();
        for _ in 0..=random.below(3) {
            let held: Vec<_> = tuples.keys().cloned().collect();
            if !held.is_empty() && random.chance(45) {
                let key = random.pick(&held).clone();
                tuples.remove(&key);
                changes.push(Change::TupleDeleted(key));
            } else {
                let (key, condition) = (some_tuple(random), some_condition(random));
                if !tuples.contains_key(&key) {
                    tuples.insert(key.clone(), condition.clone());
                    changes.push(Change::TupleWritten(as_tuple((key, condition))));
                }
            }
        }
        changes
    }

    fn model(&mut self) -> StoredModel {
        let id = self.id().as_str().parse().unwrap();
        StoredModel {
            id,
            model: Arc::new(serde_json::from_str(MODEL).unwrap()),
        }
    }

    fn id(&mut self) -> StoreId {
        self.names += 1;
        format!("{:026}", self.names).parse().unwrap()
    }
}

pub(crate) fn as_tuple((key, condition): (TupleKey, Option<TupleCondition>)) -> Tuple {
    Tuple {
        key,
        condition,
        timestamp: Timestamp(1),
    }
}

/// Now and then one, which need not be the one that the tuple had before it was deleted.
fn some_condition(random: &mut Random) -> Option<TupleCondition> {
    random.chance(20).then(|| TupleCondition {
        name: "some".into(),
        context: format!(r#"{{"x":{}}}"#, random.below(3)).into(),
    })
}

fn some_tiers(random: &mut Random) -> Tiers {
    let mut tiers = Tiers::default();
    for object_type in TYPES {
        match random.below(10) {
            0..6 => drop(tiers.critical.insert(object_type.to_owned())),
            6..8 => drop(tiers.cold.insert(object_type.to_owned())),
            _ => {}
        }
    }
    tiers
}

fn some_tuple(random: &mut Random) -> TupleKey {
    let id = |random: &mut Random| random.below(4);
    let user = *random.pick(&USERS);
    let members = format!("group:{}#member", id(random));
    let folder = format!("folder:{}", id(random));
    let (object, relation, user) = match random.below(8) {
        0 => (format!("group:{}", id(random)), "member", user),
        1 => (format!("group:{}", id(random)), "member", members.as_str()),
        2 => (folder, "viewer", *random.pick(&[user, &members, "user:*"])),
        3 => (format!("folder:{}", id(random)), "parent", folder.as_str()),
        4 => (format!("doc:{}", id(random)), "parent", folder.as_str()),
        5 => (
            format!("doc:{}", id(random)),
            "viewer",
            *random.pick(&[user, &members]),
        ),
        6 => (format!("doc:{}", id(random)), "blocked", user),
        _ => (format!("log:{}", id(random)), "reader", user),
    };
    TupleKey::parse(&object, relation, user).unwrap()
}
