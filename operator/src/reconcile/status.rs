//! Writing a status, and telling what changed in it.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{Category, Context, Error, Failures};
use crate::api::conditions::{
    ACCEPTED, Finding, Findings, MIGRATED, MODEL_ACTIVE, READY, REFERENCES_RESOLVED, State,
};
use crate::build::MANAGER;
use crate::events::Severity;

/// Writes a status if it differs from the one that is there; says what the object is then.
///
/// # Errors
/// As [`Error`].
pub async fn write<K, S>(
    context: &Context,
    object: &K,
    before: Option<&S>,
    after: &S,
) -> Result<Option<K>, Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Debug,
    S: Serialize + PartialEq,
{
    if before == Some(after) {
        return Ok(None);
    }
    let (kind, name) = (K::kind(&()), object.name_any());
    let namespace = object.namespace().unwrap_or_default();
    let api: Api<K> = Api::namespaced(context.client.clone(), &namespace);
    let body = json!({
        "apiVersion": K::api_version(&()),
        "kind": kind,
        // If another object has the name by now, its status is not this one.
        "metadata": {"name": name, "uid": object.uid()},
        "status": after,
    });
    let params = PatchParams::apply(MANAGER).force();
    let attempt = || format!("write the status of {kind} '{name}'");
    let patch = Patch::Apply(&body);
    let write = api.patch_status(&name, &params, &patch);
    context.leadership.write(attempt, write).await.map(Some)
}

/// What is found where reading what the spec names came to an end: `at` says why, and nothing is known of the others.
#[must_use]
pub fn unread(kinds: &[&'static str], at: &'static str, error: &Error) -> Findings {
    let blocked = Finding::blocked(at, &error.to_string());
    let why = not_read(error);
    let found = |kind| if kind == at { &why } else { &blocked };
    kinds
        .iter()
        .map(|kind| (*kind, found(*kind).clone()))
        .collect()
}

/// Why something that the spec names is not known.
#[must_use]
pub fn not_read(error: &Error) -> Finding {
    let told = error.to_string();
    match error.category() {
        Category::Refused | Category::Taken => Finding::fault("Refused", told),
        Category::Transient | Category::NotLeader => Finding::unknown("NotRead", told),
    }
}

/// What the API server will not take, whatever is tried, must be seen by who wrote the spec.
pub fn refused(findings: &mut Findings, failures: &Failures) {
    let refused = failures.errors().filter_map(|error| {
        let reason = match error.category() {
            Category::Refused => "Refused",
            Category::Taken => "NameTaken",
            Category::Transient | Category::NotLeader => return None,
        };
        Some((reason, error.to_string()))
    });
    let (reasons, told): (Vec<_>, Vec<_>) = refused.unzip();
    let Some(reason) = reasons.first() else {
        return;
    };
    for (kind, finding) in findings.iter_mut() {
        if *kind == ACCEPTED {
            *finding = Finding::fault(reason, told.join("; "));
        }
    }
}

/// Where another message is another fault: it changes only when somebody changes something. What is said of pods and of
/// the network may change each time.
const BY_MESSAGE: [&str; 3] = [ACCEPTED, REFERENCES_RESOLVED, MODEL_ACTIVE];

/// Publishes an event for each condition that changed in a way somebody should know.
pub async fn tell(
    context: &Context,
    about: &ObjectReference,
    before: &[Condition],
    findings: &Findings,
) {
    for (at, (kind, finding)) in findings.iter().enumerate() {
        let said = findings.iter().take(at).any(|(_, of)| {
            of.fault && of.reason == finding.reason && finding.message.contains(&of.message)
        });
        let old = before.iter().find(|of| of.type_ == *kind);
        let was = old.map_or("", |of| of.status.as_str());
        let known = old.is_some_and(|old| {
            old.reason == finding.reason
                && (old.message == finding.message || !BY_MESSAGE.contains(kind))
        });
        match finding.state {
            // The summary repeats what another condition says, and so may others.
            State::False if finding.fault && *kind != READY && !known && !said => {
                context
                    .events
                    .publish(about, Severity::Warning, &finding.reason, &finding.message)
                    .await;
            }
            State::True if was != "True" && [READY, MIGRATED, MODEL_ACTIVE].contains(kind) => {
                context
                    .events
                    .publish(about, Severity::Normal, kind, &finding.message)
                    .await;
            }
            _ => {}
        }
    }
}
