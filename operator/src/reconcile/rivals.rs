//! AuthzStores that must not both run, because they would write into the same topics or the same database: two writers on
//! either ruin the data of both.
//!
//! The one that runs already stays, whichever was made first: to give way to an older one would hand its topics and
//! databases to a stranger. All AuthzStores that this operator looks after are compared, whatever their namespaces; those
//! of another operator, or of another cluster, it cannot see.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use kube::{Client, ResourceExt};
use tokio::time::Instant;

use super::context::Caches;
use super::endpoint::endpoint;
use super::store::{databases, secret_names};
use super::{Error, read};
use crate::api::AuthzStore;
use crate::api::conditions::{ACCEPTED, Finding};
use crate::api::store::AuthzStoreSpec;
use crate::build::{Kind, STORE};

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

/// What only one store may write to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The topics of a product at a broker: `host:port/topicPrefix.product`.
    Topics(String),
    /// A database on a server: `host:port/name`.
    Database(String),
}

/// A store as it was seen last, and its places.
#[derive(Debug, Clone)]
struct Known {
    store: Arc<AuthzStore>,
    places: Places,
}

/// The places of a store.
#[derive(Debug, Clone, Default)]
struct Places {
    /// Those that its spec leads to now.
    wanted: BTreeSet<Place>,
    /// Those that its nodes may run on: nobody else gets them. Its status has them too, for an operator that starts anew.
    held: BTreeSet<Place>,
}

impl Places {
    /// The one that must be left to a store with these others, which is `first` or not where both run on it or neither.
    fn left_to(&self, others: &Self, first: bool) -> Option<&Place> {
        self.wanted.iter().find(|place| {
            match (self.held.contains(*place), others.held.contains(*place)) {
                (false, true) => true,
                (true, false) => false,
                (true, true) => first,
                (false, false) => first && others.wanted.contains(*place),
            }
        })
    }
}

/// All AuthzStores that there are, of all scopes.
pub struct Rivals {
    scopes: Vec<Caches>,
    patient_until: Instant,
    /// By uid; also of stores that are gone, while nodes of theirs still end.
    known: Mutex<HashMap<String, Known>>,
    /// By uid. A status forgets it when something else keeps its store from being looked at.
    verdicts: Mutex<HashMap<String, Verdict>>,
}

