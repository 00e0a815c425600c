//! Many checks over a datastore: one snapshot for all of them, and one query a round.
//!
//! What is kept or under way is not evaluated again ([`crate::commands::decisions`]). Evaluating beside others is for checks
//! that are quick; one that takes more work than that is decided by itself, at the batch's position or later. Each has the
//! limits of a check that is asked alone, and what goes wrong with it is its own outcome.
//!
//! The hazard: two batches that each wait for a check the other leads. So nothing is awaited while a check that can be
//! decided beside others is not, nor while the snapshot, a connection of the datastore, is held. The snapshot itself is
//! awaited while leading: whoever holds a connection waits for no flight.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use futures::stream::{self, FuturesUnordered};
use futures::{FutureExt, StreamExt};
use meridian_engine::Outcome as Evaluated;
use meridian_model::ports::{Read, Snapshot};
use meridian_model::{ApiError, ModelId, Position, StoreId};
use meridian_proto::openfga::v1;

use super::check::{CheckedRequest, Evaluation, too_complex, unclear};
use super::decisions::{Arrived, Outcome};
use super::{Compiled, Local, at_least, models, store_id};
use crate::answers::{Join, Lead, Seat, Shared};
use crate::api::deadline_exceeded;
use crate::calls::Context;
use crate::commands::check::Decision;
use crate::commands::errors::from_datastore;
use crate::explanations::Why;
use crate::pace::Pace;
use crate::routing::batch::Tell;
use crate::routing::wants_primary;

/// A batch under way. All its checks are of one store, model and consistency.
struct Batch<'a> {
    local: &'a Local,
    cx: &'a Context,
    store: StoreId,
    checks: &'a [v1::CheckRequest],
    arrived: Arrived<'a>,
}

/// One of its checks that is not decided yet. Without a lead when it is no flight that others may join.
struct Open {
    at: usize,
    lead: Option<Lead<Shared, Outcome>>,
}

/// One that is evaluated beside the others.
struct Running {
    open: Open,
    evaluation: Evaluation,
    /// Sets and tuples that it may still read.
    left: usize,
}

/// What is left once the snapshot is given back.
#[derive(Default)]
struct Rest {
    /// They take more work than may be done beside others.
    long: Vec<Open>,
    /// Somebody else decides them.
    joined: Vec<(usize, Join<Outcome>)>,
}

/// Those that missed something in a round, and which of the round's reads each missed.
type Unknown = Vec<(Running, Vec<usize>)>;

/// What a round is to read: what several checks missed, once.
#[derive(Default)]
struct Reads {
    all: Vec<Read>,
    places: HashMap<Read, usize>,
}

impl Reads {
    /// Where a read stands among all.
    fn place(&mut self, read: &Read) -> usize {
        if let Some(at) = self.places.get(read) {
            return *at;
        }
        let at = self.all.len();
        self.all.push(read.clone());
        self.places.insert(read.clone(), at);
        at
    }
}

impl Local {
    /// Decides checks of one store, model and consistency, telling each as it is decided; what all of them hold at.
    ///
    /// # Errors
    /// What is wrong with store or model, `unavailable` when the datastore is behind the asked position, and the datastore's
    /// own. What is wrong with one check is told as its outcome.
    pub(crate) async fn decide_all(
        &self,
        cx: &Context,
        checks: &[v1::CheckRequest],
        tell: &mut Tell<'_>,
    ) -> Result<(Position, ModelId), ApiError> {
        let first = checks
            .first()
            .ok_or_else(|| ApiError::validation("checks: value is required"))?;
        let store = store_id(&first.store_id)?;
        let model = &first.authorization_model_id;
        let batch = Batch {
            local: self,
            cx,
            store,
            checks,
            arrived: self.decisions.arrived(cx, store, model),
        };
        batch
            .decide(wants_primary(first.consistency), model, tell)
            .await
    }
}

