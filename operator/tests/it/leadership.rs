//! Who does not lead writes nothing, and who leads no longer writes no more.

use std::time::Duration;

use http::Method;
use meridian_operator::lease::{Election, Leadership};
use meridian_operator::reconcile::{self, Context, Error};
use serde_json::{Value, json};

use crate::fixtures::{NAMESPACE, edge_json, store_json};
use crate::world::World;

const OURS: &str = "meridian.dev/v1alpha1";
/// How long a Lease is trusted that is not renewed.
const TRUST: Duration = Duration::from_secs(10);

/// A world in which there is something to write, and where the first write of it goes.
struct Scenario {
    world: World,
    kind: &'static str,
    first: (Method, &'static str),
}

fn candidate(world: &World) -> Election {
    Election::new(world.client(), NAMESPACE, "lease", "one".to_owned())
}

async fn reconcile(world: &World, kind: &str, leadership: Leadership) -> Result<(), Error> {
    let context = Context {
        leadership,
        ..world.context()
    };
    let done = match kind {
        "AuthzStore" => {
            let json = world.get(OURS, kind, "payments").unwrap();
            let store: meridian_operator::api::AuthzStore = serde_json::from_value(json).unwrap();
            reconcile::store::reconcile(store.into(), context.into()).await
        }
        _ => {
            let json = world.get(OURS, kind, "till").unwrap();
            let edge: meridian_operator::api::EdgeRegion = serde_json::from_value(json).unwrap();
            reconcile::edge::reconcile(edge.into(), context.into()).await
        }
    };
    done.map(|_| ())
}

/// A world with the store, in which everything runs.
async fn running(store: Value) -> World {
    let world = World::new();
    world.put(store);
    world.put(edge_json());
    for _ in 0..5 {
        world.reconcile_store("payments").await.unwrap();
        world.reconcile_edge("till").await.unwrap();
        world.run_workloads();
    }
    world
}

fn retained() -> Value {
    let mut json = store_json();
    json["spec"]["deletionPolicy"] = json!("Retain");
    json
}

/// A world whose edges' volume is to grow, and did already as `asked` says.
async fn growing(asked: Value) -> World {
    let world = running(retained()).await;
    world.change(OURS, "EdgeRegion", "till", |edge| {
        edge["spec"]["storage"]["size"] = json!("5Gi");
    });
    let claim = json!({"metadata": {"name": "data-till-payments-0", "uid": "c"}, "spec": asked});
    let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": [claim]});
    let claims = format!("/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims");
    world.server(|server| server.objects.insert(claims, list));
    world
}

async fn scenarios() -> Vec<Scenario> {
    let of = |world, kind, first| Scenario { world, kind, first };
    let begun = World::new();
    begun.put(retained());
    let to_hold = World::new();
    to_hold.put(store_json());
    let changed = running(retained()).await;
    changed.change("apps/v1", "Deployment", "payments-central", |central| {
        central["spec"]["replicas"] = json!(0);
    });
    let shrunk = running(retained()).await;
    shrunk.change(OURS, "AuthzStore", "payments", |store| {
        store["spec"]["regions"].as_array_mut().unwrap().pop();
    });
    let untold = running(retained()).await;
    untold.change(OURS, "AuthzStore", "payments", |store| {
        store["metadata"]["generation"] = json!(9);
    });
    let modelled = running(retained()).await;
    modelled.change(OURS, "AuthzStore", "payments", |store| {
        let model = format!("{}type invoice\n", crate::fixtures::MODEL);
        store["spec"]["model"]["inline"] = json!(model);
    });
    let unmade = running(retained()).await;
    unmade.told(|told| told.stores.clear());
    unmade.change(OURS, "AuthzStore", "payments", |store| {
        store["status"] = Value::Null
    });
    let tiered = running(retained()).await;
    tiered.change(OURS, "AuthzStore", "payments", |store| {
        store["spec"]["tiers"] = json!([{"type": "user", "tier": "Warm"}]);
        store["metadata"]["generation"] = json!(9);
    });
    let deleted = running(store_json()).await;
    deleted.change(OURS, "AuthzStore", "payments", |store| {
        store["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    });
    let grown = json!({"resources": {"requests": {"storage": "5Gi"}}});
    let status = (Method::PATCH, "/payments/status");
    vec![
        of(begun, "AuthzStore", (Method::PATCH, "/serviceaccounts/")),
        of(to_hold, "AuthzStore", (Method::PATCH, "/authzstores/")),
        of(changed, "AuthzStore", (Method::PATCH, "/deployments/")),
        of(shrunk, "AuthzStore", (Method::DELETE, "us-1")),
        of(untold, "AuthzStore", status.clone()),
        of(modelled, "AuthzStore", status.clone()),
        of(unmade, "AuthzStore", status.clone()),
        of(tiered, "AuthzStore", status),
        of(deleted, "AuthzStore", (Method::PATCH, "/authzstores/")),
        of(
            growing(json!({})).await,
            "EdgeRegion",
            (Method::PATCH, "/persistentvolumeclaims/"),
        ),
        of(
            growing(grown).await,
            "EdgeRegion",
            (Method::DELETE, "/statefulsets/"),
        ),
    ]
}

#[tokio::test]
async fn who_does_not_lead_writes_nothing() {
    for Scenario { world, kind, first } in scenarios().await {
        world.writes();
        world.told(|told| told.writes.clear());
        let never = candidate(&world).leadership();
        let _ = reconcile(&world, kind, never).await;
        assert_eq!(world.writes(), [], "{first:?}");
        let told = world.told(|told| told.writes.clone());
        assert!(told.is_empty(), "{first:?}: {told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_ends_with_the_leadership() {
    for Scenario { world, kind, first } in scenarios().await {
        let mut election = candidate(&world);
        election.win(|| {}).await;
        let start = tokio::time::Instant::now();
        tokio::time::advance(TRUST / 2).await;
        world.writes();
        let (method, part) = first.clone();
        world.server(|server| server.faults.push((method, part.to_owned(), 0)));
        let done = reconcile(&world, kind, election.leadership()).await;
        assert_eq!(start.elapsed().as_secs(), TRUST.as_secs(), "{first:?}");
        assert!(matches!(done, Err(Error::NotLeader)), "{first:?}: {done:?}");
        let tried = world.writes();
        assert!(
            tried
                .iter()
                .any(|(method, path)| *method == first.0 && path.contains(first.1)),
            "{first:?}: {tried:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_through_a_node_ends_with_the_leadership() {
    let world = running(retained()).await;
    world.told(|told| told.silent = true);
    world.change(OURS, "AuthzStore", "payments", |store| {
        store["spec"]["tiers"] = json!([{"type": "user", "tier": "Warm"}]);
    });
    let mut election = candidate(&world);
    election.win(|| {}).await;
    let start = tokio::time::Instant::now();
    tokio::time::advance(TRUST / 2).await;
    let leadership = election.leadership();
    let reconciling = reconcile(&world, "AuthzStore", leadership);
    let ended = tokio::time::timeout(TRUST * 2, reconciling).await;
    assert!(ended.is_ok(), "it writes on");
    assert_eq!(start.elapsed().as_secs(), TRUST.as_secs());
}
