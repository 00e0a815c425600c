//! On a real API server: an operator that looks after some namespaces only, with no more rights than the chart's Role
//! gives it in each of these.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use meridian_e2e::cluster::Kubectl;
use meridian_operator::controller::Scope;
use serde_json::{Value, json};

use crate::api_server::{Operator, client, get, ready, run_workloads, start, until, written};
use crate::fixtures::{NAMESPACE, SECRETS, edge_json, store_json};
use crate::world::{FakeNodes, healthy};

const USER: &str = "operator";
/// Looked after, as [`NAMESPACE`] is.
const SECOND: &str = "checkout";
/// Not looked after.
const OTHER: &str = "other";

/// The rules of the chart, which are plain YAML.
fn rules() -> Value {
    let chart =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/meridian/templates/rbac.yaml");
    let text = fs::read_to_string(chart).unwrap();
    let (_, rest) = text
        .split_once("{{- define \"meridian.rules\" -}}")
        .unwrap();
    let (rules, _) = rest.split_once("{{- end -}}").unwrap();
    serde_saphyr::from_str(rules).unwrap()
}

async fn grant(kubectl: &Kubectl, namespace: &str) {
    let metadata = json!({"name": USER, "namespace": namespace});
    let group = "rbac.authorization.k8s.io";
    let api = format!("{group}/v1");
    let role = json!({"apiVersion": api, "kind": "Role", "metadata": metadata, "rules": rules()});
    let binding = json!({
        "apiVersion": api, "kind": "RoleBinding", "metadata": metadata,
        "roleRef": {"apiGroup": group, "kind": "Role", "name": USER},
        "subjects": [{"apiGroup": group, "kind": "User", "name": USER}],
    });
    for object in [role, binding] {
        kubectl.apply(&object.to_string()).await.unwrap();
    }
}

async fn create_secrets(kubectl: &Kubectl, namespace: &str) {
    for (name, key) in SECRETS {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace},
            "stringData": {key: "value"},
        });
        kubectl.apply(&secret.to_string()).await.unwrap();
    }
}

async fn create(kubectl: &Kubectl, namespace: &str, json: Value) {
    let mut json = written(json);
    json["metadata"]["namespace"] = json!(namespace);
    kubectl.apply(&json.to_string()).await.unwrap();
}

async fn get_in(kubectl: &Kubectl, namespace: &str, what: &str) -> Option<Value> {
    let args = ["--namespace", namespace]
        .into_iter()
        .chain(what.split(' '));
    kubectl.get(args).await.ok()
}

/// On a Kafka that has one name in all namespaces.
fn store_on_shared_kafka() -> Value {
    let mut json = store_json();
    json["spec"]["kafka"]["bootstrapServers"] = json!(["kafka.example.com:9092"]);
    json
}

fn accepted(store: &Value) -> Option<(String, String)> {
    let conditions = store["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|of| of["type"] == "Accepted")?;
    let text = |field: &str| found[field].as_str().unwrap().to_owned();
    Some((text("reason"), text("message")))
}

#[tokio::test]
async fn an_operator_of_some_namespaces_needs_no_rights_beyond_them() {
    let plane = start().await;
    let kubectl = plane.kubectl();
    for namespace in [SECOND, OTHER] {
        kubectl
            .run(["create", "namespace", namespace])
            .await
            .unwrap();
    }
    for namespace in [NAMESPACE, SECOND, OTHER] {
        create_secrets(kubectl, namespace).await;
    }
    for namespace in [NAMESPACE, SECOND] {
        grant(kubectl, namespace).await;
    }
    let nodes = Arc::new(FakeNodes::default());
    nodes.0.lock().unwrap().status = healthy();
    let scopes = [NAMESPACE, SECOND].map(|name| Scope::Namespace(name.to_owned()));
    let client = client(plane.kubeconfig(), Some(USER)).await;
    let operator = Operator::start_in(scopes.into(), client, nodes);

    create(kubectl, OTHER, store_on_shared_kafka()).await;
    create(kubectl, NAMESPACE, store_on_shared_kafka()).await;
    create(kubectl, NAMESPACE, edge_json()).await;
    until("both ready", async || {
        run_workloads(kubectl).await;
        let store = get(kubectl, "authzstore payments").await?;
        let edge = get(kubectl, "edgeregion till").await?;
        (ready(&store) && ready(&edge)).then_some(())
    })
    .await;

    // One product is one product, in whichever namespace.
    create(kubectl, SECOND, store_on_shared_kafka()).await;
    let refused = until("the second looked at", async || {
        let store = get_in(kubectl, SECOND, "authzstore payments").await?;
        accepted(&store)
    })
    .await;
    assert_eq!(refused.0, "ProductTaken");
    assert!(refused.1.contains("shop/payments"), "{}", refused.1);
    let mut own = store_on_shared_kafka();
    own["metadata"]["name"] = json!("carts");
    own["spec"]["product"] = json!("carts");
    create(kubectl, SECOND, own).await;
    until("another product of the second built", async || {
        get_in(kubectl, SECOND, "service carts-central").await
    })
    .await;
    operator.stop().await;

    let other = get_in(kubectl, OTHER, "authzstore payments").await.unwrap();
    assert_eq!(other["status"], Value::Null);
    let built = get_in(kubectl, OTHER, "services,deployments,jobs").await;
    assert_eq!(built.unwrap()["items"], json!([]));
}
