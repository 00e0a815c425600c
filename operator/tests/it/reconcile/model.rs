//! The store, its model and its tiers.

use std::time::Duration;

use http::Method;
use meridian_operator::nodes::NodeError;
use serde_json::{Value, json};

use super::{OURS, retained, running, store_condition};
use crate::fixtures::MODEL;
use crate::world::World;

#[tokio::test]
async fn the_model_and_tiers_are_written_once_and_again_when_they_change() {
    let world = running().await;
    let writes = world.told(|told| std::mem::take(&mut told.writes));
    assert_eq!(
        writes,
        ["create store payments", "write model-1", "assign tiers"]
    );
    assert_eq!(
        world.told(|told| told.tiers.critical.iter().cloned().collect::<Vec<_>>()),
        ["organization"]
    );
    assert_eq!(
        world.told(|told| told.tiers.cold.iter().cloned().collect::<Vec<_>>()),
        ["audit"]
    );

    world.change(OURS, "AuthzStore", "payments", |store| {
        store["spec"]["model"]["inline"] = json!(format!("{MODEL}type invoice\n"));
    });
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(store_condition(&world, "ModelActive").1, "Replicating");
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(store_condition(&world, "ModelActive").0, "True");
    world.change(OURS, "AuthzStore", "payments", |store| {
        store["spec"]["tiers"] =
            json!([{"type": "invoice", "tier": "Cold"}, {"type": "user", "tier": "Warm"}]);
    });
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(
        world.told(|told| std::mem::take(&mut told.writes)),
        ["write model-2", "assign tiers"]
    );
    assert_eq!(
        world.told(|told| told.tiers.cold.iter().cloned().collect::<Vec<_>>()),
        ["invoice"]
    );
    let status = world.get(OURS, "AuthzStore", "payments").unwrap()["status"].clone();
    assert_eq!(status["model"]["id"], "model-2");
    assert_eq!(status["storeId"], "store-1");
}

#[tokio::test]
async fn with_its_status_lost_a_store_is_found_again_and_nothing_is_written_twice() {
    let world = running().await;
    world.told(|told| told.writes.clear());
    world.change(OURS, "AuthzStore", "payments", |store| {
        store["status"] = Value::Null
    });
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(world.told(|told| told.writes.clone()), Vec::<String>::new());
    let status = world.get(OURS, "AuthzStore", "payments").unwrap()["status"].clone();
    assert_eq!(
        (&status["storeId"], &status["model"]["id"]),
        (&json!("store-1"), &json!("model-1"))
    );
}

#[tokio::test]
async fn a_store_that_central_lost_is_told_and_not_replaced() {
    let world = running().await;
    world.told(|told| {
        told.stores.clear();
        told.models.clear();
        told.writes.clear();
    });
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(world.told(|told| told.writes.clone()), Vec::<String>::new());
    let (status, reason, message) = store_condition(&world, "ModelActive");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "StoreLost"));
    assert!(message.contains("store-1"), "{message}");
    let status = world.get(OURS, "AuthzStore", "payments").unwrap()["status"].clone();
    assert_eq!(status["storeId"], "store-1");
}

#[tokio::test]
async fn a_model_is_active_only_when_every_region_has_it() {
    let world = running().await;
    world.told(|told| told.model_below = Some("model-0".to_owned()));
    world.reconcile_store("payments").await.unwrap();
    let (status, reason, message) = store_condition(&world, "ModelActive");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Replicating"));
    assert!(message.contains("payments-regional-eu-1-0"), "{message}");
}

