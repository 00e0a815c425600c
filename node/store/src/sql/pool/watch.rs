//! An eye on each statement: a slow one is logged, and whoever watches is told.

use std::time::{Duration, Instant};

use crate::sql::statement::Statement;
use crate::watched;

/// A statement that takes longer is logged.
const SLOW: Duration = Duration::from_secs(1);

/// A statement under way. Dropped, it is over.
pub(super) struct Watch {
    started: Instant,
    /// The beginning of its text, which may be as long as what is asked for.
    statement: String,
    values: usize,
    /// How long it takes depends on who takes its rows.
    of_many: bool,
}

impl Watch {
    pub(super) fn new(statement: &Statement) -> Self {
        Self::begin(statement, false)
    }

    /// Of a statement whose rows are taken one by one: never slow by itself.
    pub(super) fn of_many(statement: &Statement) -> Self {
        Self::begin(statement, true)
    }

    fn begin(statement: &Statement, of_many: bool) -> Self {
        Self {
            started: Instant::now(),
            statement: statement.name(),
            values: statement.values(),
            of_many,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        watched::tell(&self.statement, took);
        if took >= SLOW && !self.of_many {
            let (statement, values) = (&self.statement, self.values);
            tracing::warn!(statement, values, ?took, "a statement was slow");
        }
    }
}
