//! The difference between what should be and what is, and writing it.

use std::collections::BTreeSet;

use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::{Client, ResourceExt};
use serde_json::Value;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::context::Live;
use super::read::call;
use super::same::{is_same, quantity};
use super::workloads::{JobState, job_state, replicas};
use super::{Category, Context, Error};
use crate::build::{self, Kind, MANAGER, Object};

/// A failed migration is tried again after this: what it failed on may have been mended outside of the cluster.
const RETRY_AFTER: SignedDuration = SignedDuration::from_mins(2);

/// What there is to write.
#[derive(Debug, Default)]
pub struct Plan<'a> {
    /// In this order.
    pub steps: Vec<Step<'a>>,
    /// What waits, and what for.
    pub waiting: Vec<(&'a Object, &'static str)>,
}

/// One write.
#[derive(Debug, PartialEq)]
pub enum Step<'a> {
    /// The object is not there.
    Create(&'a Object),
    /// The object differs.
    Change(&'a Object),
    /// The object is there and should not be.
    Delete(Gone),
    /// A part differs that Kubernetes never changes: the object goes without its pods, and is made anew by a next
    /// reconcile.
    Replace(Gone),
}

/// An object to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// It, and not another that was given its name since.
    pub uid: Option<String>,
    /// The part it is of, as [`build::target`] says.
    pub target: Option<String>,
}

/// What of a plan could not be written, with the part it is of. `None` stands for what all parts need.
#[derive(Debug, Default)]
pub struct Failures(Vec<(Option<String>, Error)>);

impl Failures {
    /// Why not all of a part was written, if so.
    #[must_use]
    pub fn of(&self, target: Option<&str>) -> Option<&Error> {
        let mut all = self.0.iter();
        let found = all.find(|(of, _)| of.is_none() || of.as_deref() == target);
        found.map(|(_, error)| error)
    }

    /// All of them.
    pub fn errors(&self) -> impl Iterator<Item = &Error> {
        self.0.iter().map(|(_, error)| error)
    }

    /// The first, if there is one.
    ///
    /// # Errors
    /// It.
    pub fn first(self) -> Result<(), Error> {
        self.0
            .into_iter()
            .next()
            .map_or(Ok(()), |(_, error)| Err(error))
    }
}

impl Step<'_> {
    fn target(&self) -> Option<String> {
        match self {
            Self::Create(object) | Self::Change(object) => object.target(),
            Self::Delete(gone) | Self::Replace(gone) => gone.target.clone(),
        }
    }

    fn starts_pods(&self) -> bool {
        match self {
            Self::Create(object) | Self::Change(object) => object.kind.has_pods(),
            Self::Replace(gone) => gone.kind.has_pods(),
            Self::Delete(_) => false,
        }
    }
}

impl Plan<'_> {
    /// Why an object is not yet as it should be, if so: what watches show of it is of before.
    #[must_use]
    pub fn pending(&self, kind: Kind, name: &str) -> Option<&'static str> {
        let is = |object: &Object| object.kind == kind && object.name == name;
        if let Some((_, why)) = self.waiting.iter().find(|(object, _)| is(object)) {
            return Some(why);
        }
        let is_written = self.steps.iter().any(|step| match step {
            Step::Create(object) | Step::Change(object) => is(object),
            Step::Delete(gone) | Step::Replace(gone) => gone.kind == kind && gone.name == name,
        });
        is_written.then_some("a change was applied just now")
    }
}

