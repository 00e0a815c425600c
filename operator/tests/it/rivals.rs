//! Of AuthzStores that have the same topics or the same database one runs.

mod topics;
mod unread;

use std::collections::BTreeSet;

use http::Method;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector;
use kube::runtime::watcher::Event;
use meridian_operator::api::AuthzStore;
use meridian_operator::reconcile::Rivals;
use meridian_operator::reconcile::rivals::Verdict;
use serde_json::{Value, json};

use crate::fixtures::{NAMESPACE, edge_json, store_json};
use crate::world::World;

const OURS: &str = "meridian.dev/v1alpha1";

fn store(name: &str, created: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut json = store_json();
    json["spec"]["deletionPolicy"] = json!("Retain");
    json["metadata"]["name"] = json!(name);
    json["metadata"]["uid"] = json!(format!("uid of {name}"));
    json["metadata"]["creationTimestamp"] = json!(created);
    change(&mut json["spec"]);
    json
}

/// A Secret with the URL of a database.
fn database(world: &World, secret: &str, url: &str) {
    world.put(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret, "namespace": NAMESPACE},
        "data": {"url": ByteString(url.into())},
    }));
}

/// Databases of its own.
fn of_its_own(world: &World, spec: &mut Value, name: &str) {
    for (place, part) in [
        ("/datastore/urlSecretRef/name", "central"),
        ("/regions/0/datastore/urlSecretRef/name", "eu"),
        ("/regions/1/datastore/urlSecretRef/name", "us"),
    ] {
        let secret = format!("{name}-{part}");
        database(
            world,
            &secret,
            &format!("postgres://{name}:secret@db/{name}_{part}"),
        );
        *spec.pointer_mut(place).unwrap() = json!(secret);
    }
}

async fn look(world: &World, names: &[&str]) {
    for _ in 0..5 {
        for name in names {
            world.reconcile_store(name).await.unwrap();
        }
        world.run_workloads();
    }
}

/// Why a store is not accepted, if so.
fn refusal(world: &World, kind: &str, name: &str) -> Option<(String, String)> {
    let object = world.get(OURS, kind, name).unwrap();
    let conditions = object["status"]["conditions"].as_array().unwrap();
    let accepted = conditions
        .iter()
        .find(|of| of["type"] == "Accepted")
        .unwrap();
    let text = |field: &str| accepted[field].as_str().unwrap().to_owned();
    (accepted["status"] != "True").then(|| (text("reason"), text("message")))
}

#[tokio::test]
async fn the_one_that_runs_stays_though_the_other_is_older() {
    let world = World::new();
    world.put(store("payments", "2026-02-01T00:00:00Z", |_| {}));
    look(&world, &["payments"]).await;
    let older = store("older", "2026-01-01T00:00:00Z", |spec| {
        of_its_own(&world, spec, "older");
    });
    world.put(older);
    look(&world, &["older", "payments"]).await;
    let (reason, message) = refusal(&world, "AuthzStore", "older").unwrap();
    assert_eq!(reason, "ProductTaken");
    assert!(message.contains("shop/payments"), "{message}");
    assert_eq!(refusal(&world, "AuthzStore", "payments"), None);
    assert!(
        world
            .get("apps/v1", "Deployment", "older-central")
            .is_none()
    );

    // Also while it is being changed, or had its status lost.
    world.change(OURS, "AuthzStore", "payments", |store| {
        store["spec"]["central"]["replicas"] = json!(3);
        store["metadata"]["generation"] = json!(9);
        store["status"] = Value::Null;
    });
    look(&world, &["older", "payments"]).await;
    assert_eq!(refusal(&world, "AuthzStore", "payments"), None);
    assert!(refusal(&world, "AuthzStore", "older").is_some());
}

#[tokio::test]
async fn of_two_that_run_the_one_that_was_moved_gives_way() {
    let world = World::new();
    let elsewhere = json!(["elsewhere.example.com:9092"]);
    let older = store("older", "2026-01-01T00:00:00Z", |spec| {
        spec["kafka"]["bootstrapServers"] = elsewhere;
        of_its_own(&world, spec, "older");
    });
    world.put(older);
    world.put(store("payments", "2026-02-01T00:00:00Z", |_| {}));
    look(&world, &["older", "payments"]).await;
    for name in ["older", "payments"] {
        assert_eq!(refusal(&world, "AuthzStore", name), None);
    }
    world.change(OURS, "AuthzStore", "older", |store| {
        // The other's, by another of its names.
        store["spec"]["kafka"]["bootstrapServers"] = json!(["KAFKA-1.shop.svc.cluster.local:9092"]);
        store["metadata"]["generation"] = json!(9);
    });
    look(&world, &["older", "payments"]).await;
    assert_eq!(
        refusal(&world, "AuthzStore", "older").unwrap().0,
        "ProductTaken"
    );
    assert_eq!(refusal(&world, "AuthzStore", "payments"), None);
}

