//! What of an AuthzStore can be built, and what is wrong with the rest. Pure.
//!
//! The parts stand alone: a mistake in the model leaves the workloads to be kept as they should be, and the model that
//! is active untouched.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::ResourceExt;
use meridian_model::{AuthorizationModel, Tiers, TypeSystem, dsl};

use super::dereference::{References, database, files, secret_refs};
use super::owner;
use crate::api::AuthzStore;
use crate::api::common::KeyRef;
use crate::api::conditions::Finding;
use crate::api::store::{AuthzStoreSpec, Tier};
use crate::build::{SecretHashes, StoreInput, central_name, hash, host, regional_name};
use crate::reconcile::Missing;
use crate::reconcile::read::Keyed;

/// What of an AuthzStore can be built.
#[derive(Debug)]
pub struct Validated {
    /// What its objects are built from, or why they are left as they are.
    pub infrastructure: Result<StoreInput, Refusal>,
    /// Why what needs them is left as it is all the same: values of Secrets that are not known.
    pub missing: Missing,
    /// The model and tiers, or why they are left as they are.
    pub model: Result<WantedModel, Refusal>,
}

/// Why a part is left as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It makes no sense: `Accepted` says why.
    Invalid(Finding),
    /// Something it names is not there: `ReferencesResolved` says what.
    Missing(Finding),
}

/// A model with its tiers.
#[derive(Debug, Clone)]
pub struct WantedModel {
    /// The model.
    pub model: Arc<AuthorizationModel>,
    /// A hash of its content.
    pub hash: String,
    /// The tiers.
    pub tiers: Tiers,
}

/// Sorts out what can be built.
#[must_use]
pub fn validate(store: &AuthzStore, references: &References) -> Validated {
    let mut missing = Missing::default();
    Validated {
        infrastructure: infrastructure(store, references, &mut missing),
        missing,
        model: model(&store.spec, references),
    }
}

fn infrastructure(
    store: &AuthzStore,
    references: &References,
    missing: &mut Missing,
) -> Result<StoreInput, Refusal> {
    if let Some(refusal) = &references.rival {
        return Err(Refusal::Invalid(refusal.clone()));
    }
    own_databases(&store.spec, references)?;
    let mut secrets = SecretHashes::new();
    for (at, of) in secret_refs(&store.spec) {
        match references.seen.hash(&at, &of) {
            Ok(hash) => {
                secrets.insert(of, hash);
            }
            Err(finding) => missing.add(&of, finding),
        }
    }
    let files = files(&store.spec);
    references.seen.check(&files, &hosts(store), missing);
    Ok(StoreInput {
        name: store.name_any(),
        namespace: store.namespace().unwrap_or_default(),
        owner: owner(store),
        spec: store.spec.clone(),
        secrets,
    })
}

/// The names by which nodes below reach central and the regions.
fn hosts(store: &AuthzStore) -> Vec<String> {
    let (name, namespace) = (store.name_any(), store.namespace().unwrap_or_default());
    let regions = store.spec.regions.iter();
    let regions = regions.map(|region| regional_name(&name, &region.name));
    std::iter::once(central_name(&name))
        .chain(regions)
        .map(|service| host(&service, &namespace))
        .collect()
}

/// Nodes of two roles on one database would undo each other's work.
fn own_databases(spec: &AuthzStoreSpec, references: &References) -> Result<(), Refusal> {
    let database = |of: &KeyRef| database(of, &references.seen.secrets);
    let mut used = vec![("central", &spec.datastore.url_secret_ref)];
    for region in &spec.regions {
        let url = &region.datastore.url_secret_ref;
        if let Some((other, _)) = used
            .iter()
            .find(|(_, of)| *of == url || database(of).is_some() && database(of) == database(url))
        {
            return Err(Refusal::Invalid(Finding::fault(
                "DatabaseShared",
                format!(
                    "regions[{}].datastore.urlSecretRef names the database of {other}: give each a database of its own",
                    region.name
                ),
            )));
        }
        used.push((&region.name, url));
    }
    Ok(())
}

fn model(spec: &AuthzStoreSpec, references: &References) -> Result<WantedModel, Refusal> {
    let text = match (&spec.model.inline, &references.model) {
        (Some(text), _) => text,
        (None, Some(Keyed::Found(text))) => text,
        (None, found) => return Err(Refusal::Missing(missing(spec, found.as_ref()))),
    };
    let invalid = |why: String| Refusal::Invalid(Finding::fault("InvalidModel", why));
    let types = compile(text).map_err(|why| invalid(format!("model: {why}")))?;
    let model = Arc::clone(types.model());
    let tiers = tiers(spec, &types)?;
    let hash = model_hash(&model);
    Ok(WantedModel { model, hash, tiers })
}

fn missing(spec: &AuthzStoreSpec, found: Option<&Keyed>) -> Finding {
    let Some(of) = &spec.model.config_map_key_ref else {
        return Finding::fault("InvalidModel", "model: set inline or configMapKeyRef");
    };
    match found {
        Some(Keyed::NoKey) => Finding::fault(
            "ConfigMapKeyNotFound",
            format!(
                "model.configMapKeyRef: ConfigMap '{}' has no key '{}'",
                of.name, of.key
            ),
        ),
        _ => Finding::fault(
            "ConfigMapNotFound",
            format!(
                "model.configMapKeyRef: there is no ConfigMap '{}' in this namespace",
                of.name
            ),
        ),
    }
}

fn compile(text: &str) -> Result<TypeSystem, String> {
    if text.trim_start().starts_with('{') {
        let model: AuthorizationModel = serde_json::from_str(text).map_err(|why| {
            let place = format!(" at line {} column {}", why.line(), why.column());
            let what = why.to_string();
            let what = what.strip_suffix(&place).unwrap_or(&what);
            format!("line {}, column {}: {what}", why.line(), why.column())
        })?;
        return TypeSystem::new(model.into()).map_err(|why| why.to_string());
    }
    dsl::compile(text).map_err(|mistakes| {
        let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        told.join("; ")
    })
}

fn tiers(spec: &AuthzStoreSpec, types: &TypeSystem) -> Result<Tiers, Refusal> {
    if let Some(unknown) = spec.tiers.iter().find(|of| !types.has_type(&of.r#type)) {
        return Err(Refusal::Invalid(Finding::fault(
            "InvalidTiers",
            format!(
                "tiers: type '{}' is not defined by the model",
                unknown.r#type
            ),
        )));
    }
    let of = |tier: Tier| -> BTreeSet<String> {
        let named = spec.tiers.iter().filter(|of| of.tier == tier);
        named.map(|of| of.r#type.clone()).collect()
    };
    Ok(Tiers {
        critical: of(Tier::Critical),
        cold: of(Tier::Cold),
    })
}

/// A hash of a model's content: the same for the same model, whether read from a spec or from a node.
#[must_use]
pub fn model_hash(model: &AuthorizationModel) -> String {
    // A model is texts, lists and sorted maps: it always has a JSON form.
    hash(&serde_json::to_string(model).unwrap_or_default())
}
