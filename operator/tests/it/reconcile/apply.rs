//! What is written and in which order, and what is made of errors.

use http::Method;
use meridian_operator::reconcile::{Category, Error};
use serde_json::json;

use super::{OURS, retained, running, short, store_condition};
use crate::world::World;

#[tokio::test]
async fn migrations_come_first_and_workloads_only_after_them() {
    let world = World::new();
    world.put(retained());
    world.reconcile_store("payments").await.unwrap();
    let order: Vec<_> = world
        .writes()
        .iter()
        .filter(|(method, path)| method == Method::PATCH && !path.ends_with("/status"))
        .map(|(_, path)| short(path).split('/').next().unwrap().to_owned())
        .collect();
    let mut kinds = order.clone();
    kinds.dedup();
    assert_eq!(
        kinds,
        [
            "serviceaccounts",
            "configmaps",
            "networkpolicies",
            "services",
            "poddisruptionbudgets",
            "jobs"
        ]
    );
    assert_eq!(store_condition(&world, "Migrated").1, "Migrating");
    assert_eq!(store_condition(&world, "CentralAvailable").1, "NotStarted");

    world.run_workloads();
    world.reconcile_store("payments").await.unwrap();
    let writes = world.writes();
    let deployments = writes
        .iter()
        .filter(|(_, path)| path.contains("/deployments/"));
    assert_eq!(deployments.count(), 3);
    assert_eq!(store_condition(&world, "Migrated").0, "True");
}

#[tokio::test]
async fn a_store_becomes_ready_and_then_nothing_is_written() {
    let world = running().await;
    for kind in [
        "Ready",
        "Accepted",
        "ReferencesResolved",
        "Migrated",
        "DatastoreReachable",
        "KafkaReachable",
        "CentralAvailable",
        "CentralReachable",
        "RegionsAvailable",
        "ModelActive",
    ] {
        let found = store_condition(&world, kind);
        assert_eq!(found.0, "True", "{kind}: {found:?}");
    }
    world.told(|told| told.writes.clear());
    for _ in 0..3 {
        world.reconcile_store("payments").await.unwrap();
    }
    let writes = world.writes();
    assert!(
        writes.is_empty(),
        "written although nothing changed: {writes:?}"
    );
    assert!(world.told(|told| told.writes.is_empty()));
}

#[tokio::test]
async fn a_region_that_is_no_longer_named_goes_with_all_it_has() {
    let world = running().await;
    world.change(OURS, "AuthzStore", "payments", |store| {
        store["spec"]["regions"].as_array_mut().unwrap().pop();
    });
    world.reconcile_store("payments").await.unwrap();
    let left = world.server(|server| {
        let ours = server.objects.iter().filter(|(_, of)| {
            of["kind"] != "Pod" && of["kind"] != "Secret" && of["kind"] != "AuthzStore"
        });
        ours.map(|(path, _)| path.clone())
            .filter(|path| path.contains("us-1"))
            .collect::<Vec<_>>()
    });
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn what_somebody_else_changed_is_set_right() {
    let world = running().await;
    world.change("apps/v1", "Deployment", "payments-central", |central| {
        central["spec"]["replicas"] = json!(0)
    });
    world.reconcile_store("payments").await.unwrap();
    let central = world
        .get("apps/v1", "Deployment", "payments-central")
        .unwrap();
    assert_eq!(central["spec"]["replicas"], 2);
}

#[tokio::test]
async fn an_object_of_somebody_else_is_not_taken_over() {
    let world = World::new();
    world.put(retained());
    world.put(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "payments-central", "namespace": "shop"}, "spec": {"ports": []},
    }));
    let error = world.reconcile_store("payments").await.unwrap_err();
    assert!(
        matches!(&error, Error::Taken { name, .. } if name == "payments-central"),
        "{error}"
    );
    let (status, reason, message) = store_condition(&world, "Accepted");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "NameTaken"));
    assert!(message.contains("Service 'payments-central'"), "{message}");
    assert_eq!(
        world.get("v1", "Service", "payments-central").unwrap()["spec"]["ports"],
        json!([])
    );
}

#[tokio::test]
async fn an_object_of_another_owner_is_not_taken_over() {
    let world = World::new();
    world.put(retained());
    let owner = json!({
        "apiVersion": "example.dev/v1", "kind": "Shop", "name": "till", "uid": "of-a-shop", "controller": true,
    });
    world.put(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "payments-central", "namespace": "shop", "ownerReferences": [owner]},
        "spec": {"ports": []},
    }));
    world.reconcile_store("payments").await.unwrap_err();
    let (_, reason, message) = store_condition(&world, "Accepted");
    assert_eq!(reason, "NameTaken");
    assert!(message.contains("belongs to Shop 'till'"), "{message}");
    let service = world.get("v1", "Service", "payments-central").unwrap();
    assert_eq!(service["spec"]["ports"], json!([]));
}

#[tokio::test]
async fn errors_are_sorted_by_whether_trying_again_helps() {
    for (code, category) in [
        (500, Category::Transient),
        (409, Category::Transient),
        (429, Category::Transient),
        (422, Category::Refused),
        (403, Category::Refused),
    ] {
        let world = World::new();
        world.put(retained());
        world.server(|server| {
            server
                .faults
                .push((Method::PATCH, "/services/".to_owned(), code))
        });
        let error = world.reconcile_store("payments").await.unwrap_err();
        assert_eq!(error.category(), category, "{code}: {error}");
        let accepted = store_condition(&world, "Accepted");
        assert_eq!(
            accepted.1 == "Refused",
            category == Category::Refused,
            "{code}: {accepted:?}"
        );
        // What comes after in order waits; then all goes on where it stopped.
        assert!(world.server(|server| !server.objects.values().any(|of| of["kind"] == "Job")));
        world.server(|server| server.faults.clear());
        world.reconcile_store("payments").await.unwrap();
        assert_eq!(store_condition(&world, "Accepted").0, "True");
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_does_not_answer_is_not_waited_for_for_ever() {
    let world = World::new();
    world.put(retained());
    world.server(|server| server.faults.push((Method::GET, "/secrets/".to_owned(), 0)));
    let error = world.reconcile_store("payments").await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert_eq!(error.category(), Category::Transient);
    assert!(
        error.to_string().contains("read Secret 'central-db'"),
        "{error}"
    );
}
