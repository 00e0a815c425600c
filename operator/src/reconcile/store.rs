//! The reconcile of an AuthzStore.

mod delete;
mod dereference;
mod findings;
mod model;
mod observe;
mod strays;
mod validate;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};

use super::apply::find;
use super::context::Live;
use super::workloads::replicas;
use super::{Context, Error, Failures, Plan, Step, apply, plan, rollout, status};
use crate::api::AuthzStore;
use crate::api::conditions::{
    ACCEPTED, Findings, READY, REFERENCES_RESOLVED, State, conditions, summary,
};
use crate::api::store::AuthzStoreStatus;
use crate::build::{
    self, CENTRAL, Kind, Object, central_name, live_name, live_target, regional_name,
};
use crate::events::Severity;
use crate::requeue::{self, jittered};

pub use delete::FINALIZER;
pub use dereference::{References, databases, dereference, secret_names};
pub use validate::{Refusal, Validated, WantedModel, model_hash, validate};

/// Brings the cluster and the store to what an AuthzStore says, as far as that can be done now.
///
/// # Errors
/// [`Error`] when it must be tried again; the status says what is wrong with the spec.
pub async fn reconcile(store: Arc<AuthzStore>, context: Arc<Context>) -> Result<Action, Error> {
    context.caches.ready().await?;
    if store.metadata.deletion_timestamp.is_some() {
        return delete::clean_up(&store, &context).await;
    }
    let now = Timestamp::now();
    if let Err(error) = delete::hold(&store, &context).await {
        return give_up(&store, &context, ACCEPTED, error, now).await;
    }
    let references = match dereference(&store, &context).await {
        Ok(references) => references,
        Err(error) => return give_up(&store, &context, REFERENCES_RESOLVED, error, now).await,
    };
    let validated = validate(&store, &references);
    let wanted = validated.infrastructure.as_ref().ok();
    let wanted = wanted.map(|input| build::store(input, &context.settings));
    let plan = wanted.as_deref().map(|wanted| {
        let is_early = |object: &Object| is_early(object, &store, &references.live);
        let is_missing = |object: &Object| validated.missing.of(object).is_some();
        plan(
            wanted,
            &references.live,
            is_missing,
            |_| false,
            is_early,
            now,
        )
    });
    let plan = plan.unwrap_or_else(|| Plan {
        steps: references
            .strays
            .iter()
            .cloned()
            .map(Step::Delete)
            .collect(),
        ..Plan::default()
    });
    let namespace = store.namespace().unwrap_or_default();
    let failures = apply::apply(&context, &namespace, &uid(&store), &plan).await;
    migrations_started(&store, &context, &plan, &failures).await;
    if failures.errors().next().is_none() {
        strays_stopped(&store, &context, &references).await;
        if wanted
            .as_deref()
            .is_some_and(|wanted| is_settled(wanted, &plan, &references))
        {
            context.rivals.settled(&store);
        }
    }
    let observed = observe::observe(&store, &context, &references, &validated).await;
    let world = findings::World {
        store: &store,
        references: &references,
        wanted: wanted.as_deref(),
        plan: &plan,
        failures: &failures,
        refusal: validated.infrastructure.as_ref().err(),
        missing: &validated.missing,
    };
    let mut found = world.status(&context, &validated, observed);
    status::refused(&mut found.1, &failures);
    let is_ready = finish(&store, &context, found, now).await?;
    failures.first()?;
    let next = next(&references, &validated, is_ready);
    let unread = references.seen.unread.into_values().next();
    unread.map_or(Ok(Action::requeue(jittered(next))), Err)
}

/// Says why it could not go on; what is known of the store from before stays.
async fn give_up(
    store: &AuthzStore,
    context: &Context,
    at: &'static str,
    error: Error,
    now: Timestamp,
) -> Result<Action, Error> {
    let status = store.status.clone().unwrap_or_default();
    let findings = status::unread(&findings::kinds(&store.spec), at, &error);
    if let Err(also) = finish(store, context, (status, findings), now).await {
        tracing::debug!(%also, "the status does not say what is wrong");
    }
    Err(error)
}

