//! Topics that a store runs on, though its spec names others by now.

use serde_json::{Value, json};

use super::{OURS, deployments, look, of_its_own, refusal, store};
use crate::world::World;

/// `payments` and `moved`, of the same product, run on Kafkas of their own.
async fn two_on_kafkas_of_their_own() -> World {
    let world = World::new();
    for (name, created) in [
        ("payments", "2026-01-01T00:00:00Z"),
        ("moved", "2026-02-01T00:00:00Z"),
    ] {
        let json = store(name, created, |spec| {
            of_its_own(&world, spec, name);
            spec["kafka"]["bootstrapServers"] = json!([format!("{name}.example.com:9092")]);
        });
        world.put(json);
        look(&world, &[name]).await;
        assert_eq!(refusal(&world, "AuthzStore", name), None);
    }
    world
}

fn brokers(world: &World, name: &str, servers: Value) {
    world.change(OURS, "AuthzStore", name, |store| {
        store["spec"]["kafka"]["bootstrapServers"] = servers;
        store["metadata"]["generation"] = json!(9);
    });
}

/// Wants the topics that `moved` began with.
fn third(world: &World) -> Value {
    store("third", "2026-03-01T00:00:00Z", |spec| {
        of_its_own(world, spec, "third");
        spec["kafka"]["bootstrapServers"] = json!(["moved.example.com"]);
    })
}

#[tokio::test]
async fn a_store_that_moves_keeps_its_old_topics_until_its_nodes_have_left_them() {
    let world = two_on_kafkas_of_their_own().await;
    brokers(&world, "moved", json!(["new.example.com:9092"]));
    world.put(third(&world));
    // Its pods have yet to be rolled.
    for name in ["moved", "third"] {
        world.reconcile_store(name).await.unwrap();
    }
    let (reason, message) = refusal(&world, "AuthzStore", "third").unwrap();
    assert_eq!(reason, "ProductTaken");
    assert!(message.contains("shop/moved"), "{message}");

    look(&world, &["moved", "third"]).await;
    assert_eq!(refusal(&world, "AuthzStore", "third"), None);
    let status = world.get(OURS, "AuthzStore", "moved").unwrap()["status"].clone();
    assert_eq!(
        status["topics"],
        json!(["new.example.com:9092/shop.payments"])
    );
}

#[tokio::test]
async fn topics_of_a_store_that_names_anothers_are_still_its_own() {
    let world = two_on_kafkas_of_their_own().await;
    brokers(&world, "moved", json!(["payments.example.com:9092"]));
    world.put(third(&world));
    look(&world, &["moved", "payments", "third"]).await;
    for refused in ["moved", "third"] {
        let (reason, _) = refusal(&world, "AuthzStore", refused).unwrap();
        assert_eq!(reason, "ProductTaken", "{refused}");
    }
    assert_eq!(refusal(&world, "AuthzStore", "payments"), None);
    assert_eq!(deployments(&world, "moved").len(), 3, "on what they have");
    assert_eq!(deployments(&world, "third").len(), 0);
}
