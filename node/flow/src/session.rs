//! Connections of the live channel, beside the flows of how they began.

use meridian_model::{StoreId, Timestamp};

use crate::flow::FlowId;
use crate::text::{self, bound};

/// Bytes of a session's id.
const ID: usize = 64;

/// A connection of the live channel. It is recorded when it begins, and again, with its end, when it is over; where one of the
/// two was dropped, the other is the whole of it. A node that died has ended none of its sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its name, which no other session has; at most 64 bytes of it are kept.
    pub id: String,
    /// The store (realm) it is of.
    pub store: StoreId,
    /// The flow by which it began. One that is not stored, or no longer, is left out.
    pub flow: Option<FlowId>,
    /// The node it is at.
    pub node: String,
    /// Whose it is.
    pub user: String,
    /// When it began.
    pub connected_at: Timestamp,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// The code that its socket was closed with.
    pub close_code: Option<u16>,
}

impl Session {
    /// Takes in what another record of the same session knows. What is known stays: an end is never taken away.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.flow = self.flow.or(other.flow);
        self.ended_at = self.ended_at.or(other.ended_at);
        self.close_code = self.close_code.or(other.close_code);
    }

    /// When it was last known of.
    pub(crate) fn last_at(&self) -> Timestamp {
        self.ended_at.unwrap_or(self.connected_at)
    }

    pub(crate) fn bound(&mut self) {
        bound(&mut self.id, ID);
        bound(&mut self.node, text::NAME);
        bound(&mut self.user, text::NAME);
    }

    /// How many bytes it takes in memory, once it is bounded.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.id.len() + self.node.len() + self.user.len()
    }
}
