//! Bugs as they could be written, planted around the machine: what reaches it and what it says is bent so that the whole
//! behaves as if the machine had them.

use std::collections::BTreeMap;

use meridian_engine::View;
use meridian_model::ids::{Revision, StoreId};
use meridian_sync::edge::{Input, Publish};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A change set is applied although revisions before it are missing.
    GapIgnored,
    /// A type's data are freed first, its coverage taken back after.
    DataBeforeCoverage,
    /// The position moves on when half of a revision is in.
    HalfApplied,
    /// A change set of a reign that is over is applied.
    OlderEpochAccepted,
    /// A kept answer is used although what it rests on was touched.
    TouchedIgnored,
    /// Heartbeats make a store look fresh of which changes are missing.
    LagIgnored,
    /// A reign is believed in that only the topic speaks of.
    TopicReignTrusted,
    /// A heartbeat counts as of when it arrives.
    StaleHeartbeatTrusted,
}

/// Bends what reaches the machine.
pub(crate) fn bend(
    bug: Option<Bug>,
    published: &BTreeMap<StoreId, View>,
    mut input: Input,
) -> Input {
    if let (Some(Bug::TopicReignTrusted), Input::Reign(epoch)) = (bug, &input) {
        return Input::Positions {
            ticket: u64::MAX,
            epoch: Some(*epoch),
            stores: Vec::new(),
        };
    }
    let Input::Record(set) = &mut input else {
        return input;
    };
    let Some(have) = published.get(&set.store).map(View::position) else {
        return input;
    };
    match bug {
        Some(Bug::GapIgnored) if set.epoch == have.epoch && set.revision > have.revision => {
            set.revision = have.revision.next()
        }
        Some(Bug::HalfApplied) => set.changes.truncate(set.changes.len().div_ceil(2)),
        Some(Bug::OlderEpochAccepted) if set.epoch < have.epoch => {
            (set.epoch, set.revision) = (have.epoch, Revision(have.revision.0 + 1));
        }
        _ => {}
    }
    input
}

/// The views that readers get to see for one publication, one after the other.
pub(crate) fn stages(bug: Option<Bug>, before: Option<&View>, publish: &Publish) -> Vec<View> {
    let mut stages = vec![publish.view.clone()];
    if let (Some(Bug::DataBeforeCoverage), Some(before)) = (bug, before) {
        let evicted: Vec<_> = before
            .covered_types()
            .filter(|name| !publish.view.is_covered(name))
            .collect();
        if !evicted.is_empty() {
            stages.insert(
                0,
                evicted
                    .iter()
                    .fold(before.clone(), |view, name| view.cover(name, [])),
            );
        }
    }
    stages
}
