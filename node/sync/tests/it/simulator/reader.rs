//! What readers at the edge get to see: views with their ages, and upstream's answers as far as they are kept. Whatever
//! is served is compared with what central had.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use meridian_engine::View;
use meridian_model::change::Tier;
use meridian_model::hash::{set_hash, type_hash};
use meridian_model::ids::{Position, StoreId};
use meridian_model::tuple::{Object, TupleKey};
use meridian_sync::edge::{Publish, Touched};
use meridian_sync::envelope::Heartbeat;
use meridian_sync::freshness::Freshness;
use meridian_sync::touches::Touches;
use meridian_sync::views::Shown;

use super::bug::Bug;
use super::history::{Central, Facts};
use super::random::Random;
use super::world::{Faults, wall};

/// What is older is not served.
const MAX_STALENESS: Duration = Duration::from_secs(4);
/// Answers kept at most.
const KEPT: usize = 30;

/// What an answer rests on: one set, or all of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Read {
    Set(Object, &'static str),
    Type(&'static str),
}

impl Read {
    pub(crate) fn some(random: &mut Random) -> Self {
        let (object_type, relation) = *random.pick(&[
            ("group", "member"),
            ("folder", "viewer"),
            ("doc", "viewer"),
            ("doc", "blocked"),
            ("log", "reader"),
        ]);
        if random.chance(20) {
            return Self::Type(object_type);
        }
        let object = format!("{object_type}:{}", random.below(4));
        Self::Set(object.parse().unwrap(), relation)
    }

    fn hash(&self) -> u64 {
        match self {
            Self::Set(object, relation) => set_hash(object, relation),
            Self::Type(name) => type_hash(name),
        }
    }

    fn object_type(&self) -> &str {
        match self {
            Self::Set(object, _) => object.object_type(),
            Self::Type(name) => name,
        }
    }
}

/// What is to be read, as the answer.
pub(crate) fn evaluate(facts: &Facts, reads: &[Read]) -> BTreeSet<TupleKey> {
    let is_of = |key: &TupleKey, read: &Read| match read {
        Read::Set(object, relation) => key.object == *object && *key.relation == **relation,
        Read::Type(name) => key.object.object_type() == *name,
    };
    let read = |key: &&TupleKey| reads.iter().any(|read| is_of(key, read));
    facts.tuples.keys().filter(read).cloned().collect()
}

/// An answer of upstream.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) store: StoreId,
    pub(crate) reads: Vec<Read>,
    pub(crate) position: Position,
    pub(crate) found: BTreeSet<TupleKey>,
}

#[derive(Default)]
pub(crate) struct Reader {
    shown: BTreeMap<StoreId, Shown>,
    touches: BTreeMap<StoreId, Touches>,
    kept: VecDeque<Answer>,
    freshness: Arc<Freshness>,
}

impl Reader {
    /// A node that has just subscribed to a topic of one partition.
    pub(crate) fn new() -> Self {
        let mut reader = Self::default();
        Arc::make_mut(&mut reader.freshness).assign(1);
        reader
    }

    pub(crate) fn publish(&mut self, bug: Option<Bug>, publish: &Publish, now: Duration) {
        let nothing = Touched::Sets(Vec::new());
        let touched = match &publish.touched {
            Touched::Sets(_) if bug == Some(Bug::TouchedIgnored) => &nothing,
            touched => touched,
        };
        let position = publish.view.position();
        let touches = self.touches.entry(publish.store).or_default();
        touches.add(position, touched, now);
        let lagging = publish.lagging && bug != Some(Bug::LagIgnored);
        let before = self.shown.get(&publish.store);
        let shown = Shown::new(publish.view.clone(), lagging, before, &self.freshness);
        self.shown.insert(publish.store, shown);
    }

    pub(crate) fn drop_store(&mut self, store: StoreId) {
        self.shown.remove(&store);
        self.touches.remove(&store);
    }

    pub(crate) fn beat(&mut self, bug: Option<Bug>, mut beat: Heartbeat, now: Duration) {
        if bug == Some(Bug::StaleHeartbeatTrusted) {
            beat.clock = wall(now);
        }
        Arc::make_mut(&mut self.freshness).beat(0, beat, now);
    }

    pub(crate) fn vouched(&mut self, beat: Heartbeat, age: Duration, asked: Duration) {
        Arc::make_mut(&mut self.freshness).upstream(beat, age, asked);
    }

    pub(crate) fn keep(&mut self, answer: Answer) {
        self.kept.push_back(answer);
        if self.kept.len() > KEPT {
            self.kept.pop_front();
        }
    }

    /// Asks everything that is shown or kept.
    pub(crate) fn check(
        &mut self,
        central: &Central,
        now: Duration,
        faults: &mut Faults,
    ) -> Result<(), String> {
        for (store, shown) in &self.shown {
            match shown.age(&self.freshness, wall(now), now) {
                Some(age) if age <= MAX_STALENESS => {
                    faults.fresh += 1;
                    is_as_old_as(central, *store, shown.view.position(), age, now)?;
                }
                _ => faults.stale += 1,
            }
        }
        let kept = std::mem::take(&mut self.kept);
        for answer in kept {
            if self.serve(central, &answer, now, faults)? {
                self.kept.push_back(answer);
            }
        }
        Ok(())
    }

    /// Whether an answer goes on to be kept.
    fn serve(
        &self,
        central: &Central,
        answer: &Answer,
        now: Duration,
        faults: &mut Faults,
    ) -> Result<bool, String> {
        let (Some(shown), Some(touches)) = (
            self.shown.get(&answer.store),
            self.touches.get(&answer.store),
        ) else {
            return Ok(true);
        };
        let tier = |read: &Read| shown.view.tiers().of(read.object_type());
        let hashes: Vec<_> = answer.reads.iter().map(Read::hash).collect();
        if !touches.leave(answer.position, &hashes) {
            faults.ended += 1;
            return Ok(false);
        }
        let age = shown.age(&self.freshness, wall(now), now);
        if age.is_none_or(|age| age > MAX_STALENESS)
            || answer.reads.iter().any(|read| tier(read) == Tier::Cold)
        {
            return Ok(true);
        }
        faults.kept += 1;
        let (store, position) = (answer.store, answer.position.max(shown.view.position()));
        let facts = central
            .at(store, position)
            .ok_or_else(|| format!("store {store}: central never was at {position}"))?;
        if evaluate(facts, &answer.reads) != answer.found {
            return Err(format!(
                "store {store} at {position}: {answer:?} was served and is no longer true"
            ));
        }
        Ok(true)
    }

    pub(crate) fn views(&self) -> impl Iterator<Item = (StoreId, &View)> {
        self.shown.iter().map(|(id, shown)| (*id, &shown.view))
    }
}

/// Nothing that was acknowledged longer ago is missing.
fn is_as_old_as(
    central: &Central,
    store: StoreId,
    position: Position,
    age: Duration,
    now: Duration,
) -> Result<(), String> {
    match central.ended(store, position) {
        Some(ended) if ended + age <= now => Err(format!(
            "store {store}: {position} is said to be {age:?} old, and came to an end {:?} ago",
            now - ended
        )),
        _ => Ok(()),
    }
}
