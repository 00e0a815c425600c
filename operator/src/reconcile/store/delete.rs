//! What happens outside of the cluster when an AuthzStore is deleted: nothing, or its store is deleted through the API.
//! What is inside belongs to the AuthzStore, and Kubernetes removes it.
//!
//! Deleting must never hang: where central is gone already (the namespace goes, or its pods went first) or does not
//! answer for five minutes, the AuthzStore is let go and an event says that the store was not deleted.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::uid;
use crate::api::AuthzStore;
use crate::api::store::DeletionPolicy;
use crate::build::{Kind, MANAGER, central_name, grpc_address};
use crate::events::Severity;
use crate::nodes::NodeError;
use crate::reconcile::read::call;
use crate::reconcile::workloads::replicas;
use crate::reconcile::{Context, Error};
use crate::requeue::{self, jittered};

/// Holds an AuthzStore until its store is deleted.
pub const FINALIZER: &str = "meridian.dev/store";

/// How long it is held at most.
const PATIENCE: SignedDuration = SignedDuration::from_mins(5);

/// Sees to it that the AuthzStore is held exactly if its deletion policy asks for it.
pub(super) async fn hold(store: &AuthzStore, context: &Context) -> Result<(), Error> {
    let wanted = store.spec.deletion_policy == DeletionPolicy::Delete;
    if wanted == is_held(store) {
        return Ok(());
    }
    set(store, context, wanted).await
}

fn is_held(store: &AuthzStore) -> bool {
    store.finalizers().iter().any(|of| of == FINALIZER)
}

/// By server-side apply: the finalizers of others stay, and the last application decides about ours.
async fn set(store: &AuthzStore, context: &Context, held: bool) -> Result<(), Error> {
    context.leadership.check()?;
    let (name, namespace) = (store.name_any(), store.namespace().unwrap_or_default());
    let api: Api<AuthzStore> = Api::namespaced(context.client.clone(), &namespace);
    let finalizers: &[&str] = if held { &[FINALIZER] } else { &[] };
    let body = json!({
        "apiVersion": AuthzStore::api_version(&()),
        "kind": AuthzStore::kind(&()),
        "metadata": {"name": name, "uid": store.uid(), "finalizers": finalizers},
    });
    let params = PatchParams::apply(MANAGER).force();
    let attempt = || format!("set the finalizer of AuthzStore '{name}'");
    call(attempt, api.patch(&name, &params, &Patch::Apply(&body)))
        .await
        .map(|_| ())
}

/// Deletes what the policy says, and lets go.
pub(super) async fn clean_up(store: &AuthzStore, context: &Context) -> Result<Action, Error> {
    if !is_held(store) {
        return Ok(Action::await_change());
    }
    context.leadership.check()?;
    if store.spec.deletion_policy == DeletionPolicy::Delete
        && let Err(why) = delete_store(store, context).await
    {
        let since = store.metadata.deletion_timestamp.as_ref().map(|at| at.0);
        let waited = since.map(|since| Timestamp::now().duration_since(since));
        let is_patient = waited.is_some_and(|waited| waited < PATIENCE);
        if is_patient && is_central_there(store, context) {
            tracing::info!(%why, store = store.name_any(), "cannot delete the store yet");
            return Ok(Action::requeue(jittered(requeue::UNSETTLED)));
        }
        let note = format!(
            "the data of product '{}' was not deleted: {why}",
            store.spec.product
        );
        let about = store.object_ref(&());
        context
            .events
            .publish(&about, Severity::Warning, "StoreNotDeleted", &note)
            .await;
    }
    set(store, context, false).await?;
    Ok(Action::await_change())
}

async fn delete_store(store: &AuthzStore, context: &Context) -> Result<(), NodeError> {
    let namespace = store.namespace().unwrap_or_default();
    let address = grpc_address(&central_name(&store.name_any()), &namespace);
    let found = context
        .nodes
        .find_store(&address, &store.spec.product)
        .await?;
    match found {
        Some(id) => context.nodes.delete_store(&address, &id).await,
        None => Ok(()),
    }
}

fn is_central_there(store: &AuthzStore, context: &Context) -> bool {
    let name = central_name(&store.name_any());
    let live = context.caches.of_stores.owned_by(&uid(store));
    live.iter().any(|(kind, object)| {
        *kind == Kind::Deployment
            && object.name_any() == name
            && object.metadata.deletion_timestamp.is_none()
            && replicas(object).wanted > 0
    })
}
