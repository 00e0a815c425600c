//! A Secret of one part that cannot be read, of a store whose databases are known.

use http::Method;
use serde_json::json;

use super::{OURS, two_that_run};

#[tokio::test]
async fn a_secret_that_cannot_be_read_holds_up_only_what_needs_it() {
    let world = two_that_run().await;
    let fault = (Method::GET, "/secrets/orders-us".to_owned(), 403);
    world.server(|server| server.faults.push(fault));
    world.change(OURS, "AuthzStore", "orders", |store| {
        store["spec"]["central"]["replicas"] = json!(5);
        store["spec"]["regions"][1]["replicas"] = json!(4);
    });
    let error = world.reconcile_store("orders").await.unwrap_err();
    assert!(error.to_string().contains("'orders-us'"), "{error}");
    let replicas = |name| {
        let deployment = world.get("apps/v1", "Deployment", name).unwrap();
        deployment["spec"]["replicas"].as_i64()
    };
    assert_eq!(replicas("orders-central"), Some(5));
    assert_eq!(replicas("orders-regional-us-1"), Some(1));
    let status = world.get(OURS, "AuthzStore", "orders").unwrap()["status"].clone();
    assert_eq!(status["databases"].as_array().unwrap().len(), 3);
    let mut conditions = status["conditions"].as_array().unwrap().iter();
    let resolved = conditions.find(|of| of["type"] == "ReferencesResolved");
    let resolved = resolved.unwrap();
    assert_eq!(resolved["reason"], "Refused");
    let message = resolved["message"].as_str().unwrap();
    assert!(message.contains("regions[us-1]"), "{message}");

    world.server(|server| server.faults.clear());
    world.reconcile_store("orders").await.unwrap();
    assert_eq!(replicas("orders-regional-us-1"), Some(4));
}
