//! What a node keeps of its stores is bounded, and what it has forgotten it does not claim to know.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use meridian_model::StoreId;

use super::{Hub, lock};
use crate::room::Room;

impl Hub {
    /// Forgets a store that there is nothing of.
    pub(super) fn free(&self, store: StoreId) {
        // Whoever subscribes in stores that are none must leave nothing behind. A room that somebody else has in hand stays.
        self.rooms.remove_if(&store, |_, room| {
            // Nor is it waited for: the map stands still meanwhile.
            if Arc::strong_count(room) > 1 {
                return false;
            }
            let room = lock(room);
            let is_free = room.is_empty() && room.history.is_empty();
            if is_free {
                // What it has forgotten is not known of whoever comes back, either.
                for (from, left_out) in self.seen().from.iter_mut().zip(room.history.whole_from()) {
                    *from = (*from).max(*left_out);
                }
            }
            is_free
        });
    }

    /// Forgets what was read before, and the stores of which nothing is left.
    pub(crate) fn expire(&self, before: Instant) {
        for (store, room) in self.rooms_by_store() {
            self.changed(&mut lock(&room), |room| room.history.expire(before));
            drop(room);
            self.free(store);
        }
    }

    /// Forgets the records of a store, which is not there any longer.
    pub fn forget(&self, store: StoreId) {
        if let Some(room) = self.there(store) {
            self.changed(&mut lock(&room), |room| room.history.clear());
        }
        self.free(store);
    }

    /// Forgets what was said in the stores that have been silent the longest, until there is some room.
    pub(super) fn shrink(&self) {
        let enough = self.limits.history_total_bytes / 8 * 7;
        let mut rooms = self.rooms_by_store();
        rooms.sort_by_cached_key(|(_, room)| lock(room).history.newest());
        for (store, room) in rooms {
            if self.kept.load(Ordering::Relaxed) <= enough {
                return;
            }
            self.changed(&mut lock(&room), |room| room.history.clear());
            drop(room);
            self.free(store);
        }
    }

    /// Does what may change how much is kept of a store.
    pub(super) fn changed<T>(&self, room: &mut Room, change: impl FnOnce(&mut Room) -> T) -> T {
        let before = room.history.bytes();
        let done = change(room);
        self.kept.fetch_add(room.history.bytes(), Ordering::Relaxed);
        self.kept.fetch_sub(before, Ordering::Relaxed);
        done
    }
}

#[cfg(test)]
mod tests;
