//! Gets rows written that others have recorded, batch after batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::ports::{Row, Sink};
use crate::settling::{self, Queued, Settling};

/// Rows that are left at most while others are still asked for: they take memory.
const MOST_LEFT: usize = 10_000;

/// Writes what it is given to a sink, until each row is written or refused, however long the sink is away. What is refused is
/// logged, counted and left out; so is a row with which no write gets an answer, once others are written and it is not.
pub struct Keeper {
    settling: Settling,
    bytes: Arc<AtomicUsize>,
    /// Held for as long as it is: whoever is gone would seem to stop.
    _never: watch::Sender<Option<Instant>>,
}

impl Keeper {
    /// One that writes to `sink`.
    #[must_use]
    pub fn new(sink: Arc<dyn Sink>) -> Self {
        settling::describe();
        let ((never, stop), bytes) = (watch::channel(None), Arc::default());
        Self {
            settling: Settling::new(sink, stop, Arc::clone(&bytes)),
            bytes,
            _never: never,
        }
    }

    /// Writes `rows` behind what is left of earlier ones; whether nothing is left. Rows are left with which writes fail while
    /// there are no others to show whether the rows are the reason or the sink: they are tried again with the next call,
    /// which is to be made when others have come, and after [`crate::LONGEST_PAUSE`] also where none has.
    pub async fn write(&mut self, rows: Vec<Row>) -> bool {
        let bytes = rows.iter().map(Row::bytes).sum();
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let rows = rows.into_iter();
        self.settling
            .take(rows.map(|row| Queued { row, stored: None }));
        let others_may_come = self.settling.left() < MOST_LEFT;
        self.settling.settle(others_may_come, Vec::new).await;
        !self.settling.is_stuck()
    }
}
