//! What a Secret's changes do: pods are replaced for a value they read, and for nothing else.

use serde_json::{Value, json};

use crate::fixtures::{AUTHORITY, full_edge_json, full_store_json, secret_json};
use crate::world::World;

const DEPLOYMENTS: [&str; 3] = [
    "payments-central",
    "payments-regional-eu-1",
    "payments-regional-us-1",
];

async fn running() -> World {
    let world = World::new();
    let mut store = full_store_json();
    store["spec"]["deletionPolicy"] = json!("Retain");
    world.put(store);
    world.put(full_edge_json());
    look(&world, 5).await;
    world.writes();
    world
}

async fn look(world: &World, times: usize) {
    for _ in 0..times {
        world.reconcile_store("payments").await.unwrap();
        world.reconcile_edge("till").await.unwrap();
        world.run_workloads();
    }
}

fn template(world: &World, kind: &str, name: &str) -> Value {
    world.get("apps/v1", kind, name).unwrap()["spec"]["template"].clone()
}

fn templates(world: &World) -> Vec<(&'static str, Value)> {
    let of = |name| (name, template(world, "Deployment", name));
    let edge = (
        "till-payments",
        template(world, "StatefulSet", "till-payments"),
    );
    DEPLOYMENTS.into_iter().map(of).chain([edge]).collect()
}

/// Who has another template than before.
async fn replaced_by(
    world: &World,
    secret: &str,
    change: impl FnOnce(&mut Value),
) -> Vec<&'static str> {
    let before = templates(world);
    world.change("v1", "Secret", secret, |secret| {
        secret["metadata"]["resourceVersion"] = json!("8");
        change(secret);
    });
    look(world, 3).await;
    let after = templates(world);
    let changed = before
        .into_iter()
        .zip(after)
        .filter(|(old, new)| old != new);
    changed.map(|((name, _), _)| name).collect()
}

#[tokio::test]
async fn a_secret_whose_values_are_as_before_changes_nothing() {
    let world = running().await;
    for change in [
        |secret: &mut Value| secret["metadata"]["annotations"] = json!({"rotated-by": "vault"}),
        |secret: &mut Value| secret["data"]["unread"] = json!("b3RoZXI="),
    ] {
        for secret in ["central-db", "kafka"] {
            assert_eq!(
                replaced_by(&world, secret, change).await,
                Vec::<&str>::new()
            );
        }
    }
    assert_eq!(world.writes(), []);
}

#[tokio::test]
async fn a_value_that_changed_replaces_the_pods_that_read_it() {
    let world = running().await;
    let set = |key: &'static str| move |secret: &mut Value| secret["data"][key] = json!("bmV3");
    let replaced = replaced_by(&world, "central-db", set("url")).await;
    assert_eq!(replaced, ["payments-central"], "after its migration");
    let replaced = replaced_by(&world, "kafka", set("client.properties")).await;
    assert_eq!(replaced, [&DEPLOYMENTS[..], &["till-payments"]].concat());
}

#[tokio::test]
async fn what_nodes_read_at_their_start_replaces_pods_and_a_certificate_does_not() {
    let world = running().await;
    let set = |name: &'static str, key: &'static str, value: &str| {
        let encoded = secret_json(name, [(key, value)])["data"][key].clone();
        move |secret: &mut Value| secret["data"][key] = encoded
    };
    let (cert, _) = AUTHORITY.issued(&["*.shop.svc"]);
    for name in ["api-tls", "nodes-tls", "till-tls"] {
        let replaced = replaced_by(&world, name, set(name, "tls.crt", &cert)).await;
        assert_eq!(replaced, Vec::<&str>::new(), "{name}");
    }
    assert_eq!(world.writes(), []);

    let all = [&DEPLOYMENTS[..], &["till-payments"]].concat();
    for (name, key) in [("callers", "keys"), ("nodes", "tokens")] {
        let replaced = replaced_by(&world, name, set(name, key, "new")).await;
        assert_eq!(replaced, all, "{name}");
    }
    let two = format!("{0}{0}", AUTHORITY.pem);
    let below = set("authority", "nodes.pem", &two);
    assert_eq!(replaced_by(&world, "authority", below).await, all[1..]);
    let api = set("authority", "api.pem", &two);
    assert_eq!(
        replaced_by(&world, "authority", api).await,
        Vec::<&str>::new()
    );

    let replica = set("eu-1-db", "replica", "new");
    let replaced = replaced_by(&world, "eu-1-db", replica).await;
    assert_eq!(replaced, ["payments-regional-eu-1"]);
}

#[tokio::test]
async fn hashes_of_the_same_value_differ_from_owner_to_owner() {
    let world = running().await;
    let written = |world: &World| {
        let annotation = |(name, of): (&str, Value)| {
            let hash = of["metadata"]["annotations"]["meridian.dev/secrets"].to_string();
            (name.to_owned(), hash)
        };
        templates(world)
            .into_iter()
            .map(annotation)
            .collect::<Vec<_>>()
    };
    let other = World::new();
    for (mut object, uid) in [
        (full_store_json(), "another"),
        (full_edge_json(), "yet-another"),
    ] {
        object["metadata"]["uid"] = json!(uid);
        other.put(object);
    }
    look(&other, 5).await;
    for (one, other) in written(&world).iter().zip(written(&other)) {
        assert_ne!(*one, other, "the same for every owner");
    }
}
