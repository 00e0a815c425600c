//! Conditions: what makes them, and since when.

use serde_json::json;

use super::{OURS, dependency, running, store_condition};

#[tokio::test]
async fn unreachable_kafka_is_shown_with_its_address_and_cleared_after_the_mend() {
    let world = running().await;
    world.told(|told| {
        told.status.dependencies = vec![dependency("kafka", false, "no broker at kafka-0:9092")]
    });
    world.reconcile_store("payments").await.unwrap();
    let (status, reason, message) = store_condition(&world, "KafkaReachable");
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "KafkaUnreachable")
    );
    assert!(message.contains("kafka-0:9092"), "{message}");
    assert_eq!(store_condition(&world, "Ready").0, "False");

    world.told(|told| told.status.dependencies = vec![dependency("kafka", true, "")]);
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(store_condition(&world, "KafkaReachable").0, "True");
    assert_eq!(store_condition(&world, "Ready").0, "True");
}

#[tokio::test]
async fn a_state_keeps_the_time_since_when_it_is_so() {
    let world = running().await;
    let old = "2020-01-01T00:00:00Z";
    world.change(OURS, "AuthzStore", "payments", |store| {
        for condition in store["status"]["conditions"].as_array_mut().unwrap() {
            condition["lastTransitionTime"] = json!(old);
        }
        store["metadata"]["generation"] = json!(9);
    });
    world.told(|told| told.model_below = Some("model-0".to_owned()));
    world.reconcile_store("payments").await.unwrap();
    let store = world.get(OURS, "AuthzStore", "payments").unwrap();
    for condition in store["status"]["conditions"].as_array().unwrap() {
        assert_eq!(condition["observedGeneration"], 9, "{condition}");
        let changed = condition["type"] == "ModelActive"
            || (condition["type"] == "Ready" && condition["status"] == "False");
        if condition["type"] != "Ready" {
            assert_eq!(
                condition["lastTransitionTime"] != old,
                changed,
                "{condition}"
            );
        }
    }
    assert_eq!(store["status"]["observedGeneration"], 9);
}