#[tokio::test]
async fn a_database_of_another_store_is_refused_by_what_its_url_leads_to() {
    let world = World::new();
    let first = store("payments", "2026-01-01T00:00:00Z", |spec| {
        of_its_own(&world, spec, "payments");
    });
    world.put(first);
    let second = store("orders", "2026-02-01T00:00:00Z", |spec| {
        of_its_own(&world, spec, "orders");
        spec["product"] = json!("orders");
    });
    world.put(second);
    let url = "postgresql://somebody:else@db.shop.svc:5432/payments_eu?sslmode=require";
    database(&world, "orders-us", url);
    look(&world, &["orders", "payments"]).await;
    let (reason, message) = refusal(&world, "AuthzStore", "orders").unwrap();
    assert_eq!(reason, "DatabaseTaken");
    assert!(
        message.contains("shop/payments has database db.shop:5432/payments_eu"),
        "{message}"
    );
    assert!(!message.contains("else"), "{message}");
    assert_eq!(refusal(&world, "AuthzStore", "payments"), None);

    database(&world, "orders-us", "postgres://db/orders_us");
    look(&world, &["orders"]).await;
    assert_eq!(refusal(&world, "AuthzStore", "orders"), None);
}

#[tokio::test]
async fn two_roles_of_a_store_never_have_one_database_by_two_secrets() {
    let world = World::new();
    let json = store("payments", "2026-01-01T00:00:00Z", |spec| {
        of_its_own(&world, spec, "payments");
    });
    world.put(json);
    database(
        &world,
        "payments-us",
        "postgres://reader@db:5432/payments_central",
    );
    world.reconcile_store("payments").await.unwrap();
    let (reason, message) = refusal(&world, "AuthzStore", "payments").unwrap();
    assert_eq!(reason, "DatabaseShared");
    assert!(
        message.contains("regions[us-1]") && message.contains("central"),
        "{message}"
    );
}

#[tokio::test]
async fn a_store_that_is_refused_gets_no_edges() {
    let world = World::new();
    world.put(store("payments", "2026-01-01T00:00:00Z", |_| {}));
    world.put(store("again", "2026-02-01T00:00:00Z", |_| {}));
    let mut edge = edge_json();
    edge["spec"]["subscriptions"] = json!([{"storeRef": {"name": "again"}}]);
    world.put(edge);
    let set = || world.get("apps/v1", "StatefulSet", "till-again");
    world.reconcile_edge("till").await.unwrap();
    assert!(set().is_none(), "before the store was looked at");
    assert_eq!(
        refusal(&world, "EdgeRegion", "till").unwrap().0,
        "StoreNotAccepted"
    );

    look(&world, &["payments", "again"]).await;
    world.reconcile_edge("till").await.unwrap();
    assert!(set().is_none());
    let (reason, message) = refusal(&world, "EdgeRegion", "till").unwrap();
    assert_eq!(reason, "StoreRefused");
    assert!(
        message.contains("'again'") && message.contains("shop/payments"),
        "{message}"
    );
}

#[tokio::test]
async fn a_refusal_outlives_a_look_that_failed() {
    let world = World::new();
    world.put(store("payments", "2026-01-01T00:00:00Z", |_| {}));
    world.put(store("again", "2026-02-01T00:00:00Z", |_| {}));
    look(&world, &["payments", "again"]).await;
    let context = world.context();
    let again = world.get(OURS, "AuthzStore", "again").unwrap();
    let again: AuthzStore = serde_json::from_value(again).unwrap();
    assert!(matches!(
        context.rivals.verdict(&again),
        Verdict::Refused(_)
    ));
    context
        .rivals
        .in_the_way(&again, BTreeSet::new(), &context.client)
        .await
        .unwrap()
        .unwrap();
    let mut forgotten = again;
    forgotten.status = None;
    assert!(matches!(
        context.rivals.verdict(&forgotten),
        Verdict::Refused(_)
    ));
    assert_eq!(world.context().rivals.verdict(&forgotten), Verdict::Unknown);
}

