//! A store that is made again under the name of one that was deleted, whose nodes are not gone yet.

use meridian_operator::reconcile::Error;
use serde_json::{Value, json};

use super::{OURS, retained, running, store_condition};
use crate::world::World;

const BEFORE: &str = "2026-01-01T00:00:00Z";
const SINCE: &str = "2026-01-01T00:01:00Z";

/// A world in which the store was made again, and all of the one before is still there.
async fn recreated(change: impl FnOnce(&mut Value)) -> World {
    let world = running().await;
    world.told(|told| told.writes.clear());
    world.server(|server| {
        let (pods, others) = std::mem::take(&mut server.objects)
            .into_iter()
            .partition(|(_, of)| of["kind"] == "Pod");
        server.objects = others;
        for (path, mut pod) in pods {
            pod["metadata"]["creationTimestamp"] = json!(BEFORE);
            let name = pod["metadata"]["name"].as_str().unwrap();
            pod["metadata"]["name"] = json!(format!("{name}-before"));
            server.objects.insert(format!("{path}-before"), pod);
        }
    });
    let mut store = retained();
    store["metadata"]["uid"] = json!("another-uid");
    store["metadata"]["creationTimestamp"] = json!(SINCE);
    change(&mut store);
    world.put(store);
    world
}

fn is_untouched(world: &World) {
    let writes = world.told(|told| told.writes.clone());
    assert!(writes.is_empty(), "through the nodes of before: {writes:?}");
    let status = world.get(OURS, "AuthzStore", "payments").unwrap()["status"].clone();
    assert!(status["storeId"].is_null(), "{status}");
}

/// As the garbage collector does with what is not a pod.
fn collect(world: &World) {
    world.server(|server| {
        server
            .objects
            .retain(|_, of| of["metadata"]["ownerReferences"][0]["uid"] != "store-uid");
    });
}

#[tokio::test]
async fn nothing_is_written_through_the_nodes_of_the_one_before() {
    let changes: [fn(&mut Value); 2] = [
        |store| store["spec"]["product"] = json!("refunds"),
        |store| store["spec"]["model"]["inline"] = json!("model\n  schema 1.1\ntype user\n"),
    ];
    for change in changes {
        let world = recreated(change).await;
        world.change(OURS, "AuthzStore", "payments", |store| {
            store["spec"]["tiers"] = json!([]);
        });
        let error = world.reconcile_store("payments").await.unwrap_err();
        assert!(matches!(error, Error::Taken { .. }), "{error}");
        is_untouched(&world);

        collect(&world);
        for _ in 0..3 {
            world.reconcile_store("payments").await.unwrap();
            world.run_workloads();
            world.server(|server| {
                for (path, pod) in &mut server.objects {
                    if path.contains("/pods/") && !path.ends_with("-before") {
                        pod["metadata"]["creationTimestamp"] = json!(SINCE);
                    }
                }
            });
        }
        world.reconcile_store("payments").await.unwrap();
        is_untouched(&world);
        let (status, reason, message) = store_condition(&world, "ModelActive");
        assert_eq!(
            (status.as_str(), reason.as_str()),
            ("False", "CentralNotReady")
        );
        assert!(message.contains("-before"), "{message}");

        world.server(|server| server.objects.retain(|path, _| !path.ends_with("-before")));
        world.told(|told| {
            told.stores.clear();
            told.models.clear();
        });
        world.reconcile_store("payments").await.unwrap();
        let writes = world.told(|told| told.writes.clone());
        assert!(writes[0].starts_with("create store"), "{writes:?}");
    }
}

#[tokio::test]
async fn what_troubles_pods_of_the_one_before_is_not_said_of_it() {
    let world = recreated(|_| {}).await;
    collect(&world);
    world.server(|server| {
        for (path, pod) in &mut server.objects {
            if path.ends_with("-before") {
                pod["status"]["conditions"] = json!([{
                    "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no",
                }]);
                pod["status"]["containerStatuses"] = json!([]);
            }
        }
    });
    world.reconcile_store("payments").await.unwrap();
    world.server(|server| {
        for job in server.objects.values_mut().filter(|of| of["kind"] == "Job") {
            job["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]});
        }
    });
    for _ in 0..2 {
        world.reconcile_store("payments").await.unwrap();
    }
    assert_eq!(store_condition(&world, "CentralAvailable").1, "RollingOut");
}
