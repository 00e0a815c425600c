//! What is said of the rest where one step does not get through.

use http::Method;
use meridian_operator::reconcile::Category;
use serde_json::json;

use super::{OURS, condition, retained, running, store_condition};
use crate::fixtures::edge_json;
use crate::world::World;

/// Asserts that a condition cannot be said since something else is in the way, which its message names.
fn assert_blocked(found: (String, String, String), named: &str) {
    let (status, reason, message) = found;
    assert_eq!((status.as_str(), reason.as_str()), ("Unknown", "Blocked"));
    assert!(message.contains(named), "{message}");
}

fn is_of_generation(world: &World, kind: &str, name: &str, generation: i64) {
    let object = world.get(OURS, kind, name).unwrap();
    for condition in object["status"]["conditions"].as_array().unwrap() {
        assert_eq!(condition["observedGeneration"], generation, "{condition}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_said_and_the_rest_is_unknown() {
    for (code, category, state, reason) in [
        (403, Category::Refused, "False", "Refused"),
        (500, Category::Transient, "Unknown", "NotRead"),
    ] {
        let world = running().await;
        world.change(OURS, "AuthzStore", "payments", |store| {
            store["metadata"]["generation"] = json!(9);
        });
        world.server(|server| {
            let secret = "/secrets/central-db".to_owned();
            server.faults.push((Method::GET, secret, code));
        });
        let error = world.reconcile_store("payments").await.unwrap_err();
        assert_eq!(error.category(), category);
        for kind in ["ReferencesResolved", "Ready"] {
            let (found, why, message) = store_condition(&world, kind);
            assert_eq!(found, state, "{kind}: {message}");
            if kind != "Ready" {
                assert_eq!(why, reason);
            }
            assert!(message.contains("read Secret 'central-db'"), "{message}");
        }
        assert_blocked(
            store_condition(&world, "CentralAvailable"),
            "ReferencesResolved",
        );
        is_of_generation(&world, "AuthzStore", "payments", 9);
        let status = world.get(OURS, "AuthzStore", "payments").unwrap()["status"].clone();
        assert_eq!(status["storeId"], "store-1", "what is known stays");
        assert_eq!(status["observedGeneration"], 3, "nothing was observed");

        world.server(|server| server.faults.clear());
        world.reconcile_store("payments").await.unwrap();
        assert_eq!(store_condition(&world, "Ready").0, "True");
    }
}

#[tokio::test]
async fn a_finalizer_that_cannot_be_set_is_said() {
    let world = running().await;
    world.change(OURS, "AuthzStore", "payments", |store| {
        store["spec"]["deletionPolicy"] = json!("Delete");
    });
    world.server(|server| {
        let fault = (Method::PATCH, "/authzstores/payments".to_owned(), 403);
        server.faults.push(fault);
        // The status is another resource, with rights of its own.
        let status = "/authzstores/payments/status".to_owned();
        server.exempt.push((Method::PATCH, status));
    });
    world.reconcile_store("payments").await.unwrap_err();
    let (status, reason, message) = store_condition(&world, "Accepted");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Refused"));
    assert!(message.contains("finalizer"), "{message}");
}

#[tokio::test]
async fn what_an_edge_region_names_and_cannot_be_read_is_said() {
    let world = running().await;
    world.put(edge_json());
    world.server(|server| {
        let secret = "/secrets/kafka".to_owned();
        server.faults.push((Method::GET, secret, 403));
    });
    world.reconcile_edge("till").await.unwrap_err();
    let (status, reason, message) = condition(&world, "EdgeRegion", "till", "Accepted");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Refused"));
    assert!(message.contains("read Secret 'kafka'"), "{message}");
    assert_blocked(
        condition(&world, "EdgeRegion", "till", "Available"),
        "Accepted",
    );
}

#[tokio::test]
async fn workloads_are_not_said_to_be_as_a_spec_says_that_cannot_be_built() {
    let world = running().await;
    world.put(edge_json());
    for _ in 0..2 {
        world.reconcile_edge("till").await.unwrap();
        world.run_workloads();
    }
    world.server(|server| server.objects.retain(|path, _| !path.ends_with("/kafka")));
    world.change(OURS, "AuthzStore", "payments", |store| {
        store["spec"]["image"] = json!("registry.example/meridian:2");
        store["metadata"]["generation"] = json!(9);
    });
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(store_condition(&world, "Migrated").1, "Migrating");
    for kind in ["CentralAvailable", "RegionsAvailable"] {
        assert_blocked(store_condition(&world, kind), "ReferencesResolved: ");
    }
    is_of_generation(&world, "AuthzStore", "payments", 9);

    world.change(OURS, "EdgeRegion", "till", |edge| {
        edge["spec"]["parentRegion"] = json!("gone");
        edge["metadata"]["generation"] = json!(7);
    });
    world.reconcile_edge("till").await.unwrap();
    for kind in ["Available", "Synced"] {
        assert_blocked(condition(&world, "EdgeRegion", "till", kind), "Accepted: ");
    }
    is_of_generation(&world, "EdgeRegion", "till", 7);
}

#[tokio::test]
async fn what_comes_behind_a_write_that_is_refused_is_not_said_to_be_under_way() {
    let world = World::new();
    world.put(retained());
    world.server(|server| {
        let services = "/services/".to_owned();
        server.faults.push((Method::PATCH, services, 403));
    });
    world.reconcile_store("payments").await.unwrap_err();
    for kind in ["Migrated", "CentralAvailable", "RegionsAvailable"] {
        assert_blocked(store_condition(&world, kind), "apply Service");
    }
}