/// Compares what should be with what is. What of an object's needs `is_missing` leaves it as it is, with all that there
/// is of its part. `keep` says of another object that nothing wants whether it stays all the same, `is_early` of a workload
/// whether it must wait for another.
pub fn plan<'a>(
    wanted: &'a [Object],
    live: &[Live],
    is_missing: impl Fn(&Object) -> bool,
    keep: impl Fn(&DynamicObject) -> bool,
    is_early: impl Fn(&Object) -> bool,
    now: Timestamp,
) -> Plan<'a> {
    let mut plan = Plan::default();
    let mut left = BTreeSet::new();
    for object in wanted {
        if is_missing(object) {
            left.extend(object.target());
            plan.waiting.push((object, "it waits for a Secret"));
            continue;
        }
        if is_early(object) {
            let why = "it waits until the nodes above it run the new image";
            plan.waiting.push((object, why));
            continue;
        }
        if let Some(job) = &object.after
            && find(live, Kind::Job, job).map(job_state) != Some(JobState::Complete)
        {
            plan.waiting.push((object, "it waits for its migration"));
            continue;
        }
        match find(live, object.kind, &object.name) {
            None => plan.steps.push(Step::Create(object)),
            Some(found) if found.metadata.deletion_timestamp.is_some() => {}
            Some(found) => plan.steps.extend(difference(object, found, now)),
        }
    }
    for (kind, found) in live {
        let is_wanted = wanted
            .iter()
            .any(|object| object.kind == *kind && object.name == found.name_any());
        let is_left = || target(found).is_some_and(|of| left.contains(&of));
        let is_kept =
            || keep(found) || is_left() || *kind == Kind::ConfigMap && is_read(found, wanted, live);
        if !is_wanted && found.metadata.deletion_timestamp.is_none() && !is_kept() {
            plan.steps.push(Step::Delete(gone(*kind, found)));
        }
    }
    plan
}

/// Whether pods of before may still read a ConfigMap: until all of its workload's are of the latest template.
fn is_read(config_map: &DynamicObject, wanted: &[Object], live: &[Live]) -> bool {
    let name = config_map.name_any();
    let mut workloads = wanted.iter().filter(|of| {
        matches!(of.kind, Kind::Deployment | Kind::StatefulSet) && name.starts_with(&of.name)
    });
    workloads.any(|of| {
        find(live, of.kind, &of.name)
            .is_none_or(|found| mounts(found, &name) || !replicas(found).is_settled())
    })
}

fn mounts(workload: &DynamicObject, config_map: &str) -> bool {
    let volumes = workload.data.pointer("/spec/template/spec/volumes");
    let mut volumes = volumes.and_then(Value::as_array).into_iter().flatten();
    volumes.any(|of| of.pointer("/configMap/name").and_then(Value::as_str) == Some(config_map))
}

fn difference<'a>(object: &'a Object, live: &DynamicObject, now: Timestamp) -> Option<Step<'a>> {
    let there = serde_json::to_value(live).unwrap_or_default();
    if object.kind == Kind::Job {
        return match job_state(live) {
            JobState::Failed { at, .. } if now.duration_since(at) > RETRY_AFTER => {
                Some(Step::Delete(gone(object.kind, live)))
            }
            _ => None,
        };
    }
    if is_same(&object.body, &there) {
        return None;
    }
    if is_fixed_part_changed(object, &there) {
        return Some(Step::Replace(gone(object.kind, live)));
    }
    Some(Step::Change(object))
}

/// Of a StatefulSet the size of volumes can never be changed. The rest of them the spec's rules keep as it is.
fn is_fixed_part_changed(object: &Object, live: &Value) -> bool {
    object.kind == Kind::StatefulSet
        && matches!((volume(&object.body), volume(live)), (Some(one), Some(other)) if one != other)
}

/// The size of a StatefulSet's volumes, if it has any.
pub(super) fn volume(of: &Value) -> Option<i128> {
    let size = of.pointer("/spec/volumeClaimTemplates/0/spec/resources/requests/storage")?;
    quantity(size.as_str()?)
}

/// The object of this kind and name, if there is one.
#[must_use]
pub fn find<'a>(live: &'a [Live], kind: Kind, name: &str) -> Option<&'a DynamicObject> {
    live.iter()
        .find(|(of, object)| *of == kind && object.metadata.name.as_deref() == Some(name))
        .map(|(_, object)| &**object)
}

