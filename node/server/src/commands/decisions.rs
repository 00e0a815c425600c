//! What a node with a datastore does to decide the same check once: joining one under way, and keeping answers.
//!
//! A kept answer, or one whose evaluation began before its asker came, is used only when the store's changes have been read
//! after the asker came, or not longer before than the window that the operator allows. So by default it is as fresh as an
//! evaluation, at every replica, for one small query that all who come meanwhile share. Nobody who writes waits for this,
//! and nothing has to reach this node for an answer to end.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use meridian_model::change::{Change, ChangeSet};
use meridian_model::ports::{Datastore, StoreRecord};
use meridian_model::{ApiError, Code, ModelId, Position, StoreId};
use meridian_proto::openfga::v1;
use meridian_sync::edge::Touched;
use meridian_sync::tier;
use metrics::{Counter, counter, describe_counter};

use crate::answers::{Answers, Asked, Flights, Landed, Lead, Seat, Shared, joined_counter};
use crate::calls::Context;
use crate::commands::check::Decision;
use crate::telemetry::request::stage;

/// Revisions that are read to know which answers they end; when it is more, all end.
const MAX_FOLLOWED: u64 = 64;

/// How many answers a node with a datastore keeps, and how it trusts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Answers at most; 0 keeps none.
    pub max_answers: u64,
    /// How long one is kept at most.
    pub max_age: Duration,
    /// How long before a check its store's changes may have been read for it to take an answer that was there before.
    pub window: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_answers: 100_000,
            max_age: Duration::from_secs(300),
            window: Duration::ZERO,
        }
    }
}

/// The decisions of a node.
pub(super) struct Decisions {
    datastore: Arc<dyn Datastore>,
    answers: Answers,
    keeps: bool,
    flights: Flights<Shared, Outcome>,
    stores: DashMap<StoreId, Arc<Followed>>,
    window: Duration,
    evaluations: Counter,
    rounds: Counter,
    joined: Counter,
}

/// What an evaluation comes to.
pub type Outcome = Result<Decision, ApiError>;

/// A check as it came: what an answer that was there before has to be good for.
pub(super) struct Arrived<'a> {
    cx: &'a Context,
    store: StoreId,
    /// The model it names; empty for the latest.
    model: &'a str,
    at: Instant,
    /// The least position that answers it: the asked one, and what this node has shown before.
    need: Position,
}

/// How far a store's changes were followed.
#[derive(Default)]
struct Followed {
    /// One at a time reads them; those who come meanwhile have the next reading in common.
    turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When the last reading began.
    read: Option<Instant>,
    /// The latest model, as far as the changes were followed.
    latest_model: Option<ModelId>,
    /// The highest position this node has shown to anybody.
    floor: Position,
}

impl Followed {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Decisions {
    pub(super) fn new(datastore: Arc<dyn Datastore>, settings: Settings) -> Self {
        const EVALUATIONS: &str = "meridian_check_evaluations_total";
        const ROUNDS: &str = "meridian_check_reads_total";
        describe_counter!(EVALUATIONS, "Checks evaluated over the datastore");
        describe_counter!(
            ROUNDS,
            "Rounds of reading that evaluated checks took, those of a batch together"
        );
        Self {
            datastore,
            answers: Answers::new(settings.max_answers, settings.max_age),
            keeps: settings.max_answers > 0,
            flights: Flights::default(),
            stores: DashMap::new(),
            window: settings.window,
            evaluations: counter!(EVALUATIONS),
            rounds: counter!(ROUNDS),
            joined: joined_counter(),
        }
    }

