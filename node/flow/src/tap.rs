//! Decisions as they are recorded, for whoever watches a store: bounded, and lost rather than waited for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use meridian_model::StoreId;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::flow::{FlowKind, Recorded};

/// Who watches, by store. While nobody does, a decision costs one atomic load.
#[derive(Default)]
pub(crate) struct Taps {
    /// How many watch.
    open: AtomicUsize,
    of: RwLock<HashMap<StoreId, broadcast::Sender<Arc<Recorded>>>>,
}

/// A store's decisions from now on. Nothing is given to it any more once it is dropped.
pub struct Tap {
    taps: Arc<Taps>,
    store: StoreId,
    /// `None` only while it is dropped.
    decisions: Option<broadcast::Receiver<Arc<Recorded>>>,
}

/// What a [`Tap`] has.
#[derive(Debug, Clone)]
pub enum Tapped {
    /// The next decision.
    Decision(Arc<Recorded>),
    /// So many were lost: whoever watches was too slow.
    Lost(u64),
}

impl Taps {
    /// Of all taps of a store the first says how many decisions wait at most.
    pub(crate) fn open(self: &Arc<Self>, store: StoreId, capacity: usize) -> Tap {
        let mut of = self.of.write().unwrap_or_else(PoisonError::into_inner);
        let sender = of
            .entry(store)
            .or_insert_with(|| broadcast::Sender::new(capacity.max(1)));
        let decisions = Some(sender.subscribe());
        drop(of);
        self.open.fetch_add(1, Ordering::Relaxed);
        Tap {
            taps: Arc::clone(self),
            store,
            decisions,
        }
    }

    /// Gives a decision to those who watch its store.
    pub(crate) fn tell(&self, recorded: &Recorded) {
        if self.open.load(Ordering::Relaxed) == 0 || recorded.flow.kind != FlowKind::Decision {
            return;
        }
        let of = self.of.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = of.get(&recorded.flow.store) {
            // An error means that whoever watched has just gone.
            let _told = sender.send(Arc::new(recorded.clone()));
        }
    }
}

impl Tap {
    /// The next decision, or how many there were that nobody took in time.
    pub async fn next(&mut self) -> Tapped {
        let Some(decisions) = &mut self.decisions else {
            return std::future::pending().await;
        };
        match decisions.recv().await {
            Ok(recorded) => Tapped::Decision(recorded),
            Err(RecvError::Lagged(lost)) => Tapped::Lost(lost),
            // The sender stays for as long as this is here.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.decisions = None;
        self.taps.open.fetch_sub(1, Ordering::Relaxed);
        let mut of = self.taps.of.write().unwrap_or_else(PoisonError::into_inner);
        if of
            .get(&self.store)
            .is_some_and(|sender| sender.receiver_count() == 0)
        {
            of.remove(&self.store);
        }
    }
}
