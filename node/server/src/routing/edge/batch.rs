//! Many checks at an edge: what the view proves is answered here, all of it over one view; the rest goes up in one call.
//!
//! Each is told as it is decided, wherever that is: what takes long here, what the node above decides and what others have
//! asked already go on beside each other.

#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use meridian_engine::View;
use meridian_model::{ApiError, ModelId, StoreId};
use meridian_proto::openfga::v1;

use super::held::{Found, Held};
use super::{Above, Edge, land};
use crate::answers::{Join, Lead, Seat, Shared};
use crate::calls::{Context, Refusal, ServedBy};
use crate::commands::check::Decision;
use crate::commands::decisions::Outcome;
use crate::pace::Pace;
use crate::routing::batch::{DecideAll, Standing, Tell};
use crate::routing::{Decided, wants_primary};

/// A batch under way.
struct Batch<'a> {
    edge: &'a Edge,
    cx: Context,
    store: StoreId,
    checks: &'a [v1::CheckRequest],
    told: Mutex<Told<'a>>,
}

struct Told<'a> {
    tell: &'a mut Tell<'a>,
    /// What the answers so far hold at.
    standing: Option<Standing>,
}

/// A check that is asked above. Without a lead nobody else waits for it.
type Asked = (usize, Option<Lead<Shared, Above>>);

/// Why checks that were asked above are not decided.
struct Failed {
    refusal: Refusal,
    left: Vec<usize>,
}

#[async_trait]
impl DecideAll for Edge {
    async fn decide_all(
        &self,
        cx: &Context,
        checks: &[v1::CheckRequest],
        tell: &mut Tell<'_>,
    ) -> Result<Standing, Refusal> {
        let nothing = || ApiError::validation("checks: value is required");
        let first = checks.first().ok_or_else(nothing)?;
        let store = first
            .store_id
            .parse()
            .map_err(|why| ApiError::validation(format!("store_id '{}' {why}", first.store_id)))?;
        let mut batch = Batch {
            edge: self,
            cx: self.upwards.above_floor(cx, Some(store)),
            store,
            checks,
            told: Mutex::new(Told {
                tell,
                standing: None,
            }),
        };
        let all = 0..checks.len();
        if wants_primary(first.consistency) {
            let failed = batch.ask(None, all.map(|at| (at, None)).collect()).await;
            batch.fail(failed)?;
        } else {
            let reached = self.reached(&batch.cx, store).await;
            let (left, long) = match &reached {
                Some(shown) => batch.prove(&shown.view, all).await,
                None => (all.collect(), Vec::new()),
            };
            let view = reached.as_ref().map(|shown| &shown.view);
            batch.decide_rest(view, left, long).await?;
        }
        let standing = batch.told().standing.take();
        Ok(standing.ok_or_else(nothing)?)
    }
}

impl<'a> Batch<'a> {
    /// Tells what the view proves, or an answer kept from before says. Returns what it does not say, and what takes long.
    async fn prove(
        &self,
        view: &View,
        all: impl Iterator<Item = usize>,
    ) -> (Vec<usize>, Vec<usize>) {
        let (mut left, mut long) = (Vec::new(), Vec::new());
        let first = self.checks.first();
        let Some(model) = first.and_then(|first| Held::model_of(view, first)) else {
            return (all.collect(), long);
        };
        self.cx.model.note(model);
        let mut pace = Pace::begin();
        for at in all {
            pace.step().await;
            let Some(request) = self.checks.get(at) else {
                continue;
            };
            let held = &self.edge.held;
            match held.decide(view, request, held.inline_budget()) {
                Found::Long => long.push(at),
                found => {
                    if !self.settle(view, model, at, found) {
                        left.push(at);
                    }
                }
            }
        }
        (left, long)
    }

    /// Tells what was found here of a check; whether that decides it.
    fn settle(&self, view: &View, model: ModelId, at: usize, found: Found) -> bool {
        let Some(request) = self.checks.get(at) else {
            return true;
        };
        let outcome = match self.edge.settle(self.store, view, request, found) {
            Some(Ok(reply)) => Ok(Decision {
                allowed: reply.body.allowed,
                position: reply.position.unwrap_or(view.position()),
                model,
                reads: Vec::new(),
            }),
            Some(Err(refusal)) => Err(refusal.error),
            None => return false,
        };
        let name = &self.edge.held.name;
        let mut told = self.told();
        told.note_here(Standing {
            position: view.position(),
            model,
            served_by: name.clone(),
        });
        (told.tell)(at, outcome, name);
        true
    }

    /// Decides what takes long here as far as there are slots, and has the rest decided above, in one call but for what
    /// others are asking already or was not proven here after all. `view` is what was proven over.
    async fn decide_rest(
        &mut self,
        view: Option<&View>,
        mut left: Vec<usize>,
        long: Vec<usize>,
    ) -> Result<(), Refusal> {
        if left.is_empty() && long.is_empty() {
            return Ok(());
        }
        let mut here = FuturesUnordered::new();
        for at in long {
            match self.begin_long(view, at) {
                Some(found) => here.push(async move { (at, found.await) }),
                None => left.push(at),
            }
        }
        let shown = self.edge.held.views.get(self.store);
        let latest = shown.as_ref().map(|shown| &shown.view);
        self.cx.min_position = self.cx.min_position.max(latest.map(View::position));
        let (leads, joins) = self.seats(left);
        let proving = async {
            let mut unproven = Vec::new();
            while let Some((at, found)) = here.next().await {
                if !self.settle_long(view, at, found) {
                    unproven.push((at, None));
                }
            }
            self.ask(latest, unproven).await
        };
        let (unproven, failed, again) =
            futures::join!(proving, self.ask(latest, leads), self.join(joins));
        self.fail(failed)?;
        self.fail(unproven)?;
        self.fail(self.ask(latest, again).await)
    }

