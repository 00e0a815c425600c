//! What goes into the machine and what comes out.

use meridian_engine::View;
use meridian_model::change::ChangeSet;
use meridian_model::ids::{Epoch, Position, StoreId};
use meridian_model::ports::StoreHead;
use meridian_model::tuple::Tuple;

use crate::retry::Patience;
use crate::upstream::{Changes, UpstreamError};

/// What the machine keeps at most, and how long it waits.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Change sets of one store kept for later while earlier ones or a fill are missing, unless the stores' together weigh
    /// too much before. What does not fit is asked for again.
    pub set_aside: usize,
    /// Waiting times.
    pub patience: Patience,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            set_aside: 4096,
            patience: Patience::default(),
        }
    }
}

/// What happened outside.
#[derive(Debug)]
pub enum Input {
    /// A change set arrived from the topic.
    Record(ChangeSet),
    /// A change set exists that the topic does not carry, or has not brought yet.
    Announced(StoreId, Position),
    /// Some other sign (a heartbeat) of the writer's reign in the topic.
    Reign(Epoch),
    /// Records may have been missed without a trace: the topic was (re)assigned, or held something unreadable.
    Reset,
    /// The answer to [`Command::AskPositions`] with the same ticket.
    Positions {
        /// The command's.
        ticket: u64,
        /// The writer's reign, as far as upstream knows it.
        epoch: Option<Epoch>,
        /// Where every store stands upstream.
        stores: Vec<(StoreId, Position)>,
    },
    /// [`Command::AskPositions`] was not answered.
    PositionsFailed,
    /// The answer to [`Command::AskChanges`].
    Changes(StoreId, Changes),
    /// The answer to [`Command::AskHead`].
    Head(StoreHead),
    /// The answer to [`Command::AskFill`].
    Filled {
        /// The store.
        store: StoreId,
        /// The type.
        object_type: String,
        /// The position all of `tuples` are of.
        position: Position,
        /// Every tuple of the type.
        tuples: Vec<Tuple>,
    },
    /// An ask about a store was not answered.
    Failed(Ask, UpstreamError),
}

/// A question about a store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ask {
    /// For its change sets.
    Changes(StoreId),
    /// For its head.
    Head(StoreId),
    /// For all tuples of a type.
    Fill(StoreId, String),
}

/// What the machine wants done.
pub enum Command {
    /// Ask upstream where every store stands.
    AskPositions {
        /// To be handed back with the answer.
        ticket: u64,
    },
    /// Ask upstream for change sets from behind `after`, thinned out for an edge.
    AskChanges {
        /// The store.
        store: StoreId,
        /// The replica's own position.
        after: Position,
    },
    /// Ask upstream for a store without its tuples, at `min` or later.
    AskHead {
        /// The store.
        store: StoreId,
        /// The earliest position of use.
        min: Position,
    },
    /// Ask upstream for all tuples of a type, at `min` or later.
    AskFill {
        /// The store.
        store: StoreId,
        /// The type.
        object_type: String,
        /// The earliest position of use.
        min: Position,
    },
    /// Show a store's new view to readers, in one step.
    Publish(Publish),
    /// Nothing of the store is held any longer: no view and no kept answer may be used.
    Drop(StoreId),
}

/// A store's new view.
pub struct Publish {
    /// The store.
    pub store: StoreId,
    /// The view.
    pub view: View,
    /// Which kept answers it ends.
    pub touched: Touched,
    /// Whether a later revision is known to exist, or records may have been missed: heartbeats that arrive now do not
    /// prove that this store is fresh.
    pub lagging: bool,
}

/// Which kept answers end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// Those that were true at a position before one of these and rest on one of its hashes.
    Sets(Vec<(Position, Vec<u64>)>),
    /// All of the store.
    All,
}
