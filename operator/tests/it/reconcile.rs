//! What a reconcile does, on an API server in memory: what it writes and in which order, what it makes of errors, and
//! that it writes nothing where there is nothing to do.

use http::Method;
use meridian_operator::nodes::NodeError;
use meridian_operator::reconcile::{Category, Error};
use serde_json::{Value, json};

use crate::fixtures::{MODEL, edge_json, store_json};
use crate::world::World;

const OURS: &str = "meridian.dev/v1alpha1";

/// A store that is not held when it is deleted.
fn retained() -> Value {
    let mut json = store_json();
    json["spec"]["deletionPolicy"] = json!("Retain");
    json
}

/// A world in which everything of the fixture store runs.
async fn running() -> World {
    let world = World::new();
    world.put(retained());
    for _ in 0..5 {
        world.reconcile_store("payments").await.unwrap();
        world.run_workloads();
    }
    world.writes();
    world
}

fn condition(world: &World, kind: &str, name: &str, condition: &str) -> (String, String, String) {
    let object = world.get(OURS, kind, name).unwrap();
    let conditions = object["status"]["conditions"].as_array().cloned();
    let found = conditions
        .into_iter()
        .flatten()
        .find(|of| of["type"] == condition)
        .unwrap_or_else(|| panic!("{kind} {name} has no condition {condition}"));
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"), text("message"))
}

fn store_condition(world: &World, of: &str) -> (String, String, String) {
    condition(world, "AuthzStore", "payments", of)
}

