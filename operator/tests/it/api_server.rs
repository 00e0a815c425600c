//! On a real API server: that it takes what is built, who owns which field, and that an operator with nothing to do
//! asks it to write nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use meridian_e2e::cluster::{Call, ControlPlane, Kubectl};
use meridian_operator::api;
use meridian_operator::controller::{self, Parts, Scope};
use meridian_operator::events::Events;
use meridian_operator::lease::{Election, Leadership};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::fixtures::{
    NAMESPACE, full_edge_json, full_secrets, full_store_json, secret_json, settings,
};
use crate::world::{FakeNodes, healthy, pod_of};

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// An API server that knows both kinds.
pub(crate) async fn start() -> ControlPlane {
    let plane = ControlPlane::start().await.unwrap();
    let kubectl = plane.kubectl();
    for (_, definition) in api::definitions() {
        kubectl
            .apply(&api::yaml(&definition).unwrap())
            .await
            .unwrap();
    }
    kubectl
        .run([
            "wait",
            "--for=condition=Established",
            "crd",
            "--all",
            "--timeout=30s",
        ])
        .await
        .unwrap();
    kubectl
        .run(["create", "namespace", NAMESPACE])
        .await
        .unwrap();
    plane
}

/// As users write them.
pub(crate) fn written(mut json: Value) -> Value {
    json["metadata"] = json!({"name": json["metadata"]["name"], "namespace": NAMESPACE});
    json
}

/// An operator on the plane, with nodes made up for the test.
pub(crate) struct Operator {
    stop: watch::Sender<bool>,
    running: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Operator {
    async fn start(kubeconfig: &Path, nodes: Arc<FakeNodes>) -> Self {
        let client = client(kubeconfig, None).await;
        Self::start_in(vec![Scope::All], client, nodes)
    }

    pub(crate) fn start_in(scopes: Vec<Scope>, client: Client, nodes: Arc<FakeNodes>) -> Self {
        let parts = Parts {
            nodes,
            settings: settings(),
            leadership: Leadership::always(),
            events: Events::new(client.clone(), "test"),
            client,
        };
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(controller::run(parts, scopes, stopped));
        Self { stop, running }
    }

    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        self.running.await.unwrap().unwrap();
    }
}

/// A client that may do everything, or what `user` may.
pub(crate) async fn client(kubeconfig: &Path, user: Option<&str>) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    let agent = ("user-agent".parse().unwrap(), AGENT.parse().unwrap());
    config.headers.push(agent);
    config.auth_info.impersonate = user.map(str::to_owned);
    Client::try_from(config).unwrap()
}

const AGENT: &str = "operator-under-test";

pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(
            start.elapsed() < DEADLINE,
            "not within {DEADLINE:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

pub(crate) async fn get(kubectl: &Kubectl, what: &str) -> Option<Value> {
    let args = ["--namespace", NAMESPACE]
        .into_iter()
        .chain(what.split(' '));
    kubectl.get(args).await.ok()
}

/// What Kubernetes' controllers and kubelets would do.
pub(crate) async fn run_workloads(kubectl: &Kubectl) {
    for kind in ["jobs", "deployments", "statefulsets"] {
        let Some(list) = get(kubectl, kind).await else {
            continue;
        };
        for object in list["items"].as_array().unwrap() {
            let name = object["metadata"]["name"].as_str().unwrap();
            let replicas = &object["spec"]["replicas"];
            let now = "2026-01-01T00:00:00Z";
            let status = if kind == "jobs" {
                json!({"succeeded": 1, "startTime": now, "completionTime": now, "conditions": [
                    {"type": "SuccessCriteriaMet", "status": "True", "lastTransitionTime": now},
                    {"type": "Complete", "status": "True", "lastTransitionTime": now},
                ]})
            } else {
                json!({
                    "observedGeneration": object["metadata"]["generation"],
                    "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": replicas,
                })
            };
            if kind == "jobs" && object["status"]["succeeded"] == 1 {
                continue;
            }
            if kind != "jobs" {
                run_pod(kubectl, object).await;
            }
            patch_status(kubectl, &format!("{kind}/{name}"), &status).await;
        }
    }
}

async fn run_pod(kubectl: &Kubectl, workload: &Value) {
    let mut pod = pod_of(workload);
    let status = std::mem::take(&mut pod["status"]);
    pod["spec"] = json!({"containers": [{"name": "node", "image": "x"}]});
    kubectl.apply(&pod.to_string()).await.unwrap();
    let name = pod["metadata"]["name"].as_str().unwrap();
    patch_status(kubectl, &format!("pods/{name}"), &status).await;
}

async fn patch_status(kubectl: &Kubectl, what: &str, status: &Value) {
    let patch = json!({"status": status}).to_string();
    let args = [
        "--namespace",
        NAMESPACE,
        "patch",
        what,
        "--subresource=status",
        "--type=merge",
        "--patch",
        &patch,
    ];
    kubectl.run(args).await.unwrap();
}

pub(crate) fn ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|of| of["type"] == "Ready" && of["status"] == "True")
}