impl Batch<'_> {
    async fn decide(
        &self,
        primary: bool,
        model: &str,
        tell: &mut Tell<'_>,
    ) -> Result<(Position, ModelId), ApiError> {
        let mut kept = vec![None; self.checks.len()];
        if !primary {
            kept = self.kept().await;
            if let Some(all) = all_of_one_position(&kept) {
                self.cx.model.note(all.1);
                for (at, decision) in kept.into_iter().enumerate() {
                    decision
                        .into_iter()
                        .for_each(|kept| self.tell(tell, at, Ok(kept)));
                }
                return Ok(all);
            }
        }
        // Before the snapshot is there, so that who comes meanwhile finds what is about to be decided.
        let (mut open, mut joined) = (Vec::new(), Vec::new());
        for (at, _) in kept.iter().enumerate().filter(|(_, kept)| kept.is_none()) {
            self.seat(at, primary, &mut open, &mut joined);
        }
        let mut snapshot = self.snapshot(model).await?;
        let position = at_least(self.cx, snapshot.position())?;
        // What is told may be shown before the batch has ended, and whether or not it ends in time.
        self.local.decisions.shown(self.store, position);
        let models = &self.local.models;
        let model = models.resolve_in(&mut *snapshot, self.store, model).await?;
        self.cx.model.note(model.id);
        for (at, kept) in kept.into_iter().enumerate() {
            match kept {
                Some(kept) if kept.position == position && kept.model == model.id => {
                    self.tell(tell, at, Ok(kept));
                }
                Some(_) => self.seat(at, primary, &mut open, &mut joined),
                None => {}
            }
        }
        let begun = self.begin(open, &model, tell).await;
        let long = self.rounds(&mut *snapshot, begun, tell).await?;
        drop(snapshot);
        let rest = Rest { long, joined };
        self.finish(rest, position, model.id, tell).await;
        Ok((position, model.id))
    }

    /// Takes a place in the flight of a check; one for the primary is no flight.
    fn seat(
        &self,
        at: usize,
        primary: bool,
        open: &mut Vec<Open>,
        joined: &mut Vec<(usize, Join<Outcome>)>,
    ) {
        let request = self.checks.get(at).filter(|_| !primary);
        match request.map(|request| self.local.decisions.seat(&self.arrived, request)) {
            None => open.push(Open { at, lead: None }),
            Some(Seat::Lead(lead)) => open.push(Open {
                at,
                lead: Some(lead),
            }),
            Some(Seat::Join(join)) => joined.push((at, join)),
        }
    }

    async fn kept(&self) -> Vec<Option<Decision>> {
        let mut kept = Vec::with_capacity(self.checks.len());
        for request in self.checks {
            kept.push(self.local.decisions.kept(&self.arrived, request).await);
        }
        kept
    }

    async fn snapshot(&self, model: &str) -> Result<Box<dyn Snapshot>, ApiError> {
        let datastore = &self.local.datastore;
        let snapshot = datastore.snapshot(self.store, self.cx.deadline).await;
        snapshot
            .map_err(from_datastore)?
            .ok_or_else(|| match model {
                "" => models::no_model(self.store),
                id => models::model_not_found(id),
            })
    }

    /// Makes every check ready to be evaluated; what the model does not allow is decided by that.
    async fn begin(
        &self,
        open: Vec<Open>,
        model: &Arc<Compiled>,
        tell: &mut Tell<'_>,
    ) -> Vec<Running> {
        let (mut begun, mut pace) = (Vec::with_capacity(open.len()), Pace::begin());
        for open in open {
            pace.step().await;
            let Some(request) = self.checks.get(open.at) else {
                continue;
            };
            self.local.decisions.evaluated();
            match CheckedRequest::new(&model.types, request) {
                Ok(checked) => {
                    let model = Arc::clone(model);
                    begun.push(Running {
                        open,
                        evaluation: Evaluation::new(self.store, model, &checked, None),
                        left: self.local.limits.check_reads,
                    });
                }
                Err(error) => self.land(open, Err(error), tell),
            }
        }
        begun
    }

    /// Evaluates round by round. Returns those that are to be decided by themselves.
    async fn rounds(
        &self,
        snapshot: &mut dyn Snapshot,
        mut open: Vec<Running>,
        tell: &mut Tell<'_>,
    ) -> Result<Vec<Open>, ApiError> {
        let (position, mut long) = (snapshot.position(), Vec::new());
        let mut together = self.most_together(open.len());
        let mut pace = Pace::begin();
        loop {
            let round = self.round(open, position, &mut together, &mut long, tell);
            let (unknown, reads) = round.await;
            if unknown.is_empty() {
                return Ok(long);
            }
            self.local.decisions.has_read();
            let found = snapshot
                .read(&reads, u32::try_from(together).unwrap_or(u32::MAX))
                .await
                .map_err(from_datastore)?;
            let Some(found) = found else {
                // Somebody reads very much; who it is, each finds out alone.
                long.extend(unknown.into_iter().map(|(running, _)| running.open));
                return Ok(long);
            };
            open = Vec::with_capacity(unknown.len());
            for (mut running, places) in unknown {
                pace.step().await;
                let of_it = |at: &usize| Some((reads.get(*at)?, found.get(*at)?));
                let found = || places.iter().filter_map(of_it);
                let tuples: usize = found().map(|(_, tuples)| tuples.len()).sum();
                let Some(left) = running.left.checked_sub(tuples) else {
                    self.land(running.open, Err(too_complex()), tell);
                    continue;
                };
                let Some(room) = together.checked_sub(tuples) else {
                    long.push(running.open);
                    continue;
                };
                (running.left, together) = (left, room);
                running.evaluation.add(found());
                open.push(running);
            }
        }
    }

    /// Sets and tuples that so many checks may read together: as many as those that may be long at a time, for that is how
    /// much a node has room for.
    fn most_together(&self, checks: usize) -> usize {
        let limits = &self.local.limits;
        let at_a_time = checks.min(limits.concurrent_long_checks.max(1));
        limits.check_reads.saturating_mul(at_a_time)
    }

    /// Runs every evaluation once. Returns those that missed something, and all that they missed. What is more than may
    /// still be read `together` is left to those checks that are decided by themselves.
    async fn round(
        &self,
        running: Vec<Running>,
        position: Position,
        together: &mut usize,
        long: &mut Vec<Open>,
        tell: &mut Tell<'_>,
    ) -> (Unknown, Vec<Read>) {
        let (mut unknown, mut reads) = (Vec::new(), Reads::default());
        let mut pace = Pace::begin();
        for mut running in running {
            pace.step().await;
            let evaluation = &mut running.evaluation;
            let outcome = match evaluation.run_inline(&self.local.limits) {
                Ok(evaluated @ (Evaluated::Allowed | Evaluated::Denied)) => {
                    self.local.measure(evaluated, evaluation);
                    Ok(evaluation.decision(evaluated == Evaluated::Allowed, position))
                }
                Ok(Evaluated::TooDeep) => Err(too_complex()),
                Ok(Evaluated::Unclear) => Err(unclear(evaluation.scratch())),
                Ok(Evaluated::Interrupted) => Err(deadline_exceeded()),
                Ok(Evaluated::OutOfWork) => {
                    long.push(running.open);
                    continue;
                }
                Ok(Evaluated::Unknown) => {
                    let missed = evaluation.scratch().missed();
                    let Some(left) = running.left.checked_sub(missed.len()) else {
                        self.land(running.open, Err(too_complex()), tell);
                        continue;
                    };
                    let Some(room) = together.checked_sub(missed.len()) else {
                        long.push(running.open);
                        continue;
                    };
                    let places = missed.iter().map(|read| reads.place(read)).collect();
                    (running.left, *together) = (left, room);
                    unknown.push((running, places));
                    continue;
                }
                Err(error) => Err(error),
            };
            self.land(running.open, outcome, tell);
        }
        (unknown, reads.all)
    }

    /// Decides what is left, each by itself, at the batch's position or later.
    async fn finish(&self, rest: Rest, position: Position, model: ModelId, tell: &mut Tell<'_>) {
        let cx = Context {
            min_position: self.cx.min_position.max(Some(position)),
            why: Why::default(),
            ..self.cx.clone()
        };
        let alone = |at: usize| {
            let request = self.checks.get(at).cloned().unwrap_or_default();
            v1::CheckRequest {
                authorization_model_id: model.to_string(),
                ..request
            }
        };
        let (cx, alone) = (&cx, &alone);
        let long = rest.long.into_iter().map(|open| {
            async move {
                let outcome = self
                    .local
                    .decide_alone(cx, self.store, &alone(open.at))
                    .await;
                (open, outcome)
            }
            .boxed()
        });
        let at_a_time = self.local.limits.concurrent_long_checks.max(1);
        let long = stream::iter(long).buffer_unordered(at_a_time);
        let joined = rest.joined.into_iter().map(|(at, join)| {
            async move {
                let outcome = match self.joined(join, position).await {
                    Some(outcome) => outcome,
                    None => self.local.decide(cx, &alone(at)).await,
                };
                (Open { at, lead: None }, outcome)
            }
            .boxed()
        });
        let joined: FuturesUnordered<_> = joined.collect();
        let mut decided = stream::select(long, joined);
        while let Some((open, outcome)) = decided.next().await {
            self.land(open, outcome, tell);
        }
    }

    /// What somebody else decides, if it is good enough and holds at the batch's position.
    async fn joined(&self, join: Join<Outcome>, position: Position) -> Option<Outcome> {
        let landed = tokio::time::timeout_at(self.cx.deadline.into(), join.landed()).await;
        let Ok(landed) = landed else {
            return Some(Err(deadline_exceeded()));
        };
        let decisions = &self.local.decisions;
        let outcome = decisions.accept(&self.arrived, landed?).await?;
        match &outcome {
            Ok(decision) if !decisions.holds_at(&self.arrived, decision, position).await => None,
            _ => Some(outcome),
        }
    }

    fn land(&self, open: Open, outcome: Outcome, tell: &mut Tell<'_>) {
        if let (Some(lead), Some(request)) = (open.lead, self.checks.get(open.at)) {
            self.local
                .decisions
                .land(lead, &self.arrived, request, &outcome);
        }
        self.tell(tell, open.at, outcome);
    }

    fn tell(&self, tell: &mut Tell<'_>, at: usize, outcome: Outcome) {
        tell(at, outcome, &self.local.name);
    }
}

/// Where all hold and under which model, if every check was found and they are of one position.
fn all_of_one_position(kept: &[Option<Decision>]) -> Option<(Position, ModelId)> {
    let first = kept.first()?.as_ref()?;
    let of_one = |kept: &Option<Decision>| {
        let same = |kept: &Decision| kept.position == first.position && kept.model == first.model;
        kept.as_ref().is_some_and(same)
    };
    kept.iter()
        .all(of_one)
        .then_some((first.position, first.model))
}