/// `payments` runs on databases of its own; `orders` is refused, since its central database is that of `payments`.
async fn one_that_runs_and_its_rival() -> World {
    let world = World::new();
    for (name, created) in [
        ("payments", "2026-01-01T00:00:00Z"),
        ("orders", "2026-02-01T00:00:00Z"),
    ] {
        let json = store(name, created, |spec| {
            of_its_own(&world, spec, name);
            spec["product"] = json!(name);
        });
        world.put(json);
        if name == "orders" {
            database(&world, "orders-central", "postgres://db/payments_central");
        }
        look(&world, &[name]).await;
    }
    assert_eq!(
        refusal(&world, "AuthzStore", "orders").unwrap().0,
        "DatabaseTaken"
    );
    let status = world.get(OURS, "AuthzStore", "payments").unwrap()["status"].clone();
    let held = [
        "db.shop:5432/payments_central",
        "db.shop:5432/payments_eu",
        "db.shop:5432/payments_us",
    ];
    assert_eq!(status["databases"], json!(held));
    world
}

#[tokio::test]
async fn a_store_that_runs_keeps_its_database_though_its_secret_is_gone() {
    let world = one_that_runs_and_its_rival().await;
    let secret = crate::world::path("v1", "Secret", "payments-central");
    world.server(|server| server.objects.remove(&secret));
    look(&world, &["payments", "orders"]).await;
    assert_eq!(
        refusal(&world, "AuthzStore", "orders").unwrap().0,
        "DatabaseTaken"
    );
    assert!(
        world
            .get("apps/v1", "Deployment", "orders-central")
            .is_none()
    );
}

#[tokio::test]
async fn a_store_that_moves_keeps_its_old_database_until_its_nodes_have_left_it() {
    let world = one_that_runs_and_its_rival().await;
    database(&world, "payments-new", "postgres://db/payments_new");
    world.change(OURS, "AuthzStore", "payments", |store| {
        store["spec"]["datastore"]["urlSecretRef"]["name"] = json!("payments-new");
        store["metadata"]["generation"] = json!(9);
    });
    // Its migration has yet to end.
    for name in ["payments", "orders"] {
        world.reconcile_store(name).await.unwrap();
    }
    assert_eq!(
        refusal(&world, "AuthzStore", "orders").unwrap().0,
        "DatabaseTaken"
    );
    look(&world, &["payments", "orders"]).await;
    assert_eq!(refusal(&world, "AuthzStore", "orders"), None);
    let status = world.get(OURS, "AuthzStore", "payments").unwrap()["status"].clone();
    let held = [
        "db.shop:5432/payments_eu",
        "db.shop:5432/payments_new",
        "db.shop:5432/payments_us",
    ];
    assert_eq!(status["databases"], json!(held));
}

#[tokio::test]
async fn what_cannot_be_read_of_a_store_that_runs_lets_no_rival_in() {
    let world = one_that_runs_and_its_rival().await;
    let fault = (Method::GET, "/secrets/payments-central".to_owned(), 500);
    world.server(|server| server.faults.push(fault));
    world.reconcile_store("orders").await.unwrap();
    assert_eq!(
        refusal(&world, "AuthzStore", "orders").unwrap().0,
        "DatabaseTaken"
    );

    // Nor where its status does not say it.
    world.change(OURS, "AuthzStore", "payments", |store| {
        store["status"]["databases"] = json!([]);
    });
    let error = world
        .reconcile_store("orders")
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("AuthzStore shop/payments"), "{error}");
    let jobs = world.server(|server| {
        server
            .objects
            .keys()
            .any(|path| path.contains("orders-migrate"))
    });
    assert!(!jobs);
}

/// Two that run, each on databases of its own.
async fn two_that_run() -> World {
    let world = World::new();
    for (name, created) in [
        ("payments", "2026-01-01T00:00:00Z"),
        ("orders", "2026-02-01T00:00:00Z"),
    ] {
        let json = store(name, created, |spec| {
            of_its_own(&world, spec, name);
            spec["product"] = json!(name);
        });
        world.put(json);
        look(&world, &[name]).await;
        assert_eq!(refusal(&world, "AuthzStore", name), None);
    }
    world.told(|told| told.writes.clear());
    world
}

fn deployments(world: &World, of: &str) -> Vec<String> {
    world.server(|server| {
        let names = server
            .objects
            .keys()
            .filter_map(|path| path.split_once("/deployments/"));
        let names = names.map(|(_, name)| name.to_owned());
        names.filter(|name| name.starts_with(of)).collect()
    })
}

