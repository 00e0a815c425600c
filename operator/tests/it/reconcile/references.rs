//! What a spec names, and what others have already.

use serde_json::json;

use super::{OURS, condition, retained, store_condition};
use crate::world::World;

#[tokio::test]
async fn a_missing_secret_is_named_and_its_region_left_until_it_is_there() {
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
    let is_there =
        |part: &str| world.server(|server| server.objects.keys().any(|path| path.contains(part)));
    assert!(is_there("payments-migrate-central") && !is_there("payments-migrate-eu-1"));

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
