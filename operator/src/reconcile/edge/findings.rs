//! What is so of an EdgeRegion and what is not.

use kube::ResourceExt;

use super::{Resolved, workload};
use crate::api::EdgeRegion;
use crate::api::conditions::{
    ACCEPTED, AVAILABLE, BLOCKED, Finding, Findings, KAFKA_REACHABLE, PARENT_REACHABLE, SUPERSEDED,
    SYNCED, State,
};
use crate::api::edge::{EdgeRegionStatus, SubscriptionStatus};
use crate::build::{EDGE_REGION, Kind, STORE, edge_name, edge_selector};
use crate::reconcile::asked::{Asked, KAFKA, Need, ask, reached};
use crate::reconcile::context::Live;
use crate::reconcile::pods;
use crate::reconcile::workloads::{Replicas, replicas};
use crate::reconcile::{Context, Error, Failures, Plan, creation};

const UPSTREAM: Need = Need {
    name: "upstream",
    unreachable: "ParentUnreachable",
    reached: "all edges reach the region above",
};

/// All conditions but the summary, in the order in which a reader should look at them: what edges need comes before what
/// follows from not having it.
pub(super) const KINDS: [&str; 5] = [
    ACCEPTED,
    KAFKA_REACHABLE,
    PARENT_REACHABLE,
    AVAILABLE,
    SYNCED,
];

/// What is found of one subscription.
struct Subscription<'a> {
    resolved: &'a Resolved,
    replicas: Option<Replicas>,
    trouble: Option<pods::Trouble>,
    nodes: Vec<Asked>,
}

/// The status, but for its conditions, and the findings they are made of.
pub(super) async fn status(
    edge: &EdgeRegion,
    context: &Context,
    resolved: &[Resolved],
    live: &[Live],
    plan: &Plan<'_>,
    failures: &Failures,
) -> (EdgeRegionStatus, Findings) {
    let name = edge.name_any();
    let mut found = Vec::new();
    for of in resolved {
        found.push(look(edge, context, of, live).await);
    }
    let findings = [
        accepted(resolved),
        kafka(edge, &found),
        parent(edge, &found),
        found
            .iter()
            .find_map(|of| of.unavailable(edge, plan, failures))
            .unwrap_or_else(|| Finding::yes("Running", "all pods are ready")),
        synced(edge, &found),
    ];
    let counts = || found.iter().map(|of| of.replicas.unwrap_or_default());
    let status = EdgeRegionStatus {
        observed_generation: edge.metadata.generation,
        replicas: counts().map(|of| of.present).max().unwrap_or(0),
        ready_replicas: counts().map(|of| of.ready).min().unwrap_or(0),
        selector: Some(edge_selector(&name)),
        subscriptions: found.iter().map(Subscription::status).collect(),
        conditions: Vec::new(),
    };
    (status, KINDS.into_iter().zip(findings).collect())
}

async fn look<'a>(
    edge: &EdgeRegion,
    context: &Context,
    resolved: &'a Resolved,
    live: &[Live],
) -> Subscription<'a> {
    let (name, namespace) = (edge.name_any(), edge.namespace().unwrap_or_default());
    let mut of_edge = context.caches.of_edges.pods(&namespace, EDGE_REGION, &name);
    of_edge.retain(|pod| pod.labels().get(STORE) == Some(&resolved.store));
    let set = workload(live, &edge_name(&name, &resolved.store));
    let replicas = set.map(replicas);
    let mut trouble = pods::trouble(&of_edge);
    if let (None, Some(set), Some(found)) = (&trouble, set, replicas)
        && found.present < found.wanted
    {
        trouble = creation::of_events(&context.client, &namespace, Kind::StatefulSet, set).await;
    }
    let id = resolved.model.as_ref().map(|(id, _)| id.as_str());
    Subscription {
        resolved,
        replicas,
        trouble,
        nodes: ask(context, &of_edge, &resolved.access, id).await,
    }
}

