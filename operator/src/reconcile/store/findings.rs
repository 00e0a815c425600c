//! What is so of an AuthzStore and what is not: observed from its nodes, and made into conditions.

use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DynamicObject;

use super::Found;
use super::dereference::References;
use super::model::{Central, ConvergeError, StoreState};
use super::validate::{Refusal, Validated, WantedModel};
use crate::api::AuthzStore;
use crate::api::conditions::{
    ACCEPTED, CENTRAL_AVAILABLE, Finding, Findings, KAFKA_REACHABLE, MIGRATED, MODEL_ACTIVE,
    REFERENCES_RESOLVED, REGIONS_AVAILABLE, State,
};
use crate::api::store::{AuthzStoreStatus, CentralStatus, EdgesStatus, RegionStatus};
use crate::build::{
    CENTRAL, COMPONENT, GRPC_PORT, Kind, Object, REGION, central_name, grpc_address, regional_name,
};
use crate::nodes::{NodeError, NodeStatus};
use crate::reconcile::pods::{self, Trouble};
use crate::reconcile::workloads::{JobState, Replicas, job_state, replicas};
use crate::reconcile::{Context, Plan};

/// Nodes asked at once.
const ASKED_AT_ONCE: usize = 16;

/// A running pod that was asked how it is.
struct Asked {
    /// None for central.
    region: Option<String>,
    pod: String,
    status: Result<NodeStatus, NodeError>,
}

/// What the nodes say.
pub(super) struct Observed {
    nodes: Vec<Asked>,
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
        Ok(wanted) => converge(store, context, &nodes, wanted, &mut state).await,
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
async fn ask(context: &Context, references: &References) -> Vec<Asked> {
    let nodes: Vec<_> = references
        .pods
        .iter()
        .filter(|pod| !is_migration(pod))
        .flat_map(|pod| {
            let region = pod.labels().get(REGION).cloned();
            let addresses = pods::addresses(std::slice::from_ref(pod), GRPC_PORT);
            addresses
                .into_iter()
                .map(move |(name, address)| (region.clone(), name, address))
        })
        .collect();
    futures::stream::iter(nodes)
        .map(|(region, pod, address)| async move {
            let status = context.nodes.status(&address).await;
            Asked {
                region,
                pod,
                status,
            }
        })
        .buffered(ASKED_AT_ONCE)
        .collect()
        .await
}

async fn converge(
    store: &AuthzStore,
    context: &Context,
    nodes: &[Asked],
    wanted: &WantedModel,
    state: &mut StoreState,
) -> Finding {
    let ready = nodes.iter().find_map(|of| {
        let status = of.status.as_ref().ok()?;
        (of.region.is_none() && status.ready).then_some(status)
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
        Ok(()) => active(store, nodes, state),
        Err(ConvergeError::Node(NodeError::Unavailable(why))) => {
            Finding::not_yet("CentralUnavailable", why)
        }
        Err(ConvergeError::Node(NodeError::Refused(why))) => Finding::fault("Refused", why),
        Err(lost @ ConvergeError::Lost(_)) => Finding::fault("StoreLost", lost.to_string()),
    }
}

/// Whether every region has the model.
fn active(store: &AuthzStore, nodes: &[Asked], state: &StoreState) -> Finding {
    let (Some(id), Some(model)) = (&state.id, &state.model) else {
        return Finding::unknown("NotWritten", "the model is not written yet");
    };
    let model = &model.id;
    if let Some(other) = &state.superseded_by {
        return Finding::fault(
            "Superseded",
            format!(
                "model {other}, written by somebody else, came after {model}: change spec.model to write one again"
            ),
        );
    }
    if state.written {
        return Finding::not_yet("Replicating", format!("model {model} was written"));
    }
    for region in &store.spec.regions {
        let is_of = |of: &&Asked| of.region.as_ref() == Some(&region.name);
        if !nodes.iter().any(|of| is_of(&of)) {
            let told = format!("region {} has no running node", region.name);
            return Finding::not_yet("Replicating", told);
        }
        for Asked { pod, status, .. } in nodes.iter().filter(is_of) {
            match status {
                Ok(status) if status.model(id) == Some(model) => {}
                Ok(_) => {
                    let told = format!("{pod} does not have model {model} yet");
                    return Finding::not_yet("Replicating", told);
                }
                Err(_) => {
                    return Finding::unknown("NodeSilent", format!("{pod} does not answer"));
                }
            }
        }
    }
    Finding::yes("Active", format!("model {model} is active"))
}

/// What the findings are about.
pub(super) struct World<'a> {
    pub(super) store: &'a AuthzStore,
    pub(super) references: &'a References,
    /// All objects, if they can be built.
    pub(super) wanted: Option<&'a [Object]>,
    pub(super) plan: &'a Plan<'a>,
}

impl World<'_> {
    /// The status, but for its conditions, and the findings they are made of.
    pub(super) fn status(
        &self,
        context: &Context,
        validated: &Validated,
        observed: Observed,
    ) -> Found {
        let name = self.store.name_any();
        let spec = &self.store.spec;
        let central = central_name(&name);
        let (accepted, resolved) = refusals(validated);
        let findings: Findings = vec![
            (ACCEPTED, accepted),
            (REFERENCES_RESOLVED, resolved),
            (MIGRATED, self.migrated()),
            (
                CENTRAL_AVAILABLE,
                self.available(&central, CENTRAL, spec.central.replicas),
            ),
            (REGIONS_AVAILABLE, self.regions_available()),
            (KAFKA_REACHABLE, kafka(&observed.nodes)),
            (MODEL_ACTIVE, observed.model),
        ];
        let ready = |workload: &str| self.count(workload).map_or(0, |of| of.ready);
        let regions = spec.regions.iter().map(|region| RegionStatus {
            name: region.name.clone(),
            replicas: region.replicas,
            ready_replicas: ready(&regional_name(&name, &region.name)),
        });
        let status = AuthzStoreStatus {
            observed_generation: self.store.metadata.generation,
            store_id: observed.store.id,
            model: observed.store.model,
            central: Some(CentralStatus {
                replicas: spec.central.replicas,
                ready_replicas: ready(&central),
            }),
            regions: regions.collect(),
            edges: Some(edges(self.store, context)),
            conditions: Vec::new(),
        };
        (status, findings)
    }

