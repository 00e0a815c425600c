//! Central, each region and the edges of each store stand alone: what is wrong with one holds up no other.

use http::Method;
use serde_json::{Value, json};

use super::{OURS, running, store_condition};
use crate::world::World;

fn deployment(world: &World, name: &str) -> Value {
    world.get("apps/v1", "Deployment", name).unwrap()["spec"].clone()
}

#[tokio::test]
async fn a_part_that_is_refused_holds_up_no_other() {
    let world = running().await;
    world.change(OURS, "AuthzStore", "payments", |store| {
        store["spec"]["central"]["replicas"] = json!(5);
        store["spec"]["regions"][0]["replicas"] = json!(4);
        store["spec"]["regions"][1]["replicas"] = json!(6);
    });
    for refused in ["payments-central", "payments-regional-eu-1"] {
        let fault = (Method::PATCH, format!("/deployments/{refused}"), 422);
        world.server(|server| server.faults.push(fault));
    }
    world.reconcile_store("payments").await.unwrap_err();
    assert_eq!(deployment(&world, "payments-central")["replicas"], 2);
    assert_eq!(deployment(&world, "payments-regional-us-1")["replicas"], 6);
    let (_, reason, message) = store_condition(&world, "Accepted");
    assert_eq!(reason, "Refused");
    for refused in ["'payments-central'", "'payments-regional-eu-1'"] {
        assert!(message.contains(refused), "{message}");
    }
    for (condition, refused) in [
        ("CentralAvailable", "'payments-central'"),
        ("RegionsAvailable", "'payments-regional-eu-1'"),
    ] {
        let (_, reason, message) = store_condition(&world, condition);
        assert_eq!(reason, "Blocked");
        assert!(message.contains(refused), "{message}");
    }

    world.server(|server| server.faults.clear());
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(deployment(&world, "payments-central")["replicas"], 5);
}

#[tokio::test]
async fn a_part_whose_secret_is_missing_stays_and_the_others_go_on() {
    let world = running().await;
    let before = deployment(&world, "payments-regional-us-1");
    world.change(OURS, "AuthzStore", "payments", |store| {
        let region = &mut store["spec"]["regions"][1];
        region["datastore"]["urlSecretRef"]["name"] = json!("not-there-yet");
        region["replicas"] = json!(6);
        store["spec"]["central"]["replicas"] = json!(5);
    });
    world.reconcile_store("payments").await.unwrap();
    world.run_workloads();
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(deployment(&world, "payments-central")["replicas"], 5);
    assert_eq!(deployment(&world, "payments-regional-us-1"), before);
    let (_, reason, message) = store_condition(&world, "ReferencesResolved");
    assert_eq!(reason, "SecretNotFound");
    assert!(message.contains("'not-there-yet'"), "{message}");
    assert_eq!(store_condition(&world, "CentralAvailable").0, "True");
    for blocked in ["Migrated", "RegionsAvailable"] {
        let (_, reason, message) = store_condition(&world, blocked);
        assert_eq!(reason, "Blocked", "{blocked}");
        assert!(message.contains("'not-there-yet'"), "{message}");
    }
}
