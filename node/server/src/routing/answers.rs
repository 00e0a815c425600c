//! Answers an edge keeps without holding the data they rest on.
//!
//! An upstream answer comes with its position and the hashes of what it read. It holds until one of those is touched by
//! a later revision, which the edge learns from the change stream even for data it is never sent. So a kept answer is
//! checked when it is used: nothing it rests on may have been touched behind its position. Touches are remembered as
//! long as an answer is kept at most.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use meridian_engine::View;
use meridian_model::{ModelId, Position, StoreId};
use meridian_sync::edge::Touched;
use meridian_sync::touches::Touches;
use meridian_sync::views::Observer;
use metrics::{Counter, counter, describe_counter};

const LOOKUPS: &str = "meridian_kept_answer_lookups_total";

/// What an answer is an answer to. Questions with contextual tuples or a condition context are not kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AnswerKey {
    /// The store.
    pub store: StoreId,
    /// The model it was decided under.
    pub model: ModelId,
    /// `object#relation@user`. Unambiguous: none of the three holds a `@` outside ids, and the first `#` ends the object.
    pub question: Box<str>,
}

impl AnswerKey {
    /// The key of a question.
    pub fn new(store: StoreId, model: ModelId, object: &str, relation: &str, user: &str) -> Self {
        Self {
            store,
            model,
            question: format!("{object}#{relation}@{user}").into(),
        }
    }
}

/// A kept answer.
#[derive(Debug)]
pub struct Answer {
    /// What was answered.
    pub allowed: bool,
    /// Where it was true.
    pub position: Position,
    /// Hashes of what it rests on.
    pub reads: Vec<u64>,
}

/// The kept answers of an edge.
pub struct Answers {
    kept: moka::sync::Cache<AnswerKey, Arc<Answer>>,
    stores: DashMap<StoreId, Mutex<Touches>>,
    max_age: Duration,
    start: Instant,
    /// When touches were last forgotten, since `start`.
    swept: Mutex<Duration>,
    used: Counter,
    touched: Counter,
    absent: Counter,
}

impl Answers {
    /// Keeps at most `capacity` answers, none longer than `max_age`.
    pub fn new(capacity: u64, max_age: Duration) -> Self {
        describe_counter!(LOOKUPS, "Look-ups of kept answers, by what was found");
        let found = |outcome: &'static str| counter!(LOOKUPS, "outcome" => outcome);
        Self {
            used: found("used"),
            touched: found("touched"),
            absent: found("absent"),
            kept: moka::sync::Cache::builder()
                .max_capacity(capacity)
                .time_to_live(max_age)
                .build(),
            stores: DashMap::new(),
            max_age,
            start: Instant::now(),
            swept: Mutex::default(),
        }
    }

    /// An answer that still holds.
    pub fn get(&self, key: &AnswerKey) -> Option<Arc<Answer>> {
        let Some((answer, touches)) = self.kept.get(key).zip(self.stores.get(&key.store)) else {
            self.absent.increment(1);
            return None;
        };
        let holds = touches
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .leave(answer.position, &answer.reads);
        drop(touches);
        if !holds {
            self.touched.increment(1);
            self.kept.invalidate(key);
            return None;
        }
        self.used.increment(1);
        Some(answer)
    }

    /// How many are kept.
    pub fn count(&self) -> u64 {
        self.kept.entry_count()
    }

    /// Keeps an answer from upstream.
    pub fn keep(&self, key: AnswerKey, answer: Answer) {
        self.kept.insert(key, Arc::new(answer));
    }

    /// Takes in what revisions up to `position` touched.
    fn touch(&self, store: StoreId, position: Position, touched: &Touched) {
        let now = self.start.elapsed();
        self.sweep(now);
        let touches = self.stores.entry(store).or_default();
        touches
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(position, touched, now);
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
        for touches in &self.stores {
            touches
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .forget_before(oldest);
        }
    }
}

impl Observer for Answers {
    fn publish(&self, store: StoreId, view: &View, touched: &Touched) {
        self.touch(store, view.position(), touched);
    }

    fn drop_store(&self, store: StoreId) {
        self.stores.remove(&store);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> StoreId {
        "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap()
    }

    fn key(question: &str) -> AnswerKey {
        AnswerKey {
            store: store(),
            model: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
            question: question.into(),
        }
    }

    fn answers_with(position: Position, reads: &[u64]) -> Answers {
        let answers = Answers::new(100, Duration::from_secs(60));
        answers.touch(store(), Position::new(1, 10), &Touched::All);
        answers.keep(
            key("q"),
            Answer {
                allowed: true,
                position,
                reads: reads.to_vec(),
            },
        );
        answers
    }

    #[test]
    fn an_answer_holds_until_what_it_rests_on_is_touched() {
        let answers = answers_with(Position::new(1, 12), &[7, 8]);
        assert!(answers.get(&key("q")).is_some());
        assert!(answers.get(&key("other")).is_none());
        // Already in the answer, and something else entirely.
        answers.touch(
            store(),
            Position::new(1, 13),
            &Touched::Sets(vec![
                (Position::new(1, 12), vec![7]),
                (Position::new(1, 13), vec![9]),
            ]),
        );
        assert!(answers.get(&key("q")).is_some());
        answers.touch(
            store(),
            Position::new(1, 14),
            &Touched::Sets(vec![(Position::new(1, 14), vec![8])]),
        );
        assert!(answers.get(&key("q")).is_none());
    }

    #[test]
    fn an_answer_from_before_all_that_is_remembered_is_not_used() {
        assert!(
            answers_with(Position::new(1, 9), &[])
                .get(&key("q"))
                .is_none()
        );
    }

    #[test]
    fn a_new_epoch_or_a_dropped_store_ends_every_answer() {
        let answers = answers_with(Position::new(1, 11), &[]);
        answers.touch(store(), Position::new(2, 3), &Touched::All);
        assert!(answers.get(&key("q")).is_none());
        let answers = answers_with(Position::new(1, 11), &[]);
        answers.drop_store(store());
        assert!(answers.get(&key("q")).is_none());
    }
}
