//! What an AuthzStore names, and what there is of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::api::AuthzStore;
use crate::api::common::KeyRef;
use crate::api::conditions::Finding;
use crate::api::store::AuthzStoreSpec;
use crate::build::{COMPONENT, EDGE_REGION, STORE};
use crate::reconcile::context::Live;
use crate::reconcile::read::{self, Keyed, Secrets};
use crate::reconcile::{Context, Error};

/// What an AuthzStore names, and what there is of it.
#[derive(Debug)]
pub struct References {
    /// The Secrets named.
    pub secrets: Secrets,
    /// The model's ConfigMap, if it names one.
    pub model: Option<Keyed>,
    /// What belongs to it.
    pub live: Vec<Live>,
    /// Its pods: central's, the regions' and the migrations'.
    pub pods: Vec<Arc<Pod>>,
    /// Why it must not be built, if another AuthzStore has its topics or one of its databases.
    pub rival: Option<Finding>,
}

impl References {
    /// The pods of nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.iter().filter(|pod| !is_migration(pod))
    }
}

pub(super) fn is_migration(pod: &Pod) -> bool {
    pod.labels()
        .get(COMPONENT)
        .is_some_and(|of| of == "migration")
}

/// Reads what an AuthzStore names, and what there is of it.
///
/// # Errors
/// As [`Error`]; that something is not there is none.
pub async fn dereference(store: &AuthzStore, context: &Context) -> Result<References, Error> {
    let namespace = store.namespace().unwrap_or_default();
    let uid = store.uid().unwrap_or_default();
    let mut secrets = Secrets::new();
    for name in secret_names(&store.spec) {
        let found = read::secret(&context.client, &namespace, &name, &uid).await?;
        secrets.insert(name, found);
    }
    let model = match &store.spec.model.config_map_key_ref {
        Some(of) => Some(read::config_map(&context.client, &namespace, of).await?),
        None => None,
    };
    let own = databases(&store.spec, &secrets);
    let rival = context.rivals.in_the_way(store, own, &context.client).await;
    let children = &context.caches.of_stores;
    let pods = children.pods(&namespace, STORE, &store.name_any());
    Ok(References {
        secrets,
        model,
        live: children.owned_by(&uid),
        pods: pods
            .into_iter()
            .filter(|pod| !pod.labels().contains_key(EDGE_REGION))
            .collect(),
        rival,
    })
}

/// Every reference to a Secret, with where it stands.
pub(super) fn secret_refs(spec: &AuthzStoreSpec) -> Vec<(String, &KeyRef)> {
    let mut refs = vec![(
        "datastore.urlSecretRef".to_owned(),
        &spec.datastore.url_secret_ref,
    )];
    if let Some(properties) = &spec.kafka.properties_secret_ref {
        refs.push(("kafka.propertiesSecretRef".to_owned(), properties));
    }
    for region in &spec.regions {
        let at = format!("regions[{}].datastore.urlSecretRef", region.name);
        refs.push((at, &region.datastore.url_secret_ref));
    }
    refs
}

/// The names of all Secrets that a store's nodes read.
pub fn secret_names(spec: &AuthzStoreSpec) -> Vec<String> {
    let mut names: Vec<String> = secret_refs(spec)
        .into_iter()
        .map(|(_, of)| of.name.clone())
        .collect();
    names.sort();
    names.dedup();
    names
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