#[tokio::test]
async fn a_model_that_somebody_else_wrote_is_reported_and_left() {
    let world = running().await;
    world.told(|told| {
        let (_, mut other) = told.models[0].clone();
        other.type_definitions.pop();
        told.models.push(("model-of-another".to_owned(), other));
        told.writes.clear();
    });
    world.reconcile_store("payments").await.unwrap();
    let (status, reason, message) = store_condition(&world, "ModelActive");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Superseded"));
    assert!(message.contains("model-of-another"), "{message}");
    assert!(world.told(|told| told.writes.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn a_model_is_known_by_what_was_said_before_it_was_written() {
    let world = running().await;
    let change = |text: &str| {
        world.change(OURS, "AuthzStore", "payments", |store| {
            store["spec"]["model"]["inline"] = json!(text);
        });
    };
    change(&format!("{MODEL}type invoice\n"));
    world.told(|told| told.silent = true);
    let reconciling = world.reconcile_store("payments");
    // It ends as soon as central has the model.
    let ended = tokio::time::timeout(Duration::from_secs(5), reconciling).await;
    assert!(ended.is_err());
    world.told(|told| told.silent = false);
    assert_eq!(world.told(|told| told.models.len()), 2);

    change(MODEL);
    for _ in 0..2 {
        world.reconcile_store("payments").await.unwrap();
    }
    assert_eq!(store_condition(&world, "ModelActive").0, "True");
    let status = world.get(OURS, "AuthzStore", "payments").unwrap()["status"].clone();
    assert_eq!(status["model"]["id"], "model-3");
    assert!(status["pendingModel"].is_null(), "{status}");
}

#[tokio::test]
async fn a_model_whose_writing_cannot_be_said_before_is_not_written() {
    let world = running().await;
    world.told(|told| told.writes.clear());
    world.change(OURS, "AuthzStore", "payments", |store| {
        store["spec"]["model"]["inline"] = json!(format!("{MODEL}type invoice\n"));
    });
    let status = "/authzstores/payments/status".to_owned();
    world.server(|server| server.faults.push((Method::PATCH, status, 500)));
    world.reconcile_store("payments").await.unwrap_err();
    assert!(world.told(|told| told.writes.is_empty()));
    world.server(|server| server.faults.clear());
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(world.told(|told| told.writes.clone()), ["write model-2"]);
}

#[tokio::test]
async fn an_invalid_model_is_shown_with_line_and_column_and_the_running_one_is_left() {
    for (text, place) in [
        (
            "model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define x: [nobody]\n",
            "line 6, column",
        ),
        ("{\n \"schema_version\": 1\n}", "line 2, column"),
    ] {
        let world = running().await;
        world.told(|told| told.writes.clear());
        world.change(OURS, "AuthzStore", "payments", |store| {
            store["spec"]["model"]["inline"] = json!(text);
            // The rest of the spec is looked after all the same.
            store["spec"]["central"]["replicas"] = json!(5);
        });
        world.reconcile_store("payments").await.unwrap();
        let (status, reason, message) = store_condition(&world, "Accepted");
        assert_eq!(
            (status.as_str(), reason.as_str()),
            ("False", "InvalidModel")
        );
        assert!(message.contains(place), "{message}");
        assert_eq!(store_condition(&world, "ModelActive").0, "False");
        assert!(world.told(|told| told.writes.is_empty()));
        let central = world
            .get("apps/v1", "Deployment", "payments-central")
            .unwrap();
        assert_eq!(central["spec"]["replicas"], 5);

        world.change(OURS, "AuthzStore", "payments", |store| {
            *store = with_status(retained(), store)
        });
        world.run_workloads();
        world.reconcile_store("payments").await.unwrap();
        assert_eq!(store_condition(&world, "Accepted").0, "True");
        assert_eq!(store_condition(&world, "ModelActive").0, "True");
        assert!(
            world.told(|told| told.writes.is_empty()),
            "the model is that which was active"
        );
    }
}

fn with_status(mut json: Value, from: &Value) -> Value {
    json["status"] = from["status"].clone();
    json
}

#[tokio::test]
async fn a_tier_for_a_type_that_the_model_does_not_define_is_refused() {
    let world = running().await;
    world.change(OURS, "AuthzStore", "payments", |store| {
        store["spec"]["tiers"] = json!([{"type": "invoice", "tier": "Cold"}]);
    });
    world.reconcile_store("payments").await.unwrap();
    let (_, reason, message) = store_condition(&world, "Accepted");
    assert_eq!(reason, "InvalidTiers");
    assert!(message.contains("'invoice'"), "{message}");
}

#[tokio::test]
async fn a_model_may_be_in_a_config_map() {
    let world = World::new();
    let mut json = retained();
    json["spec"]["model"] = json!({"configMapKeyRef": {"name": "models", "key": "payments.fga"}});
    world.put(json);
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(
        store_condition(&world, "ReferencesResolved").1,
        "ConfigMapNotFound"
    );
    let map = |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "models"}, "data": data});
    world.put(map(json!({"other": ""})));
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(
        store_condition(&world, "ReferencesResolved").1,
        "ConfigMapKeyNotFound"
    );
    world.put(map(json!({"payments.fga": MODEL})));
    for _ in 0..4 {
        world.run_workloads();
        world.reconcile_store("payments").await.unwrap();
    }
    assert_eq!(store_condition(&world, "ModelActive").0, "True");
}

#[tokio::test]
async fn a_central_that_refuses_or_is_away_is_shown() {
    for (failure, reason) in [
        (
            NodeError::Unavailable("payments-central.shop.svc:8081: connection refused".to_owned()),
            "CentralUnavailable",
        ),
        (
            NodeError::Refused("payments-central.shop.svc:8081: model too large".to_owned()),
            "Refused",
        ),
    ] {
        let world = running().await;
        world.told(|told| told.failure = Some(failure));
        world.reconcile_store("payments").await.unwrap();
        let (status, found, message) = store_condition(&world, "ModelActive");
        assert_eq!((status.as_str(), found.as_str()), ("False", reason));
        assert!(
            message.contains("payments-central.shop.svc:8081"),
            "{message}"
        );
    }
}
