//! What an answer from above says of where it comes from.

use meridian_model::{ModelId, Position};
use meridian_proto::meridian::v1 as wire;
use meridian_sync::envelope::position_from_wire;

use super::api::{api_error, unreadable};
use crate::calls::{Answer, Refusal, Reply, ServedBy};
use crate::routing::batch::Standing;

/// As far as it says so: the store's position, the model, and the node.
pub(super) struct Origin {
    pub(super) position: Option<Position>,
    pub(super) model: Option<ModelId>,
    pub(super) served_by: Option<ServedBy>,
}

impl Origin {
    pub(super) fn new(
        position: Option<wire::Position>,
        model: Option<ModelId>,
        served_by: &str,
    ) -> Self {
        Self {
            position: position.map(position_from_wire),
            model,
            served_by: ServedBy::new(served_by).ok(),
        }
    }

    /// The refusal that the answer is.
    pub(super) fn refused(self, error: wire::NodeError) -> Refusal {
        Refusal {
            error: api_error(error),
            position: self.position,
            model: self.model.map(Box::new),
            served_by: self.served_by,
        }
    }

    /// All three, without which a decision is none. `what` is the answer's name.
    pub(super) fn whole(self, what: &str) -> Result<Standing, Refusal> {
        match (self.position, self.model, self.served_by) {
            (Some(position), Some(model), Some(served_by)) => Ok(Standing {
                position,
                model,
                served_by,
            }),
            _ => Err(unreadable(&format!("{what} without position, model or node")).into()),
        }
    }

    /// An answer with that body; whose node is unknown is none. `what` is the answer's name.
    pub(super) fn reply<T>(self, body: T, truncated: bool, what: &str) -> Answer<T> {
        let served_by = self.served_by;
        Ok(Reply {
            body,
            position: self.position,
            model: self.model,
            served_by: served_by.ok_or_else(|| unreadable(&format!("{what} without a node")))?,
            truncated,
        })
    }
}
