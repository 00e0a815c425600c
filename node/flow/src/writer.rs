//! The one task that writes: many events at once, in their order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use metrics::gauge;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::recorder::RecorderSettings;
use crate::settling::{self, LONGEST_PAUSE, Queued, Settling};

const QUEUED: &str = "meridian_flow_queue_bytes";

pub(crate) struct Writer {
    pub(crate) events: mpsc::Receiver<Queued>,
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
            queued.set(self.bytes.load(Ordering::Relaxed) as f64);
            self.settling.take(self.incoming.drain(..));
            self.settling.settle(is_open).await;
            queued.set(self.bytes.load(Ordering::Relaxed) as f64);
            if !is_open {
                return;
            }
        }
    }

    /// Waits for events, and for more of them unless somebody waits for one; `false` when there will be no more.
    async fn collect(&mut self) -> bool {
        let most = self.settings.batch.max(1);
        let is_stuck = self.settling.is_stuck();
        // What is left from before is tried again, whether others come or not.
        let mut end = is_stuck.then(|| Instant::now() + LONGEST_PAUSE);
        loop {
            let room = most.saturating_sub(self.incoming.len());
            let is_urgent = self.incoming.iter().any(|event| event.stored.is_some());
            let is_stopping = self.settling.until().is_some();
            if is_stopping {
                // What is there is still read.
                self.events.close();
            }
            if room == 0 || (!self.incoming.is_empty() && (is_urgent || is_stopping)) {
                return true;
            }
            let received = self.events.recv_many(&mut self.incoming, room);
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
        while let Ok(event) = self.events.try_recv() {
            self.incoming.push(event);
        }
        self.settling.take(self.incoming.drain(..));
        self.settling.give_up();
    }
}
