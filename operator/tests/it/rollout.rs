//! In which order a new image reaches a store's nodes.

use serde_json::{Value, json};

use crate::fixtures::{edge_json, store_json};
use crate::world::World;

const OURS: &str = "meridian.dev/v1alpha1";
const REGIONS: [&str; 2] = ["payments-regional-eu-1", "payments-regional-us-1"];

async fn reconcile(world: &World) {
    world.reconcile_store("payments").await.unwrap();
    world.reconcile_edge("till").await.unwrap();
}

/// A world in which the fixtures run, and that has just begun to get another image.
async fn upgraded() -> World {
    let world = World::new();
    world.put(store_json());
    world.put(edge_json());
    for _ in 0..5 {
        reconcile(&world).await;
        world.run_workloads();
    }
    world.change(OURS, "AuthzStore", "payments", |store| {
        store["spec"]["image"] = json!("registry.example/meridian:2");
        store["spec"]["kafka"]["replicationFactor"] = json!(5);
        store["metadata"]["generation"] = json!(4);
    });
    world
}

/// What Kubernetes does until all pods of a workload are of its template.
fn settle(world: &World, kind: &str, name: &str) {
    world.change("apps/v1", kind, name, |of| {
        let replicas = of["spec"]["replicas"].clone();
        of["status"] = json!({
            "observedGeneration": of["metadata"]["generation"],
            "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": replicas,
        });
    });
}

