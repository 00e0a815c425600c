//! An edge: answers a check from the part of a store it holds when, and only when, that part proves the answer.
//!
//! Every other question goes upstream: one that the part leaves unknown (unless an answer kept from before still holds),
//! one that must come from central's primary, one from a later position than the edge has reached, and all of them while
//! the edge cannot tell how fresh it is. Writes and all other calls go upstream too.

mod calls;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use meridian_engine::{Budget, Limits as EngineLimits, Outcome, Scratch, View};
use meridian_model::{ApiError, ModelId, Position, StoreId, Tier, Timestamp};
use meridian_proto::openfga::v1;
use meridian_sync::views::{Shown, Views};

use crate::api::deadline_exceeded;
use crate::api::fields::Fields;
use crate::api::operations::Operation;
use crate::calls::{Answer, Context, Refusal, Reply, ServedBy};
use crate::commands::check::{CheckedRequest, too_complex};
use crate::commands::long_checks::LongChecks;
use crate::limits::Limits;
use crate::routing::answers::{Answer as KeptAnswer, AnswerKey, Answers};
use crate::routing::{Decided, Upwards, wants_primary};

/// The calls of an edge.
pub struct Edge {
    held: Arc<Held>,
    answers: Arc<Answers>,
    upwards: Upwards,
    revision_wait: Duration,
}

/// What an edge is made of.
pub struct Parts {
    /// What it holds.
    pub views: Arc<Views>,
    /// What it has kept of upstream's answers.
    pub answers: Arc<Answers>,
    /// The nodes above.
    pub upwards: Upwards,
    /// Its name.
    pub name: ServedBy,
    /// What one request may ask for.
    pub limits: Limits,
    /// Age beyond which it does not trust what it holds.
    pub max_staleness: Duration,
    /// How long a check waits for a position already shown to somebody.
    pub revision_wait: Duration,
}

impl Edge {
    /// An edge of these parts.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            views,
            answers,
            upwards,
            name,
            limits,
            max_staleness,
            revision_wait,
        } = parts;
        Self {
            held: Arc::new(Held {
                views,
                name,
                limits,
                max_staleness,
                long_checks: LongChecks::new(limits.concurrent_long_checks),
            }),
            answers,
            upwards,
            revision_wait,
        }
    }

    /// Tries what is held, then what is kept; `None` to ask upstream.
    async fn here(
        &self,
        cx: &Context,
        store: StoreId,
        request: &v1::CheckRequest,
    ) -> Option<Answer<v1::CheckResponse>> {
        if let Some(asked) = cx.min_position {
            let patience = cx.deadline.min(Instant::now() + self.revision_wait);
            self.held.views.reached(store, asked, patience).await;
        }
        let shown = self.held.view(store, cx.min_position)?;
        let view = &shown.view;
        let mut found = self.held.decide(view, request, self.held.inline_budget());
        if matches!(found, Found::Long) {
            found = match self
                .held
                .decide_long(store, view.clone(), request.clone(), cx.deadline)
                .await?
            {
                Ok(found) => found,
                Err(error) => return Some(Err(error.into())),
            };
        }
        self.settle(store, view, request, found)
    }

    fn settle(
        &self,
        store: StoreId,
        view: &View,
        request: &v1::CheckRequest,
        found: Found,
    ) -> Option<Answer<v1::CheckResponse>> {
        let answer = match found {
            Found::Decided(answer) => answer,
            Found::Unknown(model) if may_keep(view, model, request) => {
                let kept = self.answers.get(&answer_key(store, model, request)?)?;
                // The model in force here may not be where the answer comes from.
                if request.authorization_model_id.is_empty() && kept.position > view.position() {
                    return None;
                }
                Ok(self.held.reply(view, model, kept.allowed, kept.position))
            }
            Found::Unknown(_) | Found::Long | Found::Nothing => return None,
        };
        if let Ok(Some(position)) = answer.as_ref().map(|reply| reply.position) {
            self.upwards.floors().lift(store, position);
        }
        Some(answer)
    }

    async fn ask_upstream(
        &self,
        cx: &Context,
        store: StoreId,
        request: &v1::CheckRequest,
    ) -> Answer<v1::CheckResponse> {
        let shown = self.held.views.get(store);
        let view = shown.as_ref().map(|shown| &shown.view);
        let cx = Context {
            min_position: cx.min_position.max(view.map(View::position)),
            ..*cx
        };
        let Decided {
            decision,
            served_by,
        } = self.upwards.decide(&cx, store, request).await?;
        if let (Some(view), Some(key)) = (view, answer_key(store, decision.model, request))
            && may_keep(view, decision.model, request)
        {
            self.answers.keep(
                key,
                KeptAnswer {
                    allowed: decision.allowed,
                    position: decision.position,
                    reads: decision.reads,
                },
            );
        }
        let body = v1::CheckResponse {
            allowed: decision.allowed,
            resolution: String::new(),
        };
        Ok(Reply {
            body,
            position: Some(decision.position),
            model: Some(decision.model),
            served_by,
        })
    }

    async fn forward<O: Operation>(
        &self,
        cx: &Context,
        request: &O::Request,
        writes: bool,
    ) -> Answer<O::Response> {
        self.upwards
            .forward::<O>(cx, request.store_id().parse().ok(), request, writes)
            .await
    }
}

