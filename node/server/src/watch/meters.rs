//! The figures of `/watch`.

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

use super::frames::Reason;

const WATCHERS: &str = "meridian_watch_connections";
const CHANGES: &str = "meridian_watch_changes_total";
const DECISIONS: &str = "meridian_watch_decisions_total";
const LOST: &str = "meridian_watch_decisions_lost_total";
const RESETS: &str = "meridian_watch_resets_total";
const CLOSED: &str = "meridian_watch_closed_total";
const REFUSED: &str = "meridian_watch_refused_total";

pub(super) struct Meters {
    pub(super) watchers: Gauge,
    pub(super) changes: Counter,
    pub(super) decisions: Counter,
    pub(super) lost: Counter,
}

impl Meters {
    pub(super) fn new() -> Self {
        describe_gauge!(WATCHERS, "Open sockets of /watch");
        describe_counter!(CHANGES, "Revisions handed to watchers, one for each");
        describe_counter!(DECISIONS, "Decisions handed to watchers, one for each");
        describe_counter!(LOST, "Decisions that a watcher was too slow for");
        describe_counter!(
            RESETS,
            "Watchers who were told that what followed their position cannot be, by reason"
        );
        describe_counter!(CLOSED, "Sockets of /watch closed, by code");
        describe_counter!(
            REFUSED,
            "Connections to /watch refused before they were upgraded, by reason"
        );
        Self {
            watchers: gauge!(WATCHERS),
            changes: counter!(CHANGES),
            decisions: counter!(DECISIONS),
            lost: counter!(LOST),
        }
    }

    pub(super) fn reset(&self, reason: Reason) {
        counter!(RESETS, "reason" => reason.name()).increment(1);
    }

    pub(super) fn closed(&self, code: u16) {
        counter!(CLOSED, "code" => code.to_string()).increment(1);
    }

    pub(super) fn refused(&self, reason: &'static str) {
        counter!(REFUSED, "reason" => reason).increment(1);
    }
}
