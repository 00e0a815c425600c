//! What those who are observed know of the recorder.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use meridian_model::{StoreId, Timestamp};
use metrics::counter;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use crate::change::{Change, OverridesChange};
use crate::flow::{Completion, Flow, FlowId, FlowKind, FlowStatus, Recorded, Step, StepStatus};
use crate::ports::{Row, Sink, Starter};
use crate::session::Session;
pub use crate::settings::{NotStored, Overrides, RecorderSettings, StartFlow, StoreSettings};
use crate::settling::{Queued, Settling};
use crate::tap::{Tap, Taps};
use crate::warning::Warning;
use crate::writer::{Events, Writer};

/// Beginnings of flows that wait to be stored at most: beside everything else, so that no backlog holds up who waits.
const AWAITED: usize = 1_024;

pub(crate) const DROPPED: &str = "meridian_flow_events_dropped_total";

/// The single way into the recorder. Clones are the same recorder.
#[derive(Clone)]
pub struct FlowRecorder(Arc<Inner>);

struct Inner {
    /// The process's switch, which anyone may hold.
    switch: Arc<AtomicBool>,
    /// What is set of stores, and what holds for the others.
    stores: ArcSwap<Stores>,
    settings: RecorderSettings,
    /// Where events go to; `None` where there is nothing to turn on.
    source: Option<Source>,
    /// There from the first event on.
    channel: OnceLock<Channel>,
    /// Bytes of the events that are not written yet.
    bytes: Arc<AtomicUsize>,
    warning: Warning,
    /// The last time that was given to a step.
    last: AtomicI64,
    stop: watch::Sender<Option<Instant>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    taps: Arc<Taps>,
}

struct Channel {
    /// For beginnings that somebody waits for.
    awaited: mpsc::Sender<Queued>,
    others: mpsc::Sender<Queued>,
}

struct Source {
    sink: Arc<dyn Sink>,
    /// By whom the beginnings of flows are stored, where that is not the sink.
    starter: Option<Arc<dyn Starter>>,
    runtime: Handle,
}

impl Source {
    fn new(sink: Arc<dyn Sink>, starter: Option<Arc<dyn Starter>>) -> Self {
        Self {
            sink,
            starter,
            runtime: Handle::current(),
        }
    }
}

#[derive(Default)]
struct Stores {
    others: StoreSettings,
    of: HashMap<StoreId, StoreSettings>,
    /// What `of` was made of, once it is known.
    set: Option<Vec<(StoreId, Overrides)>>,
}

impl FlowRecorder {
    /// A recorder that writes to `sink`, within a Tokio runtime. Where it is not enabled there is no channel and no task
    /// until it is turned on and something happens.
    #[must_use]
    pub fn new(sink: Arc<dyn Sink>, settings: RecorderSettings) -> Self {
        Self::with(Some(Source::new(sink, None)), settings)
    }

    /// The same where flows are kept by another process: `starter` has their beginnings stored, and `sink` passes on
    /// everything else.
    #[must_use]
    pub fn elsewhere(
        starter: Arc<dyn Starter>,
        sink: Arc<dyn Sink>,
        settings: RecorderSettings,
    ) -> Self {
        Self::with(Some(Source::new(sink, Some(starter))), settings)
    }

    /// A recorder of nothing, for ever: it has nowhere to write to, so that turning it on changes nothing. It allocates no
    /// channel.
    #[must_use]
    pub fn disabled() -> Self {
        let settings = RecorderSettings {
            enabled: false,
            ..RecorderSettings::default()
        };
        Self::with(None, settings)
    }

    fn with(source: Option<Source>, settings: RecorderSettings) -> Self {
        Self(Arc::new(Inner {
            switch: Arc::new(AtomicBool::new(settings.enabled)),
            stores: ArcSwap::from_pointee(Stores {
                others: settings.stores,
                ..Stores::default()
            }),
            settings,
            source,
            channel: OnceLock::new(),
            bytes: Arc::default(),
            warning: Warning::new(),
            last: AtomicI64::new(0),
            stop: watch::Sender::new(None),
            writer: Mutex::new(None),
            taps: Arc::default(),
        }))
    }

