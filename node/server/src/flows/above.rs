//! The way of an edge's flows to the nodes above, which keep them: beginnings that somebody waits for by a call, everything
//! else by a topic.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use meridian_flow::ports::Starter;
use meridian_flow::recorder::Overrides;
use meridian_flow::{Flow, FlowId, FlowRecorder, NotStored, RepositoryError, Row, Sink};
use meridian_model::StoreId;
use meridian_proto::meridian::v1 as wire;
use meridian_sync::kafka;
use meridian_sync::kafka::writing::{Keyed, Writer};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use wire::start_flow_response::Outcome;

use super::events;
use crate::outage::Outage;
use crate::peer::Peers;
use crate::peer::flows::Flowing;

/// How often what is set of stores is asked for.
const REFRESH: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(5);
/// The first pause before a beginning that found nobody is sent again, and the longest; about so long each.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long Kafka may take for a batch.
const ACKNOWLEDGED: Duration = Duration::from_secs(5);

/// The nodes above, as those that keep the flows of a region's edges.
pub struct Above {
    peers: Peers,
    region: String,
    /// How long a beginning may take.
    limit: Duration,
    starts: Outage,
    settings: Outage,
}

impl Above {
    /// Of the edges of a region; a flow's beginning may take so long.
    pub fn new(peers: Peers, region: &str, limit: Duration) -> Self {
        Self {
            peers,
            region: region.to_owned(),
            limit,
            starts: Outage::new(),
            settings: Outage::new(),
        }
    }

    /// Makes a call about the flows of this region at a node that keeps them.
    ///
    /// # Errors
    /// What the node refused, `FAILED_PRECONDITION` where no node above keeps them, or why none that may can be reached.
    pub(super) async fn flows<T, F>(
        &self,
        deadline: Instant,
        call: impl Fn(Flowing) -> F,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        self.peers.flows(deadline, &self.region, call).await
    }

    /// Takes over what is set of stores, again and again, while the process records.
    pub async fn follow(&self, recorder: &FlowRecorder, stop: &CancellationToken) {
        loop {
            if recorder.is_on() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.refresh(recorder) => {}
                }
            }
            if tokio::time::timeout(REFRESH, stop.cancelled())
                .await
                .is_ok()
            {
                return;
            }
        }
    }

    /// Takes over what is set of stores; while nobody tells, what was known holds.
    pub(super) async fn refresh(&self, recorder: &FlowRecorder) {
        let request = wire::FlowSettingsRequest {
            region: self.region.clone(),
        };
        let set = self
            .peers
            .flow_settings(Instant::now() + TIMEOUT, request)
            .await;
        match set {
            Ok(set) => {
                self.settings.worked();
                let set: Vec<_> = set.stores.iter().filter_map(overrides).collect();
                recorder.set_overrides(&set);
            }
            Err(status) => tell(
                &self.settings,
                &status,
                "the recorder's settings of stores cannot be asked for",
            ),
        }
    }
}

/// The recorder as an edge tells of it: the switch of the process is the edge's own, what is set of stores is above.
impl Above {
    pub(super) async fn get_recorder(
        &self,
        own: &FlowRecorder,
        request: wire::GetRecorderRequest,
    ) -> Result<wire::GetRecorderResponse, Status> {
        let store = crate::node_service::store_id(&request.store_id)?;
        let asked = self.flows(Instant::now() + TIMEOUT, |mut client| {
            let request = request.clone();
            async move { client.get_recorder(request).await }
        });
        let above = asked.await?;
        // What is set of the store is above; what is recorded of one of which nothing is set is this node's own affair.
        self.refresh(own).await;
        let known = own.settings_of(store);
        Ok(wire::GetRecorderResponse {
            process_enabled: own.is_on(),
            enabled: known.enabled,
            sampling: known.sampling,
            retention_seconds: above.retention_seconds,
        })
    }

