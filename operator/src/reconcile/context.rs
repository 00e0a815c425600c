//! What a reconcile works with.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DynamicObject;
use kube::runtime::reflector::Store;
use kube::runtime::reflector::store::WriterDropped;
use kube::{Client, ResourceExt};

use super::{Error, Rivals};
use crate::api::{AuthzStore, EdgeRegion};
use crate::build::{Kind, Settings};
use crate::events::Events;
use crate::lease::Leadership;
use crate::nodes::Nodes;

/// What a reconcile works with.
#[derive(Clone)]
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The nodes.
    pub nodes: Arc<dyn Nodes>,
    /// What the operator was told.
    pub settings: Settings,
    /// What there is.
    pub caches: Caches,
    /// All AuthzStores, those of other scopes too.
    pub rivals: Arc<Rivals>,
    /// Whether this operator may write.
    pub leadership: Leadership,
    /// Where events go.
    pub events: Events,
}

/// What there is, as it was watched. It may be a moment old: whatever is decided from it is right to do, or refused, or
/// without effect, when the truth has moved on.
#[derive(Clone)]
pub struct Caches {
    /// All AuthzStores.
    pub stores: Store<AuthzStore>,
    /// All EdgeRegions.
    pub edges: Store<EdgeRegion>,
    /// What belongs to AuthzStores.
    pub of_stores: Children,
    /// What belongs to EdgeRegions.
    pub of_edges: Children,
}

impl Caches {
    /// Waits until all of it has been read once. Half of it would look as if the other half were not there.
    ///
    /// # Errors
    /// [`Error::Stopping`] when it never will be.
    pub async fn ready(&self) -> Result<(), Error> {
        for (_, read) in self.reads() {
            read.await.map_err(|_| Error::Stopping)?;
        }
        Ok(())
    }

    /// The first kind that has not been read yet.
    #[must_use]
    pub fn unread(&self) -> Option<String> {
        self.reads()
            .into_iter()
            .find_map(|(kind, read)| read.now_or_never().is_none().then_some(kind))
    }

    /// Each kind, and when it has been read once.
    fn reads(&self) -> Vec<(String, BoxFuture<'_, Result<(), WriterDropped>>)> {
        let mut reads = vec![
            (
                "AuthzStore".to_owned(),
                self.stores.wait_until_ready().boxed(),
            ),
            (
                "EdgeRegion".to_owned(),
                self.edges.wait_until_ready().boxed(),
            ),
        ];
        for children in [&self.of_stores, &self.of_edges] {
            for (kind, store) in &children.objects {
                reads.push((format!("{kind:?}"), store.wait_until_ready().boxed()));
            }
            reads.push(("Pod".to_owned(), children.pods.wait_until_ready().boxed()));
        }
        reads
    }
}

/// Built objects that there are, and their pods.
#[derive(Clone)]
pub struct Children {
    /// By kind.
    pub objects: Vec<(Kind, Store<DynamicObject>)>,
    /// The pods of the workloads.
    pub pods: Store<Pod>,
}

/// An object that is there.
pub type Live = (Kind, Arc<DynamicObject>);

impl Children {
    /// What the object with this uid controls.
    #[must_use]
    pub fn owned_by(&self, uid: &str) -> Vec<Live> {
        let mut owned: Vec<Live> = self
            .objects
            .iter()
            .flat_map(|(kind, store)| {
                let of_owner =
                    store.state_filter(|object| is_owner(object.owner_references(), uid));
                of_owner.into_iter().map(|object| (*kind, object))
            })
            .collect();
        owned.sort_by_key(|(kind, object)| (*kind, object.name_any()));
        owned
    }

    /// The object of this kind and name, if there is one.
    #[must_use]
    pub fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<Arc<DynamicObject>> {
        let (_, store) = self.objects.iter().find(|(of, _)| *of == kind)?;
        store.find(|of| {
            let metadata = &of.metadata;
            metadata.namespace.as_deref() == Some(namespace)
                && metadata.name.as_deref() == Some(name)
        })
    }

    /// The pods of a namespace with this label, by name.
    #[must_use]
    pub fn pods(&self, namespace: &str, label: &str, value: &str) -> Vec<Arc<Pod>> {
        let mut pods = self.pods.state_filter(|pod| {
            pod.metadata.namespace.as_deref() == Some(namespace)
                && pod.labels().get(label).is_some_and(|found| found == value)
        });
        pods.sort_by_key(|pod| pod.name_any());
        pods
    }
}

fn is_owner(
    owners: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference],
    uid: &str,
) -> bool {
    owners
        .iter()
        .any(|owner| owner.controller == Some(true) && owner.uid == uid)
}
