//! The two controllers of one scope.

use std::fmt::{self, Debug};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::Api;
use kube::runtime::controller::{self, Action, Controller};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::{triggers, watches};
use crate::api::{AuthzStore, EdgeRegion};
use crate::build::Settings;
use crate::chain;
use crate::events::Events;
use crate::lease::Leadership;
use crate::metrics;
use crate::nodes::Nodes;
use crate::reconcile::{Caches, Category, Context, Error, Rivals, edge, store};
use crate::requeue::{self, Backoff, jittered};

/// How long it may take until all that is watched has been listed once.
const LIST_DEADLINE: Duration = Duration::from_secs(120);
/// Changes that come within this time are one.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// Objects of one kind that are reconciled at once.
const AT_ONCE: u16 = 16;

/// Which namespaces an operator looks after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    All,
    /// This one.
    Namespace(String),
}

impl Scope {
    /// The objects of a kind in this scope.
    #[must_use]
    pub fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        match self {
            Self::All => Api::all(client.clone()),
            Self::Namespace(name) => Api::namespaced(client.clone(), name),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => write!(to, "all namespaces"),
            Self::Namespace(name) => write!(to, "namespace '{name}'"),
        }
    }
}

/// What both controllers work with.
#[derive(Clone)]
pub struct Parts {
    /// The API server.
    pub client: Client,
    /// The nodes.
    pub nodes: Arc<dyn Nodes>,
    /// What the operator was told.
    pub settings: Settings,
    /// Whether this operator may write.
    pub leadership: Leadership,
    /// Where events go.
    pub events: Events,
}

/// Runs both controllers of each scope until `stop` is true; ends when what is under way is done.
///
/// # Errors
/// When in no scope all that must be watched can be listed: without it nothing can be done.
pub async fn run(
    parts: Parts,
    scopes: Vec<Scope>,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let scopes: Vec<_> = scopes
        .into_iter()
        .map(|scope| Watched::new(&parts.client, scope))
        .collect();
    let caches = scopes
        .iter()
        .map(|of| (of.scope.clone(), of.caches.clone()));
    let caches = caches.collect();
    let rivals = Arc::new(Rivals::new(scopes.iter().map(|of| &of.caches)));
    let running = scopes.into_iter().map(|watched| {
        let context = Context {
            client: parts.client.clone(),
            nodes: Arc::clone(&parts.nodes),
            settings: parts.settings.clone(),
            leadership: parts.leadership.clone(),
            events: parts.events.clone(),
            caches: watched.caches.clone(),
            rivals: Arc::clone(&rivals),
        };
        watched.drive(context.into(), stop.clone())
    });
    tokio::select! {
        _ = futures::future::join_all(running) => Ok(()),
        error = unlistable(caches) => Err(error),
    }
}

/// Resolves if in no scope all has been listed in time. Of several scopes, those that can be go on without the others.
async fn unlistable(scopes: Vec<(Scope, Caches)>) -> anyhow::Error {
    tokio::time::sleep(LIST_DEADLINE).await;
    let unread: Vec<_> = scopes
        .iter()
        .filter_map(|(scope, caches)| Some(format!("{} in {scope}", caches.unread()?)))
        .collect();
    let told = unread.join(", ");
    if unread.len() == scopes.len() {
        return anyhow::anyhow!(
            "cannot list within {LIST_DEADLINE:?}: {told}; the log says why, see 'a watch failed'. May this service account list and watch the kind?"
        );
    }
    if !unread.is_empty() {
        tracing::error!(
            kinds = told,
            "cannot be listed; nothing is done there until it can"
        );
    }
    std::future::pending().await
}

/// A scope, and what its watches say.
struct Watched {
    scope: Scope,
    caches: Caches,
    stores: watches::Changes<AuthzStore>,
    edges: watches::Changes<EdgeRegion>,
    store_children: watches::ChildChanges,
    edge_children: watches::ChildChanges,
}

impl Watched {
    fn new(client: &Client, scope: Scope) -> Self {
        let (stores, store_changes) = watches::ours::<AuthzStore>(client, &scope);
        let (edges, edge_changes) = watches::ours::<EdgeRegion>(client, &scope);
        let (of_stores, store_children) = watches::children(client, &scope, false);
        let (of_edges, edge_children) = watches::children(client, &scope, true);
        Self {
            scope,
            caches: Caches {
                stores,
                edges,
                of_stores,
                of_edges,
            },
            stores: store_changes,
            edges: edge_changes,
            store_children,
            edge_children,
        }
    }

    async fn drive(self, context: Arc<Context>, stop: watch::Receiver<bool>) {
        let Caches { stores, edges, .. } = self.caches;
        let (client, scope) = (context.client.clone(), self.scope);
        let of_stores = owning(
            Controller::for_stream(self.stores, stores.clone()),
            self.store_children,
            |pod| triggers::store_of_pod(&pod),
        );
        let of_edges = owning(
            Controller::for_stream(self.edges, edges.clone()),
            self.edge_children,
            |pod| triggers::edge_of_pod(&pod),
        );
        let of_stores = watch_for_stores(of_stores, &client, &scope, stores.clone());
        let of_edges = watch_for_edges(of_edges, &client, &scope, stores, edges);
        tokio::join!(
            drive(of_stores, store::reconcile, context.clone(), stop.clone()),
            drive(of_edges, edge::reconcile, context, stop),
        );
    }
}

