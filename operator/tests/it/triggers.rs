//! On a real API server: what makes an operator look again, long before it would by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_operator::controller::Scope;
use serde_json::{Value, json};

use crate::api_server::{Operator, client, get, start, until, written};
use crate::fixtures::{AUTHORITY, MODEL, NAMESPACE, SECRETS, edge_json, secret_json, store_json};
use crate::world::FakeNodes;

fn reason(store: &Value) -> Option<String> {
    reason_of(store, "Accepted")
}

fn reason_of(object: &Value, condition: &str) -> Option<String> {
    let conditions = object["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|of| of["type"] == condition)?;
    found["reason"].as_str().map(str::to_owned)
}

fn secret(name: &str, key: &str, value: &str) -> String {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE},
        "stringData": {key: value},
    });
    secret.to_string()
}

#[tokio::test]
async fn a_store_is_taken_up_as_soon_as_the_one_in_its_way_is_deleted() {
    let plane = start().await;
    let kubectl = plane.kubectl();
    for (name, key) in SECRETS {
        kubectl.apply(&secret(name, key, "value")).await.unwrap();
    }
    let client = client(plane.kubeconfig(), None).await;
    let nodes = Arc::<FakeNodes>::default();
    let operator = Operator::start_in(vec![Scope::All], client, nodes);
    for (name, expected) in [("payments", "Valid"), ("again", "ProductTaken")] {
        let mut store = store_json();
        store["metadata"]["name"] = json!(name);
        store["spec"]["deletionPolicy"] = json!("Retain");
        kubectl.apply(&written(store).to_string()).await.unwrap();
        until("looked at", async || {
            let store = get(kubectl, &format!("authzstore {name}")).await?;
            (reason(&store)? == expected).then_some(())
        })
        .await;
    }
    let start = Instant::now();
    let args = ["--namespace", NAMESPACE, "delete", "authzstore", "payments"];
    kubectl.run(args).await.unwrap();
    // As the garbage collector does, which does not run here.
    let kinds = ["--namespace", NAMESPACE, "delete", "deployments,jobs"];
    let of_it = ["--selector", "meridian.dev/store=payments"];
    kubectl
        .run([kinds.as_slice(), &of_it].concat())
        .await
        .unwrap();
    until("the other taken up", async || {
        let store = get(kubectl, "authzstore again").await?;
        (reason(&store)? == "Valid").then_some(())
    })
    .await;
    let took = start.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
    operator.stop().await;
}

/// Where something is missing it is looked again by itself only after minutes.
#[tokio::test]
async fn what_was_missing_is_seen_as_soon_as_it_is_there() {
    let plane = start().await;
    let kubectl = plane.kubectl();
    let client = client(plane.kubeconfig(), None).await;
    let operator = Operator::start_in(vec![Scope::All], client, Arc::<FakeNodes>::default());
    let is = async |what: &str, condition: &str, expected: &str| {
        until(expected, async || {
            let object = get(kubectl, what).await?;
            (reason_of(&object, condition)? == expected).then_some(())
        })
        .await;
    };
    let (edge, store) = ("edgeregion till", "authzstore payments");
    kubectl
        .apply(&written(edge_json()).to_string())
        .await
        .unwrap();
    is(edge, "Accepted", "StoreNotFound").await;

    for name in ["central-db", "eu-1-db"] {
        let shared = secret(name, "url", "postgres://db.example/one");
        kubectl.apply(&shared).await.unwrap();
    }
    let mut wanted = written(store_json());
    wanted["spec"]["deletionPolicy"] = json!("Retain");
    wanted["spec"]["model"] = json!({"configMapKeyRef": {"name": "models", "key": "payments.fga"}});
    kubectl.apply(&wanted.to_string()).await.unwrap();
    is(edge, "Accepted", "SecretNotFound").await;
    is(store, "Accepted", "DatabaseShared").await;
    is(store, "ReferencesResolved", "ConfigMapNotFound").await;

    let mut another = written(edge_json());
    another["metadata"]["name"] = json!("kiosk");
    kubectl.apply(&another.to_string()).await.unwrap();
    until("both edges counted", async || {
        let store = get(kubectl, store).await?;
        (store["status"]["edges"]["total"] == 4).then_some(())
    })
    .await;

    let models = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "models", "namespace": NAMESPACE},
        "data": {"payments.fga": MODEL},
    });
    // No status of a store says anything else now: it is the edges' own watch that tells them.
    kubectl
        .apply(&secret("kafka", "client.properties", "value"))
        .await
        .unwrap();
    is(edge, "Accepted", "Valid").await;

    kubectl.apply(&models.to_string()).await.unwrap();
    is(store, "ReferencesResolved", "Resolved").await;

    let own = secret("eu-1-db", "url", "postgres://db.example/another");
    kubectl.apply(&own).await.unwrap();
    is(store, "ReferencesResolved", "SecretNotFound").await;
    is(store, "Accepted", "Valid").await;

    let mut shows = written(edge_json());
    shows["spec"]["tls"] = json!({"secretRef": {"name": "till-tls"}});
    kubectl.apply(&shows.to_string()).await.unwrap();
    is(edge, "Accepted", "SecretNotFound").await;
    let (cert, key) = AUTHORITY.issued(&["till.example"]);
    let shown = secret_json("till-tls", [("tls.crt", &*cert), ("tls.key", &*key)]);
    kubectl.apply(&shown.to_string()).await.unwrap();
    is(edge, "Accepted", "Valid").await;
    operator.stop().await;
}
