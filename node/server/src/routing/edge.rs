//! An edge: answers a check, a listing or an expansion from the part of a store it holds when, and only when, that part
//! proves the answer.
//!
//! Every other question goes upstream: one that the part leaves unknown (unless it is a check whose answer was kept from
//! before and still holds), one that must come from central's primary, one from a later position than the edge has reached,
//! and all of them while the edge cannot tell how fresh it is. Writes and all other calls go upstream too.

mod calls;
mod held;
mod lists;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_engine::View;
use meridian_model::{ModelId, StoreId, Tier};
use meridian_proto::openfga::v1;
use meridian_sync::views::{Shown, Views};

use crate::api::fields::Fields;
use crate::api::operations::Operation;
use crate::calls::{Answer, Context, Reply, ServedBy};
use crate::commands::evaluations::Evaluations;
use crate::commands::long_checks::LongChecks;
use crate::limits::Limits;
use crate::routing::answers::{Answer as KeptAnswer, AnswerKey, Answers};
use crate::routing::{Decided, Upwards, wants_primary};
use crate::telemetry::request::stage;
use held::{Found, Held};

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
                evaluations: Evaluations::new(),
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
        let shown = self.reached(cx, store).await?;
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

    /// What is held of the store, if it may answer; waits a little for the position asked for.
    async fn reached(&self, cx: &Context, store: StoreId) -> Option<Arc<Shown>> {
        if let Some(asked) = cx.min_position {
            let patience = cx.deadline.min(Instant::now() + self.revision_wait);
            if !self.held.views.reached(store, asked, patience).await {
                self.miss(store);
            }
        }
        self.held.view(store, cx.min_position)
    }

    /// What upstream has shown and the topic does not bring is asked for: else every check would go up until the next
    /// comparison. The floor, not what the client asked for, which need not exist.
    fn miss(&self, store: StoreId) {
        let floor = self.upwards.floors().get(store);
        let shown = self.held.views.get(store);
        if shown.is_some_and(|shown| shown.view.position() < floor) {
            self.held.views.miss(store, floor);
        }
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
                let kept = {
                    let _stage = stage("cache");
                    self.answers.get(&answer_key(store, model, request)?)?
                };
                // The model in force here may not be where the answer comes from.
                if request.authorization_model_id.is_empty() && kept.position > view.position() {
                    return None;
                }
                let mut reply = self.held.reply(view, model, kept.allowed, kept.position);
                reply.served_by = reply.served_by.kept();
                Ok(reply)
            }
            Found::Unknown(_) | Found::Long | Found::Nothing => return None,
        };
        if let Ok(Some(position)) = answer.as_ref().map(|reply| reply.position) {
            self.upwards.floors().lift(store, position);
        }
        Some(answer)
    }

    /// The call's context, asking for what is held here or later.
    fn above_view(&self, cx: &Context, store: StoreId) -> Context {
        let shown = self.held.views.get(store);
        Context {
            min_position: cx
                .min_position
                .max(shown.map(|shown| shown.view.position())),
            ..cx.clone()
        }
    }

    async fn ask_upstream(
        &self,
        cx: &Context,
        store: StoreId,
        request: &v1::CheckRequest,
    ) -> Answer<v1::CheckResponse> {
        let shown = self.held.views.get(store);
        let view = shown.as_ref().map(|shown| &shown.view);
        let cx = self.above_view(cx, store);
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
            truncated: false,
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
