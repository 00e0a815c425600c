//! Checking subscriptions again: those that a change has put in doubt at once, all of them from time to time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use meridian_model::{Position, StoreId};
use tokio::time::MissedTickBehavior;
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
/// Calls at the same time, for one store.
const CALLS: usize = 8;
/// The pause after a call that came to nothing.
const RETRY: Duration = Duration::from_millis(100);
/// How many subscriptions of a store are checked again, for their age, at a time, where there are so many; or this part of
/// them.
const PERIODIC: usize = 1000;
const PART: usize = 10;
/// How often those are looked for, in parts of their age.
const PARTS: u32 = 20;
/// How often it is looked whether what is in doubt was so for too long, in parts of that time.
const SWEEPS: u32 = 10;
/// How often records that are too old are looked for, in parts of that age.
const AGES: u32 = 60;
/// How often at most anything is looked for.
const SHORTEST: Duration = Duration::from_millis(10);

/// Questions of one call, and who asks each.
struct Call<'a> {
    store: StoreId,
    room: &'a Mutex<Room>,
    questions: &'a [Question],
    askers: &'a [Vec<Sub>],
    /// The position that they are to be decided at, or later.
    at_least: Position,
    why: Why,
}

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
        let every = |time: Duration, parts: u32| {
            let mut every = tokio::time::interval((time / parts).max(SHORTEST));
            every.set_missed_tick_behavior(MissedTickBehavior::Delay);
            every
        };
        let mut periodic = every(this.times.review, PARTS);
        let mut sweep = every(this.times.grace, SWEEPS);
        let mut expire = every(this.times.history, AGES);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = this.hub.doubts.notified() => this.begin_doubted(&stop),
                _ = sweep.tick() => this.hub.end_doubted(this.times.grace),
                _ = periodic.tick() => this.begin_old(&stop),
                _ = expire.tick() => {
                    if let Some(before) = Instant::now().checked_sub(this.times.history) {
                        this.hub.expire(before);
                    }
                }
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
            let due = {
                let mut room = lock(&room);
                let due = match room.is_renewed {
                    true => Vec::new(),
                    false => room.old(before, PERIODIC, PART),
                };
                if due.is_empty() {
                    continue;
                }
                room.is_renewed = true;
                due
            };
            let (this, stop) = (Arc::clone(self), stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    _ = this.ask(store, &room, due, Why::Periodic) => {}
                }
                lock(&room).is_renewed = false;
            });
        }
    }

    /// Until none of a store is in doubt any longer.
    async fn doubted(&self, store: StoreId, room: &Mutex<Room>) {
        loop {
            let due = {
                let mut room = lock(room);
                let due = room.doubted();
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
        let mut places = HashMap::new();
        let (mut questions, mut askers): (Vec<Question>, Vec<Vec<Sub>>) = Default::default();
        let at_least = due.iter().map(|due| due.position).max();
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
        let batches = questions.chunks(BATCH).zip(askers.chunks(BATCH));
        let calls = batches.map(|(questions, askers)| Call {
            store,
            room,
            questions,
            askers,
            at_least: at_least.unwrap_or_default(),
            why,
        });
        let calls: Vec<_> = calls.map(|call| self.call(call)).collect();
        let mut calls = futures::stream::iter(calls).buffer_unordered(CALLS);
        let mut all = true;
        while let Some(answered) = calls.next().await {
            all &= answered;
        }
        all
    }

    async fn call(&self, call: Call<'_>) -> bool {
        let ticket = self.hub.begin(call.store);
        self.hub.meters.asked(call.why);
        let told = lock(call.room).told();
        let at_least = told.max(call.at_least);
        let at_least = (at_least > Position::default()).then_some(at_least);
        let results = self.decide(call.store, at_least, call.questions).await;
        let is_gone = results.contains(&Err(Undecided::NoStore));
        let mut all = true;
        for (result, askers) in results.into_iter().zip(call.askers) {
            for sub in askers {
                all &= self.settle(call.room, *sub, &result, ticket);
            }
        }
        self.hub.finish(call.store, ticket);
        if is_gone {
            self.hub.forget(call.store);
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
        let again = again.unwrap_or_else(Instant::now);
        let mut room = lock(room);
        let before = room.doubts();
        let (outcome, is_answered) = match result {
            Ok(decided) => match room.decided(sub, decided.clone(), ticket) {
                Some(outcome) => (outcome, true),
                None => (room.undecided(sub, again), false),
            },
            Err(Undecided::Unreachable) => (room.undecided(sub, again), false),
            Err(Undecided::Expired) => (room.ends(sub, Reason::Expired), true),
            Err(Undecided::Invalid(_) | Undecided::NoStore) => {
                (room.ends(sub, Reason::Revoked), true)
            }
        };
        let after = room.doubts();
        drop(room);
        self.hub.paused(before, after);
        match outcome {
            Outcome::Ended(reason) => self.hub.left(Some(reason)),
            Outcome::GoesOn(Some(held)) => self.hub.meters.review.record(held),
            Outcome::GoesOn(None) | Outcome::Gone => {}
            // What was decided is of before another change: asked again at once.
            Outcome::StillInDoubt => return is_answered,
        }
        true
    }
}

#[cfg(test)]
mod tests;
