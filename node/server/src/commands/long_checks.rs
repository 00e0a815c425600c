//! Long computations on blocking threads: a few at a time, and of one store never all of them.
//!
//! The hazard: slots that all stores share go to whoever asks most, and one store of hostile models would starve the
//! others. So a store may hold half of them. Its further checks wait for each other and not before other stores' ones.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use meridian_model::{ApiError, Code, StoreId};
use metrics::{Gauge, describe_gauge, gauge};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::api::deadline_exceeded;
use crate::telemetry::Counted;
use crate::telemetry::request::along;

const LONG: &str = "meridian_long_checks";

/// The slots of a node.
pub(crate) struct LongChecks {
    slots: Arc<Semaphore>,
    per_store: usize,
    running: Gauge,
    waiting: Gauge,
    /// Of stores that hold or await a slot.
    stores: Mutex<HashMap<StoreId, Arc<Semaphore>>>,
}

/// Leave to run long computations, one after the other.
pub(crate) struct Slot {
    _store: OwnedSemaphorePermit,
    _node: OwnedSemaphorePermit,
    _counted: Counted,
}

impl LongChecks {
    /// As many slots as are given, at least one.
    pub(crate) fn new(slots: usize) -> Self {
        let slots = slots.max(1);
        describe_gauge!(
            LONG,
            "Long computations, by whether they run or wait for a slot"
        );
        Self {
            running: gauge!(LONG, "state" => "running"),
            waiting: gauge!(LONG, "state" => "waiting"),
            slots: Arc::new(Semaphore::new(slots)),
            per_store: slots.div_ceil(2),
            stores: Mutex::default(),
        }
    }

    /// A slot, once the store has one. Who waits should hold nothing that others need.
    ///
    /// # Errors
    /// `deadline_exceeded` when no slot was free in time.
    pub(crate) async fn slot(&self, store: StoreId, deadline: Instant) -> Result<Slot, ApiError> {
        let waiting = Counted::new(&self.waiting);
        let slot = async {
            let of_store = self.of(store).acquire_owned().await?;
            let of_node = Arc::clone(&self.slots).acquire_owned().await?;
            Ok::<_, tokio::sync::AcquireError>(Slot {
                _store: of_store,
                _node: of_node,
                _counted: Counted::new(&self.running),
            })
        };
        let slot = tokio::time::timeout_at(deadline.into(), slot).await;
        drop(waiting);
        match slot {
            Ok(Ok(slot)) => Ok(slot),
            _ => Err(deadline_exceeded()),
        }
    }

    /// A slot, if one is free.
    pub(crate) fn slot_now(&self, store: StoreId) -> Option<Slot> {
        Some(Slot {
            _store: self.of(store).try_acquire_owned().ok()?,
            _node: Arc::clone(&self.slots).try_acquire_owned().ok()?,
            _counted: Counted::new(&self.running),
        })
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

impl Slot {
    /// Runs a computation on a blocking thread, and has the slot back with its result. What it is given says when to give
    /// up: at the deadline, or when its caller is gone. The slot is taken until it does.
    ///
    /// # Errors
    /// `internal_error` when the computation panics.
    pub(crate) async fn run<T: Send + 'static>(
        self,
        deadline: Instant,
        run: impl FnOnce(&dyn Fn() -> bool) -> T + Send + 'static,
    ) -> Result<(T, Self), ApiError> {
        let caller_gone = CancellationToken::new();
        let _on_drop = caller_gone.clone().drop_guard();
        let run = along(move || {
            let done = run(&|| caller_gone.is_cancelled() || Instant::now() >= deadline);
            (done, self)
        });
        tokio::task::spawn_blocking(run).await.map_err(|why| {
            tracing::error!(error = %why, "a computation ended unexpectedly");
            ApiError::new(Code::Internal, "Internal Server Error")
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use meridian_model::dsl;
    use meridian_proto::openfga::v1;
    use meridian_store::{DatastoreSettings, PoolSettings, open};

    use super::*;
    use crate::calls::{Calls, Context, ServedBy};
    use crate::commands::Local;
    use crate::limits::Limits;

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
                let slot = checks.slot(hostile, late()).await.unwrap();
                slot.run(late(), run).await.map(drop)
            }));
        }
        for _ in 0..2 {
            has_started.recv().await.unwrap();
        }
        let slot = checks.slot(other, late()).await.unwrap();
        assert!(checks.slot_now(hostile).is_none());
        let (seven, slot) = slot.run(late(), |_| 7).await.unwrap();
        assert_eq!(seven, 7);
        drop(slot);
        assert!(checks.slot_now(other).is_some());
        let soon = Instant::now() + Duration::from_millis(20);
        let error = checks.slot(hostile, soon).await.err().unwrap();
        assert_eq!(error.code, Code::DeadlineExceeded);
        assert!(has_started.try_recv().is_err());

        drop(ends);
        for check in running {
            check.await.unwrap().unwrap();
        }
        let _slot = checks.slot_now(other).unwrap();
        assert_eq!(checks.stores().len(), 1);
    }

    #[tokio::test]
    async fn checks_that_await_a_slot_leave_the_connections_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}?mode=rwc", folder.path().join("t.db").display());
        let pool = PoolSettings {
            min_connections: 0,
            max_connections: 3,
            ..PoolSettings::default()
        };
        let datastore = open(&DatastoreSettings { url, pool }).unwrap();
        datastore.migrate().await.unwrap();
        let (hostile, other) = (store('A'), store('B'));
        let text =
            "model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define reader: [user]\n";
        let model = dsl::parse(text).unwrap();
        let model_id = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        for id in [hostile, other] {
            datastore.create_store(id, "s", late()).await.unwrap();
        }
        datastore
            .write_model(hostile, model_id, &model, late())
            .await
            .unwrap();
        // Every check is a long one.
        let limits = Limits {
            check_inline_work: 0,
            ..Limits::default()
        };
        let name = ServedBy::new("central").unwrap();
        let local = Arc::new(Local::new(datastore, name, limits, Arc::default()));
        let slots = [(); 2].map(|()| local.long_checks.slot_now(hostile).unwrap());

        let cx = Context {
            deadline: late(),
            min_position: None,
            caller: None,
            model: Default::default(),
            why: Default::default(),
        };
        let request = v1::CheckRequest {
            store_id: hostile.to_string(),
            tuple_key: Some(v1::CheckRequestTupleKey {
                user: "user:anne".into(),
                relation: "reader".into(),
                object: "doc:1".into(),
            }),
            ..v1::CheckRequest::default()
        };
        let mut checks = Vec::new();
        for number in 0..6 {
            let (local, cx, mut request) = (Arc::clone(&local), cx.clone(), request.clone());
            if let Some(key) = &mut request.tuple_key {
                key.object = format!("doc:{number}");
            }
            checks.push(tokio::spawn(async move {
                local.check(&cx, request).await.unwrap().body.allowed
            }));
        }
        // Each slot and each waiter holds one, the map and this line another.
        while Arc::strong_count(&local.long_checks.of(hostile)) < slots.len() + checks.len() + 2 {
            tokio::task::yield_now().await;
        }
        let get = v1::GetStoreRequest {
            store_id: other.to_string(),
        };
        local.get_store(&cx, get).await.unwrap();

        drop(slots);
        for check in checks {
            assert!(!check.await.unwrap());
        }
    }
}
