//! An EdgeRegion.

use serde_json::json;

use super::{OURS, condition, running};
use crate::fixtures::edge_json;
use crate::world::World;

#[tokio::test]
async fn an_edge_region_becomes_ready_and_then_nothing_is_written() {
    let world = running().await;
    world.put(edge_json());
    for _ in 0..3 {
        world.reconcile_edge("till").await.unwrap();
        world.run_workloads();
    }
    world.reconcile_edge("till").await.unwrap();
    world.writes();
    world.reconcile_edge("till").await.unwrap();
    let writes = world.writes();
    assert!(
        writes.is_empty(),
        "written although nothing changed: {writes:?}"
    );
    let ready = condition(&world, "EdgeRegion", "till", "Ready");
    assert_eq!(ready.0, "True", "{ready:?}");
    let status = world.get(OURS, "EdgeRegion", "till").unwrap()["status"].clone();
    assert_eq!(status["subscriptions"][0]["modelId"], "model-1");
    assert_eq!(status["selector"], "meridian.dev/edge-region=till");

    world.reconcile_store("payments").await.unwrap();
    let status = world.get(OURS, "AuthzStore", "payments").unwrap()["status"].clone();
    assert_eq!(status["edges"], json!({"total": 2, "ready": 2}));
}

#[tokio::test]
async fn an_edge_region_says_which_store_or_region_is_not_there_and_keeps_what_runs() {
    let world = running().await;
    world.put(edge_json());
    world.reconcile_edge("till").await.unwrap();
    world.change(OURS, "EdgeRegion", "till", |edge| {
        edge["spec"]["subscriptions"] =
            json!([{"storeRef": {"name": "payments"}}, {"storeRef": {"name": "gone"}}]);
    });
    world.reconcile_edge("till").await.unwrap();
    let (_, reason, message) = condition(&world, "EdgeRegion", "till", "Accepted");
    assert_eq!(reason, "StoreNotFound");
    assert!(message.contains("'gone'"), "{message}");

    world.change(OURS, "AuthzStore", "payments", |store| {
        store["spec"]["regions"].as_array_mut().unwrap().remove(0);
    });
    world.reconcile_edge("till").await.unwrap();
    assert_eq!(
        condition(&world, "EdgeRegion", "till", "Accepted").1,
        "UnknownParentRegion"
    );
    assert!(
        world
            .get("apps/v1", "StatefulSet", "till-payments")
            .is_some(),
        "what runs stays"
    );

    world.change(OURS, "EdgeRegion", "till", |edge| {
        edge["spec"]["subscriptions"] = json!([{"storeRef": {"name": "other"}}])
    });
    world.reconcile_edge("till").await.unwrap();
    assert!(
        world
            .get("apps/v1", "StatefulSet", "till-payments")
            .is_none(),
        "what is not named goes"
    );
}

#[tokio::test]
async fn an_edge_that_cannot_reach_its_region_says_so() {
    let world = running().await;
    world.put(edge_json());
    for _ in 0..2 {
        world.reconcile_edge("till").await.unwrap();
        world.run_workloads();
    }
    world.told(|told| told.reach("upstream", Err("no answer from http://r:8082")));
    world.reconcile_edge("till").await.unwrap();
    let (status, reason, message) = condition(&world, "EdgeRegion", "till", "ParentReachable");
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "ParentUnreachable")
    );
    assert!(message.contains("http://r:8082"), "{message}");
}

/// A world with a store and an edge that runs.
async fn with_edge() -> World {
    let world = running().await;
    world.put(edge_json());
    for _ in 0..2 {
        world.reconcile_edge("till").await.unwrap();
        world.run_workloads();
    }
    world
}

#[tokio::test]
async fn kafka_that_edges_do_not_reach_is_shown_and_cleared_after_the_mend() {
    let world = with_edge().await;
    world.reconcile_edge("till").await.unwrap();
    assert_eq!(
        condition(&world, "EdgeRegion", "till", "KafkaReachable").0,
        "True"
    );
    world.told(|told| told.reach("kafka", Err("no broker at kafka-0:9092")));
    world.reconcile_edge("till").await.unwrap();
    for of in ["KafkaReachable", "Ready"] {
        let (status, reason, message) = condition(&world, "EdgeRegion", "till", of);
        assert_eq!(
            (status.as_str(), reason.as_str()),
            ("False", "KafkaUnreachable"),
            "{of}"
        );
        assert!(
            message.contains("till-payments-0: no broker at kafka-0:9092"),
            "{message}"
        );
    }
    world.told(|told| told.reach("kafka", Ok(())));
    world.reconcile_edge("till").await.unwrap();
    assert_eq!(condition(&world, "EdgeRegion", "till", "Ready").0, "True");
}

#[tokio::test]
async fn an_edge_of_a_store_whose_model_is_superseded_says_so() {
    let world = with_edge().await;
    world.told(|told| {
        let (_, mut other) = told.models[0].clone();
        other.type_definitions.pop();
        told.models.push(("model-of-another".to_owned(), other));
    });
    world.reconcile_store("payments").await.unwrap();
    world.reconcile_edge("till").await.unwrap();
    let (status, reason, message) = condition(&world, "EdgeRegion", "till", "Synced");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Superseded"));
    assert!(message.contains("model-of-another"), "{message}");
    let edge = world.get(OURS, "EdgeRegion", "till").unwrap();
    assert_eq!(
        edge["status"]["subscriptions"][0]["modelId"],
        "model-of-another"
    );
}
