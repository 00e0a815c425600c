//! What happens outside of the cluster when an AuthzStore is deleted: nothing, or its store is deleted through the API.
//! What is inside belongs to the AuthzStore, and Kubernetes removes it.
//!
//! The AuthzStore is held until every region has deleted its copy too: let go, its pods end, and a copy would stay in its
//! database for ever. But deleting must never hang: where nodes are gone already (the namespace goes, or the pods went
//! first), or have not done it in five minutes of trying, it is let go and an event says what was not deleted.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::dereference::{is_live, is_migration};
use super::uid;
use crate::api::AuthzStore;
use crate::api::conditions::{Finding, READY, STORE_DELETED, conditions};
use crate::api::store::DeletionPolicy;
use crate::build::{
    Kind, MANAGER, REGION, STORE, api_certificate, central_name, grpc_address, regional_name,
};
use crate::events::Severity;
use crate::nodes::{Access, Address, NodeError};
use crate::reconcile::asked::{Asked, ask};
use crate::reconcile::secrets::{Seen, names_for_access};
use crate::reconcile::workloads::replicas;
use crate::reconcile::{Context, Error, status};
use crate::requeue::{self, jittered};

/// Holds an AuthzStore until its store is deleted.
pub const FINALIZER: &str = "meridian.dev/store";

const DELETING: &str = "Deleting";
/// The reason before central is asked to delete the store. It was there then: found there no more, it was deleted, also if
/// the answer was lost.
const DELETING_AT_CENTRAL: &str = "DeletingAtCentral";
/// The reason once central has deleted the store, so that it is not looked for there again.
const DELETED_AT_CENTRAL: &str = "DeletedAtCentral";

/// How long it is held at most after the first attempt.
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

/// Whoever else has set our finalizer too (a backup that was restored), by server-side apply it would stay. The version
/// makes sure that what was seen last is still so.
async fn set(store: &AuthzStore, context: &Context, held: bool) -> Result<(), Error> {
    let (name, namespace) = (store.name_any(), store.namespace().unwrap_or_default());
    let api: Api<AuthzStore> = Api::namespaced(context.client.clone(), &namespace);
    let others = store.finalizers().iter().filter(|of| *of != FINALIZER);
    let ours = held.then_some(FINALIZER);
    let finalizers: Vec<_> = others.map(String::as_str).chain(ours).collect();
    let body = json!({"metadata": {
        "resourceVersion": store.resource_version(),
        "finalizers": finalizers,
    }});
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let attempt = || format!("set the finalizer of AuthzStore '{name}'");
    let patch = Patch::Merge(&body);
    let write = api.patch(&name, &params, &patch);
    context.leadership.write(attempt, write).await.map(|_| ())
}

/// Deletes what the policy says, and lets go.
pub(super) async fn clean_up(store: &AuthzStore, context: &Context) -> Result<Action, Error> {
    if !is_held(store) {
        return Ok(Action::await_change());
    }
    context.leadership.check()?;
    let (mut store, now) = (store.clone(), Timestamp::now());
    if store.spec.deletion_policy == DeletionPolicy::Delete
        && let Some(obstacle) = delete_data(&mut store, context, now).await?
    {
        // Not since it was deleted: the operator may have been away.
        let since = deletion(&store).map_or(now, |of| of.last_transition_time.0);
        if obstacle.may_pass && now.duration_since(since) < PATIENCE {
            say(&mut store, context, obstacle.reason, &obstacle.why, now).await?;
            return Ok(Action::requeue(jittered(requeue::UNSETTLED)));
        }
        let (product, why) = (&store.spec.product, obstacle.why);
        let note = format!("not all data of product '{product}' were deleted: {why}");
        let about = store.object_ref(&());
        context
            .events
            .publish(&about, Severity::Warning, "StoreNotDeleted", &note)
            .await;
    }
    set(&store, context, false).await?;
    Ok(Action::await_change())
}

