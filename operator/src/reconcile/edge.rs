//! The reconcile of an EdgeRegion.

mod findings;
mod volumes;

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::api::DynamicObject;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};

use super::context::Live;
use super::rivals::Verdict;
use super::secrets::{Seen, names_for_access};
use super::{Context, Error, Missing, apply, plan, rollout, status};
use crate::api::conditions::{
    Finding, Findings, MODEL_ACTIVE, READY, SUPERSEDED, State, conditions, summary,
};
use crate::api::edge::EdgeRegionStatus;
use crate::api::store::{AuthzStoreSpec, AuthzStoreStatus};
use crate::api::{AuthzStore, EdgeRegion};
use crate::build::{
    self, EdgeInput, Kind, STORE, SecretHashes, edge_certificate, edge_files, edge_name,
    regional_name,
};
use crate::nodes::Access;
use crate::requeue::{self, jittered};

/// One subscription, with what can be built of it.
pub struct Resolved {
    /// The AuthzStore's name.
    pub store: String,
    /// What its objects are built from, or why they are left as they are.
    pub input: Result<EdgeInput, Finding>,
    /// Why its edges are left as they are all the same: the value of a Secret is not known.
    pub missing: Missing,
    /// If so since it cannot be read, why.
    pub unread: Option<Error>,
    /// How its edges are spoken to.
    pub access: Access,
    /// The store's id and latest model, as its AuthzStore's status has them.
    pub model: Option<(String, String)>,
    /// What the AuthzStore's status says if its model is not the latest, since somebody else wrote one.
    pub superseded: Option<String>,
    /// Ready pods of the parent region, as the AuthzStore's status has them.
    pub parents: i32,
}

/// Brings the cluster to what an EdgeRegion says, as far as that can be done now.
///
/// # Errors
/// [`Error`] when it must be tried again; the status says what is wrong with the spec.
pub async fn reconcile(edge: Arc<EdgeRegion>, context: Arc<Context>) -> Result<Action, Error> {
    context.caches.ready().await?;
    if edge.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let now = Timestamp::now();
    let mut resolved = dereference(&edge, &context).await;
    let uid = edge.uid().unwrap_or_default();
    let live = context.caches.of_edges.owned_by(&uid);
    let namespace = edge.namespace().unwrap_or_default();
    let mut wanted: Vec<_> = resolved
        .iter()
        .filter_map(|of| of.input.as_ref().ok())
        .flat_map(|input| build::edge(input, &context.settings))
        .collect();
    let not_grown = volumes::grow(&context, &namespace, &mut wanted, &live).await;
    let plan = plan(
        &wanted,
        &live,
        |object| resolved.iter().any(|of| of.missing.of(object).is_some()),
        |object| is_kept(&resolved, object),
        |object| is_early(object, &resolved, &live, &context),
        now,
    );
    let failures = apply::apply(&context, &namespace, &uid, &plan).await;
    let mut found = findings::status(&edge, &context, &resolved, &live, &plan, &failures).await;
    status::refused(&mut found.1, &failures);
    if let Some(error) = &not_grown {
        findings::not_grown(&mut found.1, error);
    }
    let is_ready = finish(&edge, &context, found, now).await?;
    failures.first()?;
    not_grown.map_or(Ok(()), Err)?;
    let unread = resolved.iter_mut().find_map(|of| of.unread.take());
    unread.map_or(Ok(()), Err)?;
    let is_blocked = resolved.iter().all(|of| of.blocked_by().is_some());
    Ok(Action::requeue(jittered(match (is_blocked, is_ready) {
        (true, _) => requeue::MISSING,
        (_, true) => requeue::SETTLED,
        _ => requeue::UNSETTLED,
    })))
}

/// Writes the status; says whether all is as it should be.
async fn finish(
    edge: &EdgeRegion,
    context: &Context,
    (mut after, mut findings): (EdgeRegionStatus, Findings),
    now: Timestamp,
) -> Result<bool, Error> {
    let summary = summary(&findings);
    let is_ready = summary.state == State::True;
    findings.insert(0, (READY, summary));
    let before = edge.status.as_ref();
    let old = before.map_or(&[][..], |status| &status.conditions);
    after.conditions = conditions(old, &findings, edge.metadata.generation, now);
    if status::write(context, edge, before, &after)
        .await?
        .is_some()
    {
        status::tell(context, &edge.object_ref(&()), old, &findings).await;
    }
    Ok(is_ready)
}

/// What belongs to a subscription that cannot be built now stays as it is.
fn is_kept(resolved: &[Resolved], object: &DynamicObject) -> bool {
    let store = object.labels().get(STORE);
    resolved
        .iter()
        .any(|of| of.input.is_err() && Some(&of.store) == store)
}

