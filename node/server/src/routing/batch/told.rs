//! A batch whose checks are decided at more than one place.

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use meridian_model::{Position, StoreId};
use meridian_proto::openfga::v1;

use super::{DecideAll, Standing, Tell};
use crate::calls::{Context, Refusal, ServedBy};
use crate::commands::decisions::Outcome;
use crate::commands::errors::has_replica_failed;
use crate::routing::floors::Floors;
use crate::routing::is_about_here;

/// What has been told of it.
#[derive(Default)]
pub(crate) struct Told {
    places: HashSet<usize>,
    earliest: Option<Position>,
    /// What the node's own datastore decided, where it could not decide single checks.
    here: Option<Standing>,
}

impl Told {
    /// Passes an outcome on and notes it; of a check that is told already, neither.
    pub(crate) fn pass(&mut self, at: usize, outcome: Outcome, by: &ServedBy, tell: &mut Tell<'_>) {
        if !self.places.insert(at) {
            return;
        }
        if let Ok(decision) = &outcome {
            let earliest = self.earliest.unwrap_or(decision.position);
            self.earliest = Some(decision.position.min(earliest));
        }
        tell(at, outcome, by);
    }

    /// How many checks are told.
    pub(crate) fn count(&self) -> usize {
        self.places.len()
    }

    /// The checks that are not told yet, and the place of each.
    pub(crate) fn rest(&self, checks: &[v1::CheckRequest]) -> (Vec<usize>, Vec<v1::CheckRequest>) {
        let all = checks.iter().enumerate();
        let left = all.filter(|(at, _)| !self.places.contains(at));
        left.map(|(at, check)| (at, check.clone())).unzip()
    }

    /// What all hold at, where `rest` decided what was left.
    pub(crate) fn with(&self, rest: Standing) -> Standing {
        Standing {
            position: rest.position.min(self.earliest.unwrap_or(rest.position)),
            ..rest
        }
    }

    /// Has checks decided by the node's own datastore. What it says of itself rather than of a check is no outcome, as it is
    /// none of a check that is asked alone.
    ///
    /// # Errors
    /// The datastore's refusal of all that are not told, or of the first check that it said so of.
    pub(crate) async fn decide_here(
        &mut self,
        here: &(impl DecideAll + ?Sized),
        cx: &Context,
        checks: &[v1::CheckRequest],
        tell: &mut Tell<'_>,
    ) -> Result<Standing, Refusal> {
        let mut withheld = None;
        let mut noting = |at: usize, outcome: Outcome, by: &ServedBy| match outcome {
            Err(error) if has_replica_failed() || is_about_here(&error) => {
                withheld.get_or_insert(error);
            }
            outcome => self.pass(at, outcome, by, tell),
        };
        let standing = here.decide_all(cx, checks, &mut noting).await?;
        match withheld {
            None => Ok(standing),
            Some(error) => {
                self.here = Some(standing);
                Err(error.into())
            }
        }
    }

    /// Has what is left decided `there`. Where only single checks were left, a refusal is the outcome of those alone.
    ///
    /// # Errors
    /// The refusal of all that are not told.
    pub(crate) async fn decide_rest(
        &mut self,
        there: &(impl DecideAll + ?Sized),
        cx: &Context,
        checks: &[v1::CheckRequest],
        tell: &mut Tell<'_>,
    ) -> Result<Standing, Refusal> {
        let (places, left) = self.rest(checks);
        let decided = {
            let mut noting = |at: usize, outcome: Outcome, by: &ServedBy| {
                self.pass(at, outcome, by, tell);
            };
            let mut telling = tell_at(&places, &mut noting);
            there.decide_all(cx, &left, &mut telling).await
        };
        match (decided, self.here.take()) {
            (Ok(there), _) => Ok(self.with(there)),
            (Err(refusal), None) => Err(refusal),
            (Err(refusal), Some(here)) => {
                for at in self.rest(checks).0 {
                    self.pass(at, Err(refusal.error.clone()), &here.served_by, tell);
                }
                Ok(self.with(here))
            }
        }
    }
}

/// A teller of a part of a batch, of which `places` are the places in the whole.
pub(crate) fn tell_at<'a>(
    places: &'a [usize],
    tell: &'a mut Tell<'_>,
) -> impl FnMut(usize, Outcome, &ServedBy) + Send + 'a {
    move |at, outcome, by| {
        if let Some(place) = places.get(at) {
            tell(*place, outcome, by);
        }
    }
}

/// A teller that lifts the store's floor to each decision: the floor must not stay behind the latest of them.
pub(crate) fn lifting<'a>(
    floors: &'a Floors,
    store: Option<StoreId>,
    tell: &'a mut Tell<'_>,
) -> impl FnMut(usize, Outcome, &ServedBy) + Send + 'a {
    move |at, outcome, by| {
        if let (Some(store), Ok(decision)) = (store, &outcome) {
            floors.lift(store, decision.position);
        }
        tell(at, outcome, by);
    }
}