/// What keeps data from being deleted.
struct Obstacle {
    why: String,
    /// Whether there is somebody who could still do it.
    may_pass: bool,
    /// How far it got.
    reason: &'static str,
}

async fn delete_data(
    store: &mut AuthzStore,
    context: &Context,
    now: Timestamp,
) -> Result<Option<Obstacle>, Error> {
    let id = store.status.as_ref().and_then(|of| of.store_id.clone());
    if !has_got_to(store, DELETED_AT_CENTRAL)
        && let Some(obstacle) = delete_at_central(id.as_deref(), store, context, now).await?
    {
        return Ok(Some(obstacle));
    }
    Ok(match id {
        Some(id) => copies_deleted(&id, store, context).await.err(),
        None => None,
    })
}

async fn delete_at_central(
    id: Option<&str>,
    store: &mut AuthzStore,
    context: &Context,
    now: Timestamp,
) -> Result<Option<Obstacle>, Error> {
    let (name, namespace) = (store.name_any(), store.namespace().unwrap_or_default());
    let central = central_name(&name);
    let address = Address {
        at: grpc_address(&central, &namespace),
        access: access(store, context).await,
    };
    let done = match at_central(&address, id, store, context).await {
        Ok(AtCentral::Ours(id)) => {
            if !has_got_to(store, DELETING_AT_CENTRAL) {
                let why = format!("central is asked to delete store {id}");
                say(store, context, DELETING_AT_CENTRAL, &why, now).await?;
            }
            let delete = context.nodes.delete_store(&address, id);
            context.leadership.guard(delete).await
        }
        Ok(AtCentral::None) => Ok(()),
        Ok(AtCentral::Strange(why)) => {
            return Ok(Some(Obstacle {
                why,
                may_pass: false,
                reason: DELETING,
            }));
        }
        Err(error) => Err(error),
    };
    let asked = has_got_to(store, DELETING_AT_CENTRAL);
    Ok(done.err().map(|why| Obstacle {
        why: why.to_string(),
        may_pass: is_there(&central, store, context),
        reason: if asked { DELETING_AT_CENTRAL } else { DELETING },
    }))
}

/// What central has of a store.
enum AtCentral<'a> {
    /// The one that is known to be this AuthzStore's.
    Ours(&'a str),
    /// There is none, or none any more.
    None,
    /// What is there was never this AuthzStore's, or what was is not there: nothing is deleted.
    Strange(String),
}

/// Looks for the store that is known to be this AuthzStore's, and no other of its name: central may have been led to
/// somebody else's database.
async fn at_central<'a>(
    address: &Address,
    id: Option<&'a str>,
    store: &AuthzStore,
    context: &Context,
) -> Result<AtCentral<'a>, NodeError> {
    let (nodes, product) = (&context.nodes, &store.spec.product);
    let named = nodes.find_store(address, product).await?;
    let Some(id) = id else {
        return Ok(named.map_or(AtCentral::None, |id| {
            AtCentral::Strange(format!("it is not known to have made store {id}"))
        }));
    };
    if named.as_deref() == Some(id) {
        return Ok(AtCentral::Ours(id));
    }
    let status = nodes.status(address, Some(id)).await?;
    if let Some(of) = status.dependency("datastore").filter(|of| !of.available) {
        return Err(NodeError::Unavailable(of.message.clone()));
    }
    Ok(if status.has(id) {
        AtCentral::Ours(id)
    } else if has_got_to(store, DELETING_AT_CENTRAL) {
        AtCentral::None
    } else {
        AtCentral::Strange(format!("central does not have store {id}, which it had"))
    })
}

/// As an earlier attempt has left it said.
fn has_got_to(store: &AuthzStore, reason: &str) -> bool {
    deletion(store).is_some_and(|of| of.reason == reason)
}

fn deletion(store: &AuthzStore) -> Option<&Condition> {
    let mut conditions = store.status.iter().flat_map(|of| &of.conditions);
    conditions.find(|of| of.type_ == STORE_DELETED)
}

