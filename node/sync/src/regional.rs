//! The regional node's applier: from the full topic into its own datastore, each revision once and in order.
//!
//! A gap is repaired from upstream: by its change sets, or by a snapshot when it no longer keeps them or a newer reign
//! began. Repairs run beside the topic, so a store that cannot be repaired, or is long in coming, holds up no other; what
//! the topic brings of it meanwhile is set aside and follows. A heartbeat waits for what was missing when it came, which it
//! vouches for, and for nothing that came later.

mod applier;
mod held;
mod refused;
mod repairs;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use meridian_model::change::ChangeSet;
use meridian_model::ids::{Epoch, Position, Revision, StoreId};
use meridian_model::ports::{Applied, DatastoreError};
use meridian_model::watermark::{Admit, admit};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::envelope::{Heartbeat, Record};
use crate::freshness::Freshness;
use crate::kafka::broadcast::Event;
use crate::kafka::group::GroupConsumer;
use crate::retry::{Patience, Said};
use applier::Comparison;
pub use applier::{Applier, ApplyError};
use held::{Held, Received, Way};
use refused::Refused;
use repairs::Repairs;

/// How many events are worked in at a time if they are there already, and so how many change sets are applied in one
/// transaction.
const AT_ONCE: usize = 32;
/// How many stores are repaired at a time.
const REPAIRS: usize = 2;

/// Times and sizes.
#[derive(Debug, Clone)]
pub struct RegionalSettings {
    /// How long one call to the datastore or upstream may take; of a store taken over from a snapshot, how long each chunk
    /// may.
    pub deadline: Duration,
    /// How many change sets are asked for at a time.
    pub page: u32,
    /// After so long without a heartbeat upstream is asked instead.
    pub silence: Duration,
    /// Pauses after failures.
    pub patience: Patience,
}

impl Default for RegionalSettings {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            page: 500,
            silence: Duration::from_secs(3),
            patience: Patience::default(),
        }
    }
}

/// The applier's task, and what it tells others.
pub struct Regional {
    /// Applies.
    pub applier: Applier,
    /// Told after each applied change set: wakes the edge relay.
    pub applied: Arc<Notify>,
    /// Told the heartbeat that everything before has been applied: what the edge relay passes on.
    pub heartbeat: watch::Sender<Option<Heartbeat>>,
    /// Told how fresh this node is. Its monotonic clock counts from `start`.
    pub freshness: watch::Sender<Freshness>,
    /// The start of this node's monotonic clock.
    pub start: Instant,
}

impl Regional {
    /// Applies what the consumer brings until `stop`. Whatever fails is logged and tried again.
    pub async fn run(self, mut consumer: GroupConsumer, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.work(&mut consumer) => {}
        }
        consumer.leave().await;
    }

    async fn work(self, consumer: &mut GroupConsumer) {
        let mut poll = tokio::time::interval(self.applier.settings.silence / 3);
        let mut task = Task::new(self);
        loop {
            tokio::select! {
                event = consumer.next() => {
                    let mut events = vec![event];
                    while events.len() < AT_ONCE
                        && let Some(event) = consumer.next().now_or_never()
                    {
                        events.push(event);
                    }
                    task.work_in(events).await;
                    consumer.done();
                }
                Some(ended) = task.beside.join_next() => task.ended(ended).await,
                _ = poll.tick() => task.look_up(),
            }
            task.repair();
        }
    }
}

/// What ran beside the topic.
enum Ended {
    /// A comparison with upstream, asked for at that moment.
    Compared(Duration, Result<Comparison, ApplyError>),
    /// A store's repair, how far it was to come, and how far it came.
    Repaired(StoreId, Position, Result<Position, ApplyError>),
}

struct Task {
    node: Regional,
    beside: JoinSet<Ended>,
    repairs: Repairs,
    /// What the topic brought last, of one store and each the next of the one before: to be applied together.
    ready: Vec<ChangeSet>,
    epoch: Epoch,
    /// Upstream must be compared with, for what was missed without a trace.
    compare: bool,
    /// A comparison runs; and whether for what may have been missed, not just for the broker's silence.
    comparing: Option<bool>,
    failures: u32,
    /// Why no comparison could be made last.
    said: Said,
    refused: Refused,
    /// No comparison before then.
    not_before: Duration,
    /// What the topic brought last of each store since the comparison that runs was asked for.
    brought: BTreeMap<StoreId, Position>,
    held: Held,
}