    /// The first database that does not have the image's schema.
    fn migrated(&self) -> Finding {
        let Some(wanted) = self.wanted else {
            return Finding::unknown("Blocked", "see Accepted and ReferencesResolved");
        };
        let mut jobs = wanted.iter().filter(|object| object.kind == Kind::Job);
        jobs.find_map(|job| self.unfinished(&job.name))
            .unwrap_or_else(|| Finding::yes("Migrated", "every database has the image's schema"))
    }

    fn unfinished(&self, job: &str) -> Option<Finding> {
        let trouble = || trouble_of_job(self.references, job);
        match self.live(Kind::Job, job).map(job_state) {
            Some(JobState::Complete) => None,
            Some(JobState::Failed {
                reason, message, ..
            }) => {
                let why = trouble().map_or(message, |trouble| trouble.message);
                let told = format!("Job '{job}' failed ({reason}): {why}");
                Some(Finding::fault("MigrationFailed", told))
            }
            Some(JobState::Running) | None => Some(match trouble() {
                Some(Trouble { reason, message }) => Finding::fault(&reason, message),
                None => Finding::not_yet("Migrating", format!("Job '{job}' runs")),
            }),
        }
    }

    fn live(&self, kind: Kind, name: &str) -> Option<&DynamicObject> {
        let mut live = self.references.live.iter();
        live.find(|(of, live)| *of == kind && live.name_any() == name)
            .map(|(_, live)| &**live)
    }

    fn count(&self, workload: &str) -> Option<Replicas> {
        self.live(Kind::Deployment, workload).map(replicas)
    }

