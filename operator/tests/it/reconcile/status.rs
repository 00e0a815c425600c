//! Conditions: what makes them, and since when.

use serde_json::json;

use super::{OURS, running, store_condition};
use crate::world::healthy;

#[tokio::test]
async fn unreachable_kafka_is_shown_with_its_address_and_cleared_after_the_mend() {
    let world = running().await;
    world.told(|told| told.reach("kafka", Err("no broker at kafka-0:9092")));
    world.reconcile_store("payments").await.unwrap();
    let (status, reason, message) = store_condition(&world, "KafkaReachable");
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "KafkaUnreachable")
    );
    assert!(message.contains("kafka-0:9092"), "{message}");
    assert_eq!(store_condition(&world, "Ready").0, "False");

    world.told(|told| told.reach("kafka", Ok(())));
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(store_condition(&world, "KafkaReachable").0, "True");
    assert_eq!(store_condition(&world, "Ready").0, "True");
}

#[tokio::test]
async fn a_database_that_is_away_is_named_and_cleared_after_the_mend() {
    for (below, node, secret) in [
        (false, "payments-central-0", "'central-db'"),
        (true, "payments-regional-eu-1-0", "'eu-1-db'"),
    ] {
        let world = running().await;
        let away = Err("db-0:5432/payments: connection refused");
        world.told(|told| {
            if below {
                told.reach_below("datastore", away);
            } else {
                told.reach("datastore", away);
                told.status.ready = false;
                told.reach_below("datastore", Ok(()));
            }
        });
        world.reconcile_store("payments").await.unwrap();
        for condition in ["DatastoreReachable", "Ready"] {
            let (status, reason, message) = store_condition(&world, condition);
            assert_eq!(
                (status.as_str(), reason.as_str()),
                ("False", "DatastoreUnreachable"),
                "{condition}: {message}"
            );
            for part in [node, secret, "db-0:5432/payments: connection refused"] {
                assert!(message.contains(part), "{condition}: {part}: {message}");
            }
        }
        let (status, _, message) = store_condition(&world, "ModelActive");
        assert_eq!(status, "Unknown", "{message}");

        world.told(|told| {
            told.status = healthy();
            told.status_below = None;
        });
        world.reconcile_store("payments").await.unwrap();
        assert_eq!(store_condition(&world, "DatastoreReachable").0, "True");
        assert_eq!(store_condition(&world, "Ready").0, "True");
    }
}

#[tokio::test]
async fn a_region_that_does_not_reach_central_is_the_reason_of_what_follows_from_it() {
    let world = running().await;
    world.told(|told| {
        told.model_below = Some("model-0".to_owned());
        told.reach_below("upstream", Err("http://payments-central:8082: refused"));
    });
    world.reconcile_store("payments").await.unwrap();
    for condition in ["CentralReachable", "Ready"] {
        let (status, reason, message) = store_condition(&world, condition);
        assert_eq!(
            (status.as_str(), reason.as_str()),
            ("False", "CentralUnreachable"),
            "{condition}: {message}"
        );
        assert!(
            message.contains("payments-regional-eu-1-0: http://payments-central:8082: refused"),
            "{message}"
        );
    }
    assert_eq!(store_condition(&world, "ModelActive").1, "Replicating");

    world.told(|told| {
        told.model_below = None;
        told.reach_below("upstream", Ok(()));
    });
    world.reconcile_store("payments").await.unwrap();
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
