//! What a deletion waits for.

use http::Method;
use meridian_operator::nodes::NodeError;
use serde_json::json;

use super::{OURS, running, store_condition};
use crate::fixtures::store_json;
use crate::world::World;

/// A world in which everything of the fixture store runs, which is held.
async fn held() -> World {
    let world = World::new();
    world.put(store_json());
    for _ in 0..4 {
        world.reconcile_store("payments").await.unwrap();
        world.run_workloads();
    }
    assert!(is_held(&world));
    world.told(|told| told.writes.clear());
    world.writes();
    world
}

fn is_held(world: &World) -> bool {
    let store = world.get(OURS, "AuthzStore", "payments").unwrap();
    store["metadata"]["finalizers"] == json!(["meridian.dev/store"])
}

fn now() -> String {
    k8s_openapi::jiff::Timestamp::now().to_string()
}

fn events(world: &World) -> usize {
    let writes = world.writes().into_iter();
    writes.filter(|(_, path)| path.ends_with("/events")).count()
}

#[tokio::test]
async fn a_store_whose_policy_is_delete_is_held_and_its_data_deleted_first() {
    let world = held().await;
    delete(&world, &now());
    world.told(|told| told.failure = Some(NodeError::Unavailable("busy".to_owned())));
    world.reconcile_store("payments").await.unwrap();
    assert!(is_held(&world), "until it is done");
    world.told(|told| told.failure = None);
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(world.told(|told| told.writes.clone()), ["delete store-1"]);
    assert!(!is_held(&world));
}

#[tokio::test]
async fn only_its_own_store_is_deleted() {
    let world = held().await;
    // Its Secret leads elsewhere now, where somebody has a store of that name.
    world.told(|told| told.stores = vec![("of-another".to_owned(), "payments".to_owned())]);
    world.reconcile_store("payments").await.unwrap();
    let (_, reason, message) = store_condition(&world, "ModelActive");
    assert_eq!(reason, "StoreLost");
    assert!(
        message.contains("set deletionPolicy to Retain"),
        "{message}"
    );
    world.writes();
    delete(&world, &now());
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(world.told(|told| told.writes.clone()), Vec::<String>::new());
    assert!(!is_held(&world));
    assert_eq!(events(&world), 1, "that it was not deleted");
}

#[tokio::test]
async fn a_store_that_it_is_not_known_to_have_made_is_left() {
    let world = held().await;
    world.change(OURS, "AuthzStore", "payments", |store| {
        store["status"]["storeId"] = json!(null);
    });
    delete(&world, &now());
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(world.told(|told| told.writes.clone()), Vec::<String>::new());
    assert_eq!(events(&world), 1, "that it was not deleted");
}

#[tokio::test]
async fn it_is_held_until_every_region_has_deleted_its_copy() {
    let world = held().await;
    delete(&world, &now());
    world.told(|told| told.kept_below = vec!["store-1".to_owned()]);
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(world.told(|told| told.writes.clone()), ["delete store-1"]);
    assert!(is_held(&world));
    let (status, reason, message) = store_condition(&world, "Ready");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Deleting"));
    assert!(message.contains("region eu-1"), "{message}");
    world.writes();
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(world.writes(), [], "said once");

    // A region that cannot see its database does not know.
    world.told(|told| {
        told.kept_below.clear();
        told.reach_below("datastore", Err("db:5432: connection refused"));
    });
    world.reconcile_store("payments").await.unwrap();
    assert!(is_held(&world));
    let (_, _, message) = store_condition(&world, "Ready");
    assert!(message.contains("db:5432: connection refused"), "{message}");

    world.told(|told| told.reach_below("datastore", Ok(())));
    world.reconcile_store("payments").await.unwrap();
    assert!(!is_held(&world));
    assert_eq!(events(&world), 0);
}

