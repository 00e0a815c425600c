//! The one task that writes: many events at once, in their order, again and again while the database is away.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use metrics::{counter, gauge, histogram};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use crate::flow::FlowId;
use crate::ports::{RepositoryError, Row, Sink};
use crate::recorder::{DROPPED, RecorderSettings};

const WRITTEN: &str = "meridian_flow_events_written_total";
const QUEUED: &str = "meridian_flow_queue_bytes";
const SECONDS: &str = "meridian_flow_write_duration_seconds";

/// The pause after a failed write, doubled each time up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long one write may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// An event on its way.
pub(crate) struct Queued {
    pub(crate) row: Row,
    /// What it counts for in the buffer.
    pub(crate) size: usize,
    /// Told when it is stored; dropped when it never will be.
    pub(crate) stored: Option<oneshot::Sender<()>>,
}

pub(crate) struct Writer {
    pub(crate) events: mpsc::Receiver<Queued>,
    pub(crate) settling: Settling,
    pub(crate) settings: RecorderSettings,
    /// Bytes of what is not written yet.
    pub(crate) bytes: Arc<AtomicUsize>,
}

/// What gets rows written, whatever it takes.
pub(crate) struct Settling {
    pub(crate) sink: Arc<dyn Sink>,
    /// Until when all is to be written, once the process stops.
    pub(crate) stop: watch::Receiver<Option<Instant>>,
}

/// Writes rows to a sink until each is written or refused, however long it is away; what is refused is logged, counted and
/// left out.
pub async fn write_all(sink: Arc<dyn Sink>, rows: Vec<Row>) {
    describe();
    // Held until the end: whoever is gone would seem to stop.
    let (_never, stop) = watch::channel(None);
    let size = 0;
    let waiting = Waiting::new();
    let batch = Batch {
        rows,
        waiting,
        size,
    };
    Settling { sink, stop }.settle(batch).await;
}

/// The flows that somebody waits for.
type Waiting = HashMap<FlowId, oneshot::Sender<()>>;

/// What is written at once.
#[derive(Default)]
struct Batch {
    rows: Vec<Row>,
    waiting: Waiting,
    size: usize,
}

/// What became of a write that was tried for as long as there was sense in it.
enum Tried {
    Written,
    Rejected,
    /// The process stops, and the database is still away.
    GivenUp,
}

impl Writer {
    /// Until the process stops and nothing waits any more.
    pub(crate) async fn run(mut self) {
        describe();
        let queued = gauge!(QUEUED);
        let mut events = Vec::new();
        while self.collect(&mut events).await {
            queued.set(self.bytes.load(Ordering::Relaxed) as f64);
            let mut batch = Batch::default();
            events.drain(..).for_each(|event| batch.add(event));
            let size = batch.size;
            self.settling.settle(batch).await;
            let held = self.bytes.fetch_sub(size, Ordering::Relaxed);
            queued.set(held.saturating_sub(size) as f64);
        }
    }

    /// Waits for events, and for more of them unless somebody waits for one; `false` when there will be none.
    async fn collect(&mut self, events: &mut Vec<Queued>) -> bool {
        let most = self.settings.batch.max(1);
        let mut until: Option<Instant> = None;
        loop {
            let room = most.saturating_sub(events.len());
            let is_urgent = events.iter().any(|event| event.stored.is_some());
            let is_stopping = self.settling.stop.borrow().is_some();
            if is_stopping {
                // What is there is still read.
                self.events.close();
            }
            if room == 0 || (!events.is_empty() && (is_urgent || is_stopping)) {
                return true;
            }
            let end = until.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                biased;
                received = timeout_at(end, self.events.recv_many(events, room)) => match received {
                    // Closed and empty.
                    Ok(0) => return !events.is_empty(),
                    Ok(_) => {}
                    Err(_) if events.is_empty() => {}
                    Err(_) => return true,
                },
                // An error means that there is no recorder any more, and so there are no senders.
                _ = self.settling.stop.changed(), if !is_stopping => {}
            }
            until.get_or_insert_with(|| Instant::now() + self.settings.flush_interval);
        }
    }
}