    /// The process's switch.
    #[must_use]
    pub fn switch(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0.switch)
    }

    /// Whether this process records anything: one atomic load.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.switch.load(Ordering::Relaxed)
    }

    /// Whether a channel was made.
    #[must_use]
    pub fn has_channel(&self) -> bool {
        self.0.channel.get().is_some()
    }

    /// Takes over what is set of stores.
    pub fn set_overrides(&self, overrides: &[(StoreId, Overrides)]) {
        let others = self.0.settings.stores;
        let of = overrides.iter();
        let of = of.map(|(store, set)| (*store, set.over(others))).collect();
        let set = Some(overrides.to_vec());
        self.0.stores.store(Arc::new(Stores { others, of, set }));
    }

    /// What is set of stores, as it was last taken over; `None` while nothing was.
    #[must_use]
    pub fn overrides(&self) -> Option<Vec<(StoreId, Overrides)>> {
        self.0.stores.load().set.clone()
    }

    /// What holds for a store.
    #[must_use]
    pub fn settings_of(&self, store: StoreId) -> StoreSettings {
        let stores = self.0.stores.load();
        stores.of.get(&store).copied().unwrap_or(stores.others)
    }

    /// What holds for a store of which nothing is set.
    #[must_use]
    pub fn defaults(&self) -> StoreSettings {
        self.0.settings.stores
    }

    /// Whether anything of a store is recorded.
    #[must_use]
    pub fn records(&self, store: StoreId) -> bool {
        self.is_on() && self.0.source.is_some() && self.settings_of(store).enabled
    }

    /// Whether the next decision of a store is to be recorded. Where nothing is recorded, it is one atomic load.
    #[must_use]
    pub fn samples(&self, store: StoreId) -> bool {
        if !self.records(store) {
            return false;
        }
        let share = self.settings_of(store).sampling;
        share >= 1.0 || (share > 0.0 && rand::random::<f64>() < share)
    }

    /// Begins a flow and waits until it is stored, so that its id can be referred to.
    ///
    /// # Errors
    /// [`NotStored`]: there is no id then, and whoever wanted one goes on without. It takes no longer than
    /// [`RecorderSettings::start_timeout`].
    pub async fn start_flow(&self, store: StoreId, start: StartFlow) -> Result<FlowId, NotStored> {
        self.start_at(store, start, self.now()).await
    }

    /// The same, of a flow that began at `at`.
    ///
    /// # Errors
    /// As [`FlowRecorder::start_flow`].
    pub async fn start_at(
        &self,
        store: StoreId,
        start: StartFlow,
        at: Timestamp,
    ) -> Result<FlowId, NotStored> {
        if !self.records(store) {
            return Err(NotStored::Disabled);
        }
        let flow = Flow {
            client_id: start.client_id,
            grant_type: start.grant_type,
            ip: start.ip,
            user_agent: start.user_agent,
            ..Flow::begun(store, FlowKind::Authentication, at)
        };
        self.store_flow(flow).await
    }

    /// Stores a flow that was begun elsewhere, and waits until it is.
    ///
    /// # Errors
    /// As [`FlowRecorder::start_flow`].
    pub async fn store_flow(&self, mut flow: Flow) -> Result<FlowId, NotStored> {
        flow.bound();
        let (id, limit) = (flow.id, self.0.settings.start_timeout);
        if let Some(starter) = self.0.source.as_ref().and_then(|at| at.starter.as_ref()) {
            let started = tokio::time::timeout(limit, starter.start(flow)).await;
            return started.unwrap_or(Err(NotStored::Late)).map(|()| id);
        }
        let (stored, ack) = oneshot::channel();
        if !self.send(Row::Start(Box::new(flow)), Some(stored)) {
            return Err(NotStored::Full);
        }
        match tokio::time::timeout(limit, ack).await {
            Ok(Ok(())) => Ok(id),
            Ok(Err(_)) => Err(NotStored::Refused),
            Err(_) => Err(NotStored::Late),
        }
    }

    /// Records a step of a flow that was stored. Never waits.
    pub fn record_step(
        &self,
        flow: FlowId,
        name: &str,
        status: StepStatus,
        duration: Duration,
        error: Option<(&str, &str)>,
    ) {
        if !self.is_on() {
            return;
        }
        let mut step = Step {
            flow,
            at: self.now(),
            name: name.to_owned(),
            status,
            duration_micros: micros(duration),
            error_code: error.map(|(code, _)| code.to_owned()),
            error_message: error.map(|(_, message)| message.to_owned()),
        };
        step.bound();
        self.send(Row::Step(Box::new(step)), None);
    }

    /// Records the end of a flow that was stored. Never waits.
    pub fn complete_flow(
        &self,
        flow: FlowId,
        status: FlowStatus,
        duration: Duration,
        user_id: Option<&str>,
    ) {
        if !self.is_on() {
            return;
        }
        let mut completion = Completion {
            flow,
            status,
            at: self.now(),
            duration_micros: micros(duration),
            user_id: user_id.map(str::to_owned),
        };
        completion.bound();
        self.send(Row::Complete(Box::new(completion)), None);
    }

    /// Records a flow that is over, with all its steps: one event. Never waits; returns whether it was taken: `false` where
    /// nothing is recorded or there is no room.
    pub fn record_flow(&self, mut recorded: Recorded) -> bool {
        if !self.is_on() {
            return false;
        }
        recorded.bound();
        self.0.taps.tell(&recorded);
        self.send(Row::Whole(Box::new(recorded)), None)
    }

    /// Records a connection of the live channel as it stands: once when it begins, once when it is over, which is kept also when
    /// nothing is recorded any more: its beginning would stand there as if it went on. Never waits.
    pub fn record_session(&self, mut session: Session) {
        if session.ended_at.is_none() && !self.records(session.store) {
            return;
        }
        session.bound();
        self.send(Row::Session(Box::new(session)), None);
    }

    /// A store's decisions from now on, as they are recorded, also those that cannot be stored. The latest `capacity` wait, for
    /// which the first of a store's taps counts; what is older is lost. It slows nothing.
    #[must_use]
    pub fn tap(&self, store: StoreId, capacity: usize) -> Tap {
        self.0.taps.open(store, capacity)
    }

    /// Writes all that waits, and ends. What is recorded from now on is dropped; so is what is not written within `limit`.
    pub async fn shutdown(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        self.0.stop.send_replace(Some(deadline));
        let writer = self
            .0
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(mut writer) = writer
            && tokio::time::timeout_at(deadline, &mut writer)
                .await
                .is_err()
        {
            writer.abort();
            // It counts what it has left on its way out.
            let _ = writer.await;
            tracing::warn!(
                ?limit,
                "flows were still to be written when the time was up"
            );
        }
    }

    /// The time, which is not given twice: steps go by it.
    fn now(&self) -> Timestamp {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let now = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
        let later = |last: i64| Some(now.max(last.saturating_add(1)));
        let last = self
            .0
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
        let last = last.unwrap_or_else(|last| last);
        Timestamp(now.max(last.saturating_add(1)))
    }

    /// Hands an event over; whether there was room. One that somebody waits for has a place of its own.
    fn send(&self, row: Row, stored: Option<oneshot::Sender<()>>) -> bool {
        let Some(source) = &self.0.source else {
            return false;
        };
        let (kind, size) = (row.kind(), row.bytes());
        let held = self.0.bytes.fetch_add(size, Ordering::Relaxed);
        let is_awaited = stored.is_some();
        let queued = Queued { row, stored };
        let sent = if !is_awaited && held.saturating_add(size) > self.0.settings.max_bytes {
            Err("full")
        } else {
            let channel = self.0.channel.get_or_init(|| self.open(source));
            let channel = if is_awaited {
                &channel.awaited
            } else {
                &channel.others
            };
            channel.try_send(queued).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => "full",
                mpsc::error::TrySendError::Closed(_) => "stopped",
            })
        };
        let Err(reason) = sent else {
            return true;
        };
        self.0.bytes.fetch_sub(size, Ordering::Relaxed);
        counter!(DROPPED, "kind" => kind, "reason" => reason).increment(1);
        if reason == "full"
            && let Some(dropped) = self.0.warning.reason()
        {
            tracing::warn!(kind, dropped, "channel full, dropping event");
        }
        false
    }

    /// Makes the channel, and has somebody read it.
    fn open(&self, source: &Source) -> Channel {
        let (to_others, others) = mpsc::channel(self.0.settings.capacity.max(1));
        let (to_awaited, awaited) = mpsc::channel(AWAITED);
        let writer = Writer {
            events: Events { awaited, others },
            incoming: Vec::new(),
            settling: Settling::new(
                Arc::clone(&source.sink),
                self.0.stop.subscribe(),
                Arc::clone(&self.0.bytes),
            ),
            settings: self.0.settings.clone(),
            bytes: Arc::clone(&self.0.bytes),
        };
        let task = source.runtime.spawn(writer.run());
        let mut slot = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = Some(task);
        Channel {
            awaited: to_awaited,
            others: to_others,
        }
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