    /// Begins to decide on a blocking thread; `None` when no more may run now.
    fn begin_long(
        &self,
        view: Option<&View>,
        at: usize,
    ) -> Option<impl Future<Output = Result<Found, ApiError>> + Send + use<>> {
        let (view, request) = (view?.clone(), self.checks.get(at)?.clone());
        let held = &self.edge.held;
        held.decide_long(self.store, view, request, self.cx.deadline)
    }

    fn settle_long(&self, view: Option<&View>, at: usize, found: Result<Found, ApiError>) -> bool {
        let model = self.checks.first().zip(view);
        let model = model.and_then(|(first, view)| Held::model_of(view, first));
        let (Some(view), Some(model)) = (view, model) else {
            return false;
        };
        let found = found.unwrap_or_else(|error| Found::Decided(Err(error.into())));
        self.settle(view, model, at, found)
    }

    /// A place in the flight of each.
    fn seats(&self, left: Vec<usize>) -> (Vec<Asked>, Vec<(usize, Join<Above>)>) {
        let (mut leads, mut joins) = (Vec::new(), Vec::new());
        for at in left {
            let check = self.checks.get(at);
            match check.map(|check| self.edge.seat(&self.cx, check)) {
                Some(Seat::Lead(lead)) => leads.push((at, Some(lead))),
                Some(Seat::Join(join)) => joins.push((at, join)),
                None => {}
            }
        }
        (leads, joins)
    }

    /// Tells what others are told who asked before. Returns what they were not.
    async fn join(&self, joins: Vec<(usize, Join<Above>)>) -> Vec<Asked> {
        let landed = |(at, join)| async move { (at, self.edge.joined(&self.cx, join).await) };
        let mut joins: FuturesUnordered<_> = joins.into_iter().map(landed).collect();
        let mut again = Vec::new();
        while let Some((at, landed)) = joins.next().await {
            match landed {
                Ok(Some(Ok(decided))) => {
                    self.tell_above(at, Ok(decided.decision), &decided.served_by)
                }
                // What went wrong for somebody else may be about all that they asked.
                Ok(_) | Err(_) => again.push((at, None)),
            }
        }
        again
    }

    /// Has checks decided above, by one call.
    async fn ask(&self, view: Option<&View>, asked: Vec<Asked>) -> Option<Failed> {
        let requests = asked.iter().filter_map(|(at, _)| self.checks.get(*at));
        let requests: Vec<_> = requests.cloned().collect();
        if requests.is_empty() {
            return None;
        }
        let mut asked: Vec<_> = asked.into_iter().map(Some).collect();
        let mut take = |place: usize, outcome: Outcome, by: &ServedBy| {
            let Some((at, lead)) = asked.get_mut(place).and_then(Option::take) else {
                return;
            };
            if let (Some(lead), Some(request)) = (lead, requests.get(place)) {
                if let Ok(decision) = &outcome {
                    self.edge.keep(view, request, decision);
                }
                land(lead, &as_one(&outcome, by));
            }
            self.tell_above(at, outcome, by);
        };
        let upwards = &self.edge.upwards;
        let decided = upwards.decide_all(&self.cx, &requests, &mut take);
        match decided.await {
            Ok(above) => {
                self.told().note(above);
                None
            }
            Err(refusal) => {
                let left = asked.into_iter().flatten().map(|(at, _)| at);
                Some(Failed {
                    refusal,
                    left: left.collect(),
                })
            }
        }
    }

    /// Where asking above failed, what was decided is answered all the same.
    fn fail(&self, failed: Option<Failed>) -> Result<(), Refusal> {
        let Some(Failed { refusal, left }) = failed else {
            return Ok(());
        };
        if self.told().standing.is_none() {
            return Err(refusal);
        }
        for at in left {
            self.tell_above(at, Err(refusal.error.clone()), &self.edge.held.name);
        }
        Ok(())
    }

    fn tell_above(&self, at: usize, outcome: Outcome, by: &ServedBy) {
        let mut told = self.told();
        if let Ok(decision) = &outcome {
            told.note(Standing {
                position: decision.position,
                model: decision.model,
                served_by: by.clone(),
            });
        }
        (told.tell)(at, outcome, by);
    }

    fn told(&self) -> MutexGuard<'_, Told<'a>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told<'_> {
    /// Notes what was proven here. Whoever decides a part above is named all the same.
    fn note_here(&mut self, here: Standing) {
        match &mut self.standing {
            Some(before) => before.position = before.position.min(here.position),
            None => self.standing = Some(here),
        }
    }

    fn note(&mut self, latest: Standing) {
        let before = self.standing.as_ref().map(|before| before.position);
        self.standing = Some(Standing {
            position: before.map_or(latest.position, |before| before.min(latest.position)),
            ..latest
        });
    }
}

/// One result of a batch as a check alone would have had it.
fn as_one(outcome: &Outcome, by: &ServedBy) -> Above {
    match outcome {
        Ok(decision) => Ok(Decided {
            decision: decision.clone(),
            served_by: by.clone(),
        }),
        Err(error) => Err(Refusal {
            error: error.clone(),
            position: None,
            model: None,
            served_by: Some(by.clone()),
        }),
    }
}