/// When to look again, though nothing was heard: nodes are not watched, they are asked.
fn next(references: &References, validated: &Validated, is_ready: bool) -> Duration {
    match validated.infrastructure {
        // Its pods end soon.
        Err(_) if references.rival.as_ref().is_some_and(|of| !of.fault) => requeue::UNSETTLED,
        // Who is in the way may be in a namespace whose watches tell other controllers.
        Err(_) if references.rival.is_some() => requeue::SETTLED,
        Err(_) => requeue::MISSING,
        Ok(_) if is_ready => requeue::SETTLED,
        Ok(_) => requeue::UNSETTLED,
    }
}

type Found = (AuthzStoreStatus, Findings);

async fn finish(
    store: &AuthzStore,
    context: &Context,
    (mut after, mut findings): Found,
    now: Timestamp,
) -> Result<bool, Error> {
    let summary = summary(&findings);
    let is_ready = summary.state == State::True;
    findings.insert(0, (READY, summary));
    let before = store.status.as_ref();
    let old = before.map_or(&[][..], |status| &status.conditions);
    after.conditions = conditions(old, &findings, store.metadata.generation, now);
    if status::write(context, store, before, &after)
        .await?
        .is_some()
    {
        status::tell(context, &store.object_ref(&()), old, &findings).await;
    }
    Ok(is_ready)
}

/// Regions come after central, and their databases with them: the nodes of before do not start on a newer schema. A region's
/// live channel comes after the region.
fn is_early(object: &Object, store: &AuthzStore, live: &[Live]) -> bool {
    let name = store.name_any();
    let workload = |name: &str| find(live, Kind::Deployment, name);
    let Some(target) = object.target().filter(|of| of != CENTRAL) else {
        return false;
    };
    let of_live = store.spec.regions.iter().map(|of| of.name.as_str());
    let of_live = of_live.into_iter().find(|of| live_target(of) == target);
    let (own, before) = match of_live {
        Some(region) => (live_name(&name, region), regional_name(&name, region)),
        None => (regional_name(&name, &target), central_name(&name)),
    };
    object.kind.has_pods() && rollout::is_early(object, workload(&own), workload(&before))
}

/// Whether nothing runs that is of an older spec.
fn is_settled(wanted: &[Object], plan: &Plan<'_>, references: &References) -> bool {
    let mut workloads = wanted.iter().filter(|of| of.kind == Kind::Deployment);
    let mut pods = references.pods.iter();
    plan.steps.is_empty()
        && plan.waiting.is_empty()
        && workloads.all(|of| {
            let live = find(&references.live, of.kind, &of.name);
            live.is_some_and(|live| replicas(live).is_settled())
        })
        && pods.all(|pod| pod.metadata.deletion_timestamp.is_none())
}

async fn migrations_started(
    store: &AuthzStore,
    context: &Context,
    plan: &Plan<'_>,
    failures: &Failures,
) {
    let is_written = |object: &Object| failures.of(object.target().as_deref()).is_none();
    let jobs = plan.steps.iter().filter_map(|step| match step {
        Step::Create(object) if object.kind == Kind::Job && is_written(object) => {
            Some(object.name.as_str())
        }
        _ => None,
    });
    let jobs: Vec<_> = jobs.collect();
    if jobs.is_empty() {
        return;
    }
    let note = format!(
        "bringing databases to the image's schema: {}",
        jobs.join(", ")
    );
    let about = store.object_ref(&());
    context
        .events
        .publish(&about, Severity::Normal, "MigrationStarted", &note)
        .await;
}

async fn strays_stopped(store: &AuthzStore, context: &Context, references: &References) {
    let names = references.strays.iter().map(|of| of.name.as_str());
    let names: Vec<_> = names.collect();
    if names.is_empty() {
        return;
    }
    let names = names.join(", ");
    let note = format!("stopped {names}: the Secret leads to a database that is not theirs");
    let about = store.object_ref(&());
    let events = &context.events;
    events
        .publish(&about, Severity::Warning, "NodesStopped", &note)
        .await;
}

fn uid(store: &AuthzStore) -> String {
    store.uid().unwrap_or_default()
}

fn owner(store: &AuthzStore) -> OwnerReference {
    // Only an object that was never on an API server has no name or uid.
    store.controller_owner_ref(&()).unwrap_or_default()
}
