//! What is watched, and kept as it was seen.

use std::fmt::Debug;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{Predicate, PredicateConfig, WatchStreamExt, predicates, watcher};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;

use super::Scope;
use crate::build::{EDGE_REGION, Kind, MANAGED_BY, MANAGER};
use crate::reconcile::Children;

/// What a watch says.
pub(super) type Changes<K> = BoxStream<'static, Result<K, watcher::Error>>;

/// The changes of built objects and of their pods.
pub(super) struct ChildChanges {
    pub(super) objects: Vec<(Kind, Changes<DynamicObject>)>,
    pub(super) pods: Changes<Pod>,
}

/// Watches what belongs to EdgeRegions, or what belongs to AuthzStores.
pub(super) fn children(client: &Client, scope: &Scope, of_edges: bool) -> (Children, ChildChanges) {
    let not = if of_edges { "" } else { "!" };
    let selector = format!("{MANAGED_BY}={MANAGER},{not}{EDGE_REGION}");
    let config = watcher::Config::default().labels(&selector);
    let (mut stores, mut changes) = (Vec::new(), Vec::new());
    for kind in Kind::ALL {
        if (kind == Kind::StatefulSet) != of_edges && is_of_one_kind_only(kind) {
            continue;
        }
        let resource = kind.resource();
        let api = match scope {
            Scope::All => Api::all_with(client.clone(), &resource),
            Scope::Namespace(name) => Api::namespaced_with(client.clone(), name, &resource),
        };
        let writer = reflector::store::Writer::new(resource);
        stores.push((kind, writer.as_reader()));
        let seen = watcher(api, config.clone())
            .default_backoff()
            .reflect(writer)
            .touched_objects();
        changes.push((kind, seen.boxed()));
    }
    let (pods, writer) = reflector::store();
    let seen = watcher(scope.api(client), config)
        .default_backoff()
        .reflect(writer)
        .touched_objects();
    (
        Children {
            objects: stores,
            pods,
        },
        ChildChanges {
            objects: changes,
            pods: seen.boxed(),
        },
    )
}

/// Deployments and Jobs belong to AuthzStores, StatefulSets to EdgeRegions.
fn is_of_one_kind_only(kind: Kind) -> bool {
    matches!(kind, Kind::Deployment | Kind::Job | Kind::StatefulSet)
}

/// Watches a kind of ours. Of its changes those are passed on that are not in its status.
pub(super) fn ours<K>(client: &Client, scope: &Scope) -> (Store<K>, Changes<K>)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + Sync
        + 'static,
{
    let (store, writer) = reflector::store();
    let seen = watcher(scope.api(client), watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .touched_objects()
        .predicate_filter(beside_the_status(), PredicateConfig::default());
    (store, seen.boxed())
}

/// What differs where something has changed that is not in the status.
fn beside_the_status<K: Resource>() -> impl Predicate<K> + Send {
    predicates::generation
        .combine(predicates::annotations)
        .combine(predicates::finalizers)
}

/// Watches all changes of a kind, without keeping them.
pub(super) fn any<K>(client: &Client, scope: &Scope) -> Changes<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + 'static,
{
    watcher(scope.api(client), watcher::Config::default())
        .default_backoff()
        .touched_objects()
        .boxed()
}

/// Watches that objects of a kind change, but not what is in them.
pub(super) fn metadata<K>(
    client: &Client,
    scope: &Scope,
) -> impl Stream<Item = Result<PartialObjectMeta<K>, watcher::Error>> + Send + 'static
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + 'static,
{
    watcher(
        scope.api::<PartialObjectMeta<K>>(client),
        watcher::Config::default(),
    )
    .default_backoff()
    .touched_objects()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    #[test]
    fn a_finalizer_that_was_taken_away_is_noticed_and_a_status_is_not() {
        let seen = |version: &str, finalizers: &[&str]| {
            let metadata = ObjectMeta {
                generation: Some(1),
                resource_version: Some(version.to_owned()),
                finalizers: Some(finalizers.iter().map(|of| (*of).to_owned()).collect()),
                ..Default::default()
            };
            let pod = Pod {
                metadata,
                ..Default::default()
            };
            beside_the_status().hash_property(&pod)
        };
        let held = seen("1", &["meridian.dev/store"]);
        assert_eq!(seen("2", &["meridian.dev/store"]), held);
        assert_ne!(seen("2", &[]), held);
    }
}