#[tokio::test]
async fn an_operator_makes_what_is_asked_for_keeps_it_and_then_writes_nothing() {
    let plane = start().await;
    let kubectl = plane.kubectl();
    for (name, values) in full_secrets() {
        let values = values.iter().map(|(key, value)| (*key, value.as_str()));
        let secret = secret_json(name, values).to_string();
        kubectl.apply(&secret).await.unwrap();
    }
    let nodes = Arc::new(FakeNodes::default());
    nodes.0.lock().unwrap().status = healthy();
    let operator = Operator::start(plane.kubeconfig(), nodes.clone()).await;
    // Amounts that the API server keeps in another form.
    let (mut store, mut edge) = (written(full_store_json()), written(full_edge_json()));
    store["spec"]["central"]["resources"]["requests"]["cpu"] = json!("0.0625");
    edge["spec"]["storage"]["size"] = json!("2048Mi");
    kubectl.apply(&store.to_string()).await.unwrap();
    kubectl.apply(&edge.to_string()).await.unwrap();
    until("both ready", async || {
        run_workloads(kubectl).await;
        let store = get(kubectl, "authzstore payments").await?;
        let edge = get(kubectl, "edgeregion till").await?;
        (ready(&store) && ready(&edge)).then_some(())
    })
    .await;

    operator.stop().await;

    status_is_of_this_generation_and_the_spec_is_the_users(kubectl).await;
    // What it wrote last comes back to it once more.
    until("settled", async || {
        let writes = writes_of_a_new_operator(&plane, &nodes).await;
        writes.is_empty().then_some(())
    })
    .await;
    assert_eq!(writes_of_a_new_operator(&plane, &nodes).await, []);

    let operator = Operator::start(plane.kubeconfig(), nodes).await;
    fields_of_others_are_kept_and_its_own_set_right(kubectl).await;
    scaling_by_the_subresource_reaches_the_stateful_set(kubectl).await;
    a_store_goes_whose_finalizer_others_have_set_too(kubectl).await;
    operator.stop().await;
    let writes = plane.audit().writes().unwrap();
    let by_operator = writes.iter().filter(|call| call.user_agent.contains(AGENT));
    assert!(
        by_operator.count() > 20,
        "the log has not all of its writes"
    );
}

async fn status_is_of_this_generation_and_the_spec_is_the_users(kubectl: &Kubectl) {
    let store = get(kubectl, "authzstore payments --show-managed-fields")
        .await
        .unwrap();
    assert_eq!(
        store["status"]["observedGeneration"],
        store["metadata"]["generation"]
    );
    assert_eq!(
        store["metadata"]["finalizers"],
        json!(["meridian.dev/store"])
    );
    for entry in store["metadata"]["managedFields"].as_array().unwrap() {
        if entry["manager"] == "meridian-operator" {
            let fields = &entry["fieldsV1"];
            assert!(
                fields.get("f:spec").is_none(),
                "owns a part of the spec: {entry}"
            );
            assert_eq!(
                fields.get("f:status").is_some(),
                entry["subresource"] == "status"
            );
        }
    }
    let table = kubectl
        .run(["--namespace", NAMESPACE, "get", "azs,edge"])
        .await
        .unwrap();
    for part in [
        "READY", "PRODUCT", "MODEL", "EDGES", "AllGood", "model-1", "PARENT", "eu-1",
    ] {
        assert!(table.contains(part), "{part} is not in\n{table}");
    }
}

/// What an operator writes that starts anew, knowing nothing, and looks at everything once. By the Secrets it reads it is
/// known to have looked; stopped, it ends what is under way first.
async fn writes_of_a_new_operator(plane: &ControlPlane, nodes: &Arc<FakeNodes>) -> Vec<Call> {
    let by_operator = |call: &Call| call.user_agent.contains(AGENT);
    let audit = plane.audit();
    let reads = || {
        audit
            .secrets_read()
            .unwrap()
            .into_iter()
            .filter(by_operator)
            .count()
    };
    let writes = || audit.writes().unwrap().into_iter().filter(by_operator);
    let (reads_before, writes_before) = (reads(), writes().count());
    let operator = Operator::start(plane.kubeconfig(), Arc::clone(nodes)).await;
    // Nine are the store's, five the edge's.
    until("a reconcile of each", async || {
        (reads() >= reads_before + 14).then_some(())
    })
    .await;
    operator.stop().await;
    writes().skip(writes_before).collect()
}

