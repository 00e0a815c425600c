//! Growing volumes. A StatefulSet's own description of them can never be changed; so each volume that is there is asked
//! to grow, and the StatefulSet is made anew around its pods.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::api::edge::Storage;
use crate::build::{Kind, MANAGER, Object};
use crate::reconcile::apply::{Plan, Step};
use crate::reconcile::read::call;
use crate::reconcile::{Context, Error};

/// Asks the volumes of StatefulSets that are about to be made anew to grow.
///
/// # Errors
/// As [`Error`].
pub(super) async fn grow(
    context: &Context,
    namespace: &str,
    plan: &Plan<'_>,
    wanted: &[Object],
    storage: &Storage,
) -> Result<(), Error> {
    for step in &plan.steps {
        let Step::Replace(gone) = step else { continue };
        let set = wanted
            .iter()
            .find(|of| of.kind == Kind::StatefulSet && of.name == gone.name);
        let Some(set) = set else { continue };
        grow_all(context, namespace, set, storage).await?;
    }
    Ok(())
}

async fn grow_all(
    context: &Context,
    namespace: &str,
    set: &Object,
    storage: &Storage,
) -> Result<(), Error> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), namespace);
    let labels = set.body.pointer("/spec/selector/matchLabels");
    let selector: Vec<String> = labels
        .and_then(|labels| labels.as_object())
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    let params = ListParams::default().labels(&selector.join(","));
    let claims = call(|| "list volume claims".to_owned(), api.list(&params)).await?;
    for claim in claims {
        let name = claim.name_any();
        context.leadership.check()?;
        let body = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "uid": claim.uid()},
            "spec": {"resources": {"requests": {"storage": storage.size}}},
        });
        let params = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(&body);
        let attempt = || format!("grow volume claim '{name}'");
        call(attempt, api.patch(&name, &params, &patch)).await?;
    }
    Ok(())
}