    /// What is of the store goes first: where that fails, nothing is changed.
    pub(super) async fn set_recorder(
        &self,
        own: &FlowRecorder,
        mut request: wire::SetRecorderRequest,
    ) -> Result<wire::SetRecorderResponse, Status> {
        let switch = request.process_enabled.take();
        let store_id = request.store_id.clone();
        let store = crate::node_service::store_id(&store_id)?;
        // Also where nothing is set of it: there it is looked for.
        let set = self.flows(Instant::now() + TIMEOUT, |mut client| {
            let request = request.clone();
            async move { client.set_recorder(request).await }
        });
        let of_store = wire::SetRecorderRequest {
            store_id: store_id.clone(),
            ..wire::SetRecorderRequest::default()
        };
        match set.await {
            Ok(_) => {}
            // The switch is this node's own: an outage above may be why it is turned.
            Err(status) if request == of_store && status.code() == Code::Unavailable => {}
            Err(status) => return Err(status),
        }
        if let Some(on) = switch {
            own.switch().store(on, Ordering::Relaxed);
        }
        let asked = wire::GetRecorderRequest { store_id };
        let recorder = match self.get_recorder(own, asked).await {
            // The switch is set all the same: an outage above may be why.
            Err(status) if status.code() == Code::Unavailable => {
                let known = own.settings_of(store);
                wire::GetRecorderResponse {
                    process_enabled: own.is_on(),
                    enabled: known.enabled,
                    sampling: known.sampling,
                    retention_seconds: known.retention.as_secs(),
                }
            }
            told => told?,
        };
        Ok(wire::SetRecorderResponse {
            recorder: Some(recorder),
        })
    }
}

fn overrides(of: &wire::flow_settings_response::Store) -> Option<(StoreId, Overrides)> {
    let set = Overrides {
        enabled: of.enabled,
        sampling: of.sampling,
        retention: of.retention_seconds.map(Duration::from_secs),
    };
    Some((of.store_id.parse().ok()?, set))
}

fn tell(outage: &Outage, status: &Status, what: &str) {
    if outage.failed() {
        tracing::warn!(error = status.message(), "{what}");
    }
}

/// Whether asking again would be answered alike.
fn is_for_good(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::Unauthenticated
            | Code::PermissionDenied
            | Code::Unimplemented
    )
}

#[async_trait]
impl Starter for Above {
    async fn start(&self, flow: Flow) -> Result<(), NotStored> {
        let deadline = Instant::now() + self.limit;
        let request = wire::StartFlowRequest {
            region: self.region.clone(),
            flow: Some(events::to_flow(&flow)),
        };
        let mut pause = FIRST_PAUSE;
        loop {
            match self.peers.start_flow(deadline, &request).await {
                Ok(answer) => {
                    self.starts.worked();
                    return match answer.outcome() {
                        Outcome::Stored => Ok(()),
                        Outcome::Disabled => Err(NotStored::Disabled),
                        Outcome::Full => Err(NotStored::Full),
                        Outcome::Late => Err(NotStored::Late),
                        Outcome::Refused | Outcome::Unspecified => Err(NotStored::Refused),
                    };
                }
                Err(status) => {
                    tell(
                        &self.starts,
                        &status,
                        "no node above stores the beginnings of flows",
                    );
                    if is_for_good(&status) {
                        return Err(NotStored::Refused);
                    }
                }
            }
            // Many connections may come back at once.
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await;
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }
}

/// The topic that the nodes above read flows from.
pub struct FlowTopic {
    settings: kafka::Settings,
    topic: String,
    /// There from the first event on.
    writer: Mutex<Option<Writer>>,
}

impl FlowTopic {
    /// Of a region. Connects to nothing until there is an event.
    pub fn new(settings: kafka::Settings, region: &str) -> Self {
        Self {
            topic: settings.flows_topic(region),
            settings,
            writer: Mutex::default(),
        }
    }

    async fn send(&self, records: &[Keyed]) -> kafka::Result<()> {
        let mut writer = self.writer.lock().await;
        let usable = writer.take().filter(|writer| !writer.is_broken());
        let writer = match usable {
            Some(usable) => writer.insert(usable),
            None => writer.insert(Writer::new(&self.settings, &self.topic, ACKNOWLEDGED)?),
        };
        writer.write(records).await
    }
}

#[async_trait]
impl Sink for FlowTopic {
    async fn write(&self, rows: &[Row], deadline: Instant) -> Result<Vec<FlowId>, RepositoryError> {
        let record = |row| {
            let (key, value) = events::write(row);
            Keyed { key, value }
        };
        let records: Vec<_> = rows.iter().map(record).collect();
        match tokio::time::timeout_at(deadline.into(), self.send(&records)).await {
            Ok(Ok(())) => Ok(Vec::new()),
            Ok(Err(error)) if error.is_too_large() => {
                Err(RepositoryError::Rejected(std::sync::Arc::new(error)))
            }
            Ok(Err(error)) => Err(RepositoryError::Unavailable(std::sync::Arc::new(error))),
            Err(_) => Err(RepositoryError::DeadlineExceeded),
        }
    }
}
