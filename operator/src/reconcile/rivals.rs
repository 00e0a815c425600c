//! AuthzStores that must not both run, because they would write into the same topics or the same database: two writers on
//! either ruin the data of both.
//!
//! The one that runs already stays, whichever was made first: to give way to an older one would hand its topics and
//! databases to a stranger. All AuthzStores that this operator looks after are compared, whatever their namespaces; those
//! of another operator, or of another cluster, it cannot see.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::{Client, ResourceExt};
use tokio::time::Instant;

use super::context::Caches;
use super::endpoint::endpoint;
use super::read;
use super::store::{databases, secret_names};
use crate::api::AuthzStore;
use crate::api::conditions::{ACCEPTED, Finding};
use crate::build::Kind;

/// The reason why a store is refused whose topics another has.
const PRODUCT_TAKEN: &str = "ProductTaken";
/// The reason why a store is refused one of whose databases another has.
const DATABASE_TAKEN: &str = "DatabaseTaken";

/// How long after the start namespaces are waited for that cannot be read. One must not stop the work in all the others.
const PATIENCE: Duration = Duration::from_secs(30);
const KAFKA_PORT: &str = "9092";

/// Whether a store may be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody is in its way.
    Free,
    /// Another has what it wants, for people.
    Refused(String),
    /// It was not compared yet.
    Unknown,
}

/// All AuthzStores that there are, of all scopes.
pub struct Rivals {
    scopes: Vec<Caches>,
    patient_until: Instant,
    /// By uid, as they were read last. In memory only.
    databases: Mutex<HashMap<String, BTreeSet<String>>>,
    /// By uid. A status forgets it when something else keeps its store from being looked at.
    verdicts: Mutex<HashMap<String, Verdict>>,
}