    /// A check of `store` that comes now.
    pub(super) fn arrived<'a>(
        &self,
        cx: &'a Context,
        store: StoreId,
        model: &'a str,
    ) -> Arrived<'a> {
        let floor = self.stores.get(&store).map(|store| store.state().floor);
        Arrived {
            cx,
            store,
            model,
            at: Instant::now(),
            need: cx.min_position.max(floor).unwrap_or_default(),
        }
    }

    /// Counts an evaluation.
    pub(super) fn evaluated(&self) {
        self.evaluations.increment(1);
    }

    /// Counts a round of reading.
    pub(super) fn has_read(&self) {
        self.rounds.increment(1);
    }

    /// A place in the flight of a check.
    pub(super) fn seat(
        &self,
        arrived: &Arrived<'_>,
        request: &v1::CheckRequest,
    ) -> Seat<Shared, Outcome> {
        let asked = Asked::new(request, arrived.model);
        self.flights.seat((asked, arrived.cx.min_position))
    }

    /// Gives what a flight came to to all who joined it, and keeps it for others. That the leader's time was up is nobody
    /// else's business.
    pub(super) fn land(
        &self,
        lead: Lead<Shared, Outcome>,
        arrived: &Arrived<'_>,
        request: &v1::CheckRequest,
        outcome: &Outcome,
    ) {
        match outcome {
            Ok(decision) => self.keep(arrived, request, decision),
            Err(error) if error.code == Code::DeadlineExceeded => return,
            Err(_) => {}
        }
        lead.land(outcome.clone());
    }

    /// An answer that was kept and still holds.
    pub(super) async fn kept(
        &self,
        arrived: &Arrived<'_>,
        request: &v1::CheckRequest,
    ) -> Option<Decision> {
        if !self.keeps {
            return None;
        }
        let model = match arrived.model {
            "" => self.latest_model(arrived.store)?.to_string(),
            id => id.to_owned(),
        };
        let asked = Asked::new(request, &model);
        let found = {
            let _stage = stage("cache");
            self.answers.look_up(&asked)?
        };
        self.follow(arrived).await?;
        if !self.is_of_model(arrived, &found) {
            return None;
        }
        let decision = self.answers.confirm(arrived.store, &asked, &found)?;
        (decision.position >= arrived.need).then_some(decision)
    }

    /// What was joined, if it is good enough for one who came when it was under way.
    pub(super) async fn accept(
        &self,
        arrived: &Arrived<'_>,
        landed: Landed<Outcome>,
    ) -> Option<Outcome> {
        if landed.began >= arrived.at {
            self.joined.increment(1);
            return Some(landed.outcome);
        }
        let decision = landed.outcome.ok()?;
        self.follow(arrived).await?;
        let position = self.answers.holds(arrived.store, &decision)?;
        let good = position >= arrived.need && self.is_of_model(arrived, &decision);
        self.joined.increment(u64::from(good));
        good.then_some(Ok(Decision {
            position,
            ..decision
        }))
    }

    /// Whether a decision made elsewhere holds at `position`, to which changes are followed if need be.
    pub(super) async fn holds_at(
        &self,
        arrived: &Arrived<'_>,
        decision: &Decision,
        position: Position,
    ) -> bool {
        if decision.position == position {
            return true;
        }
        let need = Arrived {
            need: position.max(decision.position),
            ..*arrived
        };
        self.follow(&need).await.is_some()
            && self.answers.holds_at(arrived.store, decision, position)
    }

    /// Notes that a position was shown to somebody: nothing older is shown from now on.
    pub(super) fn shown(&self, store: StoreId, position: Position) {
        let followed = self.followed(store);
        let mut state = followed.state();
        state.floor = state.floor.max(position);
    }

    fn keep(&self, arrived: &Arrived<'_>, request: &v1::CheckRequest, decision: &Decision) {
        let (store, at) = (arrived.store, decision.position);
        let followed = self.followed(store);
        let mut state = followed.state();
        state.floor = state.floor.max(at);
        let upto = self.answers.upto(store).unwrap_or_else(|| {
            self.answers.touch(store, at, &Touched::All);
            at
        });
        // An evaluation from before what was followed may have missed a model that was written meanwhile.
        if arrived.model.is_empty() && at.epoch == upto.epoch && at >= upto {
            state.latest_model = state.latest_model.max(Some(decision.model));
        }
        drop(state);
        if self.keeps {
            let asked = Asked::new(request, decision.model.as_str());
            self.answers.keep(asked, decision.clone());
        }
    }

    fn followed(&self, store: StoreId) -> Arc<Followed> {
        Arc::clone(&self.stores.entry(store).or_default())
    }

    fn latest_model(&self, store: StoreId) -> Option<ModelId> {
        self.stores.get(&store)?.state().latest_model
    }

    /// Whether a decision is of the model that is asked for.
    fn is_of_model(&self, arrived: &Arrived<'_>, decision: &Decision) -> bool {
        match arrived.model {
            "" => self.latest_model(arrived.store) == Some(decision.model),
            id => id == decision.model.as_str(),
        }
    }

    /// Learns of a store's changes, unless they were read when the check came, less the window, or later. `None` when they
    /// cannot be read, or not as far as needed.
    async fn follow(&self, arrived: &Arrived<'_>) -> Option<()> {
        let store = arrived.store;
        let followed = self.followed(store);
        let since = arrived.at.checked_sub(self.window).unwrap_or(arrived.at);
        let far_enough = || self.answers.upto(store) >= Some(arrived.need);
        let is_known = || followed.state().read >= Some(since) && far_enough();
        if is_known() {
            return Some(());
        }
        let turn = followed.turn.lock();
        let deadline = arrived.cx.deadline;
        let _turn = tokio::time::timeout_at(deadline.into(), turn).await.ok()?;
        if is_known() {
            return Some(());
        }
        let began = Instant::now();
        self.read(&followed, store, deadline).await?;
        followed.state().read = Some(began);
        far_enough().then_some(())
    }

    async fn read(&self, followed: &Followed, store: StoreId, deadline: Instant) -> Option<()> {
        let record = self.datastore.store(store, deadline).await.ok()?;
        let exists = |record: &StoreRecord| record.deleted_at.is_none();
        let Some(StoreRecord { position: to, .. }) = record.filter(exists) else {
            self.answers.forget(store);
            self.stores.remove(&store);
            return None;
        };
        match self.answers.upto(store) {
            Some(from) if from == to => {}
            // Read from a replica that has not come as far as the one before.
            Some(from) if from.epoch == to.epoch && from > to => return None,
            from => {
                let sets = match from {
                    Some(from) => self.changes(store, from, to, deadline).await,
                    None => None,
                };
                self.take_in(followed, store, to, sets.as_deref());
            }
        }
        Some(())
    }

    /// All changes from behind `from` up to `to`; `None` when they cannot be had, or are too many.
    async fn changes(
        &self,
        store: StoreId,
        from: Position,
        to: Position,
        deadline: Instant,
    ) -> Option<Vec<ChangeSet>> {
        let behind = to.revision.0.checked_sub(from.revision.0)?;
        if from.epoch != to.epoch || behind > MAX_FOLLOWED {
            return None;
        }
        let limit = u32::try_from(behind).ok()?;
        let sets = self
            .datastore
            .change_sets(store, from.revision, limit, deadline)
            .await
            .ok()?;
        (sets.last()?.position() == to).then_some(sets)
    }

    /// Ends the answers that `sets`, which lead to `to`, touch; without them all of the store's.
    fn take_in(
        &self,
        followed: &Followed,
        store: StoreId,
        to: Position,
        sets: Option<&[ChangeSet]>,
    ) {
        let mut state = followed.state();
        let Some(sets) = sets else {
            state.latest_model = None;
            return self.answers.touch(store, to, &Touched::All);
        };
        for change in sets.iter().flat_map(|set| &set.changes) {
            if let Change::ModelWritten(model) = change {
                state.latest_model = state.latest_model.max(Some(model.id));
            }
        }
        let touched = sets.iter().map(|set| (set.position(), tier::touched(set)));
        self.answers
            .touch(store, to, &Touched::Sets(touched.collect()));
    }
}
