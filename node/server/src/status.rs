//! How a node stands: what it needs from outside, asked at that moment, and what it holds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use meridian_model::ports::{Datastore, DatastoreError, StoreRecord};
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
/// Stores of one page, and models asked for at a time.
const PAGE: u32 = 500;
const AT_A_TIME: usize = 8;
/// Stores told of at most.
const MOST_STORES: usize = 1_000;

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

    /// Asks everything the node depends on, all at once, and says what it holds.
    pub async fn now(&self) -> wire::GetStatusResponse {
        let mut last = self.last.lock().await;
        let mut status = match &*last {
            Some((at, status)) if at.elapsed() < KEPT => status.clone(),
            _ => {
                let status = self.ask().await;
                last.insert((Instant::now(), status)).1.clone()
            }
        };
        status.ready = self.parts.readiness.is_ready();
        status
    }

    async fn ask(&self) -> wire::GetStatusResponse {
        let deadline = Instant::now() + LIMIT;
        let upstream = async {
            match &self.parts.upstream {
                Some(peers) => Some(dependency("upstream", peers.ask(deadline).await)),
                None => None,
            }
        };
        let (kafka, (datastore, stores), upstream) = tokio::join!(
            self.parts.kafka.ask(),
            self.parts.holds.ask(deadline),
            upstream
        );
        let kafka = dependency("kafka", kafka);
        wire::GetStatusResponse {
            node: self.parts.name.as_str().to_owned(),
            ready: false,
            dependencies: [Some(kafka), datastore, upstream]
                .into_iter()
                .flatten()
                .collect(),
            stores,
        }
    }
}

/// `Ok` may say what does not work although the dependency as a whole does.
fn dependency(name: &str, outcome: Result<String, String>) -> wire::Dependency {
    wire::Dependency {
        name: name.to_owned(),
        available: outcome.is_ok(),
        message: outcome.unwrap_or_else(|why| why),
    }
}

impl Kafka {
    async fn ask(&self) -> Result<String, String> {
        self.probe
            .ask(LIMIT)
            .await
            .map_err(|silent| chain(&silent))?;
        let trouble = self.relay.as_ref().and_then(|relay| relay.borrow().clone());
        trouble.map_or_else(|| Ok(String::new()), |trouble| Err(chain(&*trouble)))
    }
}

impl Holds {
    async fn ask(&self, deadline: Instant) -> (Option<wire::Dependency>, Vec<wire::StoreStatus>) {
        let (datastore, address, schema) = match self {
            Self::Memory(views) => return (None, viewed(views)),
            Self::Database {
                datastore,
                address,
                schema,
            } => (&**datastore, address, schema.borrow().clone()),
        };
        let outcome = match schema {
            Schema::Failed(error) => Err(chain(&*error)),
            Schema::Unknown => Err("it has not answered yet".to_owned()),
            Schema::Current => stored(datastore, deadline)
                .await
                .map_err(|error| chain(&error)),
        };
        let (outcome, stores) = match outcome {
            Ok(stores) => (Ok(String::new()), stores),
            Err(why) => (Err(format!("{address}: {why}")), Vec::new()),
        };
        (Some(dependency("datastore", outcome)), stores)
    }
}

fn viewed(views: &Views) -> Vec<wire::StoreStatus> {
    let mut stores: Vec<_> = views
        .positions()
        .into_iter()
        .filter_map(|(store, _)| {
            let shown = views.get(store)?;
            let view = &shown.view;
            let model = view.model(None).map(|model| model.stored.id);
            (!view.is_deleted()).then(|| store_status(store, view.position(), model))
        })
        .collect();
    stores.sort_by(|one, other| one.store_id.cmp(&other.store_id));
    stores.truncate(MOST_STORES);
    stores
}

async fn stored(
    datastore: &dyn Datastore,
    deadline: Instant,
) -> Result<Vec<wire::StoreStatus>, DatastoreError> {
    let mut records: Vec<StoreRecord> = Vec::new();
    while records.len() < MOST_STORES {
        let after = records.last().map(|record| record.info.id);
        let page = datastore.stores(None, after, PAGE, deadline).await?;
        records.extend(page.items);
        if page.next.is_none() {
            break;
        }
    }
    stream::iter(records)
        .map(async |record| {
            let store = record.info.id;
            let model = datastore.latest_model(store, deadline).await?;
            Ok(store_status(store, record.position, model))
        })
        .buffered(AT_A_TIME)
        .try_collect()
        .await
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
