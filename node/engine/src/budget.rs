//! What bounds an evaluation.

use std::cell::Cell;

use crate::check::Outcome;

/// How many units of work pass between two polls of the interrupt.
const POLL_EVERY: u64 = 1024;

/// Bounds of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Steps through usersets and parents, those within a recursion by unions alone not counted. It does not bound ListObjects.
    pub depth: u32,
    /// Sets visited, members walked, and what conditions take ([`meridian_condition::Evaluated`]).
    pub work: u64,
    /// What the evaluation of one condition may cost, in cel-go's units.
    pub condition_cost: u64,
}

impl Default for Limits {
    /// OpenFGA's depth limit of 25 and condition cost of 100, and work for about a second.
    fn default() -> Self {
        Self {
            depth: 25,
            work: 20_000_000,
            condition_cost: 100,
        }
    }
}

/// What ends an evaluation: its limits, and an interrupt that is polled along the way (a deadline, a caller gone).
#[derive(Clone, Copy)]
pub struct Budget<'a> {
    /// The bounds.
    pub limits: Limits,
    /// Says when to give up.
    pub interrupted: &'a dyn Fn() -> bool,
}

impl Budget<'static> {
    /// Bounds alone.
    pub fn of(limits: Limits) -> Self {
        Self {
            limits,
            interrupted: &|| false,
        }
    }
}

/// A budget in use.
pub(crate) struct Meter<'a> {
    budget: Budget<'a>,
    work: Cell<u64>,
    /// How much work is done when the interrupt is polled next.
    poll_at: u64,
    /// What ended it.
    pub(crate) stopped: Option<Outcome>,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(budget: Budget<'a>) -> Self {
        Self {
            budget,
            work: Cell::new(0),
            poll_at: POLL_EVERY,
            stopped: None,
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.budget.limits
    }

    /// Takes from the budget; `false` when nothing is left or the caller has given up.
    pub(crate) fn spend(&mut self) -> bool {
        self.charge(1);
        let work = self.work.get();
        if self.stopped.is_none() {
            if work > self.budget.limits.work {
                self.stopped = Some(Outcome::OutOfWork);
            } else if work >= self.poll_at {
                self.poll_at = work + POLL_EVERY;
                if (self.budget.interrupted)() {
                    self.stopped = Some(Outcome::Interrupted);
                }
            }
        }
        self.stopped.is_none()
    }

    /// Notes work that was done; whether anything is left, [`Self::spend`] says.
    pub(crate) fn charge(&self, work: u64) {
        self.work.set(self.work.get().saturating_add(work));
    }
}