/// An object that is there, to be deleted.
pub(super) fn gone(kind: Kind, object: &DynamicObject) -> Gone {
    Gone {
        kind,
        name: object.name_any(),
        uid: object.uid(),
        target: target(object),
    }
}

/// The part that an object is of, as [`build::target`] says.
pub(super) fn target(object: &DynamicObject) -> Option<String> {
    build::target(|label| object.labels().get(label).map(String::as_str))
}

/// Writes a plan, in order. Where something is refused, the pods of its part wait; where a write fails otherwise, all the
/// rest of its part does. The other parts go on.
pub async fn apply(context: &Context, namespace: &str, owner: &str, plan: &Plan<'_>) -> Failures {
    let mut failures = Failures::default();
    for step in &plan.steps {
        let target = step.target();
        let failed = failures.of(target.as_deref()).map(Error::category);
        let waits = match failed {
            None => false,
            Some(Category::Refused | Category::Taken) => step.starts_pods(),
            Some(Category::Transient | Category::NotLeader) => true,
        };
        if !waits && let Err(error) = take(context, namespace, owner, step).await {
            failures.0.push((target, error));
        }
    }
    failures
}

async fn take(
    context: &Context,
    namespace: &str,
    owner: &str,
    step: &Step<'_>,
) -> Result<(), Error> {
    match step {
        Step::Create(object) => {
            refuse_taken(&context.client, namespace, owner, object).await?;
            write(context, namespace, object).await
        }
        Step::Change(object) => write(context, namespace, object).await,
        Step::Delete(gone) => delete(context, namespace, gone, DeleteParams::background()).await,
        Step::Replace(gone) => delete(context, namespace, gone, DeleteParams::orphan()).await,
    }
}

/// Server-side apply would take over what somebody else made under the same name.
async fn refuse_taken(
    client: &Client,
    namespace: &str,
    owner: &str,
    object: &Object,
) -> Result<(), Error> {
    let (kind, name) = (object.kind, &object.name);
    let attempt = || format!("look whether {kind:?} '{name}' is there");
    let Some(found) = call(attempt, api(client, namespace, kind).get_opt(name)).await? else {
        return Ok(());
    };
    let controller = found
        .owner_references()
        .iter()
        .find(|of| of.controller == Some(true));
    if controller.is_some_and(|of| of.uid == owner) {
        return Ok(());
    }
    Err(Error::Taken {
        kind,
        name: name.clone(),
        owner: controller.map_or("somebody else".to_owned(), |of| {
            format!("{} '{}'", of.kind, of.name)
        }),
    })
}

async fn write(context: &Context, namespace: &str, object: &Object) -> Result<(), Error> {
    let (kind, name) = (object.kind, &object.name);
    let api = api(&context.client, namespace, kind);
    let params = PatchParams::apply(MANAGER).force();
    let patch = Patch::Apply(&object.body);
    let attempt = || format!("apply {kind:?} '{name}'");
    let apply = api.patch(name, &params, &patch);
    context.leadership.write(attempt, apply).await?;
    tracing::info!(kind = ?kind, namespace, name, "applied");
    Ok(())
}

async fn delete(
    context: &Context,
    namespace: &str,
    gone: &Gone,
    params: DeleteParams,
) -> Result<(), Error> {
    let (kind, name) = (gone.kind, &gone.name);
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: gone.uid.clone(),
            resource_version: None,
        }),
        ..params
    };
    let attempt = || format!("delete {kind:?} '{name}'");
    let api = api(&context.client, namespace, kind);
    let delete = api.delete(name, &params);
    match context.leadership.write(attempt, delete).await {
        // Gone already.
        Err(Error::Api { source, .. }) if matches!(&*source, kube::Error::Api(of) if of.code == 404) => {
            Ok(())
        }
        Err(error) => Err(error),
        Ok(_) => {
            tracing::info!(kind = ?kind, namespace, name, "deleted");
            Ok(())
        }
    }
}

fn api(client: &Client, namespace: &str, kind: Kind) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &kind.resource())
}