/// What an answer of upstream is kept under; `None` for a question that is not only about stored tuples, or that must
/// come from central's primary.
fn answer_key(store: StoreId, model: ModelId, request: &v1::CheckRequest) -> Option<AnswerKey> {
    let alone = request
        .contextual_tuples
        .as_ref()
        .is_none_or(|tuples| tuples.tuple_keys.is_empty())
        && request.context.is_none();
    let key = request
        .tuple_key
        .as_ref()
        .filter(|_| alone && !wants_primary(request.consistency))?;
    Some(AnswerKey::new(
        store,
        model,
        &key.object,
        &key.relation,
        &key.user,
    ))
}

/// Of Cold types an edge keeps nothing, not even an answer that rests on them. Asked again when a kept answer is used: its
/// types may have become Cold since, or in a revision that upstream had and this node had not.
fn may_keep(view: &View, model: ModelId, request: &v1::CheckRequest) -> bool {
    if view.tiers().cold.is_empty() {
        return true;
    }
    let Some(compiled) = view
        .model(Some(model))
        .and_then(|model| model.compiled.as_ref())
    else {
        return false;
    };
    let Some(key) = &request.tuple_key else {
        return false;
    };
    let object_type = key
        .object
        .split_once(':')
        .map_or("", |(object_type, _)| object_type);
    let mut types = compiled
        .types
        .closure_types(object_type, &key.relation)
        .into_iter();
    types.all(|object_type| view.tiers().of(object_type) != Tier::Cold)
}

/// What an edge holds, and how it decides by it.
struct Held {
    views: Arc<Views>,
    name: ServedBy,
    limits: Limits,
    max_staleness: Duration,
    long_checks: LongChecks,
}

/// What came of evaluating over a view.
enum Found {
    Decided(Answer<v1::CheckResponse>),
    /// The view does not decide it. Under this model an answer from upstream may have been kept.
    Unknown(ModelId),
    /// It takes more work than may be done on the connection's task.
    Long,
    /// There is nothing to evaluate by: the model is not (or not readably) here.
    Nothing,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Held {
    /// The store's view, if it may answer: fresh enough, and at the asked position or later.
    fn view(&self, store: StoreId, asked: Option<Position>) -> Option<Arc<Shown>> {
        let shown = self.views.get(store)?;
        let reached = asked.is_none_or(|asked| shown.view.position() >= asked);
        (reached
            && self
                .views
                .age(&shown, wall_clock())
                .is_some_and(|age| age <= self.max_staleness))
        .then_some(shown)
    }

    fn decide(&self, view: &View, request: &v1::CheckRequest, budget: Budget<'_>) -> Found {
        let id = match request.authorization_model_id.as_str() {
            "" => None,
            id => match id.parse() {
                Ok(id) => Some(id),
                Err(_) => return Found::Nothing,
            },
        };
        let Some(model) = view.model(id) else {
            return Found::Nothing;
        };
        let Some(compiled) = &model.compiled else {
            return Found::Nothing;
        };
        let refuse = |error: ApiError| {
            Found::Decided(Err(Refusal {
                error,
                position: Some(view.position()),
                served_by: None,
            }))
        };
        let checked = match CheckedRequest::new(&compiled.types, request) {
            Ok(checked) => checked,
            Err(error) => return refuse(error),
        };
        let check = |scratch: &mut Scratch| {
            meridian_engine::check(
                view,
                &compiled.program,
                &checked.question,
                &checked.contextual,
                budget,
                scratch,
            )
        };
        let allowed = match SCRATCH.with_borrow_mut(check) {
            Outcome::Allowed => true,
            Outcome::Denied => false,
            Outcome::TooDeep => return refuse(too_complex()),
            Outcome::Interrupted => return refuse(deadline_exceeded()),
            Outcome::Unknown => return Found::Unknown(model.stored.id),
            Outcome::OutOfWork => return Found::Long,
        };
        Found::Decided(Ok(self.reply(
            view,
            model.stored.id,
            allowed,
            view.position(),
        )))
    }

    /// An answer that holds at the view's position, and at `also`.
    fn reply(
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
        }
    }

    fn inline_budget(&self) -> Budget<'static> {
        Budget::of(EngineLimits {
            work: self.limits.check_inline_work,
            ..EngineLimits::default()
        })
    }

    /// Evaluates on a blocking thread until it is done or the caller's time is up; `None` when no more may run now.
    async fn decide_long(
        self: &Arc<Self>,
        store: StoreId,
        view: View,
        request: v1::CheckRequest,
        deadline: Instant,
    ) -> Option<Result<Found, ApiError>> {
        let slot = self.long_checks.slot_now(store)?;
        let this = Arc::clone(self);
        let run = move |interrupted: &dyn Fn() -> bool| {
            let limits = EngineLimits {
                work: this.limits.check_work,
                ..EngineLimits::default()
            };
            match this.decide(
                &view,
                &request,
                Budget {
                    limits,
                    interrupted,
                },
            ) {
                Found::Long => Found::Decided(Err(too_complex().into())),
                found => found,
            }
        };
        Some(slot.run(deadline, run).await.map(|(found, _)| found))
    }
}

/// This machine's wall clock, which the writer's heartbeats are compared with.
fn wall_clock() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
