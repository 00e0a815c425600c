//! An edge: answers a check, a listing or an expansion from the part of a store it holds when, and only when, that part
//! proves the answer.
//!
//! Every other question goes upstream: one that the part leaves unknown (unless it is a check whose answer was kept from
//! before and still holds), one that must come from central's primary, one from a later position than the edge has reached,
//! and all of them while the edge cannot tell how fresh it is. Writes and all other calls go upstream too.

mod batch;
mod calls;
mod held;
mod lists;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_engine::View;
use meridian_model::{Code, ModelId, StoreId, Tier};
use meridian_proto::openfga::v1;
use meridian_sync::views::{Shown, Views};

use metrics::Counter;

use crate::answers::{Answers, Asked, Flights, Join, Lead, Seat, Shared, joined_counter};
use crate::api::deadline_exceeded;
use crate::calls::{Answer, Context, Refusal, Reply, ServedBy};
use crate::commands::check::Decision;
use crate::commands::evaluations::Evaluations;
use crate::commands::long_checks::LongChecks;
use crate::limits::Limits;
use crate::routing::{Decided, Upwards, wants_primary};
use crate::telemetry::request::stage;
pub(crate) use held::explain;
use held::{Found, Held};

/// The calls of an edge.
pub struct Edge {
    held: Arc<Held>,
    answers: Arc<Answers>,
    flights: Flights<Shared, Above>,
    joined: Counter,
    upwards: Upwards,
    revision_wait: Duration,
}

/// What a node above says of a check.
type Above = Result<Decided, Refusal>;

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
            flights: Flights::default(),
            joined: joined_counter(),
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
                .decide_long(store, view.clone(), request.clone(), cx.deadline)?
                .await
            {
                Ok(found) => found,
                Err(error) => return Some(Err(error.into())),
            };
        }
        found.leave(&cx.why, view, request);
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
                    let asked = Asked::new(request, model.as_str());
                    self.answers.get(store, &asked)?
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

    /// Has a check answered above; by one call for all who ask the same meanwhile.
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
        } = if wants_primary(request.consistency) {
            self.upwards.decide(&cx, store, request).await?
        } else {
            self.decide_above(&cx, store, request, view).await?
        };
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

    async fn decide_above(
        &self,
        cx: &Context,
        store: StoreId,
        request: &v1::CheckRequest,
        view: Option<&View>,
    ) -> Result<Decided, Refusal> {
        loop {
            match self.seat(cx, request) {
                Seat::Lead(lead) => {
                    let decided = self.upwards.decide(cx, store, request).await;
                    if let Ok(decided) = &decided {
                        self.keep(view, request, &decided.decision);
                    }
                    land(lead, &decided);
                    return decided;
                }
                Seat::Join(join) => {
                    if let Some(decided) = self.joined(cx, join).await? {
                        return decided;
                    }
                }
            }
        }
    }

    /// A place in the flight of a check. What is asked for at least is part of what is shared, so what others are told will do.
    fn seat(&self, cx: &Context, request: &v1::CheckRequest) -> Seat<Shared, Above> {
        let asked = Asked::new(request, &request.authorization_model_id);
        self.flights.seat((asked, cx.min_position))
    }

    /// What somebody else is told; `None` when they gave up.
    async fn joined(&self, cx: &Context, join: Join<Above>) -> Result<Option<Above>, Refusal> {
        let landed = tokio::time::timeout_at(cx.deadline.into(), join.landed()).await;
        let landed = landed.map_err(|_| deadline_exceeded())?;
        self.joined.increment(u64::from(landed.is_some()));
        Ok(landed.map(|landed| landed.outcome))
    }

    fn keep(&self, view: Option<&View>, request: &v1::CheckRequest, decision: &Decision) {
        if view.is_some_and(|view| may_keep(view, decision.model, request)) {
            let asked = Asked::new(request, decision.model.as_str());
            self.answers.keep(asked, decision.clone());
        }
    }
}

/// Tells all who joined; but not that the leader's own time was up.
fn land(lead: Lead<Shared, Above>, decided: &Above) {
    match decided {
        Err(refusal) if refusal.error.code == Code::DeadlineExceeded => {}
        decided => lead.land(decided.clone()),
    }
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
