//! Answers kept from before, at every role, and answers shared by all who ask the same at the same time.
//!
//! An answer comes with its position and the hashes of what it read, and holds until one of those is touched by a later
//! revision. So a kept answer is checked when it is used: nothing it rests on may have been touched behind its position.
//! Nobody who writes does anything for it. An edge learns what was touched from its change stream, even for data it is never
//! sent; a node with a datastore reads it from there ([`crate::commands`]). Touches are remembered as long as an answer is
//! kept at most.

mod asked;
mod flights;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use meridian_engine::View;
use meridian_model::{Position, StoreId};
use meridian_sync::edge::Touched;
use meridian_sync::touches::Touches;
use meridian_sync::views::Observer;
use metrics::{Counter, counter, describe_counter};

use crate::commands::check::Decision;
pub use asked::{Asked, Shared};
pub use flights::{Flights, Join, Landed, Lead, Seat, joined_counter};

/// Largest question that is kept, in bytes: callers choose how much they send along.
const MAX_ASKED: usize = 4096;
/// An answer counts as one for each so many bytes of it, begun ones included.
const ANSWER_BYTES: usize = 512;

/// The kept answers of a node.
pub struct Answers {
    kept: moka::sync::Cache<Asked, Arc<Decision>>,
    stores: DashMap<StoreId, Mutex<Known>>,
    max_age: Duration,
    start: Instant,
    /// When touches were last forgotten, since `start`.
    swept: Mutex<Duration>,
    meters: Meters,
}

/// What is known of a store's changes.
#[derive(Default)]
struct Known {
    touches: Touches,
    /// Everything up to here is in `touches`.
    upto: Position,
}

/// Upstream's names, which its dashboards show.
struct Meters {
    looked_up: Counter,
    hits: Counter,
    invalid: Counter,
}

impl Meters {
    fn new() -> Self {
        const LOOKED_UP: &str = "openfga_check_cache_total_count";
        const HITS: &str = "openfga_check_cache_hit_count";
        const INVALID: &str = "openfga_check_cache_invalid_hit_count";
        describe_counter!(LOOKED_UP, "Checks looked up among the kept answers");
        describe_counter!(HITS, "Checks answered by a kept answer");
        describe_counter!(
            INVALID,
            "Kept answers not used because what they rest on has changed"
        );
        Self {
            looked_up: counter!(LOOKED_UP),
            hits: counter!(HITS),
            invalid: counter!(INVALID),
        }
    }
}

impl Answers {
    /// Keeps at most `capacity` answers, none longer than `max_age`; an answer of more than 512 bytes counts as several.
    pub fn new(capacity: u64, max_age: Duration) -> Self {
        let weight = |asked: &Asked, decision: &Arc<Decision>| {
            let bytes = asked.bytes() + decision.reads.len() * size_of::<u64>();
            u32::try_from(1 + bytes / ANSWER_BYTES).unwrap_or(u32::MAX)
        };
        Self {
            kept: moka::sync::Cache::builder()
                .max_capacity(capacity)
                .weigher(weight)
                .time_to_live(max_age)
                .build(),
            stores: DashMap::new(),
            max_age,
            start: Instant::now(),
            swept: Mutex::default(),
            meters: Meters::new(),
        }
    }

    /// How many are kept.
    pub fn count(&self) -> u64 {
        self.kept.entry_count()
    }

    /// An answer that still holds, at a position at which it does: its own, or as far as changes are known.
    pub fn get(&self, store: StoreId, asked: &Asked) -> Option<Decision> {
        let found = self.look_up(asked)?;
        self.confirm(store, asked, &found)
    }

    /// The answer there is. Whether it still holds is for [`Self::confirm`], once changes are known.
    pub fn look_up(&self, asked: &Asked) -> Option<Arc<Decision>> {
        self.meters.looked_up.increment(1);
        self.kept.get(asked)
    }

    /// What was looked up, if it still holds.
    pub fn confirm(&self, store: StoreId, asked: &Asked, found: &Decision) -> Option<Decision> {
        let Some(position) = self.holds(store, found) else {
            self.kept.invalidate(asked);
            self.meters.invalid.increment(1);
            return None;
        };
        self.meters.hits.increment(1);
        Some(Decision {
            position,
            ..found.clone()
        })
    }

    /// Whether nothing that is known has touched what a decision rests on; then at which position it holds.
    pub fn holds(&self, store: StoreId, decision: &Decision) -> Option<Position> {
        self.known(store, |known| {
            let left = known.touches.leave(decision.position, &decision.reads);
            left.then(|| known.upto.max(decision.position))
        })?
    }

    /// Whether a decision, wherever it was made, holds at `position` too.
    pub fn holds_at(&self, store: StoreId, decision: &Decision, position: Position) -> bool {
        let same_reign = decision.position.epoch == position.epoch;
        let earlier = decision.position.min(position);
        let untouched = |known: &Known| {
            known.upto >= decision.position.max(position)
                && known.touches.leave(earlier, &decision.reads)
        };
        decision.position == position
            || same_reign && self.known(store, untouched).unwrap_or_default()
    }

    /// Up to where a store's changes are known; `None` for a store of which nothing is.
    pub fn upto(&self, store: StoreId) -> Option<Position> {
        self.known(store, |known| known.upto)
    }

