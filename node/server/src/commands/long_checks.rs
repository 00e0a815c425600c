//! Long computations on blocking threads: a few at a time, and of one store never all of them.
//!
//! The hazard: slots that all stores share go to whoever asks most, and one store of hostile models would starve the
//! others. So a store may hold half of them. Its further checks wait for each other and not before other stores' ones.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use meridian_model::{ApiError, Code, StoreId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::api::deadline_exceeded;

/// The slots of a node.
pub(crate) struct LongChecks {
    slots: Arc<Semaphore>,
    per_store: usize,
    /// Of stores that hold or await a slot.
    stores: Mutex<HashMap<StoreId, Arc<Semaphore>>>,
}

/// Held while a computation runs.
struct Slot {
    _store: OwnedSemaphorePermit,
    _node: OwnedSemaphorePermit,
}

impl LongChecks {
    /// As many slots as are given, at least one.
    pub(crate) fn new(slots: usize) -> Self {
        let slots = slots.max(1);
        Self {
            slots: Arc::new(Semaphore::new(slots)),
            per_store: slots.div_ceil(2),
            stores: Mutex::default(),
        }
    }

    /// Runs a computation once the store has a slot. What it is given says when to give up: at the deadline, or when its
    /// caller is gone.
    ///
    /// # Errors
    /// `deadline_exceeded` when no slot was free in time.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        store: StoreId,
        deadline: Instant,
        run: impl FnOnce(&dyn Fn() -> bool) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let slot = async {
            let of_store = self.of(store).acquire_owned().await?;
            let of_node = Arc::clone(&self.slots).acquire_owned().await?;
            Ok::<_, tokio::sync::AcquireError>(Slot {
                _store: of_store,
                _node: of_node,
            })
        };
        match tokio::time::timeout_at(deadline.into(), slot).await {
            Ok(Ok(slot)) => off_thread(slot, deadline, run).await,
            _ => Err(deadline_exceeded()),
        }
    }

    /// As [`LongChecks::run`]; `None` at once when there is no slot.
    pub(crate) async fn run_now<T: Send + 'static>(
        &self,
        store: StoreId,
        deadline: Instant,
        run: impl FnOnce(&dyn Fn() -> bool) -> T + Send + 'static,
    ) -> Option<Result<T, ApiError>> {
        let slot = Slot {
            _store: self.of(store).try_acquire_owned().ok()?,
            _node: Arc::clone(&self.slots).try_acquire_owned().ok()?,
        };
        Some(off_thread(slot, deadline, run).await)
    }

    fn of(&self, store: StoreId) -> Arc<Semaphore> {
        let mut stores = self.stores();
        // Permits and waiters hold a reference; who has none needs no entry.
        stores.retain(|_, slots| Arc::strong_count(slots) > 1);
        let new = || Arc::new(Semaphore::new(self.per_store));
        Arc::clone(stores.entry(store).or_insert_with(new))
    }

    fn stores(&self) -> MutexGuard<'_, HashMap<StoreId, Arc<Semaphore>>> {
        self.stores.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn off_thread<T: Send + 'static>(
    slot: Slot,
    deadline: Instant,
    run: impl FnOnce(&dyn Fn() -> bool) -> T + Send + 'static,
) -> Result<T, ApiError> {
    let caller_gone = CancellationToken::new();
    let _on_drop = caller_gone.clone().drop_guard();
    let task = tokio::task::spawn_blocking(move || {
        let done = run(&|| caller_gone.is_cancelled() || Instant::now() >= deadline);
        drop(slot);
        done
    });
    task.await.map_err(|why| {
        tracing::error!(error = %why, "a computation ended unexpectedly");
        ApiError::new(Code::Internal, "Internal Server Error")
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    fn store(last: char) -> StoreId {
        format!("01ARZ3NDEKTSV4RRFFQ69G5FA{last}").parse().unwrap()
    }

    fn late() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[tokio::test]
    async fn a_store_that_asks_for_everything_leaves_half_to_the_others() {
        let checks = Arc::new(LongChecks::new(4));
        let (hostile, other) = (store('A'), store('B'));
        let (started, mut has_started) = tokio::sync::mpsc::unbounded_channel();
        let mut ends = Vec::new();
        let mut running = Vec::new();
        for _ in 0..10 {
            let (end, ended) = mpsc::channel::<()>();
            ends.push(end);
            let (checks, started) = (Arc::clone(&checks), started.clone());
            running.push(tokio::spawn(async move {
                let run = move |_: &dyn Fn() -> bool| {
                    let _told = started.send(());
                    let _ended = ended.recv();
                };
                checks.run(hostile, late(), run).await
            }));
        }
        for _ in 0..2 {
            has_started.recv().await.unwrap();
        }
        assert_eq!(checks.run(other, late(), |_| 7).await.unwrap(), 7);
        assert!(checks.run_now(hostile, late(), |_| 7).await.is_none());
        assert_eq!(
            checks.run_now(other, late(), |_| 7).await.unwrap().unwrap(),
            7
        );
        let soon = Instant::now() + Duration::from_millis(20);
        let error = checks.run(hostile, soon, |_| 7).await.unwrap_err();
        assert_eq!(error.code, Code::DeadlineExceeded);
        assert!(has_started.try_recv().is_err());

        drop(ends);
        for check in running {
            check.await.unwrap().unwrap();
        }
        assert_eq!(checks.run(other, late(), |_| 7).await.unwrap(), 7);
        assert_eq!(checks.stores().len(), 1);
    }
}
