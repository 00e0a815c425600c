//! A datastore in memory: for `meridian dev`, tests and edges of the size of one process.
//!
//! Its history ends with the process, so its epoch is the time it was made: whatever consumed an earlier life takes the
//! stores over anew.

mod measured;
mod replacement;
mod snapshot;
mod state;
mod store;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use meridian_model::AuthorizationModel;
use meridian_model::change::{Change, ChangeSet, StoreInfo, StoredModel, Tiers};
use meridian_model::ids::{Epoch, ModelId, Position, Revision, StoreId, Timestamp};
use meridian_model::ports::{
    Applied, ChangeCursor, Committed, Datastore, DatastoreError, OutboxRow, Page, Replacement,
    Result, Snapshot, StoreHead, StoreRecord, TupleChange, TupleFilter, WriteOptions,
};
use meridian_model::tuple::{Tuple, TupleKey};

use crate::history::{check_deadline, following, page};
use snapshot::MemorySnapshot;
use state::{State, change_set, system_time};
use store::{Store, rows_of};

/// A datastore in memory. Clones share it.
#[derive(Clone)]
pub struct MemoryDatastore {
    epoch: Epoch,
    state: Arc<Mutex<State>>,
}

impl Default for MemoryDatastore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryDatastore {
    /// An empty datastore whose epoch is the present time in milliseconds.
    pub fn new() -> Self {
        let epoch = Epoch(u64::try_from(system_time().0 / 1000).unwrap_or_default());
        let state = State {
            generation: epoch.0,
            ..State::default()
        };
        Self {
            epoch,
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn state(&self, deadline: Instant) -> Result<MutexGuard<'_, State>> {
        check_deadline(deadline)?;
        // Nothing that holds the lock can leave the state half changed.
        Ok(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Commits the change that `build` makes of the store as the store's next revision.
    fn write(
        &self,
        id: StoreId,
        deadline: Instant,
        build: impl FnOnce(&Store) -> Result<Change>,
    ) -> Result<Committed> {
        let mut state = self.state(deadline)?;
        let store = state.live(id).ok_or(DatastoreError::UnknownStore(id))?;
        let change = build(store)?;
        let position = self.next(store);
        Ok(state.revise(id, position, system_time(), vec![change]))
    }

    fn next(&self, store: &Store) -> Position {
        Position {
            epoch: self.epoch,
            revision: store.position.revision.next(),
        }
    }
}

#[async_trait]
impl Datastore for MemoryDatastore {
    async fn migrate(&self) -> Result<()> {
        Ok(())
    }

    async fn epoch(&self, deadline: Instant) -> Result<Epoch> {
        check_deadline(deadline)?;
        Ok(self.epoch)
    }

    async fn now(&self, deadline: Instant) -> Result<Timestamp> {
        check_deadline(deadline)?;
        Ok(system_time())
    }

    async fn create_store(
        &self,
        id: StoreId,
        name: &str,
        deadline: Instant,
    ) -> Result<StoreRecord> {
        let mut state = self.state(deadline)?;
        if state.stores.contains_key(&id) {
            return Err(DatastoreError::Conflict);
        }
        let at = system_time();
        let info = StoreInfo {
            id,
            name: name.to_owned(),
            created_at: at,
        };
        let position = Position {
            epoch: self.epoch,
            revision: Revision::ZERO.next(),
        };
        let created = change_set(id, position, at, vec![Change::StoreCreated(info.clone())]);
        state.commit(created, || Some(Store::new(info.clone())));
        Ok(StoreRecord {
            info,
            position,
            deleted_at: None,
        })
    }

    async fn delete_store(&self, id: StoreId, deadline: Instant) -> Result<Option<Committed>> {
        match self.write(id, deadline, |_| Ok(Change::StoreDeleted)) {
            Ok(committed) => Ok(Some(committed)),
            Err(DatastoreError::UnknownStore(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn write_model(
        &self,
        store: StoreId,
        id: ModelId,
        model: &AuthorizationModel,
        deadline: Instant,
    ) -> Result<Committed> {
        self.write(store, deadline, |store| {
            if store.latest_model().is_some_and(|latest| latest >= id) {
                return Err(DatastoreError::Conflict);
            }
            Ok(Change::ModelWritten(StoredModel {
                id,
                model: Arc::new(model.clone()),
            }))
        })
    }

    async fn write_tuples(
        &self,
        store: StoreId,
        deletes: &[TupleKey],
        writes: &[Tuple],
        options: WriteOptions,
        deadline: Instant,
    ) -> Result<Option<Committed>> {
        let (mut state, at) = (self.state(deadline)?, system_time());
        let revised = state
            .live(store)
            .ok_or(DatastoreError::UnknownStore(store))?;
        let changes = revised.tuple_changes(deletes, writes, options, at)?;
        if changes.is_empty() {
            return Ok(None);
        }
        let position = self.next(revised);
        Ok(Some(state.revise(store, position, at, changes)))
    }

    async fn assign_tiers(
        &self,
        store: StoreId,
        tiers: &Tiers,
        deadline: Instant,
    ) -> Result<Committed> {
        self.write(store, deadline, |_| {
            Ok(Change::TiersAssigned(tiers.clone()))
        })
    }

    async fn write_assertions(
        &self,
        store: StoreId,
        model: ModelId,
        text: &str,
        deadline: Instant,
    ) -> Result<()> {
        let mut state = self.state(deadline)?;
        let known = state.stores.get_mut(&store);
        let live = known.filter(|known| known.deleted_at.is_none());
        let live = live.ok_or(DatastoreError::UnknownStore(store))?;
        live.assertions.insert(model, text.into());
        Ok(())
    }

    async fn apply(&self, change_sets: &[ChangeSet], deadline: Instant) -> Result<Applied> {
        let mut state = self.state(deadline)?;
        let store = change_sets.first().map(|first| first.store);
        let known = store.and_then(|store| state.stores.get(&store));
        let have = known.map(|store| store.position);
        let sets = match following(have, change_sets) {
            Ok(sets) => sets,
            Err(verdict) => return Ok(verdict),
        };
        for set in sets {
            state.commit(set.clone(), || match set.changes.first() {
                Some(Change::StoreCreated(info)) => Some(Store::new(info.clone())),
                _ => None,
            });
        }
        Ok(Applied::Applied)
    }

    async fn replace(
        &self,
        head: &StoreHead,
        step: Duration,
    ) -> Result<Option<Box<dyn Replacement>>> {
        replacement::begin(&self.state, head, step)
    }

    async fn generation(&self, deadline: Instant) -> Result<u64> {
        Ok(self.state(deadline)?.generation)
    }

    async fn store(&self, id: StoreId, deadline: Instant) -> Result<Option<StoreRecord>> {
        Ok(self.state(deadline)?.stores.get(&id).map(Store::record))
    }

    async fn stores(
        &self,
        name: Option<&str>,
        after: Option<StoreId>,
        limit: u32,
        deadline: Instant,
    ) -> Result<Page<StoreRecord, StoreId>> {
        let state = self.state(deadline)?;
        let wanted = |store: &&Store| {
            store.deleted_at.is_none()
                && name.is_none_or(|name| name == store.info.name)
                && after.is_none_or(|after| store.info.id > after)
        };
        let rows = state
            .stores
            .values()
            .filter(wanted)
            .map(Store::record)
            .take(limit as usize + 1)
            .collect();
        Ok(page(rows, limit, |record| record.info.id))
    }

    async fn positions(&self, deadline: Instant) -> Result<Vec<(StoreId, Position)>> {
        Ok(self
            .state(deadline)?
            .stores
            .values()
            .map(|store| (store.info.id, store.position))
            .collect())
    }

    async fn positions_of(
        &self,
        stores: &[StoreId],
        deadline: Instant,
    ) -> Result<Vec<(StoreId, Position)>> {
        let state = self.state(deadline)?;
        let asked: BTreeSet<StoreId> = stores.iter().copied().collect();
        let known = asked.into_iter().filter_map(|id| state.stores.get(&id));
        Ok(known.map(|store| (store.info.id, store.position)).collect())
    }

    async fn model(
        &self,
        store: StoreId,
        id: ModelId,
        deadline: Instant,
    ) -> Result<Option<Arc<AuthorizationModel>>> {
        Ok(self
            .state(deadline)?
            .stores
            .get(&store)
            .and_then(|store| store.models.get(&id).cloned()))
    }

    async fn latest_model(&self, store: StoreId, deadline: Instant) -> Result<Option<ModelId>> {
        Ok(self
            .state(deadline)?
            .stores
            .get(&store)
            .and_then(Store::latest_model))
    }

    async fn read_assertions(
        &self,
        store: StoreId,
        model: ModelId,
        deadline: Instant,
    ) -> Result<Option<String>> {
        let state = self.state(deadline)?;
        let known = state.stores.get(&store);
        let text = known.and_then(|known| known.assertions.get(&model));
        Ok(text.map(ToString::to_string))
    }

    async fn models(
        &self,
        store: StoreId,
        before: Option<ModelId>,
        limit: u32,
        deadline: Instant,
    ) -> Result<Page<StoredModel, ModelId>> {
        let state = self.state(deadline)?;
        let rows = state.stores.get(&store).map(|store| {
            let older = store
                .models
                .iter()
                .rev()
                .filter(|(id, _)| before.is_none_or(|before| **id < before));
            older
                .take(limit as usize + 1)
                .map(|(id, model)| StoredModel {
                    id: *id,
                    model: Arc::clone(model),
                })
                .collect()
        });
        Ok(page(rows.unwrap_or_default(), limit, |stored| stored.id))
    }

    async fn tuples(
        &self,
        store: StoreId,
        filter: &TupleFilter,
        after: Option<&TupleKey>,
        limit: u32,
        deadline: Instant,
    ) -> Result<Page<Tuple, TupleKey>> {
        let store = self.state(deadline)?.stores.get(&store).cloned();
        let rows = store.map(|store| {
            store
                .filtered(filter, after)
                .take(limit as usize + 1)
                .collect()
        });
        Ok(page(rows.unwrap_or_default(), limit, |tuple: &Tuple| {
            tuple.key.clone()
        }))
    }

    async fn tuple_changes(
        &self,
        store: StoreId,
        object_type: Option<&str>,
        since: Option<Timestamp>,
        after: Option<ChangeCursor>,
        limit: u32,
        deadline: Instant,
    ) -> Result<Vec<TupleChange>> {
        let log = self
            .state(deadline)?
            .live(store)
            .map(|store| store.log.clone())
            .unwrap_or_default();
        let from = after.map_or(Revision::ZERO, |after| after.revision);
        let recent = log
            .range(from..)
            .map(|(_, set)| set)
            .filter(|set| since.is_none_or(|since| set.committed_at >= since));
        let rows = recent.flat_map(|set| rows_of(set)).filter(|row| {
            after.is_none_or(|after| row.cursor > after)
                && object_type
                    .is_none_or(|object_type| row.tuple.key.object.object_type() == object_type)
        });
        Ok(rows.take(limit as usize).collect())
    }

    async fn oldest_change(
        &self,
        store: StoreId,
        deadline: Instant,
    ) -> Result<Option<(Revision, Timestamp)>> {
        let state = self.state(deadline)?;
        let oldest = state
            .stores
            .get(&store)
            .and_then(|store| store.log.get_min());
        Ok(oldest.map(|(revision, set)| (*revision, set.committed_at)))
    }

    async fn change_sets(
        &self,
        store: StoreId,
        after: Revision,
        limit: u32,
        deadline: Instant,
    ) -> Result<Vec<ChangeSet>> {
        let Some(store) = self.state(deadline)?.stores.get(&store).cloned() else {
            return Ok(Vec::new());
        };
        store.change_sets(after, limit)
    }

    async fn tiers(&self, store: StoreId, deadline: Instant) -> Result<Tiers> {
        Ok(self
            .state(deadline)?
            .stores
            .get(&store)
            .map(|store| store.tiers.clone())
            .unwrap_or_default())
    }

    async fn snapshot(
        &self,
        store: StoreId,
        deadline: Instant,
    ) -> Result<Option<Box<dyn Snapshot>>> {
        let store = self.state(deadline)?.stores.get(&store).cloned();
        Ok(store.map(|store| Box::new(MemorySnapshot { store, deadline }) as Box<dyn Snapshot>))
    }

    /// Nothing is scarce here.
    async fn bulk_snapshot(
        &self,
        store: StoreId,
        deadline: Instant,
    ) -> Result<Option<Box<dyn Snapshot>>> {
        self.snapshot(store, deadline).await
    }

    async fn outbox(&self, limit: u32, deadline: Instant) -> Result<Vec<OutboxRow>> {
        Ok(self.state(deadline)?.oldest_outbox(limit))
    }

    async fn outbox_delete(&self, sequences: &[u64], deadline: Instant) -> Result<()> {
        let mut state = self.state(deadline)?;
        for sequence in sequences {
            state.outbox.remove(sequence);
        }
        Ok(())
    }

    async fn acquire_lease(
        &self,
        name: &str,
        holder: &str,
        ttl: Duration,
        deadline: Instant,
    ) -> Result<bool> {
        Ok(self.state(deadline)?.acquire_lease(name, holder, ttl))
    }

    async fn trim_changes(&self, store: StoreId, upto: Revision, deadline: Instant) -> Result<()> {
        self.state(deadline)?.trim(store, upto);
        Ok(())
    }
}
