//! What is held of a store.

use std::time::Duration;

use meridian_model::ids::{Epoch, Position};

use super::loading::Loading;
use super::replica::Replica;

pub(super) enum Slot {
    Loading(Loading),
    Live(Box<Replica>),
    Deleted(Position),
}

impl Slot {
    pub(super) fn epoch(&self) -> Epoch {
        match self {
            Self::Loading(loading) => loading.min.epoch,
            Self::Live(replica) => replica.view().position().epoch,
            Self::Deleted(position) => position.epoch,
        }
    }

    pub(super) fn due(&self) -> Option<Duration> {
        match self {
            Self::Loading(loading) => Some(loading.ask.due()),
            Self::Live(replica) => replica.due(),
            Self::Deleted(_) => None,
        }
    }
}