    /// Keeps an answer.
    pub fn keep(&self, asked: Asked, decision: Decision) {
        if asked.bytes() <= MAX_ASKED {
            self.kept.insert(asked, Arc::new(decision));
        }
    }

    /// Takes in what revisions up to `position` touched.
    pub fn touch(&self, store: StoreId, position: Position, touched: &Touched) {
        let now = self.start.elapsed();
        self.sweep(now);
        let entry = self.stores.entry(store).or_default();
        let mut known = entry.lock().unwrap_or_else(PoisonError::into_inner);
        known.touches.add(position, touched, now);
        known.upto = position;
    }

    /// Forgets a store.
    pub fn forget(&self, store: StoreId) {
        self.stores.remove(&store);
    }

    fn known<T>(&self, store: StoreId, look: impl FnOnce(&Known) -> T) -> Option<T> {
        let known = self.stores.get(&store)?;
        let known = known.lock().unwrap_or_else(PoisonError::into_inner);
        Some(look(&known))
    }

    /// Once in a while forgets, of every store, the touches that no kept answer is old enough for.
    fn sweep(&self, now: Duration) {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(*swept) < self.max_age {
            return;
        }
        *swept = now;
        drop(swept);
        let oldest = now.saturating_sub(self.max_age);
        for known in &self.stores {
            known
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .touches
                .forget_before(oldest);
        }
    }
}

impl Observer for Answers {
    fn publish(&self, store: StoreId, view: &View, touched: &Touched) {
        self.touch(store, view.position(), touched);
    }

    fn drop_store(&self, store: StoreId) {
        self.forget(store);
    }
}

#[cfg(test)]
mod tests {
    use meridian_proto::openfga::v1;

    use super::*;

    const STORE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

    fn store() -> StoreId {
        STORE.parse().unwrap()
    }

    fn asked(user: &str) -> Asked {
        let key = v1::CheckRequestTupleKey {
            user: user.to_owned(),
            ..Default::default()
        };
        let request = v1::CheckRequest {
            tuple_key: Some(key),
            ..Default::default()
        };
        Asked::new(&request, STORE)
    }

    fn decision(position: Position, reads: &[u64]) -> Decision {
        Decision {
            allowed: true,
            position,
            model: STORE.parse().unwrap(),
            reads: reads.to_vec(),
        }
    }

    fn answers_with(position: Position, reads: &[u64]) -> Answers {
        let answers = Answers::new(100, Duration::from_secs(60));
        answers.touch(store(), Position::new(1, 10), &Touched::All);
        answers.keep(asked("q"), decision(position, reads));
        answers
    }

    fn holds(answers: &Answers) -> Option<Position> {
        Some(answers.get(store(), &asked("q"))?.position)
    }

    #[test]
    fn an_answer_holds_until_what_it_rests_on_is_touched() {
        let answers = answers_with(Position::new(1, 12), &[7, 8]);
        assert_eq!(holds(&answers), Some(Position::new(1, 12)));
        assert!(answers.get(store(), &asked("other")).is_none());
        // Already in the answer, and something else entirely.
        answers.touch(
            store(),
            Position::new(1, 13),
            &Touched::Sets(vec![
                (Position::new(1, 12), vec![7]),
                (Position::new(1, 13), vec![9]),
            ]),
        );
        assert_eq!(holds(&answers), Some(Position::new(1, 13)));
        answers.touch(
            store(),
            Position::new(1, 14),
            &Touched::Sets(vec![(Position::new(1, 14), vec![8])]),
        );
        assert!(holds(&answers).is_none());
    }

    #[test]
    fn an_answer_from_before_all_that_is_remembered_is_not_used() {
        assert!(holds(&answers_with(Position::new(1, 9), &[])).is_none());
    }

    #[test]
    fn a_new_epoch_or_a_dropped_store_ends_every_answer() {
        let answers = answers_with(Position::new(1, 11), &[]);
        answers.touch(store(), Position::new(2, 3), &Touched::All);
        assert!(holds(&answers).is_none());
        let answers = answers_with(Position::new(1, 11), &[]);
        answers.drop_store(store());
        assert!(holds(&answers).is_none());
    }

    #[test]
    fn an_answer_holds_at_another_position_when_nothing_was_touched_between() {
        let answers = answers_with(Position::new(1, 11), &[]);
        let touched = vec![(Position::new(1, 13), vec![7])];
        answers.touch(store(), Position::new(1, 15), &Touched::Sets(touched));
        let at = |revision| Position::new(1, revision);
        let holds = |made, reads: &[u64], asked| {
            answers.holds_at(store(), &decision(at(made), reads), at(asked))
        };
        assert!(holds(12, &[7], 12) && holds(12, &[8], 14) && holds(14, &[8], 12));
        assert!(!holds(12, &[7], 14) && !holds(14, &[7], 12));
        // What was touched behind it does no harm; what is not known of does.
        assert!(holds(14, &[7], 15) && !holds(15, &[], 16));
    }

    #[test]
    fn what_is_too_large_is_not_kept() {
        let answers = answers_with(Position::new(1, 12), &[]);
        let large = asked(&"x".repeat(MAX_ASKED));
        answers.keep(large.clone(), decision(Position::new(1, 12), &[]));
        assert!(answers.look_up(&large).is_none());
    }
}
