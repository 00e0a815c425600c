//! One evaluation for all who ask the same at the same time (singleflight).
//!
//! The hazards. Who leads may go away, or panic: then its seat is free again and one of those who wait takes it; nobody
//! fails for it. Who leads must never wait for its own flight: so nothing that is done to decide a flight may ask for another
//! one while it leads. And what is joined began before its joiner came: whether that is good enough is the joiner's to know, by
//! [`Landed::began`].

use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use metrics::{Counter, counter, describe_counter};
use tokio::sync::watch;

/// Counts the checks that were answered by a flight they joined.
pub fn joined_counter() -> Counter {
    const JOINED: &str = "meridian_check_joined_total";
    describe_counter!(JOINED, "Checks answered by an equal one that was under way");
    counter!(JOINED)
}

/// What is being decided at this moment, by what is asked.
pub struct Flights<K: Eq + Hash, T> {
    flying: Arc<DashMap<K, Flight<T>>>,
}

#[derive(Clone)]
struct Flight<T> {
    began: Instant,
    outcome: watch::Receiver<Option<T>>,
}

/// A place in a flight.
pub enum Seat<K: Eq + Hash, T> {
    /// Nobody else decides it: the caller does.
    Lead(Lead<K, T>),
    /// Somebody does.
    Join(Join<T>),
}

/// The leader's. Dropped without an outcome, it hands the lead on.
pub struct Lead<K: Eq + Hash, T> {
    key: K,
    flying: Arc<DashMap<K, Flight<T>>>,
    outcome: watch::Sender<Option<T>>,
}

/// A joiner's.
pub struct Join<T>(Flight<T>);

/// What a flight came to.
#[derive(Debug)]
pub struct Landed<T> {
    /// What was decided.
    pub outcome: T,
    /// When deciding it began.
    pub began: Instant,
}

impl<K: Eq + Hash, T> Default for Flights<K, T> {
    fn default() -> Self {
        Self {
            flying: Arc::default(),
        }
    }
}

impl<K: Clone + Eq + Hash, T: Clone> Flights<K, T> {
    /// A place in the flight of `key`.
    pub fn seat(&self, key: K) -> Seat<K, T> {
        match self.flying.entry(key.clone()) {
            Entry::Occupied(flight) => Seat::Join(Join(flight.get().clone())),
            Entry::Vacant(free) => {
                let (outcome, landed) = watch::channel(None);
                free.insert(Flight {
                    began: Instant::now(),
                    outcome: landed,
                });
                Seat::Lead(Lead {
                    key,
                    flying: Arc::clone(&self.flying),
                    outcome,
                })
            }
        }
    }
}

impl<K: Eq + Hash, T> Lead<K, T> {
    /// Gives what was decided to all who joined.
    pub fn land(self, outcome: T) {
        self.outcome.send_replace(Some(outcome));
    }
}

impl<K: Eq + Hash, T> Drop for Lead<K, T> {
    fn drop(&mut self) {
        // Before the joiners hear that it is over: who asks anew must not find this flight.
        self.flying.remove(&self.key);
    }
}

impl<T: Clone> Join<T> {
    /// What is decided; `None` when the leader gave up, and whoever still wants to know asks for a seat again.
    pub async fn landed(mut self) -> Option<Landed<T>> {
        let outcome = self.0.outcome.wait_for(Option::is_some).await.ok()?.clone();
        Some(Landed {
            outcome: outcome?,
            began: self.0.began,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Numbers = Flights<&'static str, u32>;

    fn lead(flights: &Numbers) -> Lead<&'static str, u32> {
        match flights.seat("q") {
            Seat::Lead(lead) => lead,
            Seat::Join(_) => panic!("somebody else leads"),
        }
    }

    fn join(flights: &Numbers) -> Join<u32> {
        match flights.seat("q") {
            Seat::Join(join) => join,
            Seat::Lead(_) => panic!("nobody leads"),
        }
    }

    #[tokio::test]
    async fn who_asks_the_same_joins_and_who_comes_after_leads() {
        let flights = Numbers::default();
        let leading = lead(&flights);
        let joined = [join(&flights), join(&flights)];
        assert!(matches!(flights.seat("other"), Seat::Lead(_)));
        leading.land(7);
        for join in joined {
            assert_eq!(join.landed().await.unwrap().outcome, 7);
        }
        lead(&flights).land(8);
    }

    /// #3125 (OpenFGA): what a cancelled computation left behind was taken for an answer.
    #[tokio::test]
    async fn a_leader_that_goes_away_hands_on_and_answers_nothing() {
        let flights = Numbers::default();
        let leading = lead(&flights);
        let joined = join(&flights);
        drop(leading);
        assert!(joined.landed().await.is_none());
        let next = lead(&flights);
        let waiting = join(&flights);
        next.land(9);
        assert_eq!(waiting.landed().await.unwrap().outcome, 9);
    }

    #[tokio::test]
    async fn a_leader_that_panics_hands_on() {
        let flights = Arc::new(Numbers::default());
        let leading = lead(&flights);
        let joined = join(&flights);
        let task = tokio::spawn(async move {
            let _leading = leading;
            panic!("as a bug would");
        });
        assert!(task.await.unwrap_err().is_panic());
        assert!(joined.landed().await.is_none());
        lead(&flights).land(1);
    }
}
