//! Migrations of databases.

use serde_json::json;

use super::{OURS, retained, running, store_condition};
use crate::world::World;

#[tokio::test]
async fn a_failed_migration_is_shown_with_its_reason_and_replaced_when_the_secret_changes() {
    let world = World::new();
    world.put(retained());
    world.reconcile_store("payments").await.unwrap();
    let job = job_name(&world, "payments-migrate-eu-1-");
    let now = k8s_openapi::jiff::Timestamp::now().to_string();
    world.change("batch/v1", "Job", &job, |job| {
        job["status"] = json!({"conditions": [{
            "type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "tried enough", "lastTransitionTime": now,
        }]});
    });
    world.put(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "attempt", "namespace": "shop", "labels": {
            "meridian.dev/store": "payments", "meridian.dev/region": "eu-1",
            "app.kubernetes.io/component": "migration", "batch.kubernetes.io/job-name": job,
        }},
        "status": {"phase": "Failed", "containerStatuses": [{
            "name": "migrate", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 1, "message": "starting\nerror: no database at db:5432\n"}},
        }]},
    }));
    world.run_workloads();
    world.reconcile_store("payments").await.unwrap();
    let (status, reason, message) = store_condition(&world, "Migrated");
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "MigrationFailed")
    );
    assert!(message.contains("no database at db:5432"), "{message}");
    assert!(
        world
            .get("apps/v1", "Deployment", "payments-central")
            .is_some(),
        "others go on"
    );
    assert!(
        world
            .get("apps/v1", "Deployment", "payments-regional-eu-1")
            .is_none()
    );

    world.change("v1", "Secret", "eu-1-db", |secret| {
        secret["data"]["url"] = json!("b3RoZXI=")
    });
    world.reconcile_store("payments").await.unwrap();
    assert!(
        world.get("batch/v1", "Job", &job).is_none(),
        "the old Job is gone"
    );
    let next = job_name(&world, "payments-migrate-eu-1-");
    assert_ne!(next, job);
    world.run_workloads();
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(store_condition(&world, "Migrated").0, "True");
    assert!(
        world
            .get("apps/v1", "Deployment", "payments-regional-eu-1")
            .is_some()
    );
}

#[tokio::test]
async fn a_migration_that_failed_a_while_ago_is_tried_again() {
    let world = World::new();
    world.put(retained());
    world.reconcile_store("payments").await.unwrap();
    let job = job_name(&world, "payments-migrate-central-");
    world.change("batch/v1", "Job", &job, |job| {
        job["status"] = json!({"conditions": [{
            "type": "Failed", "status": "True", "reason": "x", "message": "y", "lastTransitionTime": "2020-01-01T00:00:00Z",
        }]});
    });
    world.reconcile_store("payments").await.unwrap();
    assert!(world.get("batch/v1", "Job", &job).is_none());
    world.reconcile_store("payments").await.unwrap();
    assert!(world.get("batch/v1", "Job", &job).unwrap()["status"].is_null());
}

fn job_name(world: &World, prefix: &str) -> String {
    let found = world.server(|server| {
        let jobs = server.objects.values().filter(|of| of["kind"] == "Job");
        let names = jobs.map(|of| of["metadata"]["name"].as_str().unwrap().to_owned());
        names
            .filter(|name| name.starts_with(prefix))
            .collect::<Vec<_>>()
    });
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

#[tokio::test]
async fn a_new_image_reaches_the_workloads_only_after_its_migration() {
    let world = running().await;
    world.change(OURS, "AuthzStore", "payments", |store| {
        store["spec"]["image"] = json!("registry.example/meridian:2");
        store["metadata"]["generation"] = json!(4);
    });
    world.reconcile_store("payments").await.unwrap();
    let image = |world: &World| {
        let central = world
            .get("apps/v1", "Deployment", "payments-central")
            .unwrap();
        central["spec"]["template"]["spec"]["containers"][0]["image"].clone()
    };
    assert_eq!(
        image(&world),
        "registry.example/meridian:1",
        "runs on meanwhile"
    );
    world.run_workloads();
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(image(&world), "registry.example/meridian:2");
    assert_eq!(store_condition(&world, "CentralAvailable").1, "RollingOut");
}