impl Subscription<'_> {
    /// Why its pods are not as the spec says and ready, if so.
    fn unavailable(
        &self,
        edge: &EdgeRegion,
        plan: &Plan<'_>,
        failures: &Failures,
    ) -> Option<Finding> {
        let trouble = self.trouble.as_ref();
        let trouble = trouble.map(|of| Finding::fault(&of.reason, of.message.clone()));
        let store = &self.resolved.store;
        if let Some(why) = self.resolved.blocked_by() {
            return trouble.or_else(|| Some(blocked(why)));
        }
        let workload = edge_name(&edge.name_any(), store);
        if let Some(why) = plan.pending(Kind::StatefulSet, &workload) {
            let not_yet = || Finding::not_yet("RollingOut", format!("store {store}: {why}"));
            let stuck = |error: &Error| Finding::unknown(BLOCKED, error.to_string());
            return Some(failures.of(Some(store)).map_or_else(not_yet, stuck));
        }
        let (replicas, wanted) = (self.replicas.unwrap_or_default(), edge.spec.replicas);
        if replicas.is_settled() && replicas.wanted == wanted {
            return None;
        }
        let told = format!("store {store}: {}", replicas.progress(wanted));
        trouble.or_else(|| Some(Finding::not_yet("RollingOut", told)))
    }

    fn status(&self) -> SubscriptionStatus {
        let id = self.resolved.model.as_ref().map(|(store, _)| store);
        let mut models = self.nodes.iter().map(|node| {
            let status = node.status.as_ref().ok()?;
            status.model(id?).map(str::to_owned)
        });
        let first = models.next().flatten();
        SubscriptionStatus {
            store: self.resolved.store.clone(),
            ready_replicas: self.replicas.map_or(0, |of| of.ready),
            model_id: first.clone().filter(|_| models.all(|of| of == first)),
        }
    }
}

/// Says that volumes have another size than the spec's, unless something else is wrong with it.
pub(super) fn not_grown(findings: &mut Findings, error: &Error) {
    let accepted = findings.iter_mut().find(|(kind, _)| *kind == ACCEPTED);
    if let Some((_, finding)) = accepted
        && finding.state == State::True
    {
        *finding = Finding::fault("VolumeNotGrown", error.to_string());
    }
}

fn blocked(why: &Finding) -> Finding {
    Finding::blocked(ACCEPTED, &why.message)
}

fn accepted(resolved: &[Resolved]) -> Finding {
    let refused = resolved.iter().find_map(Resolved::blocked_by);
    refused
        .cloned()
        .unwrap_or_else(|| Finding::yes("Valid", "the spec makes sense"))
}

fn kafka(edge: &EdgeRegion, found: &[Subscription<'_>]) -> Finding {
    if edge.spec.replicas == 0 {
        return Finding::yes("NoEdges", "no edge is asked for");
    }
    reached(nodes(found), KAFKA, |_| String::new())
}

/// From the edges themselves where they answer; else from how the parent region is.
fn parent(edge: &EdgeRegion, found: &[Subscription<'_>]) -> Finding {
    let said = reached(nodes(found), UPSTREAM, |_| String::new());
    if said.state == State::False {
        return said;
    }
    let mut known = found.iter().filter(|of| of.resolved.input.is_ok());
    if let Some(of) = known.find(|of| of.resolved.parents == 0) {
        return Finding::not_yet(
            "ParentNotReady",
            format!(
                "store {}: region {} has no ready pod",
                of.resolved.store, edge.spec.parent_region
            ),
        );
    }
    if edge.spec.replicas == 0 {
        return Finding::yes("NoEdges", "no edge is asked for");
    }
    said
}

fn nodes<'a>(found: &'a [Subscription<'_>]) -> impl Iterator<Item = &'a Asked> {
    found.iter().flat_map(|of| &of.nodes)
}

fn synced(edge: &EdgeRegion, found: &[Subscription<'_>]) -> Finding {
    for of in found {
        let store = &of.resolved.store;
        if let Err(why) = &of.resolved.input {
            return blocked(why);
        }
        let Some((id, model)) = &of.resolved.model else {
            return Finding::not_yet("NoModel", format!("AuthzStore {store} has no model yet"));
        };
        if let Some(told) = &of.resolved.superseded {
            return Finding::fault(SUPERSEDED, format!("AuthzStore {store}: {told}"));
        }
        for Asked { pod, status, .. } in &of.nodes {
            match status {
                Err(_) => return Finding::unknown("NodeSilent", format!("{pod} does not answer")),
                Ok(status) if status.model(id) == Some(model) => {}
                Ok(_) => {
                    return Finding::not_yet(
                        "Syncing",
                        format!("{pod} does not have model {model} of store {store} yet"),
                    );
                }
            }
        }
    }
    if edge.spec.replicas > 0 && found.iter().any(|of| of.nodes.is_empty()) {
        return Finding::unknown("NoNodeAnswers", "no edge runs that could say");
    }
    Finding::yes("Synced", "every edge has the model of each of its stores")
}