impl Rivals {
    /// Of the caches of all scopes.
    pub fn new<'a>(scopes: impl IntoIterator<Item = &'a Caches>) -> Self {
        Self {
            scopes: scopes.into_iter().cloned().collect(),
            patient_until: Instant::now() + PATIENCE,
            known: Mutex::default(),
            verdicts: Mutex::default(),
        }
    }

    /// Why `store`, whose spec leads to these databases, must not be built, if another is in its way.
    ///
    /// # Errors
    /// As [`Error`], where it cannot be seen what another has that runs.
    pub async fn in_the_way(
        &self,
        store: &AuthzStore,
        databases: BTreeSet<String>,
        client: &Client,
    ) -> Result<Option<Finding>, Error> {
        self.ready().await;
        let others = self.others(store);
        self.forget_but(store, &others);
        let mut own = self.seen(store, places(store, databases));
        if !self.is_running(store) {
            own.held.clear();
        }
        let found = self.first_of(&others, store, &own, client).await?;
        let verdict = match &found {
            Some(finding) => Verdict::Refused(finding.message.clone()),
            None => {
                own.held.extend(own.wanted.iter().cloned());
                Verdict::Free
            }
        };
        let uid = store.uid().unwrap_or_default();
        lock(&self.verdicts).insert(uid, verdict);
        self.remember(Arc::new(store.clone()), own);
        Ok(found)
    }

    /// Says that no node of a store runs on anything else than what its spec leads to.
    pub fn settled(&self, store: &AuthzStore) {
        let uid = store.uid().unwrap_or_default();
        if let Some(known) = lock(&self.known).get_mut(&uid) {
            known.places.held = known.places.wanted.clone();
        }
    }

    /// What the nodes of a store may run on.
    #[must_use]
    pub fn held(&self, store: &AuthzStore) -> BTreeSet<Place> {
        let uid = store.uid().unwrap_or_default();
        let known = lock(&self.known).get(&uid).map(|of| of.places.held.clone());
        known.unwrap_or_else(|| in_status(store))
    }

    /// Whether it is known which databases the nodes of a store have, also while its Secrets cannot be read.
    #[must_use]
    pub fn knows(&self, store: &AuthzStore) -> bool {
        let mut held = self.held(store).into_iter();
        !self.is_running(store) || held.any(|of| matches!(of, Place::Database(_)))
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
        own: &Places,
        client: &Client,
    ) -> Result<Option<Finding>, Error> {
        for other in others {
            let first = self.rank(other) < self.rank(store);
            let theirs = self.places(other, client).await?;
            if let Some(place) = own.left_to(&theirs, first) {
                return Ok(Some(self.refusal(store, other, place)));
            }
        }
        Ok(None)
    }

    async fn ready(&self) {
        let all = self.scopes.iter().map(Caches::ready);
        // What cannot be read by then is looked at when it can.
        let _ = tokio::time::timeout_at(self.patient_until, futures::future::join_all(all)).await;
    }

    /// Those that there are, and those whose nodes have yet to end.
    fn others(&self, store: &AuthzStore) -> Vec<Arc<AuthzStore>> {
        let is_other = |other: &AuthzStore| other.uid() != store.uid();
        let there = self
            .scopes
            .iter()
            .flat_map(|of| of.stores.state_filter(is_other));
        let known: Vec<_> = lock(&self.known)
            .values()
            .map(|of| Arc::clone(&of.store))
            .collect();
        let gone = known
            .into_iter()
            .filter(|of| is_other(of) && !self.is_there(of) && self.has_nodes(of));
        there.chain(gone).collect()
    }

    fn is_there(&self, store: &AuthzStore) -> bool {
        let is_it = |of: &AuthzStore| of.uid() == store.uid();
        self.scopes.iter().any(|of| of.stores.find(is_it).is_some())
    }

    /// One that is gone passes by itself.
    fn refusal(&self, store: &AuthzStore, other: &AuthzStore, place: &Place) -> Finding {
        Finding {
            fault: self.is_there(other),
            ..refusal(store, &self.name(other), place)
        }
    }

    /// For people.
    fn name(&self, store: &AuthzStore) -> String {
        let name = path(store);
        match self.is_there(store) {
            true => name,
            false => format!("{name}, which was deleted and whose pods still end,"),
        }
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
        let has_store = store
            .status
            .as_ref()
            .is_some_and(|of| of.store_id.is_some());
        has_store || self.has_nodes(store)
    }

    /// Whether there is anything of it that writes: edges do not.
    fn has_nodes(&self, store: &AuthzStore) -> bool {
        let (uid, name) = (store.uid().unwrap_or_default(), store.name_any());
        let namespace = store.namespace().unwrap_or_default();
        self.scopes.iter().any(|of| {
            let key = ObjectRef::<AuthzStore>::new(&name).within(&namespace);
            let successor = of.stores.get(&key).filter(|of| of.uid() != store.uid());
            let begins = successor.and_then(|of| of.creation_timestamp());
            let is_before = |pod: &Pod| pod.creation_timestamp() < begins;
            let mut owned = of.of_stores.owned_by(&uid).into_iter();
            owned.any(|(kind, _)| matches!(kind, Kind::Deployment | Kind::Job))
                || of
                    .of_stores
                    .pods(&namespace, STORE, &name)
                    .iter()
                    .any(|pod| begins.is_none() || is_before(pod))
        })
    }

    fn forget_but(&self, store: &AuthzStore, others: &[Arc<AuthzStore>]) {
        let is_needed = |uid: &String| {
            let mut uids = others.iter().map(|of| of.uid()).chain([store.uid()]);
            uids.any(|of| of.as_ref() == Some(uid))
        };
        lock(&self.verdicts).retain(|uid, _| is_needed(uid));
        lock(&self.known).retain(|uid, _| is_needed(uid));
    }

    fn remember(&self, store: Arc<AuthzStore>, places: Places) {
        let uid = store.uid().unwrap_or_default();
        lock(&self.known).insert(uid, Known { store, places });
    }

    /// What is known of a store whose spec leads to these places.
    fn seen(&self, store: &AuthzStore, wanted: BTreeSet<Place>) -> Places {
        let mut held = self.held(store);
        let is_refused = matches!(self.verdict(store), Verdict::Refused(_));
        if held.is_empty() && self.is_running(store) && !is_refused {
            held.clone_from(&wanted);
        }
        Places { wanted, held }
    }

    /// Read once; from then on each store's own reconciles keep them.
    async fn places(&self, store: &Arc<AuthzStore>, client: &Client) -> Result<Places, Error> {
        let uid = store.uid().unwrap_or_default();
        if let Some(known) = lock(&self.known).get(&uid) {
            return Ok(known.places.clone());
        }
        match named_databases(store, client).await {
            Ok(databases) => {
                let found = self.seen(store, places(store, databases));
                self.remember(Arc::clone(store), found.clone());
                Ok(found)
            }
            Err(error) if !self.knows(store) => {
                let what = format!("see which databases AuthzStore {} has", path(store));
                Err(error.during(&what))
            }
            // Which it runs on is known, or it does not run.
            Err(error) => {
                tracing::warn!(store = path(store), %error, "cannot see which databases it names");
                Ok(self.seen(store, places(store, BTreeSet::new())))
            }
        }
    }
}

