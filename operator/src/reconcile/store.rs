//! The reconcile of an AuthzStore.

mod delete;
mod dereference;
mod findings;
mod model;
mod validate;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};

use super::{Context, Error, apply, plan, status};
use crate::api::AuthzStore;
use crate::api::conditions::{ACCEPTED, Finding, READY, conditions, summary};
use crate::api::store::AuthzStoreStatus;
use crate::build;
use crate::events::Severity;
use crate::requeue::{self, jittered};

pub use delete::FINALIZER;
pub use dereference::{References, dereference, secret_names};
pub use validate::{Refusal, Validated, WantedModel, model_hash, validate};

/// Brings the cluster and the store to what an AuthzStore says, as far as that can be done now.
///
/// # Errors
/// [`Error`] when it must be tried again; the status says what is wrong with the spec.
pub async fn reconcile(store: Arc<AuthzStore>, context: Arc<Context>) -> Result<Action, Error> {
    context.caches.of_stores.ready().await?;
    if store.metadata.deletion_timestamp.is_some() {
        return delete::clean_up(&store, &context).await;
    }
    delete::hold(&store, &context).await?;
    let now = Timestamp::now();
    let references = dereference(&store, &context).await?;
    let validated = validate(&store, &references);
    let step = match &validated.infrastructure {
        Ok(input) => {
            let wanted = build::store(input, &context.settings);
            let plan = plan(&wanted, &references.live, |_| false, now);
            migrations_started(&store, &context, &plan).await;
            apply::apply(&context, &input.namespace, &uid(&store), &plan).await
        }
        Err(_) => Ok(()),
    };
    let observed = findings::observe(&store, &context, &references, &validated).await;
    let mut status = findings::status(&store, &context, &references, &validated, observed);
    if let Err(error) = &step {
        refused(&mut status.1, error);
    }
    finish(&store, &context, status, now).await?;
    step?;
    Ok(Action::requeue(next(&store, &validated)))
}

/// When to look again, though nothing was heard: nodes are not watched, they are asked.
fn next(store: &AuthzStore, validated: &Validated) -> Duration {
    if validated.infrastructure.is_err() {
        return requeue::MISSING;
    }
    let conditions = store.status.as_ref().map(|status| &status.conditions);
    let is_ready = conditions
        .into_iter()
        .flatten()
        .any(|of| of.type_ == READY && of.status == "True");
    jittered(if is_ready {
        requeue::SETTLED
    } else {
        requeue::UNSETTLED
    })
}

type Found = (AuthzStoreStatus, crate::api::conditions::Findings);

/// What the API server will not take, whatever is tried, must be seen by who wrote the spec.
fn refused(findings: &mut crate::api::conditions::Findings, error: &Error) {
    use super::Category;
    let reason = match error.category() {
        Category::Refused => "Refused",
        Category::Taken => "NameTaken",
        Category::Transient | Category::NotLeader => return,
    };
    for (kind, finding) in findings.iter_mut() {
        if *kind == ACCEPTED {
            *finding = Finding::fault(reason, error.to_string());
        }
    }
}

async fn finish(
    store: &AuthzStore,
    context: &Context,
    (mut after, mut findings): Found,
    now: Timestamp,
) -> Result<(), Error> {
    findings.insert(0, (READY, summary(&findings)));
    let before = store.status.as_ref();
    let old = before.map_or(&[][..], |status| &status.conditions);
    after.conditions = conditions(old, &findings, store.metadata.generation, now);
    if status::write(context, store, before, &after).await? {
        status::tell(context, &store.object_ref(&()), old, &findings).await;
    }
    Ok(())
}

async fn migrations_started(store: &AuthzStore, context: &Context, plan: &apply::Plan<'_>) {
    for step in &plan.steps {
        if let apply::Step::Create(object) = step
            && object.kind == build::Kind::Job
        {
            let note = format!(
                "Job '{}' brings a database to the image's schema",
                object.name
            );
            context
                .events
                .publish(
                    &store.object_ref(&()),
                    Severity::Normal,
                    "MigrationStarted",
                    &note,
                )
                .await;
        }
    }
}

fn uid(store: &AuthzStore) -> String {
    store.uid().unwrap_or_default()
}

fn owner(store: &AuthzStore) -> OwnerReference {
    // Only an object that was never on an API server has no name or uid.
    store.controller_owner_ref(&()).unwrap_or_default()
}