impl Task {
    fn new(node: Regional) -> Self {
        Self {
            repairs: Repairs::new(node.applier.settings.patience),
            node,
            beside: JoinSet::new(),
            ready: Vec::new(),
            epoch: Epoch(0),
            compare: true,
            comparing: None,
            failures: 0,
            said: Said::default(),
            refused: Refused::default(),
            not_before: Duration::ZERO,
            brought: BTreeMap::new(),
            held: Held::default(),
        }
    }

    fn now(&self) -> Duration {
        self.node.start.elapsed()
    }

    async fn work_in(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            match event {
                Event::Record { partition, record } => match *record {
                    Record::ChangeSet(set) if self.is_next(&set) => self.ready.push(set),
                    record => {
                        self.apply_ready().await;
                        self.take(partition, record);
                    }
                },
                Event::Garbage => self.compare = true,
                Event::Reset { partitions } => {
                    self.apply_ready().await;
                    self.compare = true;
                    self.brought.clear();
                    self.held.forget_topic();
                    self.node
                        .freshness
                        .send_modify(|freshness| freshness.assign(partitions));
                }
            }
        }
        self.apply_ready().await;
    }

    /// Whether a change set follows on what is ready.
    fn is_next(&self, set: &ChangeSet) -> bool {
        self.ready.last().is_some_and(|last| {
            last.store == set.store && admit(last.position(), set.position()) == Admit::Apply
        })
    }

    async fn apply_ready(&mut self) {
        let ready = mem::take(&mut self.ready);
        self.apply(&ready).await;
        self.pass_on();
    }

    /// Takes a record in, unless it is of an older reign than is known: of a store that this reign does not have, no
    /// position here would refuse it. That there is a newer reign is upstream's to say: anyone might have written the
    /// record.
    fn take(&mut self, partition: usize, record: Record) {
        let (store, epoch) = match &record {
            Record::ChangeSet(set) => (Some(set.store), set.epoch),
            Record::Announced { store, position } => (Some(*store), position.epoch),
            Record::Heartbeat(beat) => (None, beat.epoch),
        };
        if epoch < self.epoch {
            self.refused.note(store, epoch, self.epoch);
            return;
        }
        self.compare |= epoch > self.epoch;
        match record {
            // No position here would refuse the creation of a store in a reign that never was.
            Record::ChangeSet(set)
                if epoch > self.epoch
                    && (set.revision == Revision(1) || self.repairs.has(set.store)) =>
            {
                self.repairs.need(set.store, set.position(), self.now());
            }
            Record::ChangeSet(set) => self.ready.extend(self.repairs.set_aside(set)),
            Record::Announced { store, position } => {
                self.repairs.need(store, position, self.now());
            }
            Record::Heartbeat(beat) => {
                let doubt = self.compare || self.comparing == Some(true);
                if !doubt {
                    let (way, at) = (Way::Partition(partition), self.now());
                    self.held
                        .hold(way, Received { beat, at }, self.repairs.targets());
                }
            }
        }
        self.pass_on();
    }

    /// Passes the heartbeats on that wait for nothing any more.
    fn pass_on(&mut self) {
        let Self { node, held, .. } = self;
        let let_go = node
            .freshness
            .send_if_modified(|freshness| held.let_go(freshness));
        if !let_go {
            return;
        }
        let applied = self.node.freshness.borrow().heartbeat();
        self.node
            .heartbeat
            .send_replace(applied.map(|(beat, _)| beat));
    }

    /// A newer reign concerns every store, also those of which no record comes.
    fn note_epoch(&mut self, epoch: Epoch) {
        if epoch > self.epoch {
            self.compare |= self.epoch != Epoch(0);
            self.epoch = epoch;
            self.repairs.enter_reign();
            self.held.forget_before(epoch);
        }
    }

    /// Applies change sets of one store, each the next of the one before, waiting out a datastore that is away.
    async fn apply(&mut self, sets: &[ChangeSet]) {
        let Some(last) = sets.last() else {
            return;
        };
        let (store, position) = (last.store, last.position());
        let (mut failures, mut said) = (0_u32, Said::default());
        loop {
            match self.node.applier.apply(sets).await {
                Ok(Applied::Applied | Applied::Skipped) => {
                    self.held.reached(store, position);
                    if self.comparing.is_some() {
                        self.brought.insert(store, position);
                    }
                    self.node.applied.notify_one();
                    return;
                }
                Ok(Applied::Fenced { have }) => {
                    self.refused.note(Some(store), position.epoch, have.epoch);
                    return;
                }
                Ok(Applied::Gap { have }) => {
                    tracing::info!(%store, %position, %have, "changes are missing; asking upstream");
                    self.repairs.need(store, position, self.now());
                    return;
                }
                Ok(Applied::NewEpoch { have }) => {
                    tracing::warn!(%store, %position, %have, "a newer epoch began; taking the store over anew");
                    self.repairs.need(store, position, self.now());
                    return;
                }
                Err(error) if concerns_all(&error) => {
                    failures = failures.saturating_add(1);
                    let pause = self.pause(failures);
                    if said.is_news(&error) {
                        tracing::warn!(%store, %position, error = &error as &dyn std::error::Error, "cannot apply what came; trying until it can be done");
                    }
                    tokio::time::sleep(pause).await;
                }
                Err(error) => {
                    let now = self.now();
                    self.repairs.need(store, position, now);
                    self.repairs.failed(store, error.into(), now);
                    return;
                }
            }
        }
    }

    /// Starts the repairs that are due.
    fn repair(&mut self) {
        for (store, target) in self.repairs.start(self.now(), REPAIRS) {
            let applier = self.node.applier.clone();
            self.beside.spawn(async move {
                Ended::Repaired(store, target, applier.mend(store, target).await)
            });
        }
    }

    /// Compares with upstream when something may have been missed or the broker is silent.
    fn look_up(&mut self) {
        let now = self.now();
        let silence = self.node.freshness.borrow().silence(now);
        let silent = silence.is_none_or(|silence| silence > self.node.applier.settings.silence);
        if self.comparing.is_some() || now < self.not_before || !(self.compare || silent) {
            return;
        }
        // What may be missed while it runs asks for another one.
        self.comparing = Some(mem::take(&mut self.compare));
        self.brought.clear();
        let applier = self.node.applier.clone();
        self.beside
            .spawn(async move { Ended::Compared(now, applier.compare().await) });
    }

    async fn ended(&mut self, ended: Result<Ended, JoinError>) {
        let now = self.now();
        match ended {
            Ok(Ended::Compared(asked, Ok(comparison))) => self.compared(asked, comparison),
            Ok(Ended::Compared(_, Err(error))) => {
                self.compare |= self.comparing.take() == Some(true);
                self.failures = self.failures.saturating_add(1);
                let pause = self.pause(self.failures);
                self.not_before = now + pause;
                if self.said.is_news(&error) {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot compare with upstream; trying until it answers"
                    );
                }
            }
            Ok(Ended::Repaired(store, asked, Ok(reached))) => {
                self.held.reached(store, reached.max(asked));
                self.node.applied.notify_one();
                let aside = self.repairs.reached(store, asked, reached, now);
                for sets in aside.chunks(AT_ONCE) {
                    self.apply(sets).await;
                }
            }
            Ok(Ended::Repaired(store, _, Err(error))) => self.repairs.failed(store, error, now),
            Err(error) => {
                tracing::error!(%error, "a repair ended unexpectedly; comparing with upstream again");
                (self.comparing, self.compare) = (None, true);
                self.repairs.none_runs();
            }
        }
        self.pass_on();
    }

    fn compared(&mut self, asked: Duration, comparison: Comparison) {
        let Comparison { behind, heartbeat } = comparison;
        if self.failures > 0 {
            tracing::info!(failures = self.failures, "compared with upstream again");
        }
        (self.comparing, self.failures, self.said) = (None, 0, Said::default());
        let now = self.now();
        for (store, there) in &behind {
            // Of a store that the topic goes on with, it brings the rest.
            let goes_on = |last: &Position| last.epoch == there.epoch;
            if !self.brought.get(store).is_some_and(goes_on) {
                self.repairs.need(*store, *there, now);
            }
        }
        let known = self.epoch;
        if let Some((beat, _)) = heartbeat {
            self.note_epoch(beat.epoch);
        }
        // What was applied of an older reign meanwhile is doubted first.
        let doubted = known != Epoch(0) && known < self.epoch;
        // What one from before waits for may have come in by another replica.
        self.held.forget(Way::Upstream);
        if let Some((beat, age)) = heartbeat.filter(|_| !doubted) {
            let at = asked.saturating_sub(age);
            let missing = behind
                .into_iter()
                .filter(|(store, there)| self.brought.get(store).is_none_or(|last| last < there));
            self.held
                .hold(Way::Upstream, Received { beat, at }, missing);
        }
    }

    fn pause(&self, failures: u32) -> Duration {
        let patience = self.node.applier.settings.patience;
        patience.pause(failures, u64::from(failures) * 389)
    }
}

/// Whether a failure says something about the datastore as a whole rather than about the one store.
fn concerns_all(error: &DatastoreError) -> bool {
    matches!(
        error,
        DatastoreError::Unavailable(_) | DatastoreError::Exhausted { .. }
    )
}
