//! Why a check was decided as it was, worked out after its answer has been sent.
//!
//! Whoever wants to know says so in the call's [`Context`](crate::calls::Context) before it is answered. The node then leaves
//! there what it decided by, instead of throwing it away: a view, or what was read. Nobody waits for the explanation.

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use meridian_engine::{Budget, Explanation, Outcome, View};
use meridian_proto::openfga::v1;
use tokio::sync::Semaphore;

use crate::commands::check::Finished;
use crate::limits::Limits;
use crate::routing::edge;

/// Work that an explanation may take at most: some tens of megabytes for as long as it is made.
const MAX_WORK: u64 = 200_000;

/// Where a call leaves what it was decided by, if that is wanted; by default it is not. One call of Check each: of many checks
/// in one call nothing is left.
#[derive(Debug, Clone, Default)]
pub struct Why(Option<Arc<OnceLock<Basis>>>);

/// What a check was decided by here.
pub(crate) enum Basis {
    /// What was read of a datastore.
    Read(Box<Finished>),
    /// What an edge held.
    Held(View, v1::CheckRequest),
}

/// An explanation, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Explained {
    /// The path to the user, or the branches that were exhausted.
    Because(Explanation),
    /// What the decision rests on is not at this node: it was kept from before, made for another call at the same time, or made
    /// upstream. Or there was no decision.
    NotHere,
    /// It would take more work than an explanation may.
    TooLarge,
    /// Others are being explained.
    Busy,
}

/// Explains checks that were answered: a few at a time, others are not explained.
pub struct Explainer {
    limits: Limits,
    size: usize,
    slots: Arc<Semaphore>,
}

impl Why {
    /// Wants to know.
    pub fn wanted() -> Self {
        Self(Some(Arc::default()))
    }

    /// Leaves what the call was decided by, if that is wanted. What is left first counts.
    pub(crate) fn leave(&self, basis: impl FnOnce() -> Basis) {
        if let Some(wanted) = &self.0 {
            wanted.get_or_init(basis);
        }
    }

    fn basis(&self) -> Option<&Basis> {
        self.0.as_ref()?.get()
    }
}

impl std::fmt::Debug for Basis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Read(_) => "Read",
            Self::Held(..) => "Held",
        })
    }
}

impl Basis {
    fn explain(&self, limits: &Limits, size: usize) -> Option<Result<Explanation, Outcome>> {
        let work = limits.check_work.min(MAX_WORK);
        let budget = Budget::of(limits.evaluation(work));
        match self {
            Self::Read(finished) => finished.explain(budget, size),
            Self::Held(view, request) => edge::explain(view, request, budget, size),
        }
    }
}

impl Explainer {
    /// Explains by a node's limits, so many at a time (at least one), in at most `size` parts each: steps, and branches within
    /// them.
    pub fn new(limits: Limits, size: usize, at_a_time: usize) -> Self {
        Self {
            limits,
            size,
            slots: Arc::new(Semaphore::new(at_a_time.max(1))),
        }
    }

    /// Explains a check that was answered, on a blocking thread.
    pub async fn explanation(&self, why: Why) -> Explained {
        if why.basis().is_none() {
            return Explained::NotHere;
        }
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            return Explained::Busy;
        };
        let (limits, size) = (self.limits, self.size);
        let run = move || {
            let _slot = slot;
            why.basis().and_then(|basis| basis.explain(&limits, size))
        };
        match tokio::task::spawn_blocking(run).await {
            Ok(Some(Ok(explanation))) => Explained::Because(explanation),
            Ok(Some(Err(Outcome::OutOfWork))) => Explained::TooLarge,
            Ok(_) => Explained::NotHere,
            Err(error) => {
                tracing::error!(%error, "an explanation ended unexpectedly");
                Explained::NotHere
            }
        }
    }
}
