//! Gets rows written: again and again while the database is away, in smaller pieces where one of them may be the reason, and
//! without a row that is.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use metrics::{counter, histogram};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};

use crate::flow::FlowId;
use crate::ports::{RepositoryError, Row, Sink};
use crate::recorder::DROPPED;

const WRITTEN: &str = "meridian_flow_events_written_total";
const SECONDS: &str = "meridian_flow_write_duration_seconds";

/// The pause after a failed write, doubled each time up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// How long it is at most until what could not be written is tried again.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long one write may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that are written at once at most: as text they stay below what a server takes as one packet (16 MiB of MariaDB).
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// After so many failures several rows are written by halves.
const HALVED: u32 = 2;
/// After so many failures a lone row lets others show whether it is to blame.
const BLAMED: u32 = 5;
/// How long what is left is tried once there is no recorder any more, and nobody said until when.
const LEFT_ALONE: Duration = Duration::from_secs(5);

/// An event on its way.
pub(crate) struct Queued {
    pub(crate) row: Row,
    /// Told when it is stored; dropped when it never will be.
    pub(crate) stored: Option<oneshot::Sender<()>>,
}

impl Queued {
    /// Whether somebody waits for it.
    pub(crate) fn is_awaited(&self) -> bool {
        self.stored.is_some()
    }
}

/// What is to be written, and how.
pub(crate) struct Settling {
    sink: Arc<dyn Sink>,
    /// Until when all is to be written, once the process stops.
    stop: watch::Receiver<Option<Instant>>,
    /// The same, since whoever could say it is gone.
    left_alone: Option<Instant>,
    /// Bytes of what is not written yet.
    bytes: Arc<AtomicUsize>,
    /// In order of the events of each flow. What is being written stays in front until it is.
    todo: VecDeque<Piece>,
    /// The flows that somebody waits for.
    waiting: HashMap<FlowId, oneshot::Sender<()>>,
    /// How many writes there were.
    writes: u64,
    pause: Duration,
    is_away: bool,
}

/// Rows that are written at once.
#[derive(Default)]
struct Piece {
    rows: Vec<Row>,
    failures: u32,
    /// How many writes there had been when it let another one go first.
    yielded_at: Option<u64>,
}

/// What a row is of: rows of the same stay in order.
#[derive(PartialEq, Eq, Hash)]
enum Of<'a> {
    Flow(FlowId),
    Session(&'a str),
}

impl<'a> From<&'a Row> for Of<'a> {
    fn from(row: &'a Row) -> Self {
        match row {
            Row::Start(flow) => Self::Flow(flow.id),
            Row::Step(step) => Self::Flow(step.flow),
            Row::Complete(completion) => Self::Flow(completion.flow),
            Row::Whole(whole) => Self::Flow(whole.flow.id),
            Row::Session(session) => Self::Session(&session.id),
        }
    }
}

enum Tried {
    Written,
    Rejected,
    Failed {
        /// Whether the try before it did not fail.
        first: bool,
    },
}

impl Settling {
    /// Of nothing yet. `bytes` goes down as rows are settled.
    pub(crate) fn new(
        sink: Arc<dyn Sink>,
        stop: watch::Receiver<Option<Instant>>,
        bytes: Arc<AtomicUsize>,
    ) -> Self {
        Self {
            sink,
            stop,
            left_alone: None,
            bytes,
            todo: VecDeque::new(),
            waiting: HashMap::new(),
            writes: 0,
            pause: FIRST_PAUSE,
            is_away: false,
        }
    }

