//! The live channel's figures.

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

const CONNECTIONS: &str = "meridian_live_connections";
const SUBSCRIPTIONS: &str = "meridian_live_subscriptions";
const PAUSED: &str = "meridian_live_paused_subscriptions";
const RECORDS: &str = "meridian_live_records_total";
const DELIVERED: &str = "meridian_live_deliveries_total";
const MERGED: &str = "meridian_live_conflated_total";
const CLOSED: &str = "meridian_live_closed_total";
const ENDED: &str = "meridian_live_unsubscribed_total";
const ASKED: &str = "meridian_live_authority_calls_total";
const RECOVERIES: &str = "meridian_live_recoveries_total";
const REFUSED: &str = "meridian_live_refused_total";
const DELAY: &str = "meridian_live_review_seconds";

/// Why the authority is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Why {
    /// For a new subscription.
    Subscribe,
    /// What a subscription rests on changed.
    Touched,
    /// It is time again.
    Periodic,
}

pub(crate) struct Meters {
    pub(crate) connections: Gauge,
    pub(crate) subscriptions: Gauge,
    pub(crate) paused: Gauge,
    pub(crate) records: Counter,
    pub(crate) delivered: Counter,
    pub(crate) merged: Counter,
    /// From a subscription's doubt to its end or its going on.
    pub(crate) review: Histogram,
    asked: [Counter; 3],
    recovered: [Counter; 2],
}

impl Meters {
    pub(crate) fn new() -> Self {
        describe_gauge!(CONNECTIONS, "Open sockets of the live channel");
        describe_gauge!(SUBSCRIPTIONS, "Subscriptions of the live channel");
        describe_gauge!(
            PAUSED,
            "Subscriptions whose records are held back until their permission was checked again"
        );
        describe_counter!(RECORDS, "Records that the live channel has read");
        describe_counter!(DELIVERED, "Records handed to sockets, one for each client");
        describe_counter!(
            MERGED,
            "Records replaced by a later one before a client took them"
        );
        describe_counter!(CLOSED, "Sockets closed, by code");
        describe_counter!(ENDED, "Subscriptions ended, by reason");
        describe_counter!(
            ASKED,
            "Calls to the authority, each for many questions at once, by why it was asked"
        );
        describe_counter!(
            RECOVERIES,
            "Subscriptions that came with a position, by whether all that followed was there"
        );
        describe_counter!(
            REFUSED,
            "Connections refused before they were upgraded, by reason"
        );
        describe_histogram!(
            DELAY,
            Unit::Seconds,
            "Time for which a subscription's records were held back until its permission was checked again"
        );
        let asked = |why: &'static str| counter!(ASKED, "why" => why);
        let recovered = |whole: &'static str| counter!(RECOVERIES, "recovered" => whole);
        Self {
            connections: gauge!(CONNECTIONS),
            subscriptions: gauge!(SUBSCRIPTIONS),
            paused: gauge!(PAUSED),
            records: counter!(RECORDS),
            delivered: counter!(DELIVERED),
            merged: counter!(MERGED),
            review: histogram!(DELAY),
            asked: ["subscribe", "touched", "periodic"].map(asked),
            recovered: ["true", "false"].map(recovered),
        }
    }

    pub(crate) fn asked(&self, why: Why) {
        let [subscribe, touched, periodic] = &self.asked;
        let counter = match why {
            Why::Subscribe => subscribe,
            Why::Touched => touched,
            Why::Periodic => periodic,
        };
        counter.increment(1);
    }

    pub(crate) fn recovered(&self, whole: bool) {
        let [all, not_all] = &self.recovered;
        if whole { all } else { not_all }.increment(1);
    }

    pub(crate) fn closed(&self, code: u16) {
        counter!(CLOSED, "code" => code.to_string()).increment(1);
    }

    pub(crate) fn ended(&self, reason: &'static str) {
        counter!(ENDED, "reason" => reason).increment(1);
    }

    pub(crate) fn refused(&self, reason: &'static str) {
        counter!(REFUSED, "reason" => reason).increment(1);
    }
}
