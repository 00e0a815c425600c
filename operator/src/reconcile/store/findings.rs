//! What is so of an AuthzStore and what is not: observed from its nodes, and made into conditions.

use futures::StreamExt as _;
use kube::ResourceExt;

use super::Found;
use super::dereference::References;
use super::model::{Central, StoreState};
use super::validate::{Refusal, Validated, WantedModel};
use crate::api::AuthzStore;
use crate::api::conditions::{
    ACCEPTED, CENTRAL_AVAILABLE, Finding, Findings, KAFKA_REACHABLE, MIGRATED, MODEL_ACTIVE,
    REFERENCES_RESOLVED, REGIONS_AVAILABLE,
};
use crate::api::store::{AuthzStoreStatus, CentralStatus, EdgesStatus, RegionStatus};
use crate::build::{
    self, CENTRAL, COMPONENT, GRPC_PORT, Kind, REGION, central_name, grpc_address, regional_name,
};
use crate::nodes::{NodeError, NodeStatus};
use crate::reconcile::Context;
use crate::reconcile::pods::{self, Trouble};
use crate::reconcile::workloads::{JobState, Replicas, job_state, replicas};

/// Nodes asked at once.
const ASKED_AT_ONCE: usize = 16;

/// What the nodes say.
pub(super) struct Observed {
    /// Of each running pod: its region (none for central), its name, and what it says of itself.
    nodes: Vec<(Option<String>, String, Result<NodeStatus, NodeError>)>,
    store: StoreState,
    model: Finding,
}

/// Asks the nodes how they are, and brings the store to the model and tiers wanted where that can be done.
pub(super) async fn observe(
    store: &AuthzStore,
    context: &Context,
    references: &References,
    validated: &Validated,
) -> Observed {
    let nodes = ask(context, references).await;
    let before = store.status.as_ref();
    let mut state = StoreState {
        id: before.and_then(|of| of.store_id.clone()),
        model: before.and_then(|of| of.model.clone()),
        ..Default::default()
    };
    let model = match &validated.model {
        Ok(wanted) => converge(store, context, references, &nodes, wanted, &mut state).await,
        Err(Refusal::Invalid(finding) | Refusal::Missing(finding)) => Finding {
            message: format!("the model is left as it is: {}", finding.message),
            ..finding.clone()
        },
    };
    Observed {
        nodes,
        store: state,
        model,
    }
}

/// Asks every running pod how it is.
async fn ask(
    context: &Context,
    references: &References,
) -> Vec<(Option<String>, String, Result<NodeStatus, NodeError>)> {
    let nodes: Vec<_> = references
        .pods
        .iter()
        .filter(|pod| {
            pod.labels()
                .get(COMPONENT)
                .is_some_and(|of| of != "migration")
        })
        .flat_map(|pod| {
            let region = pod.labels().get(REGION).cloned();
            let addresses = pods::addresses(std::slice::from_ref(pod), GRPC_PORT);
            addresses
                .into_iter()
                .map(move |(name, address)| (region.clone(), name, address))
        })
        .collect();
    futures::stream::iter(nodes)
        .map(|(region, name, address)| async move {
            let status = context.nodes.status(&address).await;
            (region, name, status)
        })
        .buffered(ASKED_AT_ONCE)
        .collect()
        .await
}

async fn converge(
    store: &AuthzStore,
    context: &Context,
    references: &References,
    nodes: &[(Option<String>, String, Result<NodeStatus, NodeError>)],
    wanted: &WantedModel,
    state: &mut StoreState,
) -> Finding {
    let ready = nodes.iter().find_map(|(region, _, status)| {
        let status = status.as_ref().ok()?;
        (region.is_none() && status.ready).then_some(status)
    });
    let Some(status) = ready else {
        return Finding::unknown("CentralNotReady", "no central node is ready to be asked");
    };
    if let Err(error) = context.leadership.check() {
        return Finding::unknown("NotLeader", error.to_string());
    }
    let namespace = store.namespace().unwrap_or_default();
    let address = grpc_address(&central_name(&store.name_any()), &namespace);
    let central = Central {
        nodes: &*context.nodes,
        address: &address,
        status,
    };
    match central.converge(&store.spec.product, wanted, state).await {
        Ok(()) => active(store, nodes, references, state),
        Err(NodeError::Unavailable(why)) => Finding::not_yet("CentralUnavailable", why),
        Err(NodeError::Refused(why)) => Finding::fault("Refused", why),
    }
}

