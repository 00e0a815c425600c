//! The kinds of `meridian.dev/v1alpha1`. What a field means is said once, here: its documentation is what
//! `kubectl explain` shows. A field exists only if it has an effect, and each text and list has a bound, so that the
//! cost of every rule is known.

#[expect(unreachable_pub, reason = "in code that KubeSchema generates")]
pub mod callers;
#[expect(unreachable_pub, reason = "in code that KubeSchema generates")]
pub mod common;
pub mod conditions;
#[expect(unreachable_pub, reason = "in code that KubeSchema generates")]
pub mod edge;
#[expect(unreachable_pub, reason = "in code that KubeSchema generates")]
pub mod observing;
#[expect(unreachable_pub, reason = "in code that KubeSchema generates")]
pub mod store;
#[expect(unreachable_pub, reason = "in code that KubeSchema generates")]
pub mod tuning;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

pub use edge::EdgeRegion;
pub use store::AuthzStore;

/// The definitions of both kinds, each with the name of the file it stands in under `crds/`.
#[must_use]
pub fn definitions() -> [(&'static str, CustomResourceDefinition); 2] {
    [
        ("authzstores.yaml", AuthzStore::crd()),
        ("edgeregions.yaml", EdgeRegion::crd()),
    ]
}

/// A definition as YAML.
///
/// # Errors
/// When it cannot be written, which would be a fault of this crate.
pub fn yaml(definition: &CustomResourceDefinition) -> anyhow::Result<String> {
    // By way of JSON: maps of the definition come out in the order of their keys.
    let value = serde_json::to_value(definition)?;
    Ok(serde_saphyr::to_string(&value)?)
}
