//! The one task that writes: many events at once, in their order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use metrics::{Gauge, gauge};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::recorder::RecorderSettings;
use crate::settling::{self, LONGEST_PAUSE, Queued, Settling};

const QUEUED: &str = "meridian_flow_queue_bytes";
/// How often it is told while something is written, which may take as long as the database is away.
const TOLD: Duration = Duration::from_secs(1);

/// Events on their way.
pub(crate) struct Events {
    /// The beginnings of flows that somebody waits for: they are written first.
    pub(crate) awaited: mpsc::Receiver<Queued>,
    pub(crate) others: mpsc::Receiver<Queued>,
}

impl Events {
    /// Takes at most `room`, which is not 0, of each kind, of those that are there, or waits for one; how many, 0 once there
    /// will be no more. May be cancelled: then nothing was taken.
    async fn take(&mut self, into: &mut Vec<Queued>, room: usize) -> usize {
        let mut first = tokio::select! {
            biased;
            event = self.awaited.recv() => event,
            event = self.others.recv() => event,
        };
        // One of the two is closed and empty: so is the other, but for what is in it.
        if first.is_none() {
            first = self.awaited.recv().await;
        }
        if first.is_none() {
            first = self.others.recv().await;
        }
        let before = into.len();
        let is_awaited = first.as_ref().is_some_and(Queued::is_awaited);
        into.extend(first);
        let left = |is_taken| room.saturating_sub(usize::from(is_taken));
        into.extend(ready(&mut self.awaited, left(is_awaited)));
        into.extend(ready(&mut self.others, left(!is_awaited)));
        into.len() - before
    }

    /// Takes no more; what is there can still be had.
    fn close(&mut self) {
        self.awaited.close();
        self.others.close();
    }
}

/// At most `room` of those that are there.
fn ready(from: &mut mpsc::Receiver<Queued>, room: usize) -> impl Iterator<Item = Queued> {
    std::iter::from_fn(|| from.try_recv().ok()).take(room)
}

pub(crate) struct Writer {
    pub(crate) events: Events,
    /// What was read of them and not taken on yet.
    pub(crate) incoming: Vec<Queued>,
    pub(crate) settling: Settling,
    pub(crate) settings: RecorderSettings,
    /// Bytes of what is not written yet.
    pub(crate) bytes: Arc<AtomicUsize>,
}

impl Writer {
    /// Until the process stops and nothing waits any more.
    pub(crate) async fn run(mut self) {
        settling::describe();
        metrics::describe_gauge!(QUEUED, "Bytes of flow events that wait to be written");
        let queued = gauge!(QUEUED);
        loop {
            let is_open = self.collect().await;
            self.settling.take(self.incoming.drain(..));
            self.settle(is_open, &queued).await;
            if !is_open {
                return;
            }
        }
    }

    /// Writes what was taken on, and what somebody waits for as it comes; tells meanwhile how much waits.
    async fn settle(&mut self, others_may_come: bool, queued: &Gauge) {
        let (bytes, most) = (&self.bytes, self.settings.batch.max(1));
        let events = &mut self.events.awaited;
        let awaited = || ready(events, most).collect();
        let tell = || queued.set(bytes.load(Ordering::Relaxed) as f64);
        let telling = async {
            loop {
                tell();
                tokio::time::sleep(TOLD).await;
            }
        };
        tokio::select! {
            () = telling => {}
            () = self.settling.settle(others_may_come, awaited) => {}
        }
        tell();
    }

    /// Waits for events, and for more of them unless somebody waits for one; `false` when there will be no more.
    async fn collect(&mut self) -> bool {
        let most = self.settings.batch.max(1);
        let is_stuck = self.settling.is_stuck();
        // What is left from before is tried again, whether others come or not.
        let mut end = is_stuck.then(|| Instant::now() + LONGEST_PAUSE);
        loop {
            let room = most.saturating_sub(self.incoming.len());
            let is_urgent = self.incoming.iter().any(Queued::is_awaited);
            let is_stopping = self.settling.until().is_some();
            if is_stopping {
                // What is there is still read.
                self.events.close();
            }
            if room == 0 || (!self.incoming.is_empty() && (is_urgent || is_stopping)) {
                return true;
            }
            let received = self.events.take(&mut self.incoming, room);
            let received = async {
                match end {
                    Some(end) => timeout_at(end, received).await.ok(),
                    None => Some(received.await),
                }
            };
            tokio::select! {
                biased;
                received = received => match received {
                    // Closed and empty.
                    Some(0) => return false,
                    Some(_) => {}
                    None => return true,
                },
                () = self.settling.stopping(), if !is_stopping => continue,
            }
            end.get_or_insert_with(|| Instant::now() + self.settings.flush_interval);
        }
    }
}

/// Whoever ends it before its time loses what was handed over, which is counted.
impl Drop for Writer {
    fn drop(&mut self) {
        self.events.close();
        for events in [&mut self.events.awaited, &mut self.events.others] {
            while let Ok(event) = events.try_recv() {
                self.incoming.push(event);
            }
        }
        self.settling.take(self.incoming.drain(..));
        self.settling.give_up();
    }
}