async fn named_databases(store: &AuthzStore, client: &Client) -> Result<BTreeSet<String>, Error> {
    let namespace = store.namespace().unwrap_or_default();
    let uid = store.uid().unwrap_or_default();
    let mut secrets = read::Secrets::new();
    for name in secret_names(&store.spec) {
        let found = read::secret(client, &namespace, &name, &uid).await?;
        secrets.insert(name, found);
    }
    Ok(databases(&store.spec, &secrets))
}

fn in_status(store: &AuthzStore) -> BTreeSet<Place> {
    let topics = store.status.iter().flat_map(|of| &of.topics).cloned();
    let databases = store.status.iter().flat_map(|of| &of.databases).cloned();
    let databases = databases.map(Place::Database);
    topics.map(Place::Topics).chain(databases).collect()
}

/// What a store leads to whose Secrets lead to these databases.
fn places(store: &AuthzStore, databases: BTreeSet<String>) -> BTreeSet<Place> {
    let namespace = store.namespace().unwrap_or_default();
    let AuthzStoreSpec { kafka, product, .. } = &store.spec;
    let topics = kafka.bootstrap_servers.iter().map(|server| {
        let broker = endpoint(server, KAFKA_PORT, &namespace);
        Place::Topics(format!("{broker}/{}.{product}", kafka.topic_prefix))
    });
    let databases = databases.into_iter().map(Place::Database);
    topics.chain(databases).collect()
}

fn path(store: &AuthzStore) -> String {
    let namespace = store.namespace().unwrap_or_default();
    format!("{namespace}/{}", store.name_any())
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

fn refusal(store: &AuthzStore, other: &str, place: &Place) -> Finding {
    match place {
        Place::Topics(_) => Finding::fault(
            PRODUCT_TAKEN,
            format!(
                "AuthzStore {other} publishes product '{}' under topicPrefix '{}' on the same Kafka: choose another product or prefix",
                store.spec.product, store.spec.kafka.topic_prefix
            ),
        ),
        Place::Database(database) => Finding::fault(
            DATABASE_TAKEN,
            format!(
                "AuthzStore {other} has database {database}: give each a database of its own; nodes that would get into it are stopped"
            ),
        ),
    }
}
