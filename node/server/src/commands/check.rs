//! Check over a datastore, by rounds.
//!
//! The evaluator runs over what has been read so far and says what it missed; all of that is one query; and so on until
//! it decides. Everything is read through one snapshot, so the answer is of one revision. Between rounds others have their
//! turn, since a datastore in memory keeps nobody waiting.
//!
//! The hazard: an evaluation is computation without a pause, and a hostile model can make it long. So each run is given
//! little work on the thread that serves connections; what needs more goes on on a blocking thread, a few at a time,
//! and stops when its caller's time is up or the caller has gone.

mod asked;
mod finished;
#[cfg(test)]
mod tests;

use std::slice::from_ref;
use std::sync::Arc;
use std::time::Instant;

use meridian_condition::Context as Values;
use meridian_engine::{Budget, Given, Outcome, Question, RoundFacts, Scratch};
use meridian_model::hash::{set_hash, type_hash};
use meridian_model::ports::{Read, Snapshot};
use meridian_model::{ApiError, Code, ModelId, Object, Position, StoreId, Tuple};
use meridian_proto::openfga::v1;

use crate::answers::Seat;
use crate::api::deadline_exceeded;
use crate::calls::{Answer, Context, Reply};
use crate::commands::errors::from_datastore;
use crate::commands::long_checks::Slot;
use crate::commands::{Compiled, Local, at_least, models, store_id};
use crate::explanations::Basis;
use crate::limits::Limits;
use crate::pace::Pace;
use crate::routing::{Decided, wants_primary};
use crate::telemetry::request::stage;
pub use asked::CheckedRequest;
pub(crate) use asked::contextual;
use asked::invalid_question;
pub(crate) use finished::Finished;

/// More sets than this are named by the types they can be of.
const MAX_SET_HASHES: usize = 32;

/// A decided check, with what the decision rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether the user has the relation.
    pub allowed: bool,
    /// The position it holds at.
    pub position: Position,
    /// The model it was decided under.
    pub model: ModelId,
    /// Hashes of the sets that were read ([`meridian_model::hash::set_hash`]); when there are more than 32, of the types
    /// that the relation can touch ([`meridian_model::hash::type_hash`]). It holds until one of them is touched.
    pub reads: Vec<u64>,
}

pub(super) async fn answer(
    local: &Local,
    cx: &Context,
    request: &v1::CheckRequest,
) -> Answer<v1::CheckResponse> {
    let Decided {
        decision,
        served_by,
    } = local.decided(cx, request).await?;
    let body = v1::CheckResponse {
        allowed: decision.allowed,
        resolution: String::new(),
    };
    let reply = local.reply(body, Some(decision.position), Some(decision.model));
    Ok(Reply { served_by, ..reply })
}

impl Local {
    /// Decides a check at the datastore's latest revision: by a kept answer, with an equal check under way, or by itself.
    /// One that wants the primary is always decided by itself.
    ///
    /// # Errors
    /// What breaks a rule of the model, `authorization_model_resolution_too_complex` for what goes too deep or takes too
    /// much work, `unavailable` when the datastore is behind the asked position, and the datastore's own.
    pub async fn decide(
        &self,
        cx: &Context,
        request: &v1::CheckRequest,
    ) -> Result<Decision, ApiError> {
        let decided = self.decided(cx, request).await?;
        Ok(decided.decision)
    }

    /// As [`Self::decide`], by itself in any case.
    pub(crate) async fn decide_anew(
        &self,
        cx: &Context,
        request: &v1::CheckRequest,
    ) -> Result<Decision, ApiError> {
        let store = store_id(&request.store_id)?;
        self.decide_alone(cx, store, request).await
    }

    /// As [`Self::decide`], also saying whether the answer was kept from before.
    pub(crate) async fn decided(
        &self,
        cx: &Context,
        request: &v1::CheckRequest,
    ) -> Result<Decided, ApiError> {
        let store = store_id(&request.store_id)?;
        let here = |decision| Decided {
            decision,
            served_by: self.name.clone(),
        };
        if wants_primary(request.consistency) {
            let decision = self.decide_alone(cx, store, request).await?;
            self.decisions.shown(store, decision.position);
            return Ok(here(decision));
        }
        let model = &request.authorization_model_id;
        let arrived = self.decisions.arrived(cx, store, model);
        if let Some(kept) = self.decisions.kept(&arrived, request).await {
            return Ok(Decided {
                decision: kept,
                served_by: self.name.clone().kept(),
            });
        }
        loop {
            match self.decisions.seat(&arrived, request) {
                Seat::Lead(lead) => {
                    let outcome = self.decide_alone(cx, store, request).await;
                    self.decisions.land(lead, &arrived, request, &outcome);
                    return outcome.map(here);
                }
                Seat::Join(join) => {
                    let landed = tokio::time::timeout_at(cx.deadline.into(), join.landed())
                        .await
                        .map_err(|_| deadline_exceeded())?;
                    if let Some(landed) = landed
                        && let Some(outcome) = self.decisions.accept(&arrived, landed).await
                    {
                        if outcome.is_err() {
                            // Who led knows under which model it was refused; here it is looked up.
                            let model = self.models.resolve(store, model, cx.deadline).await;
                            model.iter().for_each(|model| cx.model.note(model.id));
                        }
                        return outcome.map(here);
                    }
                }
            }
        }
    }