fn owning<K>(
    mut controller: Controller<K>,
    children: watches::ChildChanges,
    of_pod: impl Fn(k8s_openapi::api::core::v1::Pod) -> Option<ObjectRef<K>> + Send + Sync + 'static,
) -> Controller<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    for (kind, changes) in children.objects {
        controller = controller.owns_stream_with(changes, kind.resource());
    }
    controller.watches_stream(children.pods, of_pod)
}

fn watch_for_stores(
    controller: Controller<AuthzStore>,
    client: &Client,
    scope: &Scope,
    stores: Store<AuthzStore>,
) -> Controller<AuthzStore> {
    let (of_maps, others) = (stores.clone(), stores.clone());
    controller
        .watches_stream(watches::any::<AuthzStore>(client, scope), move |store| {
            triggers::stores_behind(&others, &store)
        })
        .watches_stream(watches::metadata::<Secret>(client, scope), move |secret| {
            triggers::stores_of_secret(&stores, &secret)
        })
        .watches_stream(watches::metadata::<ConfigMap>(client, scope), move |map| {
            triggers::stores_of_config_map(&of_maps, &map)
        })
        .watches_stream(watches::any::<EdgeRegion>(client, scope), |edge| {
            triggers::stores_of_edge(&edge)
        })
}

fn watch_for_edges(
    controller: Controller<EdgeRegion>,
    client: &Client,
    scope: &Scope,
    stores: Store<AuthzStore>,
    edges: Store<EdgeRegion>,
) -> Controller<EdgeRegion> {
    let of_secrets = edges.clone();
    controller
        .watches_stream(watches::any::<AuthzStore>(client, scope), move |store| {
            triggers::edges_of_stores(&edges, &[ObjectRef::from_obj(&store)])
        })
        .watches_stream(watches::metadata::<Secret>(client, scope), move |secret| {
            let affected = triggers::stores_of_secret(&stores, &secret);
            let mut affected = triggers::edges_of_stores(&of_secrets, &affected);
            affected.extend(triggers::edges_of_secret(&of_secrets, &secret));
            affected
        })
}

type Outcome<K> = Result<(ObjectRef<K>, Action), controller::Error<Error, watcher::Error>>;

async fn drive<K, F, R>(
    controller: Controller<K>,
    reconcile: F,
    context: Arc<Context>,
    stop: watch::Receiver<bool>,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    F: Fn(Arc<K>, Arc<Context>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Action, Error>> + Send + 'static,
{
    let backoff = Arc::new(Backoff::default());
    let failures = Arc::clone(&backoff);
    let kind = K::kind(&());
    let timed = move |object: Arc<K>, context: Arc<Context>| {
        let (reconcile, backoff) = (reconcile.clone(), Arc::clone(&backoff));
        let kind = K::kind(&());
        async move {
            let start = Instant::now();
            let key = ObjectRef::from_obj(&*object);
            let done = reconcile(object, context).await;
            metrics::reconciled(&kind, start.elapsed(), done.as_ref().err());
            if done.is_ok() {
                backoff.succeeded(&key);
            }
            done
        }
    };
    let policy = move |object: Arc<K>, error: &Error, _: Arc<Context>| {
        let failed = || failures.failed(ObjectRef::from_obj(&*object));
        Action::requeue(wait(error.category(), failed))
    };
    let outcomes = controller
        .with_config(
            controller::Config::default()
                .debounce(DEBOUNCE)
                .concurrency(AT_ONCE),
        )
        .graceful_shutdown_on(stopped(stop))
        .run(timed, policy, context);
    log(outcomes, &kind).await;
}

/// How long to wait after an error; `failed` says it of one that passes.
fn wait(category: Category, failed: impl FnOnce() -> Duration) -> Duration {
    match category {
        Category::Transient => failed(),
        // What mends it is not watched: a quota, a role, somebody else's object.
        Category::Refused | Category::Taken | Category::NotLeader => jittered(requeue::SETTLED),
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that nobody can say so any more.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn log<K: Resource<DynamicType = ()> + 'static>(
    outcomes: impl Stream<Item = Outcome<K>>,
    kind: &str,
) {
    let mut outcomes = std::pin::pin!(outcomes);
    while let Some(outcome) = outcomes.next().await {
        match outcome {
            Ok((object, _)) => tracing::debug!(kind, %object, "reconciled"),
            // Deleted in between.
            Err(controller::Error::ObjectNotFound(_)) => {}
            Err(controller::Error::ReconcilerFailed(error, object)) => {
                tracing::warn!(kind, %object, %error, "cannot reconcile; trying again");
            }
            Err(error) => tracing::warn!(kind, error = chain(&error), "a watch failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_tried_again_within_half_a_minute() {
        let half = Duration::from_secs(30);
        for category in [Category::Refused, Category::Taken] {
            let waits = wait(category, || Duration::MAX);
            assert!(waits <= half, "{category:?}: {waits:?}");
        }
        assert_eq!(wait(Category::Transient, || half), half);
    }
}