/// Whether every region has the model.
fn active(
    store: &AuthzStore,
    nodes: &[(Option<String>, String, Result<NodeStatus, NodeError>)],
    _references: &References,
    state: &StoreState,
) -> Finding {
    let (Some(id), Some(model)) = (&state.id, &state.model) else {
        return Finding::unknown("NotWritten", "the model is not written yet");
    };
    if let Some(other) = &state.superseded_by {
        return Finding::fault(
            "Superseded",
            format!(
                "model {other}, written by somebody else, came after {}: change spec.model to write one again",
                model.id
            ),
        );
    }
    if state.written {
        return Finding::not_yet("Replicating", format!("model {} was written", model.id));
    }
    for region in &store.spec.regions {
        let mut of_region = nodes
            .iter()
            .filter(|(of, ..)| of.as_ref() == Some(&region.name))
            .peekable();
        if of_region.peek().is_none() {
            return Finding::not_yet(
                "Replicating",
                format!("region {} has no running node", region.name),
            );
        }
        for (_, name, status) in of_region {
            match status {
                Ok(status) if status.model(id) == Some(&model.id) => {}
                Ok(_) => {
                    return Finding::not_yet(
                        "Replicating",
                        format!("{name} does not have model {} yet", model.id),
                    );
                }
                Err(_) => {
                    return Finding::unknown("NodeSilent", format!("{name} does not answer"));
                }
            }
        }
    }
    Finding::yes("Active", format!("model {} is active", model.id))
}

/// The status, but for its conditions, and the findings they are made of.
pub(super) fn status(
    store: &AuthzStore,
    context: &Context,
    references: &References,
    validated: &Validated,
    observed: Observed,
) -> Found {
    let name = store.name_any();
    let central = count(references, &central_name(&name));
    let regions: Vec<_> = store
        .spec
        .regions
        .iter()
        .map(|region| {
            let found = count(references, &regional_name(&name, &region.name));
            (region, found)
        })
        .collect();
    let (accepted, resolved) = refusals(validated);
    let findings: Findings = vec![
        (ACCEPTED, accepted),
        (REFERENCES_RESOLVED, resolved),
        (MIGRATED, migrated(store, context, references, validated)),
        (
            CENTRAL_AVAILABLE,
            available(references, CENTRAL, central, store.spec.central.replicas),
        ),
        (REGIONS_AVAILABLE, regions_available(references, &regions)),
        (KAFKA_REACHABLE, kafka(&observed.nodes)),
        (MODEL_ACTIVE, observed.model),
    ];
    let status = AuthzStoreStatus {
        observed_generation: store.metadata.generation,
        store_id: observed.store.id,
        model: observed.store.model,
        central: Some(CentralStatus {
            replicas: store.spec.central.replicas,
            ready_replicas: central.map_or(0, |of| of.ready),
        }),
        regions: regions
            .iter()
            .map(|(region, found)| RegionStatus {
                name: region.name.clone(),
                replicas: region.replicas,
                ready_replicas: found.map_or(0, |of| of.ready),
            })
            .collect(),
        edges: Some(edges(store, context)),
        conditions: Vec::new(),
    };
    (status, findings)
}

fn refusals(validated: &Validated) -> (Finding, Finding) {
    let refusals = [
        validated.infrastructure.as_ref().err(),
        validated.model.as_ref().err(),
    ];
    let invalid = refusals.iter().flatten().find_map(|refusal| match refusal {
        Refusal::Invalid(finding) => Some(finding.clone()),
        Refusal::Missing(_) => None,
    });
    let missing = refusals.iter().flatten().find_map(|refusal| match refusal {
        Refusal::Missing(finding) => Some(finding.clone()),
        Refusal::Invalid(_) => None,
    });
    (
        invalid.unwrap_or_else(|| Finding::yes("Valid", "the spec makes sense")),
        missing.unwrap_or_else(|| Finding::yes("Resolved", "everything that is named is there")),
    )
}

/// The first database that does not have the image's schema.
fn migrated(
    store: &AuthzStore,
    context: &Context,
    references: &References,
    validated: &Validated,
) -> Finding {
    let Ok(input) = &validated.infrastructure else {
        return Finding::unknown("Blocked", "see Accepted and ReferencesResolved");
    };
    let jobs = build::store(input, &context.settings)
        .into_iter()
        .filter(|object| object.kind == Kind::Job);
    for job in jobs {
        let found = references
            .live
            .iter()
            .find(|(kind, live)| *kind == Kind::Job && live.name_any() == job.name);
        let state = found.map(|(_, live)| job_state(live));
        match state {
            Some(JobState::Complete) => {}
            Some(JobState::Failed {
                reason, message, ..
            }) => {
                let words = trouble_of_job(references, &job.name);
                let why = words.map_or(message, |trouble| trouble.message);
                return Finding::fault(
                    "MigrationFailed",
                    format!("Job '{}' failed ({reason}): {why}", job.name),
                );
            }
            Some(JobState::Running) | None => {
                return match trouble_of_job(references, &job.name) {
                    Some(Trouble { reason, message }) => Finding::fault(&reason, message),
                    None => Finding::not_yet(
                        "Migrating",
                        format!("Job '{}' of {} runs", job.name, store.name_any()),
                    ),
                };
            }
        }
    }
    Finding::yes("Migrated", "every database has the image's schema")
}

