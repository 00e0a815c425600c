//! On a real API server: what makes an operator look again, long before it would by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_operator::controller::Scope;
use serde_json::{Value, json};

use crate::api_server::{Operator, client, get, start, until, written};
use crate::fixtures::{NAMESPACE, SECRETS, store_json};
use crate::world::FakeNodes;

fn reason(store: &Value) -> Option<String> {
    let conditions = store["status"]["conditions"].as_array()?;
    let accepted = conditions.iter().find(|of| of["type"] == "Accepted")?;
    accepted["reason"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn a_store_is_taken_up_as_soon_as_the_one_in_its_way_is_deleted() {
    let plane = start().await;
    let kubectl = plane.kubectl();
    for (name, key) in SECRETS {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE},
            "stringData": {key: "value"},
        });
        kubectl.apply(&secret.to_string()).await.unwrap();
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