impl Rivals {
    /// Of the caches of all scopes.
    pub fn new<'a>(scopes: impl IntoIterator<Item = &'a Caches>) -> Self {
        Self {
            scopes: scopes.into_iter().cloned().collect(),
            patient_until: Instant::now() + PATIENCE,
            databases: Mutex::default(),
            verdicts: Mutex::default(),
        }
    }

    /// Why `store`, whose databases are `own`, must not be built, if another is in its way.
    pub async fn in_the_way(
        &self,
        store: &AuthzStore,
        own: BTreeSet<String>,
        client: &Client,
    ) -> Option<Finding> {
        self.ready().await;
        let others = self.others(store);
        self.remember(store, &own, &others);
        let found = self.first_of(&others, store, &own, client).await;
        let verdict = found.as_ref().map_or(Verdict::Free, |finding| {
            Verdict::Refused(finding.message.clone())
        });
        let uid = store.uid().unwrap_or_default();
        lock(&self.verdicts).insert(uid, verdict);
        found
    }

    /// Whether a store may be built, as it was found last.
    #[must_use]
    pub fn verdict(&self, store: &AuthzStore) -> Verdict {
        let known = store
            .uid()
            .and_then(|uid| lock(&self.verdicts).get(&uid).cloned());
        known.unwrap_or_else(|| written(store))
    }

    async fn first_of(
        &self,
        others: &[Arc<AuthzStore>],
        store: &AuthzStore,
        own: &BTreeSet<String>,
        client: &Client,
    ) -> Option<Finding> {
        for other in others {
            let shared = if shares_topics(store, other) {
                Some(Err(()))
            } else {
                let theirs = self.databases(other, client).await;
                theirs.intersection(own).next().cloned().map(Ok)
            };
            let Some(shared) = shared else { continue };
            if self.rank(other) < self.rank(store) {
                return Some(refusal(store, other, shared.ok()));
            }
        }
        None
    }

    async fn ready(&self) {
        let all = self.scopes.iter().map(Caches::ready);
        // What cannot be read by then is looked at when it can.
        let _ = tokio::time::timeout_at(self.patient_until, futures::future::join_all(all)).await;
    }

    fn others(&self, store: &AuthzStore) -> Vec<Arc<AuthzStore>> {
        let is_other = |other: &AuthzStore| other.uid() != store.uid();
        let scopes = self.scopes.iter();
        scopes
            .flat_map(|of| of.stores.state_filter(is_other))
            .collect()
    }

    /// Less is first served.
    fn rank(&self, store: &AuthzStore) -> (bool, bool, bool, Option<Timestamp>, Option<String>) {
        let seen = store.status.as_ref().and_then(|of| of.observed_generation);
        let created = store.metadata.creation_timestamp.as_ref().map(|at| at.0);
        (
            matches!(self.verdict(store), Verdict::Refused(_)),
            !self.is_running(store),
            // Of two that run, one was just changed to have what the other has.
            seen != store.metadata.generation,
            created,
            store.uid(),
        )
    }

    fn is_running(&self, store: &AuthzStore) -> bool {
        let uid = store.uid().unwrap_or_default();
        let has_store = |store: &AuthzStore| store.status.as_ref()?.store_id.as_ref().map(|_| ());
        has_store(store).is_some()
            || self.scopes.iter().any(|of| {
                let mut owned = of.of_stores.owned_by(&uid).into_iter();
                owned.any(|(kind, _)| kind == Kind::Deployment)
            })
    }

    fn remember(&self, store: &AuthzStore, own: &BTreeSet<String>, others: &[Arc<AuthzStore>]) {
        let is_there = |uid: &String| others.iter().any(|of| of.uid().as_ref() == Some(uid));
        lock(&self.verdicts).retain(|uid, _| is_there(uid) || store.uid().as_ref() == Some(uid));
        let mut known = lock(&self.databases);
        known.retain(|uid, _| is_there(uid));
        known.insert(store.uid().unwrap_or_default(), own.clone());
    }

    /// Read once; from then on each store's own reconciles keep them.
    async fn databases(&self, store: &AuthzStore, client: &Client) -> BTreeSet<String> {
        let uid = store.uid().unwrap_or_default();
        if let Some(known) = lock(&self.databases).get(&uid) {
            return known.clone();
        }
        let namespace = store.namespace().unwrap_or_default();
        let mut secrets = read::Secrets::new();
        for name in secret_names(&store.spec) {
            match read::secret(client, &namespace, &name, &uid).await {
                Ok(found) => secrets.insert(name, found),
                Err(error) => {
                    let store = format!("{namespace}/{}", store.name_any());
                    tracing::warn!(store, %error, "cannot see which databases it has");
                    return BTreeSet::new();
                }
            };
        }
        let found = databases(&store.spec, &secrets);
        lock(&self.databases).insert(uid, found.clone());
        found
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The condition that says that a store is refused because another has what it wants.
#[must_use]
pub fn refused(store: &AuthzStore) -> Option<&Condition> {
    accepted(store).filter(|of| [PRODUCT_TAKEN, DATABASE_TAKEN].contains(&of.reason.as_str()))
}

/// What the status said last, also before this operator started.
fn written(store: &AuthzStore) -> Verdict {
    if let Some(refusal) = refused(store) {
        return Verdict::Refused(refusal.message.clone());
    }
    match accepted(store) {
        Some(of) if of.status != "Unknown" => Verdict::Free,
        _ => Verdict::Unknown,
    }
}

fn accepted(store: &AuthzStore) -> Option<&Condition> {
    let conditions = store.status.iter().flat_map(|of| &of.conditions);
    conditions.into_iter().find(|of| of.type_ == ACCEPTED)
}

fn shares_topics(one: &AuthzStore, other: &AuthzStore) -> bool {
    let topics = |of: &AuthzStore| (of.spec.product.clone(), of.spec.kafka.topic_prefix.clone());
    topics(one) == topics(other) && !brokers(one).is_disjoint(&brokers(other))
}

fn brokers(of: &AuthzStore) -> BTreeSet<String> {
    let namespace = of.namespace().unwrap_or_default();
    let servers = of.spec.kafka.bootstrap_servers.iter();
    servers
        .map(|server| endpoint(server, KAFKA_PORT, &namespace))
        .collect()
}

fn refusal(store: &AuthzStore, other: &AuthzStore, database: Option<String>) -> Finding {
    let other = format!(
        "{}/{}",
        other.namespace().unwrap_or_default(),
        other.name_any()
    );
    match database {
        None => Finding::fault(
            PRODUCT_TAKEN,
            format!(
                "AuthzStore {other} publishes product '{}' under topicPrefix '{}' on the same Kafka: choose another product or prefix",
                store.spec.product, store.spec.kafka.topic_prefix
            ),
        ),
        Some(database) => Finding::fault(
            DATABASE_TAKEN,
            format!("AuthzStore {other} has database {database}: give each a database of its own"),
        ),
    }
}
