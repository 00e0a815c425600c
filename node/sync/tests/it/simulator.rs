//! A deterministic simulation of the pure part of replication: a central log, a regional copy and an edge, and between
//! them a network that drops, repeats, reorders, delays and parts, and nodes that crash, and somebody who writes to the topics what
//! never was. After every step the
//! invariants are checked against what central's tuples were at each position:
//!
//! - whatever type a view covers, it holds exactly central's tuples of it at the view's position, and its models and tiers;
//! - whatever the evaluator decides over it is what it decides over all of central's tuples at that position;
//! - within an epoch, what an edge publishes never goes back;
//! - what is said to be so old was true so long ago, and nothing older than the limit is served;
//! - an answer kept from upstream is true of the view's position as long as it is used;
//! - what only a topic speaks of empties no edge;
//! - once the network heals, every node comes to central's state.
//!
//! Eight bugs are planted between the network and the machine (never in it), and each must be caught.

mod bug;
mod history;
mod link;
mod random;
mod reader;
mod region;
mod world;

use bug::Bug;
use world::{Faults, simulate};

const STEPS: usize = 240;

#[test]
fn a_thousand_histories_converge_and_no_answer_is_ever_wrong() {
    let mut total = Faults::default();
    for seed in 0..1000 {
        match simulate(seed, STEPS, None) {
            Ok(faults) => total.add(&faults),
            Err(violation) => panic!("seed {seed}: {violation}"),
        }
    }
    println!("1000 seeds of {STEPS} steps each; made and met:\n{total}");
    total.assert_all_happened();
}

fn caught(bug: Bug) -> String {
    (0..300)
        .find_map(|seed| simulate(seed, STEPS, Some(bug)).err())
        .unwrap_or_else(|| panic!("{bug:?} went unnoticed"))
}

#[test]
fn an_ignored_gap_is_caught() {
    caught(Bug::GapIgnored);
}

#[test]
fn data_evicted_before_coverage_shrinks_is_caught() {
    caught(Bug::DataBeforeCoverage);
}

#[test]
fn a_half_applied_revision_is_caught() {
    caught(Bug::HalfApplied);
}

#[test]
fn an_accepted_older_epoch_is_caught() {
    caught(Bug::OlderEpochAccepted);
}

#[test]
fn an_ignored_touch_is_caught() {
    let violation = caught(Bug::TouchedIgnored);
    assert!(violation.contains("no longer true"), "{violation}");
}

#[test]
fn an_ignored_lag_is_caught() {
    let violation = caught(Bug::LagIgnored);
    assert!(violation.contains("is said to be"), "{violation}");
}

#[test]
fn a_trusted_reign_that_never_was_is_caught() {
    caught(Bug::TopicReignTrusted);
}

#[test]
fn a_trusted_stale_heartbeat_is_caught() {
    let violation = caught(Bug::StaleHeartbeatTrusted);
    assert!(violation.contains("is said to be"), "{violation}");
}
