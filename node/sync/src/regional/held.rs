//! Heartbeats that wait for what they vouch for.

use std::collections::BTreeMap;
use std::time::Duration;

use meridian_model::ids::{Epoch, Position, StoreId};

use crate::envelope::Heartbeat;
use crate::freshness::Freshness;

/// By which way a heartbeat came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// In that partition of the topic.
    Partition(usize),
    /// By upstream's answer.
    Upstream,
}

/// A heartbeat and when it was received, on this node's monotonic clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Received {
    pub(super) beat: Heartbeat,
    pub(super) at: Duration,
}

impl Received {
    /// Everything it vouches for is in.
    fn tell(self, way: Way, freshness: &mut Freshness) {
        match way {
            Way::Partition(partition) => freshness.beat(partition, self.beat, self.at),
            Way::Upstream => freshness.upstream(self.beat, Duration::ZERO, self.at),
        }
    }
}

/// One heartbeat by each way, at most: the oldest, which is let go first.
#[derive(Debug, Default)]
pub(super) struct Held(BTreeMap<Way, (Received, BTreeMap<StoreId, Position>)>);

impl Held {
    /// Takes a heartbeat in that vouches for `missing`. While one waits by the same way, later ones are left: they vouch for
    /// that and more.
    pub(super) fn hold(
        &mut self,
        way: Way,
        received: Received,
        missing: impl IntoIterator<Item = (StoreId, Position)>,
    ) {
        self.0
            .entry(way)
            .or_insert_with(|| (received, missing.into_iter().collect()));
    }

    /// The store has come as far as `position`.
    pub(super) fn reached(&mut self, store: StoreId, position: Position) {
        for (_, missing) in self.0.values_mut() {
            if missing.get(&store).is_some_and(|min| *min <= position) {
                missing.remove(&store);
            }
        }
    }

    /// Lets go of those that miss nothing any more; whether there was one.
    pub(super) fn let_go(&mut self, freshness: &mut Freshness) -> bool {
        let before = self.0.len();
        self.0.retain(|way, (received, missing)| {
            if missing.is_empty() {
                received.tell(*way, freshness);
            }
            !missing.is_empty()
        });
        self.0.len() < before
    }

    /// Forgets what came by a way.
    pub(super) fn forget(&mut self, way: Way) {
        self.0.remove(&way);
    }

    /// Forgets what came by the topic, which is read anew.
    pub(super) fn forget_topic(&mut self) {
        self.0.retain(|way, _| *way == Way::Upstream);
    }

    /// Forgets what is of an older reign.
    pub(super) fn forget_before(&mut self, epoch: Epoch) {
        self.0
            .retain(|_, (received, _)| received.beat.epoch >= epoch);
    }
}
