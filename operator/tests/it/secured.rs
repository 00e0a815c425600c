//! A store whose callers and nodes show who they are, over TLS: how its nodes are spoken to, what is told of Secrets that
//! cannot be used, and who waits for them.

use meridian_operator::nodes::{Access, Hidden, Identity};
use serde_json::{Value, json};

use crate::fixtures::{AUTHORITY, full_edge_json, full_store_json, secret_json};
use crate::world::World;

const OURS: &str = "meridian.dev/v1alpha1";

/// A world in which the full fixtures run, but for what is changed of them.
async fn running(change: impl FnOnce(&mut Value, &mut Value)) -> World {
    let world = World::new();
    let (mut store, mut edge) = (full_store_json(), full_edge_json());
    change(&mut store["spec"], &mut edge["spec"]);
    world.put(store);
    world.put(edge);
    look(&world, 5).await;
    world.writes();
    world
}

async fn look(world: &World, times: usize) {
    for _ in 0..times {
        world.told(|told| told.spoken_to.clear());
        world.reconcile_store("payments").await.unwrap();
        world.reconcile_edge("till").await.unwrap();
        world.run_workloads();
    }
}

/// How central's, a region's and an edge's pod were spoken to.
fn accesses(world: &World) -> [Access; 3] {
    world.told(|told| {
        let mut all: Vec<_> = told.spoken_to.iter().map(|to| to.access.clone()).collect();
        assert_eq!(all.len(), 4, "{:?}", told.spoken_to);
        let edge = all.pop().unwrap();
        assert_eq!(all[1], all[2], "of two regions");
        [all[0].clone(), all[1].clone(), edge]
    })
}

fn by(token: Option<&str>, identity: Option<(&str, Option<&str>)>) -> Access {
    Access {
        token: token.map(|token| Hidden(token.to_owned())),
        identity: identity.map(|(name, ca)| Identity {
            name: name.to_owned(),
            ca: ca.map(str::to_owned),
        }),
    }
}

fn condition(world: &World, kind: &str, name: &str, of: &str) -> (String, String, String) {
    let object = world.get(OURS, kind, name).unwrap();
    let mut conditions = object["status"]["conditions"].as_array().unwrap().iter();
    let found = conditions.find(|found| found["type"] == of).unwrap();
    let text = |field: &str| found[field].as_str().unwrap().to_owned();
    (text("status"), text("reason"), text("message"))
}

#[tokio::test]
async fn nodes_are_spoken_to_with_their_token_and_by_a_name_that_their_certificate_is_for() {
    let ca = AUTHORITY.pem.as_str();
    let world = running(|_, _| {}).await;
    let of_store = by(Some("first"), Some(("any.shop.svc", Some(ca))));
    let of_edge = by(Some("first"), Some(("till.example", Some(ca))));
    assert_eq!(
        accesses(&world),
        [of_store.clone(), of_store.clone(), of_edge]
    );
    assert_eq!(
        condition(&world, "AuthzStore", "payments", "Ready").0,
        "True"
    );
    assert_eq!(condition(&world, "EdgeRegion", "till", "Ready").0, "True");

    let world = running(|_, edge| edge["tls"] = Value::Null).await;
    assert_eq!(accesses(&world)[2], of_store, "the store's certificate");

    let world = running(|store, _| store["authn"] = Value::Null).await;
    assert_eq!(accesses(&world)[0].token, None, "nobody asks for it");

    let world = running(|store, edge| {
        store["tls"]["api"] = Value::Null;
        edge["tls"] = Value::Null;
    })
    .await;
    assert_eq!(accesses(&world), [(); 3].map(|()| by(Some("first"), None)));
}

#[tokio::test]
async fn what_nodes_are_trusted_by_is_what_is_named_or_stands_beside_their_certificate_or_the_system_s()
 {
    let beside = |store: &mut Value, edge: &mut Value| {
        store["tls"]["api"]["caSecretRef"] = Value::Null;
        edge["tls"] = Value::Null;
    };
    let world = running(beside).await;
    let ca = |world: &World| accesses(world)[0].identity.clone().unwrap().ca;
    assert_eq!(ca(&world).as_deref(), Some(AUTHORITY.pem.as_str()));
    world.change("v1", "Secret", "api-tls", |secret| {
        secret["data"].as_object_mut().unwrap().remove("ca.crt");
    });
    look(&world, 1).await;
    assert_eq!(ca(&world), None);
    assert_eq!(
        condition(&world, "AuthzStore", "payments", "ReferencesResolved").0,
        "True"
    );
}