#[tokio::test]
async fn what_central_has_done_counts_though_nobody_heard_of_it() {
    let world = held().await;
    delete(&world, &now());
    world.told(|told| {
        told.kept_below = vec!["store-1".to_owned()];
        told.late = true;
    });
    let status = (
        Method::PATCH,
        "/authzstores/payments/status".to_owned(),
        500,
    );
    world.server(|server| server.faults.push(status));
    world.reconcile_store("payments").await.unwrap_err();
    assert!(
        world.told(|told| told.writes.is_empty()),
        "it says first what it does"
    );
    world.server(|server| server.faults.clear());
    for look in [
        "as it is asked",
        "as its answer is lost",
        "as it is gone there",
    ] {
        world.reconcile_store("payments").await.unwrap();
        assert!(is_held(&world), "{look}");
        assert_eq!(world.told(|told| told.writes.clone()), ["delete store-1"]);
    }
    let (_, reason, message) = store_condition(&world, "StoreDeleted");
    assert_eq!(reason, "DeletedAtCentral");
    assert!(message.contains("region eu-1"), "{message}");

    world.told(|told| told.kept_below.clear());
    world.reconcile_store("payments").await.unwrap();
    assert!(!is_held(&world));
    assert_eq!(events(&world), 0);
}

#[tokio::test]
async fn what_was_asked_of_central_is_remembered_while_it_does_not_answer() {
    let world = held().await;
    delete(&world, &now());
    world.told(|told| {
        told.kept_below = vec!["store-1".to_owned()];
        told.late = true;
    });
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(
        store_condition(&world, "StoreDeleted").1,
        "DeletingAtCentral"
    );
    world.told(|told| told.failure = Some(NodeError::Unavailable("busy".to_owned())));
    world.reconcile_store("payments").await.unwrap();
    let (_, reason, message) = store_condition(&world, "StoreDeleted");
    assert_eq!(reason, "DeletingAtCentral");
    assert!(message.contains("busy"), "{message}");
    world.told(|told| told.failure = None);
    world.reconcile_store("payments").await.unwrap();
    assert!(is_held(&world));
    assert_eq!(
        store_condition(&world, "StoreDeleted").1,
        "DeletedAtCentral"
    );
}

#[tokio::test]
async fn deleting_does_not_hang_where_a_region_never_does_it() {
    let world = held().await;
    // The operator was away when it was deleted.
    delete(&world, "2026-01-01T00:00:00Z");
    world.told(|told| told.kept_below = vec!["store-1".to_owned()]);
    world.reconcile_store("payments").await.unwrap();
    assert!(is_held(&world), "at the first attempt");
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(events(&world), 0);
    world.change(OURS, "AuthzStore", "payments", |store| {
        let conditions = store["status"]["conditions"].as_array_mut().unwrap();
        let mut conditions = conditions.iter_mut();
        let first = conditions.find(|of| of["type"] == "StoreDeleted").unwrap();
        assert_eq!(first["reason"], "DeletedAtCentral");
        first["lastTransitionTime"] = json!("2026-01-01T00:00:00Z");
    });
    world.reconcile_store("payments").await.unwrap();
    assert!(!is_held(&world), "five minutes after the first attempt");
    assert_eq!(events(&world), 1, "that it was not deleted");
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
async fn a_store_whose_policy_becomes_retain_is_held_no_more() {
    let world = held().await;
    world.change(OURS, "AuthzStore", "payments", |store| {
        store["spec"]["deletionPolicy"] = json!("Retain");
        store["metadata"]["finalizers"] =
            json!(["other.dev/a", "meridian.dev/store", "other.dev/b"]);
    });
    world.reconcile_store("payments").await.unwrap();
    let store = world.get(OURS, "AuthzStore", "payments").unwrap();
    let left = &store["metadata"]["finalizers"];
    assert_eq!(*left, json!(["other.dev/a", "other.dev/b"]));
    world.writes();
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(world.writes(), [], "let go once");
}

#[tokio::test]
async fn the_policy_that_was_said_last_decides() {
    let world = held().await;
    world.change(OURS, "AuthzStore", "payments", |store| {
        store["spec"]["deletionPolicy"] = json!("Retain");
    });
    delete(&world, &now());
    world.reconcile_store("payments").await.unwrap();
    assert!(!is_held(&world));
    assert!(world.told(|told| told.writes.is_empty()));
    assert_eq!(events(&world), 0);
}

#[tokio::test]
async fn deleting_does_not_hang_where_central_is_away() {
    let world = World::new();
    world.put(store_json());
    world.reconcile_store("payments").await.unwrap();
    // Held, and central was never there.
    delete(&world, &now());
    world.told(|told| told.failure = Some(NodeError::Unavailable("nobody".to_owned())));
    world.reconcile_store("payments").await.unwrap();
    assert!(!is_held(&world));
    assert!(events(&world) > 0);
}