async fn fields_of_others_are_kept_and_its_own_set_right(kubectl: &Kubectl) {
    let patch = json!({
        "metadata": {"annotations": {"team": "payments"}},
        "spec": {"replicas": 9, "minReadySeconds": 7},
    })
    .to_string();
    let args = [
        "--namespace",
        NAMESPACE,
        "patch",
        "deployment",
        "payments-central",
        "--type=merge",
        "--patch",
        &patch,
    ];
    kubectl.run(args).await.unwrap();
    let central = until("replicas set right", async || {
        let central = get(kubectl, "deployment payments-central").await?;
        (central["spec"]["replicas"] == 2).then_some(central)
    })
    .await;
    assert_eq!(central["metadata"]["annotations"]["team"], "payments");
    assert_eq!(central["spec"]["minReadySeconds"], 7);

    // Without force, another who wants one of its fields is told whose it is.
    let other = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "payments-central", "namespace": NAMESPACE},
        "spec": {"replicas": 5, "selector": central["spec"]["selector"]},
    });
    let refused = kubectl.apply(&other.to_string()).await.unwrap_err();
    assert!(
        format!("{refused:#}").contains("meridian-operator"),
        "{refused:#}"
    );
}

async fn scaling_by_the_subresource_reaches_the_stateful_set(kubectl: &Kubectl) {
    let before = get(kubectl, "statefulset till-payments").await.unwrap();
    let args = [
        "--namespace",
        NAMESPACE,
        "scale",
        "edgeregion",
        "till",
        "--replicas=4",
    ];
    kubectl.run(args).await.unwrap();
    until("the StatefulSet scaled", async || {
        run_workloads(kubectl).await;
        let set = get(kubectl, "statefulset till-payments").await?;
        assert_eq!(set["metadata"]["uid"], before["metadata"]["uid"]);
        (set["spec"]["replicas"] == 4).then_some(())
    })
    .await;
    until("the status says so", async || {
        run_workloads(kubectl).await;
        let edge = get(kubectl, "edgeregion till").await?;
        (edge["status"]["replicas"] == 4 && edge["status"]["readyReplicas"] == 4).then_some(())
    })
    .await;
}

/// As with a backup that is restored, or YAML that was read and applied again.
async fn a_store_goes_whose_finalizer_others_have_set_too(kubectl: &Kubectl) {
    let mut store = written(full_store_json());
    store["metadata"]["finalizers"] = json!(["meridian.dev/store"]);
    kubectl.apply(&store.to_string()).await.unwrap();
    let delete = ["--namespace", NAMESPACE, "delete", "--wait=false"];
    let what = ["authzstore", "payments"];
    kubectl.run(delete.into_iter().chain(what)).await.unwrap();
    until("the store gone", async || {
        run_workloads(kubectl).await;
        get(kubectl, "authzstore payments")
            .await
            .is_none()
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn of_two_operators_one_leads_and_the_other_follows_when_it_goes() {
    let plane = start().await;
    let client = client(plane.kubeconfig(), None).await;
    let candidate = |name: &str| {
        Election::new(
            client.clone(),
            NAMESPACE,
            "meridian-operator",
            name.to_owned(),
        )
    };
    let (mut one, mut other) = (candidate("one"), candidate("other"));
    assert!(one.leadership().check().is_err());
    one.win(|| {}).await;
    assert!(one.leadership().check().is_ok());
    let follower = other.leadership();
    let follows = tokio::spawn(async move {
        other.win(|| {}).await;
        other
    });
    let kept = tokio::time::timeout(Duration::from_secs(8), one.keep()).await;
    assert!(kept.is_err(), "it was lost");
    assert!(follower.check().is_err(), "both lead");
    let lease = get(plane.kubectl(), "lease meridian-operator")
        .await
        .unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], "one");

    one.release().await;
    assert!(one.leadership().check().is_err());
    let mut other = tokio::time::timeout(Duration::from_secs(10), follows)
        .await
        .unwrap()
        .unwrap();
    assert!(follower.check().is_ok());
    let lease = get(plane.kubectl(), "lease meridian-operator")
        .await
        .unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], "other");
    assert_eq!(lease["spec"]["leaseTransitions"], 1);
    other.release().await;
}