#[tokio::test]
async fn a_store_that_goes_is_deleted_with_the_token() {
    let world = running(|_, _| {}).await;
    world.change(OURS, "AuthzStore", "payments", |store| {
        store["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    });
    world.told(|told| told.spoken_to.clear());
    world.reconcile_store("payments").await.unwrap();
    let central = world.told(|told| told.spoken_to.first().cloned()).unwrap();
    assert_eq!(central.at, "payments-central.shop.svc:8081");
    let ca = AUTHORITY.pem.as_str();
    assert_eq!(
        central.access,
        by(Some("first"), Some(("any.shop.svc", Some(ca))))
    );
}

/// Puts another value into a Secret.
fn set(world: &World, secret: &str, key: &str, value: &str) {
    let encoded = secret_json(secret, [(key, value)])["data"][key].clone();
    world.change("v1", "Secret", secret, |secret| {
        secret["data"][key] = encoded
    });
}

#[tokio::test]
async fn a_value_that_cannot_be_used_is_named_and_pods_wait_for_another() {
    let cert = |names: &[&str]| AUTHORITY.issued(names).0;
    let not_for_all = cert(&[
        "payments-central.shop.svc",
        "payments-regional-eu-1.shop.svc",
    ]);
    let nameless = cert(&[]);
    for (secret, key, value, at, told) in [
        (
            "callers",
            "keys",
            "\n \n",
            "authn.preshared.keysSecretRef",
            "is empty",
        ),
        (
            "callers",
            "keys",
            "a b",
            "authn.preshared.keysSecretRef",
            "visible ASCII",
        ),
        ("nodes", "tokens", "", "nodes.tokensSecretRef", "is empty"),
        (
            "api-tls",
            "tls.crt",
            "text",
            "tls.api.secretRef",
            "is no certificate in PEM",
        ),
        (
            "api-tls",
            "tls.crt",
            &nameless,
            "tls.api.secretRef",
            "for no DNS name",
        ),
        (
            "api-tls",
            "tls.key",
            "text",
            "tls.api.secretRef",
            "is no private key in PEM",
        ),
        (
            "nodes-tls",
            "tls.crt",
            &not_for_all,
            "tls.nodes.secretRef",
            "not for payments-regional-us-1.shop.svc",
        ),
        (
            "authority",
            "nodes.pem",
            "text",
            "tls.nodes.caSecretRef",
            "has no certificates in PEM",
        ),
    ] {
        let world = running(|_, _| {}).await;
        let before = world.get("v1", "Secret", secret).unwrap();
        set(&world, secret, key, value);
        world.change(OURS, "AuthzStore", "payments", |store| {
            store["spec"]["regions"][0]["replicas"] = json!(7);
        });
        look(&world, 2).await;
        let (status, reason, message) =
            condition(&world, "AuthzStore", "payments", "ReferencesResolved");
        assert_eq!(
            (&*status, &*reason),
            ("False", "SecretInvalid"),
            "{message}"
        );
        let named = format!("{at}: key '{key}' of Secret '{secret}'");
        assert!(
            message.contains(&named) && message.contains(told),
            "{message}"
        );
        assert!(
            !message.contains(value.trim()) || value.trim().is_empty(),
            "{message}"
        );
        let replicas = || {
            let region = world.get("apps/v1", "Deployment", "payments-regional-eu-1");
            region.unwrap()["spec"]["replicas"].clone()
        };
        assert_eq!(replicas(), 3, "{message}");

        world.put(before);
        look(&world, 2).await;
        assert_eq!(replicas(), 7, "after {named}");
        assert_eq!(
            condition(&world, "AuthzStore", "payments", "Ready").0,
            "True"
        );
    }
}

#[tokio::test]
async fn what_edges_cannot_use_is_said_where_it_is_named() {
    for (secret, key, at) in [
        ("till-tls", "tls.crt", "tls.secretRef: "),
        (
            "nodes",
            "tokens",
            "nodes.tokensSecretRef of AuthzStore 'payments': ",
        ),
        (
            "authority",
            "nodes.pem",
            "tls.nodes.caSecretRef of AuthzStore 'payments': ",
        ),
    ] {
        let world = running(|_, _| {}).await;
        set(&world, secret, key, "");
        look(&world, 1).await;
        let (status, reason, message) = condition(&world, "EdgeRegion", "till", "Accepted");
        assert_eq!(
            (&*status, &*reason),
            ("False", "SecretInvalid"),
            "{message}"
        );
        assert!(message.starts_with(at), "{message}");
    }
    let world = running(|_, _| {}).await;
    world.server(|server| {
        server
            .objects
            .retain(|path, _| !path.ends_with("/till-tls"))
    });
    look(&world, 1).await;
    let (_, reason, message) = condition(&world, "EdgeRegion", "till", "Accepted");
    assert_eq!(reason, "SecretNotFound");
    assert_eq!(
        message,
        "tls.secretRef: there is no Secret 'till-tls' in this namespace"
    );
}

#[tokio::test]
async fn what_a_missing_secret_has_many_keys_of_is_said_once() {
    let world = running(|_, _| {}).await;
    world.server(|server| server.objects.retain(|path, _| !path.ends_with("/api-tls")));
    look(&world, 1).await;
    let (_, reason, message) = condition(&world, "AuthzStore", "payments", "ReferencesResolved");
    assert_eq!(reason, "SecretNotFound");
    assert_eq!(
        message,
        "tls.api.secretRef: there is no Secret 'api-tls' in this namespace"
    );
}
