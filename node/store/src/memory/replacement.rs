//! A store on its way in from a snapshot.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use meridian_model::ports::{DatastoreError, Replacement, Result, StoreHead};
use meridian_model::tuple::Tuple;

use super::State;
use super::store::Store;
use crate::history::check_deadline;

struct MemoryReplacement {
    state: Arc<Mutex<State>>,
    store: Store,
    step: Duration,
}

/// See [`meridian_model::ports::Datastore::replace`].
pub(super) fn begin(
    state: &Arc<Mutex<State>>,
    head: &StoreHead,
    step: Duration,
) -> Result<Option<Box<dyn Replacement>>> {
    check_deadline(Instant::now() + step)?;
    let store = Store::from_head(head);
    let newer = is_newer(
        &store,
        &state.lock().unwrap_or_else(PoisonError::into_inner),
    );
    Ok(newer.then(|| {
        Box::new(MemoryReplacement {
            state: Arc::clone(state),
            store,
            step,
        }) as Box<dyn Replacement>
    }))
}

fn is_newer(store: &Store, state: &State) -> bool {
    let have = state.stores.get(&store.info.id);
    have.is_none_or(|have| have.position < store.position)
}

#[async_trait]
impl Replacement for MemoryReplacement {
    async fn add(&mut self, tuples: Vec<Tuple>) -> Result<()> {
        check_deadline(Instant::now() + self.step)?;
        tuples
            .into_iter()
            .for_each(|tuple| self.store.insert(tuple));
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_newer(&self.store, &state) {
            return Err(DatastoreError::Conflict);
        }
        let id = self.store.info.id;
        state.outbox.retain(|_, (set, _)| set.store != id);
        state.stores.insert(id, self.store);
        state.generation += 1;
        Ok(())
    }
}