fn short(path: &str) -> String {
    path.rsplit('/')
        .take(2)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect::<Vec<_>>()
        .join("/")
}

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
        "CentralAvailable",
        "RegionsAvailable",
        "ModelActive",
    ] {
        let found = store_condition(&world, kind);
        if kind != "Ready" {
            assert_eq!(found.0, "True", "{kind}: {found:?}");
        }
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
async fn an_edge_region_becomes_ready_and_then_nothing_is_written() {
    let world = running().await;
    world.put(edge_json());
    for _ in 0..3 {
        world.reconcile_edge("till").await.unwrap();
        world.run_workloads();
    }
    world.told(|told| told.status.dependencies = vec![dependency("upstream", true, "")]);
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

fn dependency(name: &str, available: bool, message: &str) -> meridian_operator::nodes::Dependency {
    meridian_operator::nodes::Dependency {
        name: name.to_owned(),
        available,
        message: message.to_owned(),
    }
}

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
async fn a_missing_secret_is_named_and_nothing_is_touched_until_it_is_there() {
    let world = World::new();
    world.put(retained());
    let secret = world.get("v1", "Secret", "eu-1-db").unwrap();
    world.server(|server| server.objects.retain(|path, _| !path.ends_with("/eu-1-db")));
    world.reconcile_store("payments").await.unwrap();
    let (status, reason, message) = store_condition(&world, "ReferencesResolved");
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "SecretNotFound")
    );
    assert!(
        message.contains("regions[eu-1].datastore.urlSecretRef") && message.contains("'eu-1-db'"),
        "{message}"
    );
    assert!(
        world
            .get("apps/v1", "Deployment", "payments-central")
            .is_none()
    );

    let mut other_key = secret.clone();
    other_key["data"] = json!({"uri": ""});
    world.put(other_key);
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(
        store_condition(&world, "ReferencesResolved").1,
        "SecretKeyNotFound"
    );

    world.put(secret);
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(store_condition(&world, "ReferencesResolved").0, "True");
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
        secret["metadata"]["resourceVersion"] = json!("8")
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

#[tokio::test]
async fn a_store_whose_policy_is_delete_is_held_and_its_data_deleted_first() {
    let world = World::new();
    world.put(store_json());
    for _ in 0..4 {
        world.reconcile_store("payments").await.unwrap();
        world.run_workloads();
    }
    let finalizers = |world: &World| {
        let store = world.get(OURS, "AuthzStore", "payments").unwrap();
        store["metadata"]["finalizers"].clone()
    };
    assert_eq!(finalizers(&world), json!(["meridian.dev/store"]));
    delete(&world, &k8s_openapi::jiff::Timestamp::now().to_string());
    world.told(|told| {
        told.writes.clear();
        told.failure = Some(NodeError::Unavailable("busy".to_owned()));
    });
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(
        finalizers(&world),
        json!(["meridian.dev/store"]),
        "held until it is done"
    );
    world.told(|told| told.failure = None);
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(world.told(|told| told.writes.clone()), ["delete store-1"]);
    assert_eq!(finalizers(&world), json!([]));
}

fn delete(world: &World, at: &str) {
    world.change(OURS, "AuthzStore", "payments", |store| {
        store["metadata"]["deletionTimestamp"] = json!(at)
    });
}

#[tokio::test]
async fn a_store_whose_policy_is_retain_is_not_held() {
    let world = running().await;
    let store = world.get(OURS, "AuthzStore", "payments").unwrap();
    assert!(store["metadata"]["finalizers"].is_null());
    delete(&world, "2026-01-01T00:00:00Z");
    world.told(|told| told.writes.clear());
    world.reconcile_store("payments").await.unwrap();
    assert!(world.told(|told| told.writes.is_empty()));
    assert!(world.writes().is_empty());
}

#[tokio::test]
async fn deleting_does_not_hang_where_central_is_away() {
    let world = World::new();
    world.put(store_json());
    world.reconcile_store("payments").await.unwrap();
    // Held, and central was never there.
    delete(&world, &k8s_openapi::jiff::Timestamp::now().to_string());
    world.told(|told| told.failure = Some(NodeError::Unavailable("nobody".to_owned())));
    world.reconcile_store("payments").await.unwrap();
    let store = world.get(OURS, "AuthzStore", "payments").unwrap();
    assert_eq!(store["metadata"]["finalizers"], json!([]));
    let events = world
        .writes()
        .into_iter()
        .filter(|(_, path)| path.ends_with("/events"));
    assert!(events.count() > 0);
}

#[tokio::test]
async fn two_stores_never_share_topics_nor_two_roles_a_database() {
    let world = World::new();
    let mut first = retained();
    first["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    world.put(first);
    let mut second = retained();
    second["metadata"]["name"] = json!("again");
    second["metadata"]["uid"] = json!("another");
    second["metadata"]["creationTimestamp"] = json!("2026-02-01T00:00:00Z");
    world.put(second);
    world.reconcile_store("again").await.unwrap();
    let (_, reason, message) = condition(&world, "AuthzStore", "again", "Accepted");
    assert_eq!(reason, "ProductTaken");
    assert!(message.contains("shop/payments"), "{message}");
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(store_condition(&world, "Accepted").0, "True");

    world.change(OURS, "AuthzStore", "payments", |store| {
        store["spec"]["regions"][0]["datastore"]["urlSecretRef"]["name"] = json!("central-db");
    });
    world.reconcile_store("payments").await.unwrap();
    assert_eq!(store_condition(&world, "Accepted").1, "DatabaseShared");
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
    world.told(|told| {
        told.status.dependencies = vec![dependency(
            "upstream",
            false,
            "no answer from http://r:8082",
        )]
    });
    world.reconcile_edge("till").await.unwrap();
    let (status, reason, message) = condition(&world, "EdgeRegion", "till", "ParentReachable");
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "ParentUnreachable")
    );
    assert!(message.contains("http://r:8082"), "{message}");
}

#[tokio::test]
async fn a_volume_grows_and_its_stateful_set_is_made_anew_around_the_pods() {
    let world = running().await;
    world.put(edge_json());
    world.reconcile_edge("till").await.unwrap();
    world.server(|server| {
        let claims = "/api/v1/namespaces/shop/persistentvolumeclaims";
        let claim = json!({"metadata": {"name": "data-till-payments-0", "uid": "c"}});
        server.objects.insert(
            claims.to_owned(),
            json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": [claim]}),
        );
    });
    world.writes();
    world.change(OURS, "EdgeRegion", "till", |edge| {
        edge["spec"]["storage"]["size"] = json!("5Gi")
    });
    world.reconcile_edge("till").await.unwrap();
    let writes: Vec<_> = world
        .writes()
        .into_iter()
        .map(|(method, path)| (method, short(&path)))
        .collect();
    assert_eq!(
        writes[0],
        (
            Method::PATCH,
            "persistentvolumeclaims/data-till-payments-0".to_owned()
        )
    );
    assert_eq!(
        writes[1],
        (Method::DELETE, "statefulsets/till-payments".to_owned())
    );
    world.reconcile_edge("till").await.unwrap();
    let set = world
        .get("apps/v1", "StatefulSet", "till-payments")
        .unwrap();
    assert_eq!(
        set["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"],
        "5Gi"
    );
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
