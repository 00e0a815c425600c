//! The highest position that a node has returned or passed through, for each store.
//!
//! What keeps a client's answers from going back in time, and lets it read its own writes at the node it wrote through
//! without any header: whatever the node answers later is at its floor or above.

use dashmap::DashMap;
use meridian_model::{Position, StoreId};

/// The floors of a node.
#[derive(Debug, Default)]
pub struct Floors(DashMap<StoreId, Position>);

impl Floors {
    /// The floor of a store; the zero position when nothing was returned yet.
    pub fn get(&self, store: StoreId) -> Position {
        self.0
            .get(&store)
            .map_or_else(Position::default, |floor| *floor)
    }

    /// Lifts a store's floor; never lowers it.
    pub fn lift(&self, store: StoreId, position: Position) {
        // Almost always nothing to lift: look before taking the shard for writing.
        if self.get(store) < position {
            let mut floor = self.0.entry(store).or_default();
            *floor = (*floor).max(position);
        }
    }
}
