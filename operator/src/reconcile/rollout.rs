//! In which order a new image reaches the nodes of a store: central first, then its regions, then the edges below each.
//! A node so never speaks to one above it that is older than itself, and a bad image stops at the first that it breaks:
//! it does not even migrate the databases of those that come later.

use kube::api::DynamicObject;
use serde_json::Value;

use super::workloads::replicas;
use crate::build::Object;

/// Whether a workload (or its migration) must not be changed yet, since another comes `before` it. `own` is what there is
/// of the workload.
#[must_use]
pub fn is_early(
    wanted: &Object,
    own: Option<&DynamicObject>,
    before: Option<&DynamicObject>,
) -> bool {
    let Some(before) = before else { return false };
    let wanted = image(&wanted.body);
    let has_it = image(&before.data) == wanted;
    match own.map(|own| image(&own.data)) {
        Some(own) if own == wanted => false,
        Some(_) => !(has_it && replicas(before).is_settled()),
        // Nothing of it serves yet that could be broken.
        None => !has_it,
    }
}

fn image(workload: &Value) -> Option<&str> {
    let image = workload.pointer("/spec/template/spec/containers/0/image");
    image.and_then(Value::as_str)
}