    fn regions_available(&self) -> Finding {
        for region in &self.store.spec.regions {
            let workload = regional_name(&self.store.name_any(), &region.name);
            let finding = self.available(&workload, &region.name, region.replicas);
            if finding.state != State::True {
                return Finding {
                    message: format!("region {}: {}", region.name, finding.message),
                    ..finding
                };
            }
        }
        Finding::yes("Running", "all regions have all their pods")
    }

    /// Whether all pods of central (or of a region) run as they should. While there is no workload yet, what keeps its
    /// migration from running keeps it.
    fn available(&self, workload: &str, target: &str, wanted: i32) -> Finding {
        let (migration, nodes) = self.pods(target);
        let Some(found) = self.count(workload) else {
            return match pods::trouble(&migration) {
                Some(trouble) if trouble.reason != "CrashLoopBackOff" => {
                    Finding::fault(&trouble.reason, trouble.message)
                }
                _ => Finding::not_yet("NotStarted", "it starts when its database is migrated"),
            };
        };
        if let Some(why) = self.plan.pending(Kind::Deployment, workload) {
            return Finding::not_yet("RollingOut", why);
        }
        if found.is_settled() && found.wanted == wanted {
            let told = format!("{} of {wanted} pods are ready", found.ready);
            return Finding::yes("Running", told);
        }
        match pods::trouble(&nodes) {
            Some(trouble) => Finding::fault(&trouble.reason, trouble.message),
            None => Finding::not_yet(
                "RollingOut",
                format!(
                    "{} of {wanted} pods are ready, {} are as the spec says",
                    found.ready, found.updated
                ),
            ),
        }
    }

    /// The pods of central or of a region: those of migrations, and the nodes.
    fn pods(&self, target: &str) -> (Vec<Arc<Pod>>, Vec<Arc<Pod>>) {
        let of_target = self.references.pods.iter().filter(|pod| {
            let region = pod.labels().get(REGION);
            region.map_or(CENTRAL, String::as_str) == target
        });
        of_target.cloned().partition(|pod| is_migration(pod))
    }
}

fn is_migration(pod: &Pod) -> bool {
    pod.labels()
        .get(COMPONENT)
        .is_some_and(|of| of == "migration")
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

/// Of the pods of a Job the one that was tried last says it best.
fn trouble_of_job(references: &References, job: &str) -> Option<Trouble> {
    let of_job = references.pods.iter().filter(|pod| {
        let labels = pod.labels();
        let named = labels.get("batch.kubernetes.io/job-name");
        named.is_some_and(|of| of == job)
    });
    let last = of_job.max_by_key(|pod| pod.creation_timestamp().map(|at| at.0))?;
    pods::trouble(std::slice::from_ref(last))
}

fn kafka(nodes: &[Asked]) -> Finding {
    let said: Vec<_> = nodes
        .iter()
        .filter_map(|of| Some((&of.pod, of.status.as_ref().ok()?.dependency("kafka")?)))
        .collect();
    if let Some((pod, of)) = said.iter().find(|(_, of)| !of.available) {
        return Finding::fault("KafkaUnreachable", format!("{pod}: {}", of.message));
    }
    if said.is_empty() {
        return Finding::unknown("NoNodeAnswers", "no node runs that could say");
    }
    Finding::yes("Reachable", "all nodes reach Kafka")
}

fn edges(store: &AuthzStore, context: &Context) -> EdgesStatus {
    let (name, namespace) = (store.name_any(), store.namespace());
    let subscribers = context.caches.edges.state_filter(|edge| {
        let mut subscriptions = edge.spec.subscriptions.iter();
        edge.namespace() == namespace
            && edge.metadata.deletion_timestamp.is_none()
            && subscriptions.any(|of| of.store_ref.name == name)
    });
    let mut edges = EdgesStatus { total: 0, ready: 0 };
    for edge in subscribers {
        edges.total = edges.total.saturating_add(edge.spec.replicas);
        let subscriptions = edge.status.iter().flat_map(|status| &status.subscriptions);
        for of in subscriptions.filter(|of| of.store == name) {
            edges.ready = edges.ready.saturating_add(of.ready_replicas);
        }
    }
    edges
}
