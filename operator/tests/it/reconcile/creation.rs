//! Pods that Kubernetes does not create.

use meridian_operator::build::Kind;
use meridian_operator::reconcile::creation::of_events;
use serde_json::{Value, json};

use super::{condition, retained, running, store_condition};
use crate::api_server::{client, start};
use crate::fixtures::{NAMESPACE, edge_json};
use crate::world::World;

const QUOTA: &str = "exceeded quota: small, requested: pods=1, used: pods=0, limited: pods=0";

/// Lets the namespace have these events, each with its reason, note and second of the day.
fn tell(world: &World, events: &[(&str, &str, u8)]) {
    let items = events.iter().map(|(reason, note, second)| {
        json!({
            "metadata": {"name": format!("e{second}")}, "eventTime": null,
            "deprecatedLastTimestamp": format!("2026-01-01T00:00:{second:02}Z"),
            "reason": reason, "note": note,
        })
    });
    let list = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "EventList", "metadata": {},
        "items": items.collect::<Vec<_>>(),
    });
    let path = "/apis/events.k8s.io/v1/namespaces/shop/events".to_owned();
    world.server(|server| server.objects.insert(path, list));
}

fn assert_told(found: (String, String, String)) {
    let (status, reason, message) = found;
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "PodsNotCreated"),
        "{message}"
    );
    assert!(message.contains(QUOTA), "{message}");
    assert!(
        !message.contains("x7k2p"),
        "differs with each try: {message}"
    );
}

fn refused(start: &str) -> String {
    format!("{start}pods \"payments-x7k2p\" is forbidden: {QUOTA}")
}

#[tokio::test]
async fn pods_that_a_deployment_cannot_create_are_told() {
    let world = running().await;
    let set = |world: &World, ready: i32, conditions: Value| {
        world.change("apps/v1", "Deployment", "payments-central", |central| {
            central["status"]["readyReplicas"] = json!(ready);
            central["status"]["conditions"] = conditions;
        });
    };
    let failure = json!([{
        "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": refused(""),
    }]);
    set(&world, 0, failure);
    world.reconcile_store("payments").await.unwrap();
    assert_told(store_condition(&world, "CentralAvailable"));

    let stuck = json!([{
        "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "it timed out",
    }]);
    set(&world, 0, stuck);
    world.reconcile_store("payments").await.unwrap();
    let (_, reason, message) = store_condition(&world, "CentralAvailable");
    assert_eq!(reason, "ProgressDeadlineExceeded");
    assert!(message.contains("it timed out"), "{message}");

    set(&world, 2, json!([]));
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(store_condition(&world, "CentralAvailable").0, "True");
}

#[tokio::test]
async fn pods_that_a_migration_cannot_create_are_told_until_they_are() {
    let world = World::new();
    world.put(retained());
    world.reconcile_store("payments").await.unwrap();
    tell(&world, &[("FailedCreate", &refused("Error creating: "), 1)]);
    world.reconcile_store("payments").await.unwrap();
    assert_told(store_condition(&world, "Migrated"));
    tell(
        &world,
        &[
            ("SuccessfulCreate", "Created pod", 2),
            ("FailedCreate", &refused("Error creating: "), 1),
        ],
    );
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(store_condition(&world, "Migrated").1, "Migrating");
}

#[tokio::test]
async fn pods_that_a_stateful_set_cannot_create_are_told() {
    let world = running().await;
    world.put(edge_json());
    for _ in 0..2 {
        world.reconcile_edge("till").await.unwrap();
        world.run_workloads();
    }
    world.change("apps/v1", "StatefulSet", "till-payments", |set| {
        set["status"]["replicas"] = json!(1);
        set["status"]["readyReplicas"] = json!(1);
    });
    let note = refused("create Pod till-payments-1 in StatefulSet till-payments failed error: ");
    tell(&world, &[("FailedCreate", &note, 1)]);
    world.reconcile_edge("till").await.unwrap();
    assert_told(condition(&world, "EdgeRegion", "till", "Available"));
    world.run_workloads();
    world.reconcile_edge("till").await.unwrap();
    assert_eq!(
        condition(&world, "EdgeRegion", "till", "Available").0,
        "True"
    );
}

#[tokio::test]
async fn a_real_api_server_finds_the_events_of_one_object() {
    let plane = start().await;
    let event = |name: &str, uid: &str, note: &str| {
        json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Warning", "action": "Create",
            "reason": "FailedCreate", "note": note,
            "reportingController": "test", "reportingInstance": "test",
            "regarding": {"kind": "Job", "namespace": NAMESPACE, "name": "migrate", "uid": uid},
        })
    };
    for event in [
        event("ours", "uid-1", &refused("Error creating: ")),
        event("another", "uid-2", "something else"),
    ] {
        plane.kubectl().apply(&event.to_string()).await.unwrap();
    }
    let job = json!({"metadata": {"name": "migrate", "uid": "uid-1"}});
    let job = serde_json::from_value(job).unwrap();
    let client = client(plane.kubeconfig(), None).await;
    let told = of_events(&client, NAMESPACE, Kind::Job, &job)
        .await
        .unwrap();
    assert_eq!(
        told.message,
        format!("Job 'migrate' cannot create its pods: forbidden: {QUOTA}")
    );
}
