//! What is so of an AuthzStore and what is not: observed from its nodes, and made into conditions.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DynamicObject;

use super::Found;
use super::dereference::{References, is_migration, is_of_job};
use super::observe::Observed;
use super::validate::{Refusal, Validated};
use crate::api::AuthzStore;
use crate::api::conditions::{
    ACCEPTED, BLOCKED, CENTRAL_AVAILABLE, CENTRAL_REACHABLE, DATASTORE_REACHABLE, Finding,
    KAFKA_REACHABLE, LIVE_AVAILABLE, MIGRATED, MODEL_ACTIVE, REFERENCES_RESOLVED,
    REGIONS_AVAILABLE, State,
};
use crate::api::store::{
    AuthzStoreSpec, AuthzStoreStatus, CentralStatus, EdgesStatus, Region, RegionStatus,
};
use crate::build::{
    self, CENTRAL, Kind, Object, central_name, live_endpoint, live_name, live_target, regional_name,
};
use crate::reconcile::asked::{Asked, KAFKA, Need, reached};
use crate::reconcile::pods::{self, Trouble};
use crate::reconcile::rivals::Place;
use crate::reconcile::workloads::{JobState, Replicas, job_state, replicas};
use crate::reconcile::{Context, Failures, Missing, Plan, creation};

const DATASTORE: Need = Need {
    name: "datastore",
    unreachable: "DatastoreUnreachable",
    reached: "all nodes reach their databases",
};
const UPSTREAM: Need = Need {
    name: "upstream",
    unreachable: "CentralUnreachable",
    reached: "all regional nodes reach central",
};

/// All conditions of every store but the summary, in the order in which a reader should look at them: what nodes need comes before what
/// follows from not having it.
const KINDS: [&str; 9] = [
    ACCEPTED,
    REFERENCES_RESOLVED,
    MIGRATED,
    DATASTORE_REACHABLE,
    KAFKA_REACHABLE,
    CENTRAL_AVAILABLE,
    CENTRAL_REACHABLE,
    REGIONS_AVAILABLE,
    MODEL_ACTIVE,
];

/// Those of a store with this spec.
pub(super) fn kinds(spec: &AuthzStoreSpec) -> Vec<&'static str> {
    let live = live_endpoint(spec).map(|_| LIVE_AVAILABLE);
    KINDS.into_iter().chain(live).collect()
}

