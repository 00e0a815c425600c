//! How a node stands: what it needs from outside, asked at that moment, and what it holds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_model::ports::{Datastore, DatastoreError};
use meridian_model::{ModelId, Position, StoreId};
use meridian_proto::meridian::v1 as wire;
use meridian_sync::envelope::position_to_wire;
use meridian_sync::kafka::probe::Probe;
use meridian_sync::kafka::relay::Trouble;
use meridian_sync::views::Views;
use tokio::sync::{Mutex, watch};

use crate::api::grpc::Readiness;
use crate::calls::ServedBy;
use crate::peer::Peers;
use crate::schema::Schema;

/// How long each dependency may take to answer.
const LIMIT: Duration = Duration::from_secs(2);
/// How long an answer is given again, so that many who ask cost no more than one.
const KEPT: Duration = Duration::from_secs(1);
const DATASTORE: &str = "datastore";

/// What a node's status is made of.
pub struct Parts {
    /// Its name.
    pub name: ServedBy,
    /// What health checks say.
    pub readiness: Readiness,
    /// Its Kafka.
    pub kafka: Kafka,
    /// The nodes above.
    pub upstream: Option<Peers>,
    /// Where its stores are.
    pub holds: Holds,
}

/// A node's Kafka.
pub struct Kafka {
    /// Its brokers, as the settings name them.
    pub address: String,
    /// Asks for the topic that the node reads or writes.
    pub probe: Probe,
    /// Why the node's relay cannot publish.
    pub relay: Option<watch::Receiver<Option<Arc<Trouble>>>>,
}

/// Where a node's stores are.
pub enum Holds {
    /// In a database.
    Database {
        /// The port to it.
        datastore: Arc<dyn Datastore>,
        /// Where it is, without anything secret.
        address: String,
        /// Whether it is of this program's schema.
        schema: watch::Receiver<Schema>,
    },
    /// In memory.
    Memory(Arc<Views>),
}

/// Tells how a node stands.
pub struct NodeStatus {
    parts: Parts,
    last: Mutex<Option<(Instant, wire::GetStatusResponse)>>,
}

impl NodeStatus {
    /// The status of the node that `parts` are of.
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            last: Mutex::new(None),
        }
    }

    /// Asks everything the node depends on, all at once, and says how a store stands there.
    pub async fn now(&self, store: Option<StoreId>) -> wire::GetStatusResponse {
        let mut status = self.dependencies().await;
        if let Some(store) = store {
            match self.parts.holds.store(store).await {
                Ok(found) => status.store = found,
                Err(why) => {
                    status.dependencies.retain(|of| of.name != DATASTORE);
                    let at = self.parts.holds.address();
                    status
                        .dependencies
                        .push(dependency(DATASTORE, at, Err(why)));
                }
            }
        }
        status.ready = self.parts.readiness.is_ready();
        status
    }

    async fn dependencies(&self) -> wire::GetStatusResponse {
        let mut last = self.last.lock().await;
        match &*last {
            Some((at, status)) if at.elapsed() < KEPT => status.clone(),
            _ => {
                let status = self.ask().await;
                last.insert((Instant::now(), status)).1.clone()
            }
        }
    }

    async fn ask(&self) -> wire::GetStatusResponse {
        let deadline = Instant::now() + LIMIT;
        let upstream = async {
            match &self.parts.upstream {
                Some(peers) => peers.ask(deadline).await,
                None => Vec::new(),
            }
        };
        let (kafka, datastore, upstream) = tokio::join!(
            self.parts.kafka.ask(),
            self.parts.holds.ask(deadline),
            upstream
        );
        let kafka = dependency("kafka", &self.parts.kafka.address, kafka);
        let upstream = upstream
            .into_iter()
            .map(|(at, of)| dependency("upstream", &at, of));
        wire::GetStatusResponse {
            node: self.parts.name.as_str().to_owned(),
            ready: false,
            dependencies: [kafka]
                .into_iter()
                .chain(datastore)
                .chain(upstream)
                .collect(),
            store: None,
        }
    }
}

fn dependency(name: &str, address: &str, outcome: Result<(), String>) -> wire::Dependency {
    wire::Dependency {
        name: name.to_owned(),
        address: address.to_owned(),
        available: outcome.is_ok(),
        message: outcome.err().unwrap_or_default(),
    }
}

impl Kafka {
    async fn ask(&self) -> Result<(), String> {
        self.probe
            .ask(LIMIT)
            .await
            .map_err(|silent| chain(&silent))?;
        let trouble = self.relay.as_ref().and_then(|relay| relay.borrow().clone());
        trouble.map_or(Ok(()), |trouble| Err(chain(&*trouble)))
    }
}

impl Holds {
    async fn ask(&self, deadline: Instant) -> Option<wire::Dependency> {
        let Self::Database { datastore, .. } = self else {
            return None;
        };
        let outcome = match self.schema() {
            Ok(()) => self.told(datastore.stores(None, None, 1, deadline).await),
            Err(why) => Err(why),
        };
        Some(dependency(DATASTORE, self.address(), outcome.map(drop)))
    }

    /// How a store stands, if it is there; an error where the database does not say.
    async fn store(&self, store: StoreId) -> Result<Option<wire::StoreStatus>, String> {
        match self {
            Self::Memory(views) => Ok(viewed(views, store)),
            Self::Database { datastore, .. } => {
                self.schema()?;
                self.told(stored(&**datastore, store, Instant::now() + LIMIT).await)
            }
        }
    }

    /// Whether the database is of this program's schema.
    fn schema(&self) -> Result<(), String> {
        let Self::Database { schema, .. } = self else {
            return Ok(());
        };
        let schema = schema.borrow().clone();
        match schema {
            Schema::Failed(error) => Err(self.at(&chain(&*error))),
            Schema::Unknown => Err(self.at("it has not answered yet")),
            Schema::Current => Ok(()),
        }
    }

    fn told<T>(&self, outcome: Result<T, DatastoreError>) -> Result<T, String> {
        outcome.map_err(|error| self.at(&chain(&error)))
    }

    fn at(&self, why: &str) -> String {
        match self {
            Self::Database { address, .. } => format!("{address}: {why}"),
            Self::Memory(_) => why.to_owned(),
        }
    }

    fn address(&self) -> &str {
        match self {
            Self::Database { address, .. } => address,
            Self::Memory(_) => "",
        }
    }
}

fn viewed(views: &Views, store: StoreId) -> Option<wire::StoreStatus> {
    let shown = views.get(store)?;
    let view = &shown.view;
    let model = view.model(None).map(|model| model.stored.id);
    (!view.is_deleted()).then(|| store_status(store, view.position(), model))
}

async fn stored(
    datastore: &dyn Datastore,
    store: StoreId,
    deadline: Instant,
) -> Result<Option<wire::StoreStatus>, DatastoreError> {
    let found = datastore.store(store, deadline).await?;
    let Some(record) = found.filter(|record| record.deleted_at.is_none()) else {
        return Ok(None);
    };
    let model = datastore.latest_model(store, deadline).await?;
    Ok(Some(store_status(store, record.position, model)))
}

fn store_status(store: StoreId, position: Position, model: Option<ModelId>) -> wire::StoreStatus {
    wire::StoreStatus {
        store_id: store.to_string(),
        position: Some(position_to_wire(position)),
        authorization_model_id: model.map(|id| id.to_string()).unwrap_or_default(),
    }
}

/// An error with all that caused it; what merely repeats its cause is said once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
