//! What bounds an evaluation.

use crate::check::Outcome;

/// How many units of work pass between two polls of the interrupt.
const POLL_EVERY: u64 = 1024;

/// Bounds of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Steps through usersets and parents, the asked relation included.
    pub depth: u32,
    /// Sets visited and members walked.
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
    work: u64,
    /// What ended it.
    pub(crate) stopped: Option<Outcome>,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(budget: Budget<'a>) -> Self {
        Self {
            budget,
            work: 0,
            stopped: None,
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.budget.limits
    }

    /// Takes from the budget; `false` when nothing is left or the caller has given up.
    pub(crate) fn spend(&mut self) -> bool {
        self.work += 1;
        if self.stopped.is_none() {
            if self.work > self.budget.limits.work {
                self.stopped = Some(Outcome::OutOfWork);
            } else if self.work.is_multiple_of(POLL_EVERY) && (self.budget.interrupted)() {
                self.stopped = Some(Outcome::Interrupted);
            }
        }
        self.stopped.is_none()
    }
}
