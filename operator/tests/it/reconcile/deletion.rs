//! What a deletion waits for.

use meridian_operator::nodes::NodeError;
use serde_json::json;

use super::{OURS, running};
use crate::fixtures::store_json;
use crate::world::World;

#[tokio::test]
async fn a_store_whose_policy_is_delete_is_held_and_its_data_deleted_first() {
    let world = World::new();
    world.put(store_json());
    for _ in 0..4 {
        world.reconcile_store("payments").await.unwrap();
        world.run_workloads();
    }
    let finalizers = |world: &World| {
        let store = world.get(OURS, "AuthzStore", "payments").unwrap();
        store["metadata"]["finalizers"].clone()
    };
    assert_eq!(finalizers(&world), json!(["meridian.dev/store"]));
    delete(&world, &k8s_openapi::jiff::Timestamp::now().to_string());
    world.told(|told| {
        told.writes.clear();
        told.failure = Some(NodeError::Unavailable("busy".to_owned()));
    });
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(
        finalizers(&world),
        json!(["meridian.dev/store"]),
        "held until it is done"
    );
    world.told(|told| told.failure = None);
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(world.told(|told| told.writes.clone()), ["delete store-1"]);
    assert_eq!(finalizers(&world), json!([]));
}

fn delete(world: &World, at: &str) {
    world.change(OURS, "AuthzStore", "payments", |store| {
        store["metadata"]["deletionTimestamp"] = json!(at)
    });
}

#[tokio::test]
async fn a_store_whose_policy_is_retain_is_not_held() {
    let world = running().await;
    let store = world.get(OURS, "AuthzStore", "payments").unwrap();
    assert!(store["metadata"]["finalizers"].is_null());
    delete(&world, "2026-01-01T00:00:00Z");
    world.told(|told| told.writes.clear());
    world.reconcile_store("payments").await.unwrap();
    assert!(world.told(|told| told.writes.is_empty()));
    assert!(world.writes().is_empty());
}

#[tokio::test]
async fn deleting_does_not_hang_where_central_is_away() {
    let world = World::new();
    world.put(store_json());
    world.reconcile_store("payments").await.unwrap();
    // Held, and central was never there.
    delete(&world, &k8s_openapi::jiff::Timestamp::now().to_string());
    world.told(|told| told.failure = Some(NodeError::Unavailable("nobody".to_owned())));
    world.reconcile_store("payments").await.unwrap();
    let store = world.get(OURS, "AuthzStore", "payments").unwrap();
    assert_eq!(store["metadata"]["finalizers"], json!([]));
    let events = world
        .writes()
        .into_iter()
        .filter(|(_, path)| path.ends_with("/events"));
    assert!(events.count() > 0);
}