fn trouble_of_job(references: &References, job: &str) -> Option<Trouble> {
    let of_job: Vec<_> = references
        .pods
        .iter()
        .filter(|pod| {
            let labels = pod.labels();
            let named = labels.get("batch.kubernetes.io/job-name");
            named
                .or_else(|| labels.get("job-name"))
                .is_some_and(|of| of == job)
        })
        .cloned()
        .collect();
    // The one that was tried last says it best.
    of_job
        .iter()
        .max_by_key(|pod| pod.creation_timestamp().map(|at| at.0))
        .and_then(|pod| pods::trouble(std::slice::from_ref(pod)))
}

fn count(references: &References, workload: &str) -> Option<Replicas> {
    references
        .live
        .iter()
        .find(|(kind, live)| *kind == Kind::Deployment && live.name_any() == workload)
        .map(|(_, live)| replicas(live))
}

/// Whether all pods of central (or of a region) run as they should. While there is no workload yet, what keeps its
/// migration from running keeps it.
fn available(
    references: &References,
    target: &str,
    found: Option<Replicas>,
    wanted: i32,
) -> Finding {
    let is_target = |labels: &std::collections::BTreeMap<String, String>| {
        labels.get(REGION).map_or(CENTRAL, String::as_str) == target
    };
    let of_target: Vec<_> = references
        .pods
        .iter()
        .filter(|pod| is_target(pod.labels()))
        .cloned()
        .collect();
    let (of_migration, of_nodes): (Vec<_>, Vec<_>) = of_target.into_iter().partition(|pod| {
        pod.labels()
            .get(COMPONENT)
            .is_some_and(|of| of == "migration")
    });
    match found {
        Some(found) if found.is_settled() && found.wanted == wanted => Finding::yes(
            "Running",
            format!("{} of {wanted} pods are ready", found.ready),
        ),
        Some(found) => match pods::trouble(&of_nodes) {
            Some(trouble) => Finding::fault(&trouble.reason, trouble.message),
            None => Finding::not_yet(
                "RollingOut",
                format!(
                    "{} of {wanted} pods are ready, {} are as the spec says",
                    found.ready, found.updated
                ),
            ),
        },
        None => match pods::trouble(&of_migration) {
            Some(trouble) if trouble.reason != "CrashLoopBackOff" => {
                Finding::fault(&trouble.reason, trouble.message)
            }
            _ => Finding::not_yet("NotStarted", "it starts when its database is migrated"),
        },
    }
}

fn regions_available(
    references: &References,
    regions: &[(&crate::api::store::Region, Option<Replicas>)],
) -> Finding {
    use crate::api::conditions::State;
    for (region, found) in regions {
        let finding = available(references, &region.name, *found, region.replicas);
        if finding.state != State::True {
            return Finding {
                message: format!("region {}: {}", region.name, finding.message),
                ..finding
            };
        }
    }
    Finding::yes("Running", "all regions have all their pods")
}

fn kafka(nodes: &[(Option<String>, String, Result<NodeStatus, NodeError>)]) -> Finding {
    let said: Vec<_> = nodes
        .iter()
        .filter_map(|(_, name, status)| Some((name, status.as_ref().ok()?.dependency("kafka")?)))
        .collect();
    if let Some((name, of)) = said.iter().find(|(_, of)| !of.available) {
        return Finding::fault("KafkaUnreachable", format!("{name}: {}", of.message));
    }
    if said.is_empty() {
        return Finding::unknown("NoNodeAnswers", "no node runs that could say");
    }
    Finding::yes("Reachable", "all nodes reach Kafka")
}

fn edges(store: &AuthzStore, context: &Context) -> EdgesStatus {
    let (name, namespace) = (store.name_any(), store.namespace());
    let mut edges = EdgesStatus { total: 0, ready: 0 };
    for edge in context.caches.edges.state() {
        let subscribes = edge
            .spec
            .subscriptions
            .iter()
            .any(|of| of.store_ref.name == name);
        if !subscribes
            || edge.namespace() != namespace
            || edge.metadata.deletion_timestamp.is_some()
        {
            continue;
        }
        edges.total = edges.total.saturating_add(edge.spec.replicas);
        let subscriptions = edge.status.iter().flat_map(|status| &status.subscriptions);
        for of in subscriptions.filter(|of| of.store == name) {
            edges.ready = edges.ready.saturating_add(of.ready_replicas);
        }
    }
    edges
}