/// Edges come after the region above them.
fn is_early(
    object: &build::Object,
    resolved: &[Resolved],
    live: &[Live],
    context: &Context,
) -> bool {
    let mut inputs = resolved.iter().filter_map(|of| of.input.as_ref().ok());
    let input = inputs.find(|of| edge_name(&of.name, &of.store) == object.name);
    let (Kind::StatefulSet, Some(input)) = (object.kind, input) else {
        return false;
    };
    let region = regional_name(&input.store, &input.spec.parent_region);
    let regions = &context.caches.of_stores;
    let region = regions.get(Kind::Deployment, &input.namespace, &region);
    rollout::is_early(object, workload(live, &object.name), region.as_deref())
}

/// Reads what an EdgeRegion names.
async fn dereference(edge: &EdgeRegion, context: &Context) -> Vec<Resolved> {
    let mut resolved = Vec::new();
    for subscription in &edge.spec.subscriptions {
        let name = &subscription.store_ref.name;
        let namespace = edge.namespace().unwrap_or_default();
        let key = ObjectRef::<AuthzStore>::new(name).within(&namespace);
        let Some(store) = context.caches.stores.get(&key) else {
            resolved.push(Resolved {
                store: name.clone(),
                input: Err(Finding::fault(
                    "StoreNotFound",
                    format!("subscriptions: there is no AuthzStore '{name}' in this namespace"),
                )),
                missing: Missing::default(),
                unread: None,
                access: Access::default(),
                model: None,
                superseded: None,
                parents: 0,
            });
            continue;
        };
        let status = store.status.as_ref();
        let model = status.and_then(|of| {
            let (id, model) = (of.store_id.clone()?, of.model.clone()?);
            Some((id, model.id))
        });
        let region = status
            .into_iter()
            .flat_map(|of| &of.regions)
            .find(|of| of.name == edge.spec.parent_region);
        let mut of_store = Resolved {
            store: name.clone(),
            input: input(edge, context, &store),
            missing: Missing::default(),
            unread: None,
            access: Access::default(),
            model,
            superseded: status.and_then(superseded),
            parents: region.map_or(0, |of| of.ready_replicas),
        };
        of_store.read(edge, context, &store.spec).await;
        resolved.push(of_store);
    }
    resolved
}

impl Resolved {
    /// Reads the Secrets that its edges do not start without, and those by which they are spoken to.
    async fn read(&mut self, edge: &EdgeRegion, context: &Context, store: &AuthzStoreSpec) {
        let (namespace, uid) = (
            edge.namespace().unwrap_or_default(),
            edge.uid().unwrap_or_default(),
        );
        let api = edge_certificate(&edge.spec, store);
        let files = edge_files(&edge.spec, &self.store, store);
        let names = files.iter().map(|file| file.of.name.clone());
        let names = names.chain(names_for_access(store, api)).collect();
        let seen = Seen::read(&context.client, &namespace, names, &uid).await;
        self.access = seen.access(store, api);
        let Ok(input) = &mut self.input else { return };
        for file in &files {
            match seen.hash(&file.at, &file.of) {
                Ok(hash) => {
                    input.secrets.insert(file.of.clone(), hash);
                }
                Err(why) => self.missing.add(&file.of, why),
            }
        }
        seen.check(&files, &[], &mut self.missing);
        self.unread = seen.unread.into_values().next();
    }

    /// Why its edges are left as they are, if so.
    fn blocked_by(&self) -> Option<&Finding> {
        let refused = self.input.as_ref().err();
        refused.or_else(|| self.missing.findings().next())
    }
}

fn superseded(status: &AuthzStoreStatus) -> Option<String> {
    let mut conditions = status.conditions.iter();
    let found = conditions.find(|of| of.type_ == MODEL_ACTIVE && of.reason == SUPERSEDED)?;
    Some(found.message.clone())
}

fn input(edge: &EdgeRegion, context: &Context, store: &AuthzStore) -> Result<EdgeInput, Finding> {
    let name = store.name_any();
    match context.rivals.verdict(store) {
        Verdict::Free => {}
        Verdict::Refused(why) => {
            let told = format!("subscriptions: AuthzStore '{name}': {why}");
            return Err(Finding::fault("StoreRefused", told));
        }
        Verdict::Unknown => {
            let told = format!("AuthzStore '{name}' was not looked at yet");
            return Err(Finding::not_yet("StoreNotAccepted", told));
        }
    }
    let parent = &edge.spec.parent_region;
    if !store.spec.regions.iter().any(|of| of.name == *parent) {
        return Err(Finding::fault(
            "UnknownParentRegion",
            format!("parentRegion: AuthzStore '{name}' has no region '{parent}'"),
        ));
    }
    Ok(EdgeInput {
        name: edge.name_any(),
        namespace: edge.namespace().unwrap_or_default(),
        owner: edge.controller_owner_ref(&()).unwrap_or_default(),
        spec: edge.spec.clone(),
        store: name,
        store_spec: store.spec.clone(),
        secrets: SecretHashes::new(),
    })
}

pub(super) fn workload<'a>(live: &'a [Live], name: &str) -> Option<&'a DynamicObject> {
    apply::find(live, Kind::StatefulSet, name)
}