impl Settling {
    /// Writes a batch. What the database refuses is found by halves, so that it takes nothing else with it.
    async fn settle(&mut self, batch: Batch) {
        let Batch {
            rows, mut waiting, ..
        } = batch;
        let mut todo = vec![rows];
        while let Some(mut rows) = todo.pop() {
            match self.try_long(&mut rows, &mut waiting).await {
                Tried::Written => {
                    for row in rows {
                        counter!(WRITTEN, "kind" => row.kind()).increment(1);
                        if let Some(stored) = row.flow().and_then(|flow| waiting.remove(&flow)) {
                            // Who has stopped waiting since has a flow that will expire.
                            let _ = stored.send(());
                        }
                    }
                }
                Tried::Rejected if rows.len() > 1 => {
                    let behind = rows.split_off(rows.len() / 2);
                    todo.push(behind);
                    todo.push(rows);
                }
                Tried::Rejected => drop_all(&rows, &mut waiting, "rejected"),
                Tried::GivenUp => drop_all(&rows, &mut waiting, "stopped"),
            }
        }
    }

    /// Tries a write until it is done, refused, or the process's time to stop is up.
    async fn try_long(&mut self, rows: &mut Vec<Row>, waiting: &mut Waiting) -> Tried {
        let (mut pause, mut is_away) = (FIRST_PAUSE, false);
        loop {
            // A flow that nobody waits for any more was never told of.
            let given_up = |id: FlowId| waiting.get(&id).is_some_and(oneshot::Sender::is_closed);
            rows.retain(|row| !row.flow().is_some_and(given_up));
            if rows.is_empty() {
                return Tried::Written;
            }
            let started = Instant::now();
            let stop = *self.stop.borrow();
            let deadline = started + WRITE_TIMEOUT;
            let deadline = stop.map_or(deadline, |stop| stop.min(deadline));
            let write = self.sink.write(rows, deadline.into_std());
            let error = match timeout_at(deadline, write).await {
                Ok(Ok(())) => {
                    histogram!(SECONDS).record(started.elapsed());
                    if is_away {
                        tracing::info!("flows are written again");
                    }
                    return Tried::Written;
                }
                Ok(Err(error @ RepositoryError::Rejected(_))) => {
                    if rows.len() == 1 {
                        let error: &dyn std::error::Error = &error;
                        tracing::warn!(error, "an event of a flow cannot be kept");
                    }
                    return Tried::Rejected;
                }
                Ok(Err(error)) => error,
                Err(_) => RepositoryError::DeadlineExceeded,
            };
            if !std::mem::replace(&mut is_away, true) {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "flows cannot be written; trying again");
            }
            let until = Instant::now() + pause;
            pause = (pause * 2).min(LONGEST_PAUSE);
            if stop.is_some_and(|stop| stop <= until) {
                return Tried::GivenUp;
            }
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                _ = self.stop.changed(), if stop.is_none() => {}
            }
        }
    }
}

fn describe() {
    metrics::describe_counter!(
        DROPPED,
        "Events of the flow recorder that were not kept, by kind and reason"
    );
    metrics::describe_counter!(
        WRITTEN,
        "Events of the flow recorder that were written, by kind"
    );
    metrics::describe_gauge!(QUEUED, "Bytes of flow events that wait to be written");
    metrics::describe_histogram!(
        SECONDS,
        metrics::Unit::Seconds,
        "Time of the flow recorder's writes that succeeded"
    );
}

impl Batch {
    fn add(&mut self, event: Queued) {
        self.size += event.size;
        if let (Some(flow), Some(stored)) = (event.row.flow(), event.stored) {
            self.waiting.insert(flow, stored);
        }
        self.rows.push(event.row);
    }
}

fn drop_all(rows: &[Row], waiting: &mut Waiting, reason: &'static str) {
    for row in rows {
        row.flow().map(|flow| waiting.remove(&flow));
        counter!(DROPPED, "kind" => row.kind(), "reason" => reason).increment(1);
    }
}