#[tokio::test]
async fn nodes_whose_secret_comes_to_lead_to_anothers_database_are_stopped() {
    let world = two_that_run().await;
    database(&world, "orders-central", "postgres://db/payments_central");
    world.change(OURS, "AuthzStore", "orders", |store| {
        store["spec"]["tiers"] = json!([]);
    });
    look(&world, &["orders", "payments"]).await;
    let (reason, message) = refusal(&world, "AuthzStore", "orders").unwrap();
    assert_eq!(reason, "DatabaseTaken");
    assert!(message.contains("are stopped"), "{message}");
    assert_eq!(refusal(&world, "AuthzStore", "payments"), None);
    let rest = ["orders-regional-eu-1", "orders-regional-us-1"];
    assert_eq!(
        deployments(&world, "orders"),
        rest,
        "those stay on their own"
    );
    assert_eq!(deployments(&world, "payments").len(), 3);
    assert_eq!(
        world.told(|told| told.writes.clone()),
        Vec::<String>::new(),
        "nor is it written into"
    );
    let told = world.server(|server| server.events.clone());
    let stopped = told.iter().filter(|of| of["reason"] == "NodesStopped");
    let notes: Vec<_> = stopped.map(|of| of["note"].to_string()).collect();
    assert!(
        notes.len() == 1 && notes[0].contains("orders-central"),
        "{notes:?}"
    );

    database(&world, "orders-central", "postgres://db/orders_central");
    look(&world, &["orders"]).await;
    assert_eq!(refusal(&world, "AuthzStore", "orders"), None);
    assert_eq!(deployments(&world, "orders").len(), 3);
}

#[tokio::test]
async fn nodes_run_on_where_only_the_spec_names_anothers_database() {
    let world = two_that_run().await;
    world.change(OURS, "AuthzStore", "orders", |store| {
        store["spec"]["datastore"]["urlSecretRef"]["name"] = json!("payments-central");
        store["metadata"]["generation"] = json!(9);
    });
    look(&world, &["orders", "payments"]).await;
    assert_eq!(
        refusal(&world, "AuthzStore", "orders").unwrap().0,
        "DatabaseTaken"
    );
    assert_eq!(deployments(&world, "orders").len(), 3);

    // Nobody else gets what they run on meanwhile.
    let third = store("third", "2026-03-01T00:00:00Z", |spec| {
        of_its_own(&world, spec, "third");
        spec["product"] = json!("third");
    });
    world.put(third);
    database(&world, "third-eu", "postgres://db/orders_central");
    look(&world, &["third", "orders"]).await;
    let (reason, message) = refusal(&world, "AuthzStore", "third").unwrap();
    assert_eq!(reason, "DatabaseTaken");
    assert!(message.contains("shop/orders"), "{message}");
}

#[tokio::test]
async fn a_store_that_is_gone_keeps_its_database_until_its_pods_have_ended() {
    let world = two_that_run().await;
    let typed = |name| -> AuthzStore {
        serde_json::from_value(world.get(OURS, "AuthzStore", name).unwrap()).unwrap()
    };
    let (payments, orders) = (typed("payments"), typed("orders"));
    let mut caches = world.caches();
    let (stores, mut seen) = reflector::store();
    let (pods, mut seen_pods) = reflector::store();
    caches.of_stores.objects.clear();
    (caches.stores, caches.of_stores.pods) = (stores, pods);
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": NAMESPACE, "labels": {"meridian.dev/store": "payments"}},
    }))
    .unwrap();
    for event in [
        Event::Init,
        Event::InitApply(payments.clone()),
        Event::InitDone,
    ] {
        seen.apply_watcher_event(&event);
    }
    for event in [Event::Init, Event::InitApply(pod.clone()), Event::InitDone] {
        seen_pods.apply_watcher_event(&event);
    }
    let rivals = Rivals::new([&caches]);
    let client = world.client();
    let in_the_way = async |store: &AuthzStore, database: &str| {
        let databases = BTreeSet::from([database.to_owned()]);
        rivals.in_the_way(store, databases, &client).await.unwrap()
    };
    assert_eq!(in_the_way(&payments, "db/payments").await, None);

    seen.apply_watcher_event(&Event::Delete(payments));
    let refused = in_the_way(&orders, "db/payments").await.unwrap();
    assert_eq!(refused.reason, "DatabaseTaken");
    assert!(
        refused.message.contains("whose pods still end"),
        "{}",
        refused.message
    );
    assert_eq!(in_the_way(&orders, "db/orders").await, None);

    seen_pods.apply_watcher_event(&Event::Delete(pod));
    assert_eq!(in_the_way(&orders, "db/payments").await, None);
}