    /// Until when all is to be written, if there is an end.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.stop.borrow().or(self.left_alone)
    }

    /// Waits until that changes.
    pub(crate) async fn stopping(&mut self) {
        if self.until().is_some() {
            return std::future::pending().await;
        }
        if self.stop.changed().await.is_err() {
            self.left_alone = Some(Instant::now() + LEFT_ALONE);
        }
    }

    /// Whether something is left that only others can tell what to do about.
    pub(crate) fn is_stuck(&self) -> bool {
        !self.todo.is_empty()
    }

    /// How many rows are left.
    pub(crate) fn left(&self) -> usize {
        self.todo.iter().map(|piece| piece.rows.len()).sum()
    }

    /// Puts events behind those that are there, but those that somebody waits for in front of all: nothing of a flow is before
    /// its beginning.
    pub(crate) fn take(&mut self, events: impl IntoIterator<Item = Queued>) {
        let (mut awaited, mut others) = (Vec::new(), Vec::new());
        for Queued { row, stored } in events {
            match (row.flow(), stored) {
                (Some(flow), Some(stored)) => {
                    self.waiting.insert(flow, stored);
                    awaited.push(row);
                }
                _ => others.push(row),
            }
        }
        self.todo.extend(pieces(others));
        for piece in pieces(awaited).into_iter().rev() {
            self.todo.push_front(piece);
        }
    }

    /// Writes what there is. Between any two writes it takes what `awaited` has, which somebody waits for; however much that
    /// is, the others have every second write. Where lone rows alone are left that fail for no known reason, and others may
    /// come, it returns: they will show whether the rows are the reason, or the database.
    pub(crate) async fn settle(
        &mut self,
        others_may_come: bool,
        mut awaited: impl FnMut() -> Vec<Queued>,
    ) {
        let mut was_awaited = self.is_front_awaited();
        loop {
            if !was_awaited && !self.todo.is_empty() {
                self.take(awaited());
            }
            self.forget_late();
            if self.todo.is_empty() {
                return;
            }
            was_awaited = self.is_front_awaited();
            match self.try_front().await {
                Tried::Written => {}
                Tried::Rejected if self.halve_front() => {}
                Tried::Rejected => self.drop_front("rejected"),
                Tried::Failed { first } => {
                    let end = Instant::now() + self.pause;
                    if self.until().is_some_and(|until| until <= end) {
                        return self.give_up();
                    }
                    if !self.resolve(first) && others_may_come {
                        return;
                    }
                    self.rest(end).await;
                }
            }
        }
    }

    /// Whether somebody waits for what is written next.
    fn is_front_awaited(&self) -> bool {
        let first = self.todo.front().and_then(|piece| piece.rows.first());
        let flow = first.and_then(Row::flow);
        flow.is_some_and(|flow| self.waiting.contains_key(&flow))
    }

    /// Decides what comes next after the front has failed: `first` after a write that did not, or behind others that failed
    /// too. `false` where nothing but others can tell.
    fn resolve(&mut self, first: bool) -> bool {
        let writes = self.writes;
        let Some(front) = self.todo.front_mut() else {
            return true;
        };
        front.failures += 1;
        if front.rows.len() > 1 {
            if front.failures >= HALVED {
                self.halve_front();
            }
            return true;
        }
        if front.failures < BLAMED {
            return true;
        }
        // Where another failed just before, the database may have gone away again since one was written.
        if first && front.yielded_at.is_some_and(|before| before < writes) {
            tracing::warn!("an event of a flow cannot be kept: others are written, it is not");
            self.drop_front("failed");
            return true;
        }
        front.yielded_at = Some(writes);
        self.other_first()
    }

    /// Puts the first row of another flow or session in front, where there is one; rows of one stay in order. `false` where
    /// all have had their turn since the last write.
    fn other_first(&mut self) -> bool {
        let (mut seen, mut next, mut again) = (HashSet::new(), None, None);
        'pieces: for (place, piece) in self.todo.iter().enumerate() {
            let had_its_turn = piece.yielded_at == Some(self.writes);
            for (row, of) in piece.rows.iter().map(Of::from).enumerate() {
                if !seen.insert(of) || place == 0 {
                    continue;
                }
                if !had_its_turn {
                    next = Some((place, row));
                    break 'pieces;
                }
                again.get_or_insert((place, row));
            }
        }
        drop(seen);
        if let Some((place, row)) = next.or(again) {
            self.put_first(place, row);
        }
        next.is_some()
    }

    fn put_first(&mut self, place: usize, row: usize) {
        let Some(piece) = self.todo.get_mut(place) else {
            return;
        };
        let first = if piece.rows.len() == 1 {
            self.todo.remove(place).unwrap_or_default()
        } else {
            Piece {
                rows: vec![piece.rows.remove(row)],
                ..Piece::default()
            }
        };
        self.todo.push_front(first);
    }

    /// Waits before the next try. Whoever stops does not wait for it.
    async fn rest(&mut self, until: Instant) {
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            () = self.stopping() => {}
        }
    }

    async fn try_front(&mut self) -> Tried {
        let Some(front) = self.todo.front() else {
            return Tried::Written;
        };
        let started = Instant::now();
        let deadline = started + WRITE_TIMEOUT;
        let deadline = self.until().map_or(deadline, |until| until.min(deadline));
        let write = self.sink.write(&front.rows, deadline.into_std());
        let error = match timeout_at(deadline, write).await {
            Ok(Ok(missing)) => {
                histogram!(SECONDS).record(started.elapsed());
                self.written(&missing);
                return Tried::Written;
            }
            Ok(Err(error @ RepositoryError::Rejected(_))) => {
                if front.rows.len() == 1 {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, "an event of a flow cannot be kept");
                }
                return Tried::Rejected;
            }
            Ok(Err(error)) => error,
            Err(_) => RepositoryError::DeadlineExceeded,
        };
        let first = !std::mem::replace(&mut self.is_away, true);
        if first {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "flows cannot be written; trying again");
        }
        Tried::Failed { first }
    }

    /// The front is written but for what is of no flow.
    fn written(&mut self, missing: &[FlowId]) {
        if std::mem::take(&mut self.is_away) {
            tracing::info!("flows are written again");
        }
        self.pause = FIRST_PAUSE;
        self.writes += 1;
        for row in self.todo.pop_front().unwrap_or_default().rows {
            if row.needs().is_some_and(|flow| missing.contains(&flow)) {
                self.count_dropped(&row, "no_flow");
                continue;
            }
            counter!(WRITTEN, "kind" => row.kind()).increment(1);
            self.bytes.fetch_sub(row.bytes(), Ordering::Relaxed);
            if let Some(stored) = row.flow().and_then(|flow| self.waiting.remove(&flow)) {
                // Who has stopped waiting since has a flow that will expire.
                let _ = stored.send(());
            }
        }
    }

    /// Leaves out flows that nobody waits for any more: they were never told of.
    fn forget_late(&mut self) {
        let Some(front) = self.todo.front_mut() else {
            return;
        };
        let waiting = &self.waiting;
        let is_late = |row: &mut Row| {
            let waiting = row.flow().and_then(|flow| waiting.get(&flow));
            waiting.is_some_and(oneshot::Sender::is_closed)
        };
        let late: Vec<_> = front.rows.extract_if(.., is_late).collect();
        if front.rows.is_empty() {
            self.todo.pop_front();
        }
        late.iter().for_each(|row| self.count_dropped(row, "late"));
    }

    /// Makes two pieces of the front, if it has more than one row.
    fn halve_front(&mut self) -> bool {
        let Some(mut front) = self.todo.pop_front() else {
            return false;
        };
        let behind = front.rows.split_off(front.rows.len().div_ceil(2));
        let is_halved = !behind.is_empty();
        if is_halved {
            front.failures = 0;
            self.todo.push_front(Piece {
                rows: behind,
                ..Piece::default()
            });
        }
        self.todo.push_front(front);
        is_halved
    }

    /// Loses what is left, which is counted.
    pub(crate) fn give_up(&mut self) {
        while !self.todo.is_empty() {
            self.drop_front("stopped");
        }
    }

    fn drop_front(&mut self, reason: &'static str) {
        for row in self.todo.pop_front().unwrap_or_default().rows {
            self.count_dropped(&row, reason);
        }
    }

    fn count_dropped(&mut self, row: &Row, reason: &'static str) {
        if let Some(flow) = row.flow() {
            self.waiting.remove(&flow);
        }
        self.bytes.fetch_sub(row.bytes(), Ordering::Relaxed);
        counter!(DROPPED, "kind" => row.kind(), "reason" => reason).increment(1);
    }
}

/// Rows in pieces that are small enough to be written at once.
fn pieces(rows: Vec<Row>) -> Vec<Piece> {
    let (mut pieces, mut size) = (Vec::<Piece>::new(), 0);
    for row in rows {
        size += row.bytes();
        match pieces.last_mut() {
            Some(piece) if size <= BATCH_BYTES => piece.rows.push(row),
            _ => {
                size = row.bytes();
                pieces.push(Piece {
                    rows: vec![row],
                    ..Piece::default()
                });
            }
        }
    }
    pieces
}

pub(crate) fn describe() {
    metrics::describe_counter!(
        DROPPED,
        "Events of the flow recorder that were not kept, by kind and reason"
    );
    metrics::describe_counter!(
        WRITTEN,
        "Events of the flow recorder that were written, by kind"
    );
    metrics::describe_histogram!(
        SECONDS,
        metrics::Unit::Seconds,
        "Time of the flow recorder's writes that succeeded"
    );
}
