//! Why pods are not created (a quota, pod security, an admission webhook), from what Kubernetes says of what creates them:
//! Deployments have a condition for it; StatefulSets and Jobs have events only.

use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DynamicObject, ListParams};
use kube::{Client, ResourceExt};
use serde_json::Value;

use super::pods::Trouble;
use super::read::call;
use crate::build::Kind;

/// Pods that are wanted cannot be created.
const NOT_CREATED: &str = "PodsNotCreated";

/// What a Deployment says of pods that it cannot create, or that do not get ready for long.
#[must_use]
pub fn of_deployment(deployment: &DynamicObject) -> Option<Trouble> {
    let conditions = deployment.data.pointer("/status/conditions")?.as_array()?;
    let text = |of: &Value, field: &str| of.get(field).and_then(Value::as_str).map(str::to_owned);
    let find = |kind: &str, status: &str| {
        let mut found = conditions.iter();
        found.find(|of| of["type"] == kind && of["status"] == status)
    };
    let name = deployment.name_any();
    if let Some(failure) = find("ReplicaFailure", "True") {
        let why = text(failure, "message").unwrap_or_default();
        return Some(not_created(Kind::Deployment, &name, &why));
    }
    let stuck = find("Progressing", "False")?;
    Some(Trouble {
        reason: text(stuck, "reason").filter(|of| !of.is_empty())?,
        message: format!(
            "Deployment '{name}': {}",
            text(stuck, "message").unwrap_or_default()
        ),
    })
}

/// What the events of a StatefulSet or Job say last of pods it cannot create. That events cannot be read is logged: they
/// only tell.
pub async fn of_events(
    client: &Client,
    namespace: &str,
    kind: Kind,
    owner: &DynamicObject,
) -> Option<Trouble> {
    let (name, api) = (
        owner.name_any(),
        Api::<Event>::namespaced(client.clone(), namespace),
    );
    let params = ListParams::default().fields(&format!("regarding.uid={}", owner.uid()?));
    let attempt = || format!("read the events of {kind:?} '{name}'");
    let events = match call(attempt, api.list(&params)).await {
        Ok(events) => events.items,
        Err(error) => {
            tracing::warn!(%error, "cannot say why pods are not created");
            return None;
        }
    };
    let is_of_pods = |event: &&Event| {
        let reason = event.reason.as_deref().unwrap_or_default();
        matches!(reason, "FailedCreate" | "SuccessfulCreate")
    };
    let last = events.iter().filter(is_of_pods).max_by_key(|of| time(of))?;
    (last.reason.as_deref() == Some("FailedCreate"))
        .then(|| not_created(kind, &name, last.note.as_deref().unwrap_or_default()))
}

/// When it was so last.
fn time(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().map(|of| of.last_observed_time.0);
    let last = event.deprecated_last_timestamp.as_ref().map(|of| of.0);
    let first = event.event_time.as_ref().map(|of| of.0);
    series.max(last).max(first)
}

/// The name of the pod is left out: it is another with each try.
fn not_created(kind: Kind, name: &str, why: &str) -> Trouble {
    let why = why.split_once("\" is ").map_or(why, |(_, why)| why);
    Trouble {
        reason: NOT_CREATED.to_owned(),
        message: format!("{kind:?} '{name}' cannot create its pods: {why}"),
    }
}
