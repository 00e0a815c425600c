//! Many checks at an edge: what the view proves is answered here, all of it over one view; the rest goes up in one call.

#[cfg(test)]
mod tests;

use async_trait::async_trait;
use meridian_engine::View;
use meridian_model::{ApiError, StoreId};
use meridian_proto::openfga::v1;

use super::held::Held;
use super::{Above, Edge, land};
use crate::answers::{Join, Lead, Seat, Shared};
use crate::calls::{Context, Refusal};
use crate::commands::check::Decision;
use crate::commands::decisions::Outcome;
use crate::routing::batch::{DecideAll, Standing, Tell};
use crate::routing::{Decided, wants_primary};

/// A batch under way.
struct Batch<'a> {
    edge: &'a Edge,
    cx: Context,
    store: StoreId,
    checks: &'a [v1::CheckRequest],
    /// What the answers so far hold at.
    standing: Option<Standing>,
}

/// A check that is asked above. Without a lead nobody else waits for it.
type Asked = (usize, Option<Lead<Shared, Above>>);

#[async_trait]
impl DecideAll for Edge {
    async fn decide_all(
        &self,
        cx: &Context,
        checks: &[v1::CheckRequest],
        tell: &mut Tell<'_>,
    ) -> Result<Standing, Refusal> {
        let first = checks
            .first()
            .ok_or_else(|| ApiError::validation("checks: value is required"))?;
        let store = first
            .store_id
            .parse()
            .map_err(|why| ApiError::validation(format!("store_id '{}' {why}", first.store_id)))?;
        let cx = self.upwards.above_floor(cx, Some(store));
        let mut batch = Batch {
            edge: self,
            cx: cx.clone(),
            store,
            checks,
            standing: None,
        };
        let mut left: Vec<usize> = (0..checks.len()).collect();
        if wants_primary(first.consistency) {
            let left = left.into_iter().map(|at| (at, None)).collect();
            batch.ask(None, left, tell).await?;
        } else {
            if let Some(shown) = self.reached(&cx, store).await {
                batch.prove(&shown.view, &mut left, tell);
            }
            batch.ask_or_join(left, tell).await?;
        }
        let nothing = || ApiError::validation("checks: value is required").into();
        batch.standing.ok_or_else(nothing)
    }
}

impl Batch<'_> {
    /// Tells what the view proves, or an answer kept from before says.
    fn prove(&mut self, view: &View, left: &mut Vec<usize>, tell: &mut Tell<'_>) {
        let first = self.checks.first();
        let Some(model) = first.and_then(|first| Held::model_of(view, first)) else {
            return;
        };
        self.cx.model.note(model);
        left.retain(|at| {
            let Some(request) = self.checks.get(*at) else {
                return false;
            };
            let held = &self.edge.held;
            let found = held.decide(view, request, held.inline_budget());
            let outcome = match self.edge.settle(self.store, view, request, found) {
                Some(Ok(reply)) => Ok(Decision {
                    allowed: reply.body.allowed,
                    position: reply.position.unwrap_or(view.position()),
                    model,
                    reads: Vec::new(),
                }),
                Some(Err(refusal)) => Err(refusal.error),
                None => return true,
            };
            self.standing = Some(Standing {
                position: view.position(),
                model,
                served_by: held.name.clone(),
            });
            tell(*at, outcome);
            false
        });
    }

    /// Has what is left decided above, in one call but for what others are asking already.
    async fn ask_or_join(&mut self, left: Vec<usize>, tell: &mut Tell<'_>) -> Result<(), Refusal> {
        let shown = self.edge.held.views.get(self.store);
        let view = shown.as_ref().map(|shown| &shown.view);
        self.cx.min_position = self.cx.min_position.max(view.map(View::position));
        let (mut leads, mut joins): (Vec<_>, Vec<(usize, Join<Above>)>) = Default::default();
        for at in left {
            match self
                .checks
                .get(at)
                .map(|check| self.edge.seat(&self.cx, check))
            {
                Some(Seat::Lead(lead)) => leads.push((at, Some(lead))),
                Some(Seat::Join(join)) => joins.push((at, join)),
                None => {}
            }
        }
        self.ask(view, leads, tell).await?;
        let mut again = Vec::new();
        for (at, join) in joins {
            match self.edge.joined(&self.cx, join).await {
                Ok(Some(Ok(decided))) => {
                    let Decided {
                        decision,
                        served_by,
                    } = decided;
                    self.note(Standing {
                        position: decision.position,
                        model: decision.model,
                        served_by,
                    });
                    tell(at, Ok(decision));
                }
                // What went wrong for somebody else may be about all that they asked.
                Ok(_) | Err(_) => again.push((at, None)),
            }
        }
        self.ask(view, again, tell).await
    }

    /// Has checks decided above, by one call. Where it fails, what the view proved is answered all the same.
    async fn ask(
        &mut self,
        view: Option<&View>,
        asked: Vec<Asked>,
        tell: &mut Tell<'_>,
    ) -> Result<(), Refusal> {
        let requests = asked.iter().filter_map(|(at, _)| self.checks.get(*at));
        let requests: Vec<_> = requests.cloned().collect();
        if requests.is_empty() {
            return Ok(());
        }
        let upwards = &self.edge.upwards;
        match upwards.decide_all(&self.cx, self.store, &requests).await {
            Ok((above, outcomes)) => {
                let answered = asked.into_iter().zip(&requests).zip(outcomes);
                for (((at, lead), request), outcome) in answered {
                    if let Some(lead) = lead {
                        if let Ok(decision) = &outcome {
                            self.edge.keep(view, request, decision);
                        }
                        land(lead, &as_one(&outcome, &above));
                    }
                    tell(at, outcome);
                }
                self.note(above);
                Ok(())
            }
            Err(refusal) if self.standing.is_none() => Err(refusal),
            Err(refusal) => {
                for (at, _) in asked {
                    tell(at, Err(refusal.error.clone()));
                }
                Ok(())
            }
        }
    }

    fn note(&mut self, above: Standing) {
        let before = self.standing.as_ref().map(|before| before.position);
        self.standing = Some(Standing {
            position: before.map_or(above.position, |before| before.min(above.position)),
            ..above
        });
    }
}

/// One result of a batch as a check alone would have had it.
fn as_one(outcome: &Outcome, above: &Standing) -> Above {
    match outcome {
        Ok(decision) => Ok(Decided {
            decision: decision.clone(),
            served_by: above.served_by.clone(),
        }),
        Err(error) => Err(Refusal {
            error: error.clone(),
            position: Some(above.position),
            model: Some(Box::new(above.model)),
            served_by: Some(above.served_by.clone()),
        }),
    }
}
