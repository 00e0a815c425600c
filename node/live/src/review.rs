//! Checking subscriptions again: those that a change has put in doubt at once, all of them from time to time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use meridian_model::{Position, StoreId};
use tokio_util::sync::CancellationToken;

use crate::frames::Reason;
use crate::hub::{Hub, lock};
use crate::meters::Why;
use crate::outbox::Sub;
use crate::ports::{Authority, Decided, Question, Undecided};
use crate::room::{Due, Outcome, Room, Ticket};
use crate::settings::Times;

/// Questions of one call.
const BATCH: usize = 50;
/// The pause after a call that came to nothing.
const RETRY: Duration = Duration::from_millis(100);
/// How many subscriptions of a store are checked again, for their age, at a time.
const PERIODIC: usize = 1000;
/// How often those are looked for, in parts of their age.
const PARTS: u32 = 20;

/// Checks subscriptions again.
pub struct Review {
    /// The subscriptions.
    pub hub: Arc<Hub>,
    /// Who decides.
    pub authority: Arc<dyn Authority>,
    /// How long it may take, and how often it is done without a change.
    pub times: Times,
}

impl Review {
    /// Checks until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let this = Arc::new(self);
        let period = (this.times.review / PARTS).max(Duration::from_millis(50));
        let mut periodic = tokio::time::interval(period);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = this.hub.doubts.notified() => this.begin_doubted(&stop),
                _ = periodic.tick() => this.begin_old(&stop),
            }
        }
    }

    /// Begins with every store that has subscriptions in doubt. Each by itself: none waits for another's.
    fn begin_doubted(self: &Arc<Self>, stop: &CancellationToken) {
        for (store, room) in self.hub.rooms_by_store() {
            {
                let mut room = lock(&room);
                if !room.has_doubts() || std::mem::replace(&mut room.is_reviewed, true) {
                    continue;
                }
            }
            let (this, stop) = (Arc::clone(self), stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = this.doubted(store, &room) => {}
                }
            });
        }
    }

    fn begin_old(self: &Arc<Self>, stop: &CancellationToken) {
        let Some(before) = Instant::now().checked_sub(self.times.review) else {
            return;
        };
        for (store, room) in self.hub.rooms_by_store() {
            let due = lock(&room).due(Some((before, PERIODIC)));
            if due.is_empty() {
                continue;
            }
            let (this, stop) = (Arc::clone(self), stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    _ = this.ask(store, &room, due, Why::Periodic) => {}
                }
            });
        }
    }

    /// Until none of a store is in doubt any longer.
    async fn doubted(&self, store: StoreId, room: &Mutex<Room>) {
        loop {
            let due = {
                let mut room = lock(room);
                let due = room.due(None);
                if due.is_empty() {
                    room.is_reviewed = false;
                    return;
                }
                due
            };
            if !self.ask(store, room, due, Why::Touched).await {
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// Asks about all that are due, equal questions once; whether all were answered.
    async fn ask(&self, store: StoreId, room: &Mutex<Room>, due: Vec<Due>, why: Why) -> bool {
        let at_least = due.iter().filter_map(|due| due.at_least).max();
        let mut places = HashMap::new();
        let (mut questions, mut askers): (Vec<Question>, Vec<Vec<Sub>>) = Default::default();
        for Due { sub, question, .. } in due {
            let at = *places.entry(question.clone()).or_insert(questions.len());
            match askers.get_mut(at) {
                Some(askers) => askers.push(sub),
                None => {
                    questions.push(question);
                    askers.push(vec![sub]);
                }
            }
        }
        let mut all = true;
        for (questions, askers) in questions.chunks(BATCH).zip(askers.chunks(BATCH)) {
            let ticket = self.hub.begin(store);
            self.hub.meters.asked(why);
            let results = self.decide(store, at_least, questions).await;
            for (result, askers) in results.into_iter().zip(askers) {
                for sub in askers {
                    all &= self.settle(room, *sub, &result, ticket);
                }
            }
            self.hub.finish(store, ticket);
        }
        all
    }

    async fn decide(
        &self,
        store: StoreId,
        at_least: Option<Position>,
        questions: &[Question],
    ) -> Vec<Result<Decided, Undecided>> {
        let deciding = self.authority.decide(store, at_least, questions);
        let decided = tokio::time::timeout(self.times.grace, deciding).await;
        let mut decided = decided.unwrap_or_default();
        decided.resize(questions.len(), Err(Undecided::Unreachable));
        decided
    }

    /// Takes in what was decided of one; whether anything was.
    fn settle(
        &self,
        room: &Mutex<Room>,
        sub: Sub,
        result: &Result<Decided, Undecided>,
        ticket: Ticket,
    ) -> bool {
        let again = Instant::now().checked_sub(self.times.review - self.times.review / PARTS);
        let mut room = lock(room);
        let before = room.doubts();
        let outcome = match result {
            Ok(decided) => room.decided(sub, decided.clone(), ticket),
            Err(Undecided::Unreachable) => {
                room.undecided(sub, self.times.grace, again.unwrap_or_else(Instant::now))
            }
            Err(Undecided::Invalid(_) | Undecided::NoStore) => room.ends(sub, Reason::Revoked),
        };
        let after = room.doubts();
        drop(room);
        self.hub.paused(before, after);
        match outcome {
            Outcome::Ended(reason) => self.hub.left(Some(reason)),
            Outcome::GoesOn(Some(held)) => self.hub.meters.review.record(held),
            Outcome::GoesOn(None) | Outcome::Gone => {}
            // What was decided is of before another change: asked again at once.
            Outcome::StillInDoubt => return result.is_ok(),
        }
        true
    }
}