async fn copies_deleted(id: &str, store: &AuthzStore, context: &Context) -> Result<(), Obstacle> {
    let name = store.name_any();
    let mut left = Vec::new();
    let mut may_pass = false;
    let asked = ask_regions(id, store, context).await;
    for region in &store.spec.regions {
        let nodes = asked
            .iter()
            .filter(|of| of.region.as_ref() == Some(&region.name));
        if let Err(why) = is_gone(nodes, id) {
            may_pass |= is_there(&regional_name(&name, &region.name), store, context);
            left.push(format!("region {}: {why}", region.name));
        }
    }
    if left.is_empty() {
        return Ok(());
    }
    Err(Obstacle {
        why: left.join("; "),
        may_pass,
        reason: DELETED_AT_CENTRAL,
    })
}

async fn ask_regions(id: &str, store: &AuthzStore, context: &Context) -> Vec<Asked> {
    let namespace = store.namespace().unwrap_or_default();
    let mut pods = context
        .caches
        .of_stores
        .pods(&namespace, STORE, &store.name_any());
    pods.retain(|pod| pod.labels().contains_key(REGION) && !is_migration(pod) && !is_live(pod));
    ask(context, &pods, &access(store, context).await, Some(id)).await
}

/// How its nodes are spoken to, by what is left of its Secrets.
async fn access(store: &AuthzStore, context: &Context) -> Access {
    let namespace = store.namespace().unwrap_or_default();
    let api = api_certificate(&store.spec);
    let names = names_for_access(&store.spec, api).collect();
    let seen = Seen::read(&context.client, &namespace, names, &uid(store)).await;
    for (name, error) in &seen.unread {
        tracing::warn!(secret = name, %error, "cannot see what nodes want to be shown");
    }
    seen.access(&store.spec, api)
}

/// Whether a region has deleted its copy. Its nodes have one database: any of them that sees it knows.
fn is_gone<'a>(nodes: impl Iterator<Item = &'a Asked>, store: &str) -> Result<(), String> {
    let mut why = "no node runs that could say".to_owned();
    for Asked { pod, status, .. } in nodes {
        let silent = match status {
            Err(error) => Some(error.to_string()),
            Ok(status) => status
                .dependency("datastore")
                .filter(|of| !of.available)
                .map(|of| of.message.clone()),
        };
        why = match (silent, status) {
            (Some(silent), _) => format!("{pod}: {silent}"),
            (None, Ok(status)) if !status.has(store) => return Ok(()),
            _ => format!("{pod} still has store {store}"),
        };
    }
    Err(why)
}

/// Whoever waits for the deletion sees what it waits for, and a next attempt how far it got.
async fn say(
    store: &mut AuthzStore,
    context: &Context,
    reason: &str,
    why: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let waits = |reason| {
        let told = format!("waiting for the data to be deleted: {why}");
        Finding::not_yet(reason, told)
    };
    let findings = [(READY, waits(DELETING)), (STORE_DELETED, waits(reason))];
    let before = store.status.as_ref();
    let mut after = before.cloned().unwrap_or_default();
    let generation = store.metadata.generation;
    let told = conditions(&after.conditions, &findings, generation, now);
    let is_told = |of: &Condition| told.iter().any(|told| told.type_ == of.type_);
    after.conditions.retain(|of| !is_told(of));
    after.conditions.splice(0..0, told);
    if let Some(written) = status::write(context, store, before, &after).await? {
        *store = written;
    }
    Ok(())
}

/// Whether a workload is there and has pods.
fn is_there(workload: &str, store: &AuthzStore, context: &Context) -> bool {
    let live = context.caches.of_stores.owned_by(&uid(store));
    live.iter().any(|(kind, object)| {
        *kind == Kind::Deployment
            && object.name_any() == workload
            && object.metadata.deletion_timestamp.is_none()
            && replicas(object).wanted > 0
    })
}
