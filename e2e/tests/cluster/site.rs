//! A namespace of a test's own on the shared cluster.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use meridian_e2e::cluster::{Access, Kubectl};
use serde_json::Value;
use tokio::sync::{RwLockReadGuard, RwLockWriteGuard};

use crate::client::Client;
use crate::shared::{Shared, operator_log};
use crate::until::until;

const CALL_DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Site {
    shared: Arc<Shared>,
    kubectl: Kubectl,
    pub(crate) namespace: &'static str,
}

/// One condition of an object's status.
#[derive(Debug)]
pub(crate) struct Condition {
    pub(crate) status: String,
    pub(crate) reason: String,
    pub(crate) message: String,
    /// Whether it is about the object as it is now.
    pub(crate) is_current: bool,
}

impl Site {
    pub(crate) async fn new(namespace: &'static str) -> Self {
        let shared = Shared::get().await;
        let kubectl = shared.access().kubectl().unwrap();
        let create = ["create", "namespace", namespace];
        kubectl.run(create).await.unwrap();
        Self {
            shared,
            kubectl,
            namespace,
        }
    }

    pub(crate) fn access(&self) -> &Access {
        self.shared.access()
    }

    /// Nobody kills the operator meanwhile.
    pub(crate) async fn with_the_operator(&self) -> RwLockReadGuard<'_, ()> {
        self.shared.operator.read().await
    }

    /// No other test needs the operator meanwhile.
    pub(crate) async fn with_the_operator_alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.shared.operator.write().await
    }

    /// Runs `kubectl` in the namespace.
    pub(crate) async fn kubectl<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> String {
        let namespace = ["--namespace", self.namespace];
        let args = namespace.into_iter().chain(args);
        self.kubectl.run(args).await.unwrap()
    }

    pub(crate) async fn apply(&self, manifests: &str) {
        let apply = ["apply", "--server-side", "--filename=-", "--namespace"];
        let args = apply.into_iter().chain([self.namespace]);
        let applied = self.kubectl.run_with(args, manifests, CALL_DEADLINE).await;
        applied.unwrap();
    }

    /// Changes fields of an object.
    pub(crate) async fn patch(&self, object: &str, patch: &Value) {
        let patch = patch.to_string();
        self.kubectl(["patch", object, "--type=merge", "--patch", &patch])
            .await;
    }

    /// An object, or a list of those that a selector finds.
    pub(crate) async fn get<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Value {
        let namespace = ["--namespace", self.namespace];
        let args = namespace.into_iter().chain(args);
        self.kubectl.get(args).await.unwrap()
    }

    /// The names of the pods that a selector finds, which are not on their way out.
    pub(crate) async fn pods(&self, selector: &str) -> Vec<String> {
        let list = self.get(["pods", "--selector", selector]).await;
        let pods = list["items"].as_array().unwrap().iter();
        pods.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
            .map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    }

    /// All pods of central, regional and edge nodes.
    pub(crate) async fn nodes(&self) -> Vec<Value> {
        let selector = "app.kubernetes.io/name=meridian,app.kubernetes.io/component!=migration";
        let list = self.get(["pods", "--selector", selector]).await;
        list["items"].as_array().unwrap().clone()
    }

    /// What is asked at a Service, by any pod behind it.
    pub(crate) async fn client(&self, service: &str) -> Client {
        Client::new(self.address(service, 8081).await)
    }

    /// Where a port of a Service is.
    pub(crate) async fn address(&self, service: &str, port: u16) -> SocketAddr {
        let service = self.get(["service", service]).await;
        let ip = service["spec"]["clusterIP"].as_str().unwrap();
        SocketAddr::new(ip.parse().unwrap(), port)
    }

    pub(crate) async fn condition(&self, object: &str, kind: &str) -> Option<Condition> {
        let object = self.get([object]).await;
        let conditions = object["status"]["conditions"].as_array()?;
        let found = conditions.iter().find(|found| found["type"] == kind)?;
        let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
        Some(Condition {
            status: text("status"),
            reason: text("reason"),
            message: text("message"),
            is_current: found["observedGeneration"] == object["metadata"]["generation"],
        })
    }

    /// Waits until a condition holds of the object as it is now.
    pub(crate) async fn holds(&self, object: &str, kind: &str) {
        self.becomes(object, kind, |found| found.status == "True")
            .await;
    }

    /// Waits until a condition is False with a message that has all of `words`.
    pub(crate) async fn fails(&self, object: &str, kind: &str, words: &[&str]) {
        self.becomes(object, kind, |found| {
            let told = words.iter().all(|word| found.message.contains(word));
            found.status == "False" && !found.reason.is_empty() && told
        })
        .await;
    }

    /// Waits until nothing of Meridian's is left in the namespace.
    pub(crate) async fn is_empty(&self) {
        let kinds =
            "authzstores,edgeregions,deployments,statefulsets,jobs,pods,services,configmaps";
        let of_meridian = ["--selector", "app.kubernetes.io/name=meridian"];
        self.until("nothing is left", async || {
            let list = self.get([kinds].into_iter().chain(of_meridian)).await;
            let left = list["items"].as_array().unwrap().iter();
            let left: Vec<_> = left
                .map(|object| object["metadata"]["name"].clone())
                .collect();
            left.is_empty().then_some(()).ok_or(format!("{left:?}"))
        })
        .await;
    }

    async fn becomes(&self, object: &str, kind: &str, is_so: impl Fn(&Condition) -> bool) {
        self.until(&format!("{object} {kind}"), async || {
            let found = self.condition(object, kind).await;
            match &found {
                Some(condition) if condition.is_current && is_so(condition) => Ok(()),
                _ => Err(format!("{found:?}")),
            }
        })
        .await;
    }

    /// Asks until the answer is `Ok`; a failure says how everything stands.
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        ask: impl AsyncFnMut() -> Result<T, String>,
    ) -> T {
        match until(ask).await {
            Ok(answer) => answer,
            Err(still) => panic!(
                "{}: not in time: {what}; still {still}\n{}",
                self.namespace,
                self.how_it_stands().await
            ),
        }
    }

    async fn how_it_stands(&self) -> String {
        let all = "authzstores,edgeregions,pods,jobs,services";
        let commands: [&[&str]; 3] = [
            &["get", all, "--output=wide"],
            &["get", "events", "--sort-by=.lastTimestamp"],
            &[
                "logs",
                "--selector=app.kubernetes.io/name=meridian",
                "--prefix",
                "--tail=15",
            ],
        ];
        let mut text = String::new();
        for command in commands {
            let args = ["--namespace", self.namespace].into_iter();
            let said = self.kubectl.run(args.chain(command.iter().copied())).await;
            text += &said.unwrap_or_else(|error| format!("{error:#}\n"));
        }
        text + &operator_log(self.access()).await
    }
}
