//! Why a check was decided as it was, worked out after its answer has been sent.
//!
//! Whoever wants to know says so in the call's [`Context`](crate::calls::Context) before it is answered. The node then leaves
//! there what it decided by, instead of throwing it away: a view, or what was read. Nobody waits for the explanation of a
//! decision that is recorded ([`Explainer::later`]). Whoever asks for one afterwards has the check decided anew
//! ([`Explaining`]).

#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use meridian_engine::{Budget, Explanation, Outcome, View};
use meridian_model::{ApiError, Position};
use meridian_proto::openfga::v1;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::calls::Context;
use crate::commands::Local;
use crate::commands::check::Finished;
use crate::limits::Limits;
use crate::routing::edge;

/// Work that an explanation may take at most: some tens of megabytes for as long as it is made.
const MAX_WORK: u64 = 200_000;
/// Explanations that are made at a time.
const AT_A_TIME: u32 = 2;

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

/// What comes of an explanation that is being made, with its slot.
type Running = Pin<Box<dyn Future<Output = (Explained, Option<OwnedSemaphorePermit>)> + Send>>;

/// How large an explanation may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Parts: steps, and branches within them.
    pub parts: usize,
    /// Bytes as JSON. Where it has more, it is made of fewer parts.
    pub bytes: usize,
}

/// Explains checks that were answered: a few at a time.
pub struct Explainer {
    limits: Limits,
    size: Size,
    slots: Arc<Semaphore>,
}

/// Explains checks anew, over a node's own datastore.
pub struct Explaining {
    local: Arc<Local>,
    explainer: Explainer,
}

impl Why {
    /// Wants to know.
    pub fn wanted() -> Self {
        Self(Some(Arc::default()))
    }

    /// Whether anybody does.
    pub(crate) fn is_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// Leaves what the call was decided by, if that is wanted. What is left first counts.
    pub(crate) fn leave(&self, basis: impl FnOnce() -> Basis) {
        if let Some(wanted) = &self.0 {
            wanted.get_or_init(basis);
        }
    }

    /// Whether anything was left to explain by.
    pub(crate) fn is_there(&self) -> bool {
        self.basis().is_some()
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
    fn explain(&self, limits: &Limits, size: Size) -> Option<Result<Explanation, Outcome>> {
        let mut parts = size.parts;
        loop {
            let explained = self.explain_in(limits, parts)?;
            let fits = |of: &Explanation| of.to_json().len() <= size.bytes;
            if parts == 0 || explained.as_ref().map_or(true, fits) {
                return Some(explained);
            }
            parts /= 2;
        }
    }

    fn explain_in(&self, limits: &Limits, parts: usize) -> Option<Result<Explanation, Outcome>> {
        let work = limits.check_work.min(MAX_WORK);
        let budget = Budget::of(limits.evaluation(work));
        match self {
            Self::Read(finished) => finished.explain(budget, parts),
            Self::Held(view, request) => edge::explain(view, request, budget, parts),
        }
    }
}

impl Explainer {
    /// Explains by a node's limits, a few at a time.
    pub fn new(limits: Limits, size: Size) -> Self {
        Self {
            limits,
            size,
            slots: Arc::new(Semaphore::new(AT_A_TIME as usize)),
        }
    }

    /// Explains a check that was answered. Where others are being explained it waits for its turn, until `deadline`.
    pub async fn explanation(&self, why: Why, deadline: Instant) -> Explained {
        if !why.is_there() {
            return Explained::NotHere;
        }
        let slot = Arc::clone(&self.slots).acquire_owned();
        match tokio::time::timeout_at(deadline.into(), slot).await {
            Ok(Ok(slot)) => self.run(why, slot).await.0,
            _ => Explained::Busy,
        }
    }

    /// Explains a check that was answered, and tells `then`. Nobody waits: where others are being explained, this one is not.
    pub(crate) fn later(&self, why: Why, then: impl FnOnce(Explained) + Send + 'static) {
        if !why.is_there() {
            return then(Explained::NotHere);
        }
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            return then(Explained::Busy);
        };
        let explaining = self.run(why, slot);
        tokio::spawn(async move {
            let (explained, _slot) = explaining.await;
            then(explained);
        });
    }

    /// Begins nothing more, and waits until what is being explained is told, though no longer than `limit`.
    pub(crate) async fn finished(&self, limit: Duration) {
        let all = tokio::time::timeout(limit, self.slots.acquire_many(AT_A_TIME)).await;
        if all.is_err() {
            tracing::warn!(
                ?limit,
                "decisions were still to be explained when the time was up"
            );
        }
        self.slots.close();
    }

    /// Runs on a blocking thread, which has the slot until it is done, also where nobody waits for it any more.
    fn run(&self, why: Why, slot: OwnedSemaphorePermit) -> Running {
        let (limits, size) = (self.limits, self.size);
        let run = move || {
            let explained = match why.basis().and_then(|basis| basis.explain(&limits, size)) {
                Some(Ok(explanation)) => Explained::Because(explanation),
                Some(Err(Outcome::OutOfWork)) => Explained::TooLarge,
                _ => Explained::NotHere,
            };
            (explained, Some(slot))
        };
        let running = tokio::task::spawn_blocking(run);
        Box::pin(async move {
            running.await.unwrap_or_else(|error| {
                tracing::error!(%error, "an explanation ended unexpectedly");
                (Explained::NotHere, None)
            })
        })
    }
}

impl Explaining {
    /// Explains by `local`'s datastore and limits.
    pub fn new(local: Arc<Local>) -> Self {
        let size = Size {
            parts: 1000,
            bytes: 1024 * 1024,
        };
        let explainer = Explainer::new(*local.limits(), size);
        Self { local, explainer }
    }

    /// Decides a check at the latest revision that this node has, by itself and not by a kept answer, and explains that.
    ///
    /// # Errors
    /// As [`Local::decide`].
    pub async fn explain(
        &self,
        request: &v1::CheckRequest,
        deadline: Instant,
    ) -> Result<(Position, Explained), ApiError> {
        let why = Why::wanted();
        let cx = Context {
            deadline,
            min_position: None,
            caller: None,
            model: Default::default(),
            why: why.clone(),
        };
        let decision = self.local.decide_anew(&cx, request).await?;
        let explained = self.explainer.explanation(why, deadline).await;
        Ok((decision.position, explained))
    }
}
