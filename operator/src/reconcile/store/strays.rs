//! Workloads of a refused store that would get into a database that is not theirs: a container reads the URL in its
//! Secret when it starts, whatever the Secret said when the workload was made.

use std::collections::BTreeSet;

use kube::ResourceExt;
use kube::api::DynamicObject;

use crate::api::AuthzStore;
use crate::build::{DATASTORE_URL, Kind};
use crate::reconcile::Context;
use crate::reconcile::apply::{Gone, gone};
use crate::reconcile::context::Live;
use crate::reconcile::read::{self, Secrets};
use crate::reconcile::rivals::Place;
use crate::reconcile::workloads::{JobState, job_state};

/// Those of `live` whose Secrets lead to a database that the store's nodes do not run on. Where it is not known which
/// those are, or where a Secret leads, there are none.
pub(super) async fn strays(
    store: &AuthzStore,
    context: &Context,
    secrets: &Secrets,
    live: &[Live],
) -> Vec<Gone> {
    let held: BTreeSet<String> = context
        .rivals
        .held(store)
        .into_iter()
        .filter_map(|of| match of {
            Place::Database(database) => Some(database),
            Place::Topics(_) => None,
        })
        .collect();
    let mut strays = Vec::new();
    for (kind, object) in live.iter().filter(|(kind, of)| has_pods(*kind, of)) {
        let Some((name, key)) = url_secret(object) else {
            continue;
        };
        let read = match secrets.get(name) {
            Some(read) => read.clone(),
            None => {
                let namespace = store.namespace().unwrap_or_default();
                let uid = store.uid().unwrap_or_default();
                let read = read::secret(&context.client, &namespace, name, &uid).await;
                read.unwrap_or_else(|error| {
                    tracing::warn!(secret = name, %error, "cannot see where a Secret leads");
                    None
                })
            }
        };
        let database = read.and_then(|secret| secret.get(key)?.database.clone());
        if database.is_some_and(|database| !held.is_empty() && !held.contains(&database)) {
            strays.push(gone(*kind, object));
        }
    }
    strays
}

fn has_pods(kind: Kind, object: &DynamicObject) -> bool {
    object.metadata.deletion_timestamp.is_none()
        && match kind {
            Kind::Deployment => true,
            Kind::Job => job_state(object) == JobState::Running,
            _ => false,
        }
}

/// The name and key of the Secret that a workload's pods have the URL from.
fn url_secret(workload: &DynamicObject) -> Option<(&str, &str)> {
    let env = workload
        .data
        .pointer("/spec/template/spec/containers/0/env")?;
    let mut variables = env.as_array()?.iter();
    let url = variables.find(|of| of["name"] == DATASTORE_URL)?;
    let of = url.pointer("/valueFrom/secretKeyRef")?;
    Some((of.get("name")?.as_str()?, of.get("key")?.as_str()?))
}
