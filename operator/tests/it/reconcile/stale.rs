//! Writes that are meant for an object that is another by then: made anew under its name, and not heard of yet.

use meridian_operator::reconcile::{Category, Error};
use serde_json::{Value, json};

use super::{OURS, retained, running};
use crate::fixtures::store_json;
use crate::world::World;

fn make_anew(world: &World, api: &str, kind: &str, name: &str) {
    world.change(api, kind, name, |object| {
        for field in ["uid", "resourceVersion"] {
            let before = object["metadata"][field].as_str().unwrap_or_default();
            object["metadata"][field] = json!(format!("not-{before}"));
        }
    });
}

fn assert_conflict(done: Result<(), Error>) {
    let error = done.unwrap_err();
    assert_eq!(error.category(), Category::Transient, "{error}");
}

fn store(world: &World) -> Value {
    world.get(OURS, "AuthzStore", "payments").unwrap()
}

#[tokio::test]
async fn it_is_not_deleted() {
    let world = running().await;
    world.change(OURS, "AuthzStore", "payments", |store| {
        store["spec"]["regions"].as_array_mut().unwrap().pop();
    });
    let reconcile = world.seen("payments");
    let name = "payments-regional-us-1";
    make_anew(&world, "apps/v1", "Deployment", name);
    assert_conflict(reconcile.await);
    assert!(world.get("apps/v1", "Deployment", name).is_some());
}

#[tokio::test]
async fn it_does_not_get_the_status_of_the_one_before() {
    let world = World::new();
    world.put(retained());
    let reconcile = world.seen("payments");
    make_anew(&world, OURS, "AuthzStore", "payments");
    assert_conflict(reconcile.await);
    assert!(store(&world)["status"].is_null());
}

#[tokio::test]
async fn it_is_neither_held_nor_let_go_for_the_one_before() {
    let world = World::new();
    let mut json = store_json();
    json["metadata"]["resourceVersion"] = json!("1");
    world.put(json);
    let reconcile = world.seen("payments");
    make_anew(&world, OURS, "AuthzStore", "payments");
    assert_conflict(reconcile.await);
    assert!(store(&world)["metadata"]["finalizers"].is_null());

    world.reconcile_store("payments").await.unwrap();
    world.change(OURS, "AuthzStore", "payments", |store| {
        store["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        store["spec"]["deletionPolicy"] = json!("Retain");
    });
    let reconcile = world.seen("payments");
    make_anew(&world, OURS, "AuthzStore", "payments");
    world.change(OURS, "AuthzStore", "payments", |store| {
        store["metadata"]["deletionTimestamp"] = json!(null);
    });
    assert_conflict(reconcile.await);
    assert_eq!(
        store(&world)["metadata"]["finalizers"],
        json!(["meridian.dev/store"])
    );
}
