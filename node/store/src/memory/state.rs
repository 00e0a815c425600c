//! What the datastore holds: stores, outbox, leases.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use meridian_model::change::{Change, ChangeSet, Tiers};
use meridian_model::ids::{Position, Revision, StoreId, Timestamp};
use meridian_model::ports::{Committed, OUTBOX_BYTES, OutboxRow};

use super::store::Store;

#[derive(Default)]
pub(super) struct State {
    pub(super) stores: BTreeMap<StoreId, Store>,
    pub(super) outbox: BTreeMap<u64, (Arc<ChangeSet>, Tiers)>,
    pub(super) last_sequence: u64,
    pub(super) generation: u64,
    pub(super) leases: BTreeMap<String, (String, Timestamp)>,
}

impl State {
    /// A store that exists and was not deleted.
    pub(super) fn live(&self, id: StoreId) -> Option<&Store> {
        self.stores
            .get(&id)
            .filter(|store| store.deleted_at.is_none())
    }

    /// Commits changes as the next revision of a store that is there.
    pub(super) fn revise(
        &mut self,
        store: StoreId,
        position: Position,
        at: Timestamp,
        changes: Vec<Change>,
    ) -> Committed {
        self.commit(change_set(store, position, at, changes), || None);
        Committed { position, at }
    }

    /// Takes a change set in: data, changelog and outbox.
    pub(super) fn commit(&mut self, change_set: ChangeSet, new: impl FnOnce() -> Option<Store>) {
        let change_set = Arc::new(change_set);
        if !self.stores.contains_key(&change_set.store)
            && let Some(store) = new()
        {
            self.stores.insert(change_set.store, store);
        }
        let Some(store) = self.stores.get_mut(&change_set.store) else {
            return;
        };
        store.apply(Arc::clone(&change_set));
        self.last_sequence += 1;
        self.outbox
            .insert(self.last_sequence, (change_set, store.tiers.clone()));
    }

    /// See [`meridian_model::ports::Datastore::outbox`].
    pub(super) fn oldest_outbox(&self, limit: u32) -> Vec<OutboxRow> {
        let mut bytes = 0;
        let fits = |(_, (set, _)): &(_, &(Arc<ChangeSet>, _))| {
            let fits = bytes < OUTBOX_BYTES;
            bytes += set.weight();
            fits
        };
        let rows = self.outbox.iter().take(limit as usize).take_while(fits);
        rows.map(|(sequence, (set, tiers))| OutboxRow {
            sequence: *sequence,
            change_set: ChangeSet::clone(set),
            tiers: tiers.clone(),
        })
        .collect()
    }

    /// See [`meridian_model::ports::Datastore::acquire_lease`].
    pub(super) fn acquire_lease(&mut self, name: &str, holder: &str, ttl: Duration) -> bool {
        let now = system_time();
        let is_taken = |(held_by, until): &(String, Timestamp)| held_by != holder && *until > now;
        if self.leases.get(name).is_some_and(is_taken) {
            return false;
        }
        let ttl = i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX);
        let until = Timestamp(now.0.saturating_add(ttl));
        self.leases
            .insert(name.to_owned(), (holder.to_owned(), until));
        true
    }

    /// Forgets a store's changes up to `upto` but for what is not published yet.
    pub(super) fn trim(&mut self, store: StoreId, upto: Revision) {
        let waiting = self.outbox.values().map(|(set, _)| set);
        let waiting = waiting.filter(|set| set.store == store);
        let unpublished = waiting.map(|set| set.revision).min();
        if let Some(store) = self.stores.get_mut(&store) {
            let first_kept =
                unpublished.map_or(upto.next(), |unpublished| unpublished.min(upto.next()));
            store.trim(first_kept);
        }
    }
}

pub(super) fn change_set(
    store: StoreId,
    position: Position,
    committed_at: Timestamp,
    changes: Vec<Change>,
) -> ChangeSet {
    ChangeSet {
        store,
        epoch: position.epoch,
        revision: position.revision,
        committed_at,
        changes,
        touched: Vec::new(),
    }
}

pub(super) fn system_time() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
