//! What an AuthzStore names, and what there is of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::strays::strays;
use crate::api::AuthzStore;
use crate::api::common::KeyRef;
use crate::api::conditions::Finding;
use crate::api::store::AuthzStoreSpec;
use crate::build::{
    COMPONENT, EDGE_REGION, Kind, LIVE, Role, STORE, SecretFile, api_certificate, store_files,
};
use crate::nodes::Access;
use crate::reconcile::apply::Gone;
use crate::reconcile::context::Live;
use crate::reconcile::pods::Trouble;
use crate::reconcile::read::{self, Keyed, Secrets};
use crate::reconcile::secrets::{Seen, names_for_access};
use crate::reconcile::workloads::{JobState, job_state};
use crate::reconcile::{Context, Error, creation};

/// What an AuthzStore names, and what there is of it.
#[derive(Debug)]
pub struct References {
    /// The Secrets named.
    pub seen: Seen,
    /// How its nodes are spoken to.
    pub access: Access,
    /// The model's ConfigMap, if it names one.
    pub model: Option<Keyed>,
    /// What belongs to it.
    pub live: Vec<Live>,
    /// Its pods: central's, the regions', those of the live channel and the migrations'.
    pub pods: Vec<Arc<Pod>>,
    /// A pod that is left of an AuthzStore of this name that was deleted, if there is one.
    pub of_before: Option<String>,
    /// Why Jobs cannot create pods, by the Job's name.
    pub without_pods: BTreeMap<String, Trouble>,
    /// Why it must not be built, if another AuthzStore has its topics or one of its databases.
    pub rival: Option<Finding>,
    /// If so, its workloads whose Secrets lead to a database that is not theirs by now.
    pub strays: Vec<Gone>,
}

impl References {
    /// The pods of central and regional nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods
            .iter()
            .filter(|pod| !is_migration(pod) && !is_live(pod))
    }
}

pub(super) fn is_migration(pod: &Pod) -> bool {
    pod.labels()
        .get(COMPONENT)
        .is_some_and(|of| of == "migration")
}

/// Whether it serves the live channel and nothing else: it does not say how it is, nor has it data.
pub(super) fn is_live(pod: &Pod) -> bool {
    pod.labels().get(COMPONENT).is_some_and(|of| of == LIVE)
}

/// Reads what an AuthzStore names, and what there is of it.
///
/// # Errors
/// As [`Error`]; that something is not there is none.
pub async fn dereference(store: &AuthzStore, context: &Context) -> Result<References, Error> {
    let namespace = store.namespace().unwrap_or_default();
    let uid = store.uid().unwrap_or_default();
    let names = secret_names(&store.spec);
    let mut seen = Seen::read(&context.client, &namespace, names, &uid).await;
    // Others must leave it what its nodes have, and it is not known what that is.
    if !context.rivals.knows(store)
        && let Some((_, error)) = seen.unread.pop_first()
    {
        return Err(error);
    }
    let model = match &store.spec.model.config_map_key_ref {
        Some(of) => Some(read::config_map(&context.client, &namespace, of).await?),
        None => None,
    };
    let own = databases(&store.spec, &seen.secrets);
    let rival = context
        .rivals
        .in_the_way(store, own, &context.client)
        .await?;
    let children = &context.caches.of_stores;
    let mut pods = children.pods(&namespace, STORE, &store.name_any());
    pods.retain(|pod| !pod.labels().contains_key(EDGE_REGION));
    let (before, pods): (Vec<_>, Vec<_>) = pods.into_iter().partition(|pod| is_before(pod, store));
    let live = children.owned_by(&uid);
    let strays = match rival {
        Some(_) => strays(store, context, &seen.secrets, &live).await,
        None => Vec::new(),
    };
    Ok(References {
        access: seen.access(&store.spec, api_certificate(&store.spec)),
        seen,
        model,
        without_pods: without_pods(context, &namespace, &live, &pods).await,
        live,
        pods,
        of_before: before.first().map(|pod| pod.name_any()),
        rival,
        strays,
    })
}

/// Whether a pod is of a store that was deleted before this one got its name.
fn is_before(pod: &Pod, store: &AuthzStore) -> bool {
    let made = pod.creation_timestamp().zip(store.creation_timestamp());
    made.is_some_and(|(pod, store)| pod < store)
}

async fn without_pods(
    context: &Context,
    namespace: &str,
    live: &[Live],
    pods: &[Arc<Pod>],
) -> BTreeMap<String, Trouble> {
    let mut found = BTreeMap::new();
    for (kind, job) in live.iter().filter(|(kind, _)| *kind == Kind::Job) {
        let name = job.name_any();
        if job_state(job) != JobState::Running || pods.iter().any(|pod| is_of_job(pod, &name)) {
            continue;
        }
        let trouble = creation::of_events(&context.client, namespace, *kind, job).await;
        found.extend(trouble.map(|trouble| (name, trouble)));
    }
    found
}

pub(super) fn is_of_job(pod: &Pod, job: &str) -> bool {
    let named = pod.labels().get("batch.kubernetes.io/job-name");
    named.is_some_and(|of| of == job)
}

/// Every reference to a Secret, with where it stands.
pub(super) fn secret_refs(spec: &AuthzStoreSpec) -> Vec<(String, KeyRef)> {
    let mut refs = Vec::new();
    let regions = spec.regions.iter().map(|region| {
        let at = format!("regions[{}].datastore", region.name);
        (at, &region.datastore)
    });
    for (at, of) in std::iter::once(("datastore".to_owned(), &spec.datastore)).chain(regions) {
        refs.push((format!("{at}.urlSecretRef"), of.url_secret_ref.clone()));
        let replica = of.read_replica_url_secret_ref.clone();
        refs.extend(replica.map(|of| (format!("{at}.readReplicaUrlSecretRef"), of)));
    }
    refs.extend(files(spec).into_iter().map(|file| (file.at, file.of)));
    let ca = api_certificate(spec).and_then(|of| of.ca_secret_ref.clone());
    refs.extend(ca.map(|of| ("tls.api.caSecretRef".to_owned(), of)));
    refs
}

/// What its nodes read as files.
pub(super) fn files(spec: &AuthzStoreSpec) -> Vec<SecretFile> {
    let mut files = store_files(spec, Role::Central);
    let others = store_files(spec, Role::Regional);
    let others: Vec<_> = others
        .into_iter()
        .filter(|of| !files.contains(of))
        .collect();
    files.extend(others);
    files
}

/// The names of all Secrets that a store's nodes read, or the operator to speak to them.
pub fn secret_names(spec: &AuthzStoreSpec) -> BTreeSet<String> {
    let refs = secret_refs(spec).into_iter().map(|(_, of)| of.name);
    refs.chain(names_for_access(spec, api_certificate(spec)))
        .collect()
}

/// The databases on servers that a store's nodes write to.
pub fn databases(spec: &AuthzStoreSpec, secrets: &Secrets) -> BTreeSet<String> {
    let regions = spec.regions.iter().map(|region| &region.datastore);
    std::iter::once(&spec.datastore)
        .chain(regions)
        .filter_map(|of| database(&of.url_secret_ref, secrets))
        .map(str::to_owned)
        .collect()
}

pub(super) fn database<'a>(of: &KeyRef, secrets: &'a Secrets) -> Option<&'a str> {
    let secret = secrets.get(&of.name)?.as_ref()?;
    secret.get(&of.key)?.database.as_deref()
}
