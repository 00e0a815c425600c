//! Listings and expansions at an edge: answered here where what is held proves them whole, else upstream.
//!
//! A listing is proven when all that it walked over is covered. So nothing of it is said before it is done; a stream begins
//! then, and what is in memory is listed at once. Answers from upstream are not kept.

use meridian_engine::{Budget, Progress, View};
use meridian_model::{ApiError, StoreId, Timestamp, Tuple};
use meridian_proto::openfga::v1;

use super::Edge;
use super::held::{model, refusal};
use crate::calls::{Answer, Context, Refusal, Reply};
use crate::commands::check::too_complex;
use crate::commands::expand::Expansion;
use crate::commands::lists::{Begun, Listed, Listing, Question};

impl Edge {
    /// Lists by what is held; `None` to ask upstream.
    pub(super) async fn list(
        &self,
        cx: &Context,
        store: Option<StoreId>,
        question: &dyn Question,
        most: usize,
    ) -> Option<Result<Listed, Refusal>> {
        let store = store?;
        let cx = self.upwards.above_floor(cx, Some(store));
        let shown = self.reached(&cx, store).await?;
        let view = &shown.view;
        let (model_id, compiled) = model(view, question.model_id())?;
        let begin = || question.begin(&compiled.types);
        let refuse = |error: ApiError| Some(Err(refusal(view, model_id, error)));
        let begun = match begin() {
            Ok(begun) => begun,
            Err(error) => return refuse(error),
        };
        let (mut listing, mut progress) = go(
            begun,
            view,
            question.model_id(),
            most,
            self.held.inline_budget(),
        )?;
        if progress == Progress::OutOfWork {
            let (again, view, model_id) =
                (begin().ok()?, view.clone(), question.model_id().to_owned());
            let deadline = question.limits(&self.held.limits).deadline_of(cx.deadline);
            let run = move |budget: Budget<'_>| go(again, &view, &model_id, most, budget);
            (listing, progress) = match self.held.long(store, deadline, run)?.await {
                Ok(listed) => listed?,
                Err(error) => return refuse(error),
            };
        }
        let listed = listing.end(progress)?;
        Some(match listed {
            Ok(found) => {
                self.upwards.floors().lift(store, view.position());
                Ok(Listed {
                    found,
                    position: view.position(),
                    model: model_id,
                })
            }
            Err(error) => Err(refusal(view, model_id, error)),
        })
    }

    /// Expands by what is held; `None` to ask upstream.
    pub(super) async fn expand(
        &self,
        cx: &Context,
        store: Option<StoreId>,
        request: &v1::ExpandRequest,
    ) -> Option<Answer<v1::ExpandResponse>> {
        let store = store?;
        let cx = self.upwards.above_floor(cx, Some(store));
        let shown = self.reached(&cx, store).await?;
        let view = &shown.view;
        let most = usize::try_from(self.held.limits.check_inline_work).unwrap_or(usize::MAX);
        let most_at_all = self.held.limits.check_reads;
        let mut expanded = expand(view, request, most.min(most_at_all))?;
        if matches!(expanded, Ok(None)) && most < most_at_all {
            let (view, request) = (view.clone(), request.clone());
            let run = move |_: Budget<'_>| expand(&view, &request, most_at_all);
            expanded = match self.held.long(store, cx.deadline, run)?.await {
                Ok(expanded) => expanded?,
                Err(error) => Err(error),
            };
        }
        let (model, _) = model(view, &request.authorization_model_id)?;
        let reply = |body| {
            self.upwards.floors().lift(store, view.position());
            Reply {
                body,
                position: Some(view.position()),
                model: Some(model),
                served_by: self.held.name.clone(),
                truncated: false,
            }
        };
        let expanded = expanded.and_then(|expanded| expanded.ok_or_else(too_complex));
        Some(match expanded {
            Ok(body) => Ok(reply(body)),
            Err(error) => Err(refusal(view, model, error)),
        })
    }
}

/// Lists over a view as far as it goes; `None` where the model is not readably there.
fn go(
    begun: Begun,
    view: &View,
    model_id: &str,
    most: usize,
    budget: Budget<'_>,
) -> Option<(Listing, Progress)> {
    let (_, compiled) = model(view, model_id)?;
    let mut listing = Listing::new(begun, view, &compiled.program, most);
    let progress = listing.go(view, &compiled.program, budget);
    Some((listing, progress))
}

/// Expands over a view. `None` where it is not known what there is, an answer of `None` where that is more than `most`
/// tuples.
fn expand(
    view: &View,
    request: &v1::ExpandRequest,
    most: usize,
) -> Option<Result<Option<v1::ExpandResponse>, ApiError>> {
    let (_, compiled) = model(view, &request.authorization_model_id)?;
    let mut expansion = match Expansion::new(&compiled.types, request) {
        Ok(expansion) => expansion,
        Err(error) => return Some(Err(error)),
    };
    let mut left = most;
    for relation in expansion.relations() {
        let stored = view.tuples_of_set(expansion.object(), relation, left)?;
        let Some(rest) = left.checked_sub(stored.len()) else {
            return Some(Ok(None));
        };
        left = rest;
        let tuple = |(key, condition)| Tuple {
            key,
            condition,
            timestamp: Timestamp(0),
        };
        expansion.add(relation, stored.into_iter().map(tuple).collect());
    }
    Some(Ok(Some(expansion.response())))
}