fn migrate(world: &World) {
    world.server(|server| {
        for job in server.objects.values_mut().filter(|of| of["kind"] == "Job") {
            job["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]});
        }
    });
}

fn is_new(world: &World, kind: &str, name: &str) -> bool {
    let workload = world.get("apps/v1", kind, name).unwrap();
    let image = &workload["spec"]["template"]["spec"]["containers"][0]["image"];
    image == "registry.example/meridian:2"
}

/// Whose databases there are Jobs for that bring them to the new image's schema.
fn migrated(world: &World) -> Vec<String> {
    let mut found: Vec<_> = world.server(|server| {
        let jobs = server.objects.values().filter(|of| of["kind"] == "Job");
        let new = jobs.filter(|job| {
            let image = &job["spec"]["template"]["spec"]["containers"][0]["image"];
            image == "registry.example/meridian:2"
        });
        let region = |job: &Value| job["metadata"]["labels"]["meridian.dev/region"].clone();
        new.map(|job| region(job).as_str().unwrap_or("central").to_owned())
            .collect()
    });
    found.sort();
    found
}

/// The ConfigMap that a Deployment's pods read.
fn config_map(world: &World, name: &str) -> String {
    let workload = world.get("apps/v1", "Deployment", name).unwrap();
    let volume = &workload["spec"]["template"]["spec"]["volumes"][0];
    volume["configMap"]["name"].as_str().unwrap().to_owned()
}

fn settings(world: &World, name: &str) -> Value {
    let name = config_map(world, name);
    world.get("v1", "ConfigMap", &name).unwrap()["data"].clone()
}

fn reason(world: &World, kind: &str, name: &str, condition: &str) -> (String, String) {
    let object = world.get(OURS, kind, name).unwrap();
    let mut conditions = object["status"]["conditions"].as_array().unwrap().iter();
    let found = conditions.find(|of| of["type"] == condition).unwrap();
    let text = |field: &str| found[field].as_str().unwrap().to_owned();
    (text("reason"), text("message"))
}

#[tokio::test]
async fn central_comes_first_then_its_regions_then_the_edges() {
    let world = upgraded().await;
    let before = REGIONS.map(|region| settings(&world, region));
    reconcile(&world).await;
    migrate(&world);
    for _ in 0..2 {
        reconcile(&world).await;
        assert_eq!(migrated(&world), ["central"], "their nodes are of before");
        assert!(is_new(&world, "Deployment", "payments-central"));
        assert!(!is_new(&world, "StatefulSet", "till-payments"));
        for (region, settings_before) in REGIONS.iter().zip(&before) {
            assert!(!is_new(&world, "Deployment", region));
            assert_eq!(settings(&world, region), *settings_before);
        }
    }
    let (reason_of, message) = reason(&world, "AuthzStore", "payments", "RegionsAvailable");
    assert_eq!(reason_of, "RollingOut");
    assert!(
        message.contains("waits until the nodes above it"),
        "{message}"
    );

    let (reason_of, message) = reason(&world, "AuthzStore", "payments", "Migrated");
    assert_eq!(reason_of, "Blocked");
    assert!(
        message.contains("waits until the nodes above it"),
        "{message}"
    );

    settle(&world, "Deployment", "payments-central");
    reconcile(&world).await;
    assert_eq!(migrated(&world), ["central", "eu-1", "us-1"]);
    migrate(&world);
    reconcile(&world).await;
    for (region, before) in REGIONS.iter().zip(&before) {
        assert!(is_new(&world, "Deployment", region));
        assert_ne!(settings(&world, region), *before);
    }
    assert!(!is_new(&world, "StatefulSet", "till-payments"));
    let (reason_of, _) = reason(&world, "EdgeRegion", "till", "Available");
    assert_eq!(reason_of, "RollingOut");

    settle(&world, "Deployment", "payments-regional-eu-1");
    reconcile(&world).await;
    assert!(
        is_new(&world, "StatefulSet", "till-payments"),
        "its region has it"
    );
}

#[tokio::test]
async fn what_has_no_new_image_waits_for_nobody() {
    let world = upgraded().await;
    world.change(OURS, "AuthzStore", "payments", |store| {
        store["spec"]["image"] = json!("registry.example/meridian:1");
        store["spec"]["regions"][0]["replicas"] = json!(5);
    });
    world.change("apps/v1", "Deployment", "payments-central", |central| {
        central["status"]["readyReplicas"] = json!(0);
    });
    reconcile(&world).await;
    let region = world.get("apps/v1", "Deployment", REGIONS[0]).unwrap();
    assert_eq!(region["spec"]["replicas"], 5);
}

#[tokio::test]
async fn new_edges_wait_for_their_regions_new_image() {
    let world = upgraded().await;
    let mut edge = edge_json();
    edge["metadata"] =
        json!({"name": "new", "namespace": "shop", "uid": "new-uid", "generation": 1});
    world.put(edge);
    world.reconcile_store("payments").await.unwrap();
    let set = || world.get("apps/v1", "StatefulSet", "new-payments");
    world.reconcile_edge("new").await.unwrap();
    assert!(set().is_none());
    migrate(&world);
    world.reconcile_store("payments").await.unwrap();
    settle(&world, "Deployment", "payments-central");
    for _ in 0..2 {
        world.reconcile_store("payments").await.unwrap();
        migrate(&world);
    }
    world.reconcile_edge("new").await.unwrap();
    assert!(set().is_some());
}

#[tokio::test]
async fn pods_keep_the_settings_they_were_made_with() {
    const CENTRAL: &str = "payments-central";
    let world = upgraded().await;
    let (old, before) = (config_map(&world, CENTRAL), settings(&world, CENTRAL));
    reconcile(&world).await;
    assert_eq!(
        settings(&world, CENTRAL),
        before,
        "its database is not migrated"
    );
    migrate(&world);
    for _ in 0..2 {
        reconcile(&world).await;
        assert_ne!(settings(&world, CENTRAL), before);
        let old = world.get("v1", "ConfigMap", &old);
        assert_eq!(
            old.unwrap()["data"],
            before,
            "a pod of before may start again"
        );
    }
    settle(&world, "Deployment", CENTRAL);
    reconcile(&world).await;
    assert!(
        world.get("v1", "ConfigMap", &old).is_none(),
        "nobody reads it"
    );
}
