//! Central, each region and the edges of each store stand alone: what is wrong with one holds up no other.

use http::Method;
use serde_json::{Value, json};

use super::{OURS, condition, running, store_condition};
use crate::fixtures::edge_json;
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

/// Adds a region that is like another.
fn add_region(world: &World, name: &str) {
    world.put(json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": format!("{name}-db"), "namespace": "shop"}, "data": {"url": "dmFsdWU="},
    }));
    world.change(OURS, "AuthzStore", "payments", |store| {
        let regions = store["spec"]["regions"].as_array_mut().unwrap();
        let mut region = regions[1].clone();
        region["name"] = json!(name);
        region["datastore"]["urlSecretRef"]["name"] = json!(format!("{name}-db"));
        regions.push(region);
    });
}

fn is_there(world: &World, part: &str) -> bool {
    world.server(|server| server.objects.keys().any(|path| path.contains(part)))
}

#[tokio::test]
async fn only_pods_that_read_a_secret_wait_for_it() {
    let world = running().await;
    let secret = world.get("v1", "Secret", "kafka").unwrap();
    world.server(|server| server.objects.retain(|path, _| !path.ends_with("/kafka")));
    add_region(&world, "ap-1");
    world.change(OURS, "AuthzStore", "payments", |store| {
        store["spec"]["central"]["replicas"] = json!(1);
    });
    for _ in 0..2 {
        world.reconcile_store("payments").await.unwrap();
        world.run_workloads();
    }
    assert_eq!(deployment(&world, "payments-central")["replicas"], 2);
    for there in [
        "/services/payments-regional-ap-1",
        "/jobs/payments-migrate-ap-1",
        "/configmaps/payments-regional-ap-1",
        // Of the pods that there still are.
        "/poddisruptionbudgets/payments-central",
    ] {
        assert!(is_there(&world, there), "{there}");
    }
    assert!(!is_there(&world, "/deployments/payments-regional-ap-1"));
    assert_eq!(store_condition(&world, "Migrated").0, "True");
    for blocked in ["CentralAvailable", "RegionsAvailable"] {
        let (_, reason, message) = store_condition(&world, blocked);
        assert_eq!(reason, "Blocked", "{blocked}");
        assert!(message.contains("'kafka'"), "{message}");
    }

    world.put(secret);
    for _ in 0..3 {
        world.reconcile_store("payments").await.unwrap();
        world.run_workloads();
    }
    assert_eq!(deployment(&world, "payments-central")["replicas"], 1);
    assert!(is_there(&world, "/deployments/payments-regional-ap-1"));
    assert!(!is_there(&world, "/poddisruptionbudgets/payments-central"));
}

#[tokio::test]
async fn pods_wait_for_what_all_need_and_the_rest_does_not() {
    let world = running().await;
    world.change(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        "payments-nodes",
        |policy| policy["spec"]["policyTypes"] = json!([]),
    );
    let fault = (Method::PATCH, "/networkpolicies/".to_owned(), 422);
    world.server(|server| server.faults.push(fault));
    add_region(&world, "ap-1");
    world.reconcile_store("payments").await.unwrap_err();
    assert!(is_there(&world, "/services/payments-regional-ap-1"));
    assert!(!is_there(&world, "payments-migrate-ap-1"));
    world.change(OURS, "AuthzStore", "payments", |store| {
        store["spec"]["regions"].as_array_mut().unwrap().remove(0);
    });
    world.reconcile_store("payments").await.unwrap_err();
    assert!(!is_there(&world, "/deployments/payments-regional-eu-1"));
}

async fn with_edges() -> World {
    let world = running().await;
    world.put(edge_json());
    for _ in 0..2 {
        world.reconcile_edge("till").await.unwrap();
        world.run_workloads();
    }
    world
}

#[tokio::test]
async fn edges_wait_for_a_secret_and_what_is_around_them_does_not() {
    for unreadable in [false, true] {
        let world = with_edges().await;
        let secret = world.get("v1", "Secret", "kafka").unwrap();
        world.server(|server| match unreadable {
            true => server
                .faults
                .push((Method::GET, "/secrets/kafka".to_owned(), 403)),
            false => server.objects.retain(|path, _| !path.ends_with("/kafka")),
        });
        world.change(OURS, "EdgeRegion", "till", |edge| {
            edge["spec"]["service"]["type"] = json!("ClusterIP");
            edge["spec"]["replicas"] = json!(5);
        });
        assert_eq!(world.reconcile_edge("till").await.is_err(), unreadable);
        let service = world.get("v1", "Service", "till-payments").unwrap();
        assert_eq!(service["spec"]["type"], "ClusterIP");
        let set = || {
            world
                .get("apps/v1", "StatefulSet", "till-payments")
                .unwrap()
        };
        assert_eq!(set()["spec"]["replicas"], 2);
        let (_, reason, message) = condition(&world, "EdgeRegion", "till", "Accepted");
        let expected = if unreadable {
            "Refused"
        } else {
            "SecretNotFound"
        };
        assert_eq!(reason, expected);
        assert!(
            message.contains("kafka.propertiesSecretRef of AuthzStore 'payments'"),
            "{message}"
        );
        let (_, reason, _) = condition(&world, "EdgeRegion", "till", "Available");
        assert_eq!(reason, "Blocked");
        assert_eq!(condition(&world, "EdgeRegion", "till", "Synced").0, "True");

        world.server(|server| server.faults.clear());
        world.put(secret);
        world.reconcile_edge("till").await.unwrap();
        assert_eq!(set()["spec"]["replicas"], 5);
    }
}

#[tokio::test]
async fn what_is_no_longer_asked_for_goes_though_a_secret_is_missing() {
    let world = with_edges().await;
    world.server(|server| server.objects.retain(|path, _| !path.ends_with("/kafka")));
    world.change(OURS, "EdgeRegion", "till", |edge| {
        edge["spec"]["subscriptions"] = json!([]);
    });
    world.reconcile_edge("till").await.unwrap();
    assert!(!is_there(&world, "/statefulsets/till-payments"));
}
