//! The highest position that a node has returned or passed through, for each store.
//!
//! What keeps a client's answers from going back in time, and lets it read its own writes at the node it wrote through
//! without any header: whatever the node answers later is at its floor or above.

use dashmap::DashMap;
use meridian_model::{Position, StoreId};

use crate::calls::{Answer, Context};

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

    /// Lifts a store's floor to where an answer holds.
    pub fn lift_to<T>(&self, store: Option<StoreId>, answer: &Answer<T>) {
        let position = answer.as_ref().ok().and_then(|reply| reply.position);
        if let (Some(store), Some(position)) = (store, position) {
            self.lift(store, position);
        }
    }

    /// A call's context, asking for the store's floor or later.
    pub fn or_later(&self, cx: &Context, store: Option<StoreId>) -> Context {
        let floor = store
            .map(|store| self.get(store))
            .filter(|floor| *floor != Position::default());
        Context {
            min_position: cx.min_position.max(floor),
            ..cx.clone()
        }
    }
}