    /// Evaluates a check. Asks for no flight, so that the leader of one may call it.
    pub(super) async fn decide_alone(
        &self,
        cx: &Context,
        store: StoreId,
        request: &v1::CheckRequest,
    ) -> Result<Decision, ApiError> {
        self.decisions.evaluated();
        if let Some(decision) = self.attempt(cx, store, request, None).await? {
            return Ok(decision);
        }
        let slot = self.long_checks.slot(store, cx.deadline).await?;
        self.attempt(cx, store, request, Some(slot))
            .await?
            .ok_or_else(deadline_exceeded)
    }

    /// `None` when the check is a long one and there is no slot for it. The snapshot, a connection of the datastore, is
    /// given back then: checks that await a slot would else leave none for other stores.
    async fn attempt(
        &self,
        cx: &Context,
        store: StoreId,
        request: &v1::CheckRequest,
        slot: Option<Slot>,
    ) -> Result<Option<Decision>, ApiError> {
        let snapshot = self
            .datastore
            .snapshot(store, cx.deadline)
            .await
            .map_err(from_datastore)?;
        let unknown = || match request.authorization_model_id.as_str() {
            "" => models::no_model(store),
            id => models::model_not_found(id),
        };
        let mut snapshot = snapshot.ok_or_else(unknown)?;
        let position = at_least(cx, snapshot.position())?;
        // Of the same revision as the tuples: a model is in force from its revision on.
        let model = self
            .models
            .resolve_in(&mut *snapshot, store, &request.authorization_model_id)
            .await?;
        cx.model.note(model.id);
        let checked = CheckedRequest::new(&model.types, request)?;
        let evaluation = Evaluation::new(store, model, &checked, slot);
        let decided = self.rounds(cx, &mut *snapshot, evaluation).await?;
        Ok(decided.map(|(allowed, evaluation)| {
            let decision = evaluation.decision(allowed, position);
            cx.why.leave(|| Basis::Read(Box::new(evaluation.into())));
            decision
        }))
    }

    async fn rounds(
        &self,
        cx: &Context,
        snapshot: &mut dyn Snapshot,
        mut evaluation: Evaluation,
    ) -> Result<Option<(bool, Evaluation)>, ApiError> {
        let mut left = self.limits.check_reads;
        let mut pace = Pace::begin();
        loop {
            pace.step().await;
            let outcome;
            (evaluation, outcome) = self.evaluate(evaluation, cx.deadline).await?;
            match outcome {
                Outcome::Allowed | Outcome::Denied => {
                    self.measure(outcome, &evaluation);
                    return Ok(Some((outcome == Outcome::Allowed, evaluation)));
                }
                Outcome::Unknown => {}
                Outcome::OutOfWork if evaluation.slot.is_none() => return Ok(None),
                Outcome::TooDeep | Outcome::OutOfWork => return Err(too_complex()),
                Outcome::Unclear => return Err(unclear(&evaluation.scratch)),
                Outcome::Interrupted => return Err(deadline_exceeded()),
            }
            if Instant::now() >= cx.deadline {
                return Err(deadline_exceeded());
            }
            let reads = evaluation.scratch.missed();
            left = left.checked_sub(reads.len()).ok_or_else(too_complex)?;
            self.decisions.has_read();
            let found = snapshot
                .read(reads, u32::try_from(left).unwrap_or(u32::MAX))
                .await
                .map_err(from_datastore)?
                .ok_or_else(too_complex)?;
            left = left.saturating_sub(found.iter().map(Vec::len).sum());
            evaluation.facts.add(reads, &found);
            evaluation.rounds += 1;
        }
    }

    /// Measures an evaluation that has decided.
    pub(super) fn measure(&self, outcome: Outcome, evaluation: &Evaluation) {
        self.evaluations.evaluated(outcome, &evaluation.scratch);
        self.evaluations.read(evaluation.rounds);
    }

