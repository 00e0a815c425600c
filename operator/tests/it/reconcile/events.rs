//! Events: what they say, and that they say it once.

use serde_json::{Value, json};

use super::{OURS, retained, running};
use crate::fixtures::MODEL;
use crate::world::World;

/// Type, reason and note of the events since this was called last.
fn told(world: &World) -> Vec<(String, String, String)> {
    let events = world.server(|server| std::mem::take(&mut server.events));
    let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
    events
        .iter()
        .map(|event| {
            assert_eq!(event["regarding"]["kind"], "AuthzStore", "{event}");
            assert_eq!(event["regarding"]["name"], "payments", "{event}");
            assert_eq!(event["regarding"]["uid"], "store-uid", "{event}");
            assert_eq!(event["reportingController"], "meridian-operator", "{event}");
            (
                text(&event["type"]),
                text(&event["reason"]),
                text(&event["note"]),
            )
        })
        .collect()
}

fn reasons(told: &[(String, String, String)]) -> Vec<&str> {
    told.iter().map(|(_, reason, _)| reason.as_str()).collect()
}

#[tokio::test]
async fn the_way_to_ready_is_told_step_by_step() {
    let world = World::new();
    world.put(retained());
    world.reconcile_store("payments").await.unwrap();
    let first = told(&world);
    assert_eq!(reasons(&first), ["MigrationStarted"]);
    let (kind, _, note) = &first[0];
    assert_eq!(kind, "Normal");
    assert!(note.contains("payments-migrate-central-"), "{note}");
    let mut all = Vec::new();
    for _ in 0..5 {
        world.run_workloads();
        world.reconcile_store("payments").await.unwrap();
        all.extend(told(&world));
    }
    assert_eq!(reasons(&all), ["Migrated", "Ready", "ModelActive"]);
    assert!(all.iter().all(|(kind, ..)| kind == "Normal"), "{all:?}");
    assert!(all[2].2.contains("model-1"), "{all:?}");
}

#[tokio::test]
async fn another_mistake_of_the_same_kind_is_told_too() {
    let world = running().await;
    told(&world);
    for unknown in ["nobody", "no-one", "nobody"] {
        world.change(OURS, "AuthzStore", "payments", |store| {
            store["spec"]["model"]["inline"] = json!(format!(
                "{MODEL}type bill\n  relations\n    define payer: [{unknown}]\n"
            ));
        });
        for _ in 0..2 {
            world.reconcile_store("payments").await.unwrap();
        }
        let fault = told(&world);
        assert_eq!(reasons(&fault), ["InvalidModel"]);
        assert!(fault[0].2.contains(unknown), "{fault:?}");
    }
}

#[tokio::test]
async fn a_fault_is_told_once_with_its_message_and_so_is_its_end() {
    let world = running().await;
    told(&world);
    world.told(|nodes| nodes.reach("kafka", Err("no broker at kafka-0:9092")));
    for _ in 0..2 {
        world.reconcile_store("payments").await.unwrap();
    }
    let fault = told(&world);
    assert_eq!(reasons(&fault), ["KafkaUnreachable"]);
    let (kind, _, note) = &fault[0];
    assert_eq!(kind, "Warning");
    assert!(note.contains("no broker at kafka-0:9092"), "{note}");
    world.told(|nodes| nodes.reach("kafka", Ok(())));
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(reasons(&told(&world)), ["Ready"]);
}
