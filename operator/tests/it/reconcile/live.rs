//! The live channel by itself: pods in each region that serve nothing else.

use serde_json::{Value, json};

use super::{OURS, running, store_condition};
use crate::world::World;

const REGIONS: [&str; 2] = ["payments-live-eu-1", "payments-live-us-1"];

/// A world in which the live channel's pods run besides.
async fn with_live() -> World {
    let world = running().await;
    world.change(OURS, "AuthzStore", "payments", |store| {
        store["spec"]["live"] = json!({
            "oidc": {"issuer": "https://users.example", "audience": "live"},
            "endpoint": {"replicas": 2},
        });
    });
    for _ in 0..3 {
        world.reconcile_store("payments").await.unwrap();
        world.run_workloads();
    }
    world.reconcile_store("payments").await.unwrap();
    world.writes();
    world
}

fn deployment(world: &World, name: &str) -> Option<Value> {
    world.get("apps/v1", "Deployment", name)
}

/// How many objects there are of the live channel's.
fn objects(world: &World) -> usize {
    world.server(|server| {
        let names = server.objects.values().filter_map(|of| {
            let name = of["metadata"]["name"].as_str()?;
            (of["kind"] != "Pod").then_some(name)
        });
        names
            .filter(|name| name.starts_with("payments-live-"))
            .count()
    })
}

#[tokio::test]
async fn its_pods_come_with_a_service_and_go_when_they_are_no_longer_asked_for() {
    let world = with_live().await;
    for (name, region) in REGIONS.iter().zip(["eu-1", "us-1"]) {
        let live = deployment(&world, name).unwrap();
        assert_eq!(live["spec"]["replicas"], 2);
        let container = &live["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["command"][0], "meridian-live");
        let service = world.get("v1", "Service", name).unwrap();
        assert_eq!(
            service["spec"]["selector"],
            live["spec"]["selector"]["matchLabels"]
        );
        let budget = world.get("policy/v1", "PodDisruptionBudget", name);
        assert!(budget.is_some());
        let owner = &live["metadata"]["ownerReferences"][0];
        assert_eq!(owner["kind"], "AuthzStore");
        assert_eq!(live["metadata"]["labels"]["meridian.dev/region"], region);
    }
    assert_eq!(store_condition(&world, "LiveAvailable").0, "True");
    assert_eq!(store_condition(&world, "Ready").0, "True");
    let status = world.get(OURS, "AuthzStore", "payments").unwrap()["status"].clone();
    let all = json!([
        {"name": "eu-1", "replicas": 2, "readyReplicas": 2},
        {"name": "us-1", "replicas": 2, "readyReplicas": 2},
    ]);
    assert_eq!(status["live"], all);
    world.reconcile_store("payments").await.unwrap();
    assert!(world.writes().is_empty(), "there is nothing to do");

    world.change(OURS, "AuthzStore", "payments", |store| {
        store["spec"]["live"]
            .as_object_mut()
            .unwrap()
            .remove("endpoint");
    });
    for _ in 0..3 {
        world.reconcile_store("payments").await.unwrap();
        world.run_workloads();
    }
    assert_eq!(objects(&world), 0);
    let status = world.get(OURS, "AuthzStore", "payments").unwrap()["status"].clone();
    let conditions = status["conditions"].as_array().unwrap();
    assert!(conditions.iter().all(|of| of["type"] != "LiveAvailable"));
    assert!(status.get("live").is_none(), "{status}");
}

#[tokio::test]
async fn pods_that_do_not_start_are_told_and_say_nothing_of_their_region() {
    let world = with_live().await;
    world.change("apps/v1", "Deployment", "payments-live-eu-1", |live| {
        live["status"]["readyReplicas"] = json!(0);
    });
    world.change("v1", "Pod", "payments-live-eu-1-0", |pod| {
        pod["status"]["conditions"][0]["status"] = json!("False");
        let container = &mut pod["status"]["containerStatuses"][0];
        container["ready"] = json!(false);
        container["state"] = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        container["lastState"] = json!({"terminated": {"exitCode": 1, "message": "no keys"}});
    });
    world.reconcile_store("payments").await.unwrap();
    let (status, reason, message) = store_condition(&world, "LiveAvailable");
    assert_eq!((&*status, &*reason), ("False", "CrashLoopBackOff"));
    assert!(
        message.contains("region eu-1: pod payments-live-eu-1-0") && message.contains("no keys"),
        "{message}"
    );
    for other in [
        "RegionsAvailable",
        "DatastoreReachable",
        "CentralReachable",
        "ModelActive",
    ] {
        let found = store_condition(&world, other);
        assert_eq!(found.0, "True", "{other}: {found:?}");
    }
    assert_eq!(store_condition(&world, "Ready").1, "CrashLoopBackOff");
}

#[tokio::test]
async fn a_new_image_reaches_its_pods_after_their_region() {
    let world = with_live().await;
    world.change(OURS, "AuthzStore", "payments", |store| {
        store["spec"]["image"] = json!("registry.example/meridian:2");
        store["metadata"]["generation"] = json!(9);
    });
    let is_new = |name: &str| {
        let workload = deployment(&world, name).unwrap();
        let image = &workload["spec"]["template"]["spec"]["containers"][0]["image"];
        image == "registry.example/meridian:2"
    };
    let mut order = Vec::new();
    for _ in 0..8 {
        world.reconcile_store("payments").await.unwrap();
        for name in [
            "payments-central",
            "payments-regional-eu-1",
            "payments-live-eu-1",
        ] {
            if is_new(name) && !order.contains(&name) {
                order.push(name);
            }
        }
        world.run_workloads();
    }
    assert_eq!(
        order,
        [
            "payments-central",
            "payments-regional-eu-1",
            "payments-live-eu-1"
        ]
    );
}