    /// Runs the evaluator once: here if it is quick, else on a blocking thread, for which the evaluation keeps a slot from
    /// then on. One that has no slot is out of work.
    async fn evaluate(
        &self,
        mut evaluation: Evaluation,
        deadline: Instant,
    ) -> Result<(Evaluation, Outcome), ApiError> {
        let outcome = evaluation.run_inline(&self.limits)?;
        if outcome != Outcome::OutOfWork {
            return Ok((evaluation, outcome));
        }
        let limits = self.limits.evaluation(self.limits.check_work);
        let free = || self.long_checks.slot_now(evaluation.store);
        let Some(slot) = evaluation.slot.take().or_else(free) else {
            return Ok((evaluation, outcome));
        };
        let run = move |interrupted: &dyn Fn() -> bool| {
            let outcome = evaluation.run(Budget {
                limits,
                interrupted,
            })?;
            Ok::<_, ApiError>((evaluation, outcome))
        };
        let (ran, slot) = slot.run(deadline, run).await?;
        let (mut evaluation, outcome) = ran?;
        evaluation.slot = Some(slot);
        Ok((evaluation, outcome))
    }
}

/// The error of a check that goes deeper or takes more work than the limits allow.
pub(crate) fn too_complex() -> ApiError {
    ApiError::new(
        Code::ResolutionTooComplex,
        "Authorization Model resolution required too many rewrite rules to be resolved. Check your authorization model for infinite recursion or too much nesting",
    )
}

/// The error of a check that rests on a condition without an answer.
pub(crate) fn unclear(scratch: &Scratch) -> ApiError {
    ApiError::validation(
        scratch
            .fault()
            .unwrap_or("a condition could not be evaluated"),
    )
}

/// An evaluation between two rounds, all its own so that it can change threads.
pub(super) struct Evaluation {
    store: StoreId,
    model: Arc<Compiled>,
    asked: [String; 3],
    contextual: Vec<Tuple>,
    context: Values,
    facts: RoundFacts,
    scratch: Scratch,
    /// Whether the evaluator ran before.
    begun: bool,
    slot: Option<Slot>,
    /// How often was read for it.
    rounds: u32,
}

impl Evaluation {
    pub(super) fn new(
        store: StoreId,
        model: Arc<Compiled>,
        checked: &CheckedRequest<'_>,
        slot: Option<Slot>,
    ) -> Self {
        let question = &checked.question;
        let mut facts = RoundFacts::new(&model.symbols);
        facts.know(question.object(), &[]);
        facts.know(question.user().text(), &checked.contextual);
        Self {
            store,
            asked: [
                question.object(),
                question.relation(),
                question.user().text(),
            ]
            .map(str::to_owned),
            contextual: checked.contextual.clone(),
            context: checked.context.clone(),
            facts,
            begun: false,
            scratch: Scratch::default(),
            model,
            slot,
            rounds: 0,
        }
    }

    /// Runs the evaluator with as little work as may be done on the thread that serves connections.
    pub(super) fn run_inline(&mut self, limits: &Limits) -> Result<Outcome, ApiError> {
        self.run(Budget::of(limits.evaluation(limits.check_inline_work)))
    }

    /// What the last run missed, or why a condition has no answer.
    pub(super) fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Takes in what a round read for it.
    pub(super) fn add<'a>(&mut self, found: impl Iterator<Item = (&'a Read, &'a Vec<Tuple>)>) {
        for (read, tuples) in found {
            self.facts.add(from_ref(read), from_ref(tuples));
        }
        self.rounds += 1;
    }

    /// What was decided at `position`, with what it rests on as changes name it.
    pub(super) fn decision(&self, allowed: bool, position: Position) -> Decision {
        let sets = self.facts.sets_read();
        let sets: Option<Vec<u64>> = sets
            .take(MAX_SET_HASHES + 1)
            .map(|(object, relation)| Some(set_hash(&object.parse::<Object>().ok()?, relation)))
            .collect();
        let reads = match sets {
            Some(sets) if sets.len() <= MAX_SET_HASHES => sets,
            _ => self.hashes_of_types(),
        };
        Decision {
            allowed,
            position,
            model: self.model.id,
            reads,
        }
    }

    fn hashes_of_types(&self) -> Vec<u64> {
        let [object, relation, _] = &self.asked;
        let object_type = object.split_once(':').map_or("", |(of_type, _)| of_type);
        let types = self.model.types.closure_types(object_type, relation);
        types.into_iter().map(type_hash).collect()
    }

    fn run(&mut self, budget: Budget<'_>) -> Result<Outcome, ApiError> {
        let _stage = stage("evaluate");
        let [object, relation, user] = &self.asked;
        let question =
            Question::parse(object, relation, user).map_err(|why| invalid_question(&why))?;
        let (facts, program, scratch) = (&self.facts, &self.model.program, &mut self.scratch);
        if std::mem::replace(&mut self.begun, true) {
            let context = &self.context;
            return Ok(meridian_engine::check_again(
                facts, program, &question, context, budget, scratch,
            ));
        }
        let given = Given {
            tuples: &self.contextual,
            context: &self.context,
        };
        Ok(meridian_engine::check(
            facts, program, &question, given, budget, scratch,
        ))
    }
}
