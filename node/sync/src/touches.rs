//! What an edge remembers of what revisions touched, to know which kept answers still hold.
//!
//! The change stream names by hashes even what an edge is never sent. An answer of upstream comes with its position and
//! the hashes of what it read, and holds until one of those is touched by a later revision. How far back touches are
//! remembered is bounded, in number and in time; an answer from before that does not hold.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use meridian_model::ids::Position;

use crate::edge::Touched;

/// Touches remembered of one store, in hashes.
const MAX_TOUCHES: usize = 65_536;

/// When each set of a store was last touched.
#[derive(Debug, Default)]
pub struct Touches {
    /// Answers from before this position may rest on touches no longer remembered.
    since: Position,
    last: HashMap<u64, Position>,
    /// In the order they came, with when they came.
    order: VecDeque<(Duration, Position, u64)>,
}

impl Touches {
    /// Takes in, at `now`, what revisions up to `position` touched.
    pub fn add(&mut self, position: Position, touched: &Touched, now: Duration) {
        match touched {
            Touched::All => {
                *self = Self {
                    since: position,
                    ..Self::default()
                }
            }
            Touched::Sets(revisions) => {
                for (position, hashes) in revisions {
                    for hash in hashes {
                        self.last.insert(*hash, *position);
                        self.order.push_back((now, *position, *hash));
                    }
                }
            }
        }
        while self.order.len() > MAX_TOUCHES {
            self.forget_oldest();
        }
    }

    /// Forgets what came before `time`. Of use once every answer from before is too old to be kept.
    pub fn forget_before(&mut self, time: Duration) {
        while self.order.front().is_some_and(|(at, ..)| *at < time) {
            self.forget_oldest();
        }
        self.last.shrink_to(self.order.len() * 2);
        self.order.shrink_to(self.order.len() * 2);
    }

    /// Whether everything since has left an answer of `position` that rests on `reads` as it was.
    pub fn leave(&self, position: Position, reads: &[u64]) -> bool {
        position >= self.since
            && position.epoch == self.since.epoch
            && reads.iter().all(|hash| {
                self.last
                    .get(hash)
                    .is_none_or(|touched| *touched <= position)
            })
    }

    fn forget_oldest(&mut self) {
        let Some((_, position, hash)) = self.order.pop_front() else {
            return;
        };
        self.since = self.since.max(position);
        if self.last.get(&hash) == Some(&position) {
            self.last.remove(&hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(9);

    fn at(revision: u64) -> Position {
        Position::new(1, revision)
    }

    fn touches(sets: Vec<(Position, Vec<u64>)>) -> Touches {
        let mut touches = Touches::default();
        touches.add(at(10), &Touched::All, NOW);
        touches.add(at(20), &Touched::Sets(sets), NOW);
        touches
    }

    #[test]
    fn only_a_later_touch_of_what_was_read_ends_an_answer() {
        let touches = touches(vec![(at(12), vec![7]), (at(13), vec![9])]);
        assert!(touches.leave(at(12), &[7, 8]));
        assert!(!touches.leave(at(11), &[7, 8]));
        assert!(!touches.leave(at(9), &[]), "from before what is remembered");
        assert!(!touches.leave(Position::new(2, 1), &[]), "another epoch");
    }

    #[test]
    fn what_is_remembered_is_bounded_in_number_and_time() {
        let many = (0..MAX_TOUCHES as u64 + 1).collect();
        let mut touches = touches(vec![(at(12), many)]);
        assert!(!touches.leave(at(11), &[u64::MAX]));
        assert_eq!(touches.order.len(), MAX_TOUCHES);
        let later = NOW + Duration::from_secs(60);
        touches.add(at(21), &Touched::Sets(vec![(at(21), vec![3])]), later);
        touches.forget_before(later);
        assert_eq!((touches.order.len(), touches.last.len()), (1, 1));
        assert!(!touches.leave(at(20), &[3]) && touches.leave(at(20), &[4]));
    }
}