/// What the findings are about.
pub(super) struct World<'a> {
    pub(super) store: &'a AuthzStore,
    pub(super) references: &'a References,
    /// All objects, if they can be built.
    pub(super) wanted: Option<&'a [Object]>,
    pub(super) plan: &'a Plan<'a>,
    /// What of the plan was not written.
    pub(super) failures: &'a Failures,
    /// Why nothing can be built.
    pub(super) refusal: Option<&'a Refusal>,
    /// What keeps some of it from being built.
    pub(super) missing: &'a Missing,
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
        let findings = [
            accepted,
            resolved,
            self.migrated(),
            self.datastore(&observed.nodes),
            reached(&observed.nodes, KAFKA, no_hint),
            self.available(&central, CENTRAL, spec.central.replicas),
            reached(&observed.nodes, UPSTREAM, no_hint),
            self.regions_available(),
            observed.model,
        ];
        let live = live_endpoint(spec).map(|of| self.live_available(of.replicas));
        let ready = |workload: &str| self.count(workload).map_or(0, |of| of.ready);
        let regions = spec.regions.iter().map(|region| RegionStatus {
            name: region.name.clone(),
            replicas: region.replicas,
            ready_replicas: ready(&regional_name(&name, &region.name)),
        });
        let live_pods = spec.regions.iter().filter_map(|region| {
            Some(RegionStatus {
                name: region.name.clone(),
                replicas: live_endpoint(spec)?.replicas,
                ready_replicas: ready(&live_name(&name, &region.name)),
            })
        });
        let (mut topics, mut databases) = (Vec::new(), Vec::new());
        for place in context.rivals.held(self.store) {
            match place {
                Place::Topics(of) => topics.push(of),
                Place::Database(of) => databases.push(of),
            }
        }
        let status = AuthzStoreStatus {
            observed_generation: self.store.metadata.generation,
            store_id: observed.store.id,
            model: observed.store.model,
            pending_model: observed.store.pending,
            topics,
            databases,
            central: Some(CentralStatus {
                replicas: spec.central.replicas,
                ready_replicas: ready(&central),
            }),
            regions: regions.collect(),
            live: live_pods.collect(),
            edges: Some(edges(self.store, context)),
            conditions: Vec::new(),
        };
        let findings = findings.into_iter().chain(live);
        (status, kinds(spec).into_iter().zip(findings).collect())
    }

    /// The first database that does not have the image's schema.
    fn migrated(&self) -> Finding {
        if let Some(blocked) = self.blocked() {
            return blocked;
        }
        let wanted = self.wanted.unwrap_or_default();
        let jobs = wanted.iter().filter(|object| object.kind == Kind::Job);
        let (left, built): (Vec<_>, Vec<_>) = jobs.partition(|job| self.missing.of(job).is_some());
        let mut built = built.into_iter();
        built
            .find_map(|job| self.unfinished(&job.name, job.target().as_deref()))
            .or_else(|| self.left(left.first()?))
            .unwrap_or_else(|| Finding::yes("Migrated", "every database has the image's schema"))
    }

    fn unfinished(&self, job: &str, target: Option<&str>) -> Option<Finding> {
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
            Some(JobState::Running) | None => Some(match (trouble(), self.awaited(job)) {
                (Some(Trouble { reason, message }), _) => Finding::fault(&reason, message),
                (None, Some(why)) => {
                    Finding::blocked(CENTRAL_AVAILABLE, &format!("Job '{job}': {why}"))
                }
                (None, None) => self.under_way((Kind::Job, job, target), || {
                    Finding::not_yet("Migrating", format!("Job '{job}' runs"))
                }),
            }),
        }
    }

    /// What a Job waits for that is not there yet, if for something.
    fn awaited(&self, job: &str) -> Option<&'static str> {
        let mut waiting = self.plan.waiting.iter();
        let (_, why) = waiting.find(|(of, _)| of.kind == Kind::Job && of.name == job)?;
        self.live(Kind::Job, job).is_none().then_some(*why)
    }

    /// Why nothing is known to be as the spec says.
    fn blocked(&self) -> Option<Finding> {
        Some(match self.refusal? {
            Refusal::Invalid(why) => Finding::blocked(ACCEPTED, &why.message),
            Refusal::Missing(why) => Finding::blocked(REFERENCES_RESOLVED, &why.message),
        })
    }

    /// Why an object is left as it is, if so.
    fn left(&self, object: &Object) -> Option<Finding> {
        let why = self.missing.of(object)?;
        Some(Finding::blocked(REFERENCES_RESOLVED, &why.message))
    }

    /// What is so of an object that is not yet as it should be, unless it does not come since a write failed.
    fn under_way(
        &self,
        (kind, name, target): (Kind, &str, Option<&str>),
        finding: impl FnOnce() -> Finding,
    ) -> Finding {
        match self.failures.of(target) {
            Some(error) if self.plan.pending(kind, name).is_some() => {
                Finding::unknown(BLOCKED, error.to_string())
            }
            _ => finding(),
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

    /// Whether all nodes reach their databases; if not, with the Secret that says where it is.
    fn datastore(&self, nodes: &[Asked]) -> Finding {
        let spec = &self.store.spec;
        reached(nodes, DATASTORE, |node| {
            let region = node.region.as_ref();
            let of_region = spec.regions.iter().find(|of| Some(&of.name) == region);
            let datastore = of_region.map_or(&spec.datastore, |of| &of.datastore);
            format!(" (Secret '{}')", datastore.url_secret_ref.name)
        })
    }

    fn regions_available(&self) -> Finding {
        let available = |region: &Region| {
            let workload = regional_name(&self.store.name_any(), &region.name);
            self.available(&workload, &region.name, region.replicas)
        };
        self.first_region(available)
            .unwrap_or_else(|| Finding::yes("Running", "all regions have all their pods"))
    }

    fn live_available(&self, wanted: i32) -> Finding {
        let available = |region: &Region| {
            let workload = live_name(&self.store.name_any(), &region.name);
            self.available(&workload, &live_target(&region.name), wanted)
        };
        self.first_region(available).unwrap_or_else(|| {
            Finding::yes(
                "Running",
                "the live channel has all its pods in all regions",
            )
        })
    }

    /// The first region of which something does not hold.
    fn first_region(&self, holds: impl Fn(&Region) -> Finding) -> Option<Finding> {
        self.store.spec.regions.iter().find_map(|region| {
            let finding = holds(region);
            (finding.state != State::True).then(|| Finding {
                message: format!("region {}: {}", region.name, finding.message),
                ..finding
            })
        })
    }

    /// Whether all pods of central (or of a region) run as they should. While there is no workload yet, what keeps its
    /// migration from running keeps it.
    fn available(&self, workload: &str, target: &str, wanted: i32) -> Finding {
        let (migration, nodes) = self.pods(target);
        let told = |trouble: Trouble| Finding::fault(&trouble.reason, trouble.message);
        let of_workload = |of: &&Object| of.kind == Kind::Deployment && of.name == workload;
        let object = self.wanted.unwrap_or_default().iter().find(of_workload);
        let left = || self.left(object?);
        if let Some(blocked) = self.blocked().or_else(left) {
            return pods::trouble(&nodes).map_or(blocked, told);
        }
        let Some(found) = self.count(workload) else {
            return match pods::trouble(&migration) {
                Some(trouble) if trouble.reason != "CrashLoopBackOff" => told(trouble),
                _ => self.under_way((Kind::Deployment, workload, Some(target)), || {
                    Finding::not_yet("NotStarted", "it starts when its database is migrated")
                }),
            };
        };
        if let Some(why) = self.plan.pending(Kind::Deployment, workload) {
            return self.under_way((Kind::Deployment, workload, Some(target)), || {
                Finding::not_yet("RollingOut", why)
            });
        }
        if found.is_settled() && found.wanted == wanted {
            return Finding::yes("Running", found.progress(wanted));
        }
        let creation = || creation::of_deployment(self.live(Kind::Deployment, workload)?);
        match pods::trouble(&nodes).or_else(creation) {
            Some(trouble) => told(trouble),
            None => Finding::not_yet("RollingOut", found.progress(wanted)),
        }
    }

    /// The pods of a target: those of migrations, and the others.
    fn pods(&self, target: &str) -> (Vec<Arc<Pod>>, Vec<Arc<Pod>>) {
        let of_target = self.references.pods.iter().filter(|pod| {
            let of = build::target(|label| pod.labels().get(label).map(String::as_str));
            of.as_deref() == Some(target)
        });
        of_target.cloned().partition(|pod| is_migration(pod))
    }
}

fn no_hint(_: &Asked) -> String {
    String::new()
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
    let of_all = refusals
        .iter()
        .flatten()
        .filter_map(|refusal| match refusal {
            Refusal::Missing(finding) => Some(finding),
            Refusal::Invalid(_) => None,
        });
    let missing: Vec<_> = of_all.chain(validated.missing.findings()).collect();
    let fault = missing.iter().find(|of| of.state == State::False);
    let missing = fault.or(missing.first()).map(|first| {
        let mut told: Vec<_> = missing.iter().map(|of| of.message.as_str()).collect();
        // A Secret that is not there has none of its keys.
        told.dedup();
        Finding {
            message: told.join("; "),
            ..Finding::clone(first)
        }
    });
    (
        invalid.unwrap_or_else(|| Finding::yes("Valid", "the spec makes sense")),
        missing.unwrap_or_else(|| Finding::yes("Resolved", "everything that is named is there")),
    )
}

/// Of the pods of a Job the one that was tried last says it best.
fn trouble_of_job(references: &References, job: &str) -> Option<Trouble> {
    let of_job = references.pods.iter().filter(|pod| is_of_job(pod, job));
    match of_job.max_by_key(|pod| pod.creation_timestamp().map(|at| at.0)) {
        Some(last) => pods::trouble(std::slice::from_ref(last)),
        None => references.without_pods.get(job).cloned(),
    }
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
