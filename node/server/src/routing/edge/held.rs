//! What an edge holds, and how it decides a check by it.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_engine::view::CompiledModel;
use meridian_engine::{Budget, Explanation, Outcome, Scratch, View};
use meridian_model::{ApiError, ModelId, Position, StoreId};
use meridian_proto::openfga::v1;
use meridian_sync::views::{Shown, Views};

use crate::api::deadline_exceeded;
use crate::calls::{Answer, Refusal, Reply, ServedBy};
use crate::commands::check::{CheckedRequest, too_complex, unclear};
use crate::commands::evaluations::Evaluations;
use crate::commands::long_checks::LongChecks;
use crate::explanations::{Basis, Why};
use crate::limits::Limits;
use crate::routing::wall_clock;
use crate::telemetry::request::stage;

/// What an edge holds, and how it decides by it.
pub(super) struct Held {
    pub(super) views: Arc<Views>,
    pub(super) name: ServedBy,
    pub(super) limits: Limits,
    pub(super) max_staleness: Duration,
    pub(super) long_checks: LongChecks,
    pub(super) evaluations: Evaluations,
}

/// What came of evaluating over a view.
pub(super) enum Found {
    Decided(Answer<v1::CheckResponse>),
    /// The view does not decide it. Under this model an answer from upstream may have been kept.
    Unknown(ModelId),
    /// It takes more work than may be done on the connection's task.
    Long,
    /// There is nothing to evaluate by: the model is not (or not readably) here.
    Nothing,
}

impl Found {
    /// Leaves what was decided by, if that is wanted.
    pub(super) fn leave(&self, why: &Why, view: &View, request: &v1::CheckRequest) {
        if let Self::Decided(Ok(_)) = self {
            why.leave(|| Basis::Held(view.clone(), request.clone()));
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Held {
    /// The store's view, if it may answer: fresh enough, and at the asked position or later.
    pub(super) fn view(&self, store: StoreId, asked: Option<Position>) -> Option<Arc<Shown>> {
        let shown = self.views.get(store)?;
        let reached = asked.is_none_or(|asked| shown.view.position() >= asked);
        (reached
            && self
                .views
                .age(&shown, wall_clock())
                .is_some_and(|age| age <= self.max_staleness))
        .then_some(shown)
    }

    pub(super) fn decide(
        &self,
        view: &View,
        request: &v1::CheckRequest,
        budget: Budget<'_>,
    ) -> Found {
        let Some((model, compiled)) = model(view, &request.authorization_model_id) else {
            return Found::Nothing;
        };
        let refuse = |error: ApiError| Found::Decided(Err(refusal(view, model, error)));
        let checked = match CheckedRequest::new(&compiled.types, request) {
            Ok(checked) => checked,
            Err(error) => return refuse(error),
        };
        let check = |scratch: &mut Scratch| {
            meridian_engine::check(
                view,
                &compiled.program,
                &checked.question,
                checked.given(),
                budget,
                scratch,
            )
        };
        let evaluate = |scratch: &mut Scratch| {
            let _stage = stage("evaluate");
            let outcome = check(scratch);
            self.evaluations.evaluated(outcome, scratch);
            outcome
        };
        let allowed = match SCRATCH.with_borrow_mut(evaluate) {
            Outcome::Allowed => true,
            Outcome::Denied => false,
            Outcome::TooDeep => return refuse(too_complex()),
            Outcome::Unclear => return refuse(SCRATCH.with_borrow(unclear)),
            Outcome::Interrupted => return refuse(deadline_exceeded()),
            Outcome::Unknown => return Found::Unknown(model),
            Outcome::OutOfWork => return Found::Long,
        };
        Found::Decided(Ok(self.reply(view, model, allowed, view.position())))
    }

    /// The id of the model that a request asks for; `None` when it is not here.
    pub(super) fn model_of(view: &View, request: &v1::CheckRequest) -> Option<ModelId> {
        Some(model(view, &request.authorization_model_id)?.0)
    }

    /// An answer that holds at the view's position, and at `also`.
    pub(super) fn reply(
        &self,
        view: &View,
        model: ModelId,
        allowed: bool,
        also: Position,
    ) -> Reply<v1::CheckResponse> {
        let body = v1::CheckResponse {
            allowed,
            resolution: String::new(),
        };
        Reply {
            body,
            position: Some(view.position().max(also)),
            model: Some(model),
            served_by: self.name.clone(),
            truncated: false,
        }
    }

    pub(super) fn inline_budget(&self) -> Budget<'static> {
        Budget::of(self.limits.evaluation(self.limits.check_inline_work))
    }

    /// Evaluates on a blocking thread until it is done or the caller's time is up; `None` when no more may run now.
    pub(super) fn decide_long(
        self: &Arc<Self>,
        store: StoreId,
        view: View,
        request: v1::CheckRequest,
        deadline: Instant,
    ) -> Option<impl Future<Output = Result<Found, ApiError>> + Send + use<>> {
        let this = Arc::clone(self);
        let run = move |budget: Budget<'_>| match this.decide(&view, &request, budget) {
            Found::Long => Found::Decided(Err(too_complex().into())),
            found => found,
        };
        self.long(store, deadline, run)
    }

    /// Runs what takes long on a blocking thread; `None` when no more may run now.
    pub(super) fn long<T: Send + 'static, R>(
        &self,
        store: StoreId,
        deadline: Instant,
        run: R,
    ) -> Option<impl Future<Output = Result<T, ApiError>> + Send + use<T, R>>
    where
        R: FnOnce(Budget<'_>) -> T + Send + 'static,
    {
        let slot = self.long_checks.slot_now(store)?;
        let limits = self.limits.evaluation(self.limits.check_work);
        let run = move |interrupted: &dyn Fn() -> bool| {
            run(Budget {
                limits,
                interrupted,
            })
        };
        Some(async move { slot.run(deadline, run).await.map(|(done, _)| done) })
    }
}

/// Explains what a view decided, in at most `size` parts; the outcome where it does not decide within the budget.
pub(crate) fn explain(
    view: &View,
    request: &v1::CheckRequest,
    budget: Budget<'_>,
    size: usize,
) -> Option<Result<Explanation, Outcome>> {
    let (_, compiled) = model(view, &request.authorization_model_id)?;
    let checked = CheckedRequest::new(&compiled.types, request).ok()?;
    Some(meridian_engine::explain(
        view,
        &compiled.program,
        &checked.question,
        checked.given(),
        budget,
        size,
    ))
}

/// The model of that id, or the latest where it is empty, if it is readably here.
pub(super) fn model<'a>(view: &'a View, id: &str) -> Option<(ModelId, &'a CompiledModel)> {
    let id = match id {
        "" => None,
        id => Some(id.parse().ok()?),
    };
    let model = view.model(id)?;
    Some((model.stored.id, model.compiled.as_ref()?))
}

/// What is refused by what is held here.
pub(super) fn refusal(view: &View, model: ModelId, error: ApiError) -> Refusal {
    Refusal {
        error,
        position: Some(view.position()),
        model: Some(Box::new(model)),
        served_by: None,
    }
}
