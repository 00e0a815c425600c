//! Growing volumes. A StatefulSet's own description of them can never be changed; so each volume that is there is asked
//! to grow, and the StatefulSet is made anew around its pods.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::workload;
use crate::build::{Kind, MANAGER, Object};
use crate::reconcile::apply::volume;
use crate::reconcile::context::Live;
use crate::reconcile::read::call;
use crate::reconcile::same::quantity;
use crate::reconcile::{Context, Error};

const TEMPLATES: &str = "/spec/volumeClaimTemplates";

/// Asks the volumes of StatefulSets to grow whose size is to change. Where one does not, the size stays as it is in what
/// is wanted, so that everything else of it is looked after; says the first that did not, and why.
pub(super) async fn grow(
    context: &Context,
    namespace: &str,
    wanted: &mut [Object],
    live: &[Live],
) -> Option<Error> {
    let mut failed = None;
    for set in wanted.iter_mut().filter(|of| of.kind == Kind::StatefulSet) {
        let Some(there) = workload(live, &set.name) else {
            continue;
        };
        if volume(&set.body) == volume(&there.data) {
            continue;
        }
        let Err(error) = grow_all(context, namespace, set).await else {
            continue;
        };
        failed.get_or_insert(error);
        if let Some(templates) = there.data.pointer(TEMPLATES) {
            set.change(TEMPLATES, templates.clone());
        }
    }
    failed
}

async fn grow_all(context: &Context, namespace: &str, set: &Object) -> Result<(), Error> {
    let size = set
        .body
        .pointer(&format!("{TEMPLATES}/0/spec/resources/requests/storage"));
    let Some(size) = size.and_then(Value::as_str) else {
        return Ok(());
    };
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
        if asked(&claim) == quantity(size) {
            continue;
        }
        let body = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "uid": claim.uid()},
            "spec": {"resources": {"requests": {"storage": size}}},
        });
        let params = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(&body);
        let attempt = || format!("storage.size: grow volume claim '{name}' to {size}");
        let grow = api.patch(&name, &params, &patch);
        context.leadership.write(attempt, grow).await?;
    }
    Ok(())
}

/// The size that a volume was asked to have.
fn asked(claim: &PersistentVolumeClaim) -> Option<i128> {
    let resources = claim.spec.as_ref()?.resources.as_ref()?;
    quantity(&resources.requests.as_ref()?.get("storage")?.0)
}
