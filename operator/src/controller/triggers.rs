//! Who is affected by a change.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};

use crate::api::{AuthzStore, EdgeRegion};
use crate::build::{EDGE_REGION, STORE};
use crate::reconcile::rivals::refused;
use crate::reconcile::store::secret_names;

/// The AuthzStores that read this Secret.
pub(super) fn stores_of_secret(
    stores: &Store<AuthzStore>,
    secret: &impl Resource,
) -> Vec<ObjectRef<AuthzStore>> {
    stores_where(stores, secret, |store, name| {
        secret_names(&store.spec).contains(name)
    })
}

/// The AuthzStores whose model is in this ConfigMap.
pub(super) fn stores_of_config_map(
    stores: &Store<AuthzStore>,
    map: &impl Resource,
) -> Vec<ObjectRef<AuthzStore>> {
    stores_where(stores, map, |store, name| {
        let of = store.spec.model.config_map_key_ref.as_ref();
        of.is_some_and(|of| of.name == name)
    })
}

fn stores_where(
    stores: &Store<AuthzStore>,
    changed: &impl Resource,
    is_affected: impl Fn(&AuthzStore, &str) -> bool,
) -> Vec<ObjectRef<AuthzStore>> {
    let (name, namespace) = (changed.name_any(), changed.namespace());
    let affected =
        stores.state_filter(|store| store.namespace() == namespace && is_affected(store, &name));
    affected
        .iter()
        .map(|store| ObjectRef::from_obj(&**store))
        .collect()
}

/// The EdgeRegions that subscribe to any of these AuthzStores.
pub(super) fn edges_of_stores(
    edges: &Store<EdgeRegion>,
    stores: &[ObjectRef<AuthzStore>],
) -> Vec<ObjectRef<EdgeRegion>> {
    let affected = edges.state_filter(|edge| {
        edge.spec.subscriptions.iter().any(|of| {
            stores
                .iter()
                .any(|store| store.name == of.store_ref.name && store.namespace == edge.namespace())
        })
    });
    affected
        .iter()
        .map(|edge| ObjectRef::from_obj(&**edge))
        .collect()
}

/// The EdgeRegions that name this Secret themselves.
pub(super) fn edges_of_secret(
    edges: &Store<EdgeRegion>,
    secret: &impl Resource,
) -> Vec<ObjectRef<EdgeRegion>> {
    let (name, namespace) = (secret.name_any(), secret.namespace());
    let affected = edges.state_filter(|edge| {
        let mut tls = edge.spec.tls.iter();
        edge.namespace() == namespace
            && tls.any(|of| of.secret_ref.name == name || of.ca().name == name)
    });
    affected
        .iter()
        .map(|edge| ObjectRef::from_obj(&**edge))
        .collect()
}

/// The AuthzStores that an EdgeRegion subscribes to, and those that it did when its status was written.
pub(super) fn stores_of_edge(edge: &EdgeRegion) -> Vec<ObjectRef<AuthzStore>> {
    let namespace = edge.namespace().unwrap_or_default();
    let now = edge.spec.subscriptions.iter().map(|of| &of.store_ref.name);
    let before = edge.status.iter().flat_map(|of| &of.subscriptions);
    let names: BTreeSet<_> = now.chain(before.map(|of| &of.store)).collect();
    names
        .into_iter()
        .map(|name| ObjectRef::new(name).within(&namespace))
        .collect()
}

/// The AuthzStores that are refused because another has what they want: it may have been this one.
pub(super) fn stores_behind(
    stores: &Store<AuthzStore>,
    changed: &AuthzStore,
) -> Vec<ObjectRef<AuthzStore>> {
    let affected =
        stores.state_filter(|store| store.uid() != changed.uid() && refused(store).is_some());
    affected
        .iter()
        .map(|store| ObjectRef::from_obj(&**store))
        .collect()
}

/// The AuthzStore that a pod serves.
pub(super) fn store_of_pod(pod: &Pod) -> Option<ObjectRef<AuthzStore>> {
    let namespace = pod.namespace()?;
    let name = pod.labels().get(STORE)?;
    Some(ObjectRef::new(name).within(&namespace))
}

/// The EdgeRegion that a pod is of.
pub(super) fn edge_of_pod(pod: &Pod) -> Option<ObjectRef<EdgeRegion>> {
    let namespace = pod.namespace()?;
    let name = pod.labels().get(EDGE_REGION)?;
    Some(ObjectRef::new(name).within(&namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_affected_by_an_edge_region_that_subscribed_to_it_before() {
        let json = r#"{
            "apiVersion": "meridian.dev/v1alpha1", "kind": "EdgeRegion",
            "metadata": {"name": "till", "namespace": "shop"},
            "spec": {"parentRegion": "eu-1", "subscriptions": [
                {"storeRef": {"name": "kept"}}, {"storeRef": {"name": "new"}}
            ]},
            "status": {"subscriptions": [
                {"store": "kept", "readyReplicas": 1}, {"store": "dropped", "readyReplicas": 1}
            ]}
        }"#;
        let edge: Result<EdgeRegion, _> = serde_json::from_str(json);
        let affected = edge.map(|edge| stores_of_edge(&edge)).unwrap_or_default();
        let names: Vec<_> = affected.iter().map(|of| of.name.as_str()).collect();
        assert_eq!(names, ["dropped", "kept", "new"]);
    }
}
