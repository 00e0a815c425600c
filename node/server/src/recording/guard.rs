//! What stands between requests and the recorder. Somebody who is not let in can name any store, come from many addresses and
//! go on for as long as it likes. What is recorded of such requests is bounded by a rate, once of an address and code in an
//! interval; and nothing at all is recorded of stores that do not exist.

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_flow::{Flow, FlowRecorder, FlowStatus, Recorded};
use meridian_model::StoreId;
use metrics::{counter, describe_counter};

use super::late::Late;
use super::stores::{ByCalls, For, Looks, Rate, Stores};
use super::{Steps, after, micros};
use crate::calls::Calls;
use crate::lookup::Found;

const LEFT_OUT: &str = "meridian_flow_left_out_total";
/// How many refused callers are recorded: so many at once, and then one in each interval.
const REFUSALS: (Duration, u32) = (Duration::from_secs(1), 60);

/// Lets flows through to a recorder.
pub(crate) struct Guard {
    recorder: FlowRecorder,
    /// Who was recorded of late.
    late: Late,
    refusals: Rate,
    stores: Stores,
}

impl Guard {
    /// Before `recorder`, of the stores that `calls` finds, of none without. The same caller passes once in each `interval`.
    pub(crate) fn new(
        recorder: FlowRecorder,
        calls: Option<Arc<dyn Calls>>,
        interval: Duration,
    ) -> Self {
        describe_counter!(
            LEFT_OUT,
            "Flows that were not recorded, for their store is not known or too many callers were refused, by reason"
        );
        Self {
            recorder,
            late: Late::new(interval),
            refusals: Rate::new(REFUSALS),
            stores: Stores::new(calls.map(|calls| Arc::new(ByCalls(calls)) as Arc<dyn Looks>)),
        }
    }

    /// What flows that are let through are told to.
    pub(crate) fn recorder(&self) -> &FlowRecorder {
        &self.recorder
    }

    /// There is such a store.
    pub(crate) fn note(&self, store: StoreId) {
        self.stores.note(store);
    }

    /// There is no such store any more.
    pub(crate) fn forget(&self, store: StoreId) {
        self.stores.forget(store);
    }

    /// Whether anything is recorded of somebody who was let in: not of a store that does not exist. One of which nobody can
    /// say that now, while what is above is away, is taken for one that does.
    pub(crate) async fn lets_in(&self, store: StoreId) -> bool {
        let is_let_in = self.stores.find(store, For::Admitted).await != Found::Missing;
        if !is_let_in {
            counter!(LEFT_OUT, "reason" => "store").increment(1);
        }
        is_let_in
    }

    /// A caller who was let in, for the time that it took to find out who it is: `who` from `address`, unless that was recorded of
    /// late.
    pub(crate) fn admitted(
        self: &Arc<Self>,
        (store, address): (StoreId, Option<IpAddr>),
        who: &impl Hash,
        took: Duration,
        begun: impl FnOnce() -> Flow,
    ) {
        let key = self.late.key(&(store, address, who));
        if !self.late.was(&key) {
            self.shown(begun(), took, Ok(()), key);
        }
    }

    /// A caller who was not let in, and why.
    pub(crate) fn refused(
        self: &Arc<Self>,
        begun: Flow,
        took: Duration,
        (code, message): (&str, &str),
    ) {
        // Whoever guesses shows something else each time, and may name another store.
        let key = self.late.key(&("refused", begun.ip, code));
        if self.late.was(&key) {
            return;
        }
        if self.refusals.take(Instant::now()) {
            self.shown(begun, took, Err((code, message)), key);
        } else {
            self.leave_out("refusals", Some(key));
        }
    }

    fn shown(
        self: &Arc<Self>,
        begun: Flow,
        took: Duration,
        result: Result<(), (&str, &str)>,
        key: u64,
    ) {
        let flow = Flow {
            status: match result {
                Ok(()) => FlowStatus::Success,
                Err(_) => FlowStatus::Failure,
            },
            completed_at: Some(after(begun.started_at, took)),
            duration_micros: Some(micros(took)),
            ..begun
        };
        let mut steps = Steps::of(&flow);
        steps.add("authenticate", took, took);
        if let Err((code, message)) = result {
            steps.fail(code, message);
        }
        let steps = steps.into_all();
        let whose = match result {
            Ok(()) => For::Admitted,
            Err(_) => For::Anyone,
        };
        self.pass(Recorded { flow, steps }, Some(key), whose);
    }

    /// Hands a flow of somebody who was let in over, if there is such a store. Nobody waits for that to be known.
    pub(crate) fn keep(self: &Arc<Self>, recorded: Recorded) {
        self.pass(recorded, None, For::Admitted);
    }

    /// What is known of late by `key` is forgotten if nothing comes of it.
    fn pass(self: &Arc<Self>, recorded: Recorded, key: Option<u64>, whose: For) {
        let store = recorded.flow.store;
        if self.stores.knows(store) {
            return self.hand_over(recorded, key);
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return self.leave_out("store", key);
        };
        let this = Arc::clone(self);
        runtime.spawn(async move {
            match (this.stores.find(store, whose).await, whose) {
                (Found::There, _) | (Found::Unknown, For::Admitted) => {
                    this.hand_over(recorded, key);
                }
                (Found::Missing | Found::Unknown, _) => this.leave_out("store", key),
            }
        });
    }

    fn hand_over(&self, recorded: Recorded, key: Option<u64>) {
        if !self.recorder.record_flow(recorded) {
            key.into_iter().for_each(|key| self.late.forget(&key));
        }
    }

    fn leave_out(&self, reason: &'static str, key: Option<u64>) {
        counter!(LEFT_OUT, "reason" => reason).increment(1);
        key.into_iter().for_each(|key| self.late.forget(&key));
    }
}
