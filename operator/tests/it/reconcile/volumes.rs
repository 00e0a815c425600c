//! The volumes of edges.

use http::Method;
use serde_json::json;

use super::{OURS, condition, running, short};
use crate::fixtures::edge_json;
use crate::world::World;

/// A world with an edge that runs, of which one volume is there.
async fn with_volume() -> World {
    let world = running().await;
    world.put(edge_json());
    for _ in 0..2 {
        world.reconcile_edge("till").await.unwrap();
        world.run_workloads();
    }
    world.reconcile_edge("till").await.unwrap();
    world.server(|server| {
        let claims = "/api/v1/namespaces/shop/persistentvolumeclaims";
        let claim = json!({"metadata": {"name": "data-till-payments-0", "uid": "c"}});
        let own = format!("{claims}/data-till-payments-0");
        server.objects.insert(own, claim.clone());
        server.objects.insert(
            claims.to_owned(),
            json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": [claim]}),
        );
    });
    world.writes();
    world
}

fn size(world: &World) -> serde_json::Value {
    let set = world
        .get("apps/v1", "StatefulSet", "till-payments")
        .unwrap();
    set["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"].clone()
}

#[tokio::test]
async fn a_volume_grows_and_its_stateful_set_is_made_anew_around_the_pods() {
    let world = with_volume().await;
    world.change(OURS, "EdgeRegion", "till", |edge| {
        edge["spec"]["storage"]["size"] = json!("5Gi")
    });
    world.reconcile_edge("till").await.unwrap();
    let writes: Vec<_> = world
        .writes()
        .into_iter()
        .map(|(method, path)| (method, short(&path)))
        .collect();
    let claim = "persistentvolumeclaims/data-till-payments-0".to_owned();
    assert_eq!(writes[0], (Method::PATCH, claim));
    let set = "statefulsets/till-payments".to_owned();
    assert_eq!(writes[1], (Method::DELETE, set));
    let pod = world.get("v1", "Pod", "till-payments-0");
    assert!(pod.is_some(), "it goes with its StatefulSet");
    world.reconcile_edge("till").await.unwrap();
    assert_eq!(size(&world), "5Gi");
}

#[tokio::test]
async fn a_volume_that_cannot_grow_is_said_and_the_rest_goes_on() {
    let world = with_volume().await;
    let claims = "/persistentvolumeclaims/".to_owned();
    world.server(|server| server.faults.push((Method::PATCH, claims, 403)));
    world.change(OURS, "EdgeRegion", "till", |edge| {
        edge["spec"]["storage"]["size"] = json!("5Gi");
        edge["spec"]["replicas"] = json!(7);
        edge["metadata"]["generation"] = json!(2);
    });
    for _ in 0..2 {
        world.reconcile_edge("till").await.unwrap_err();
        let set = world
            .get("apps/v1", "StatefulSet", "till-payments")
            .unwrap();
        assert_eq!(set["spec"]["replicas"], 7);
        let (status, reason, message) = condition(&world, "EdgeRegion", "till", "Accepted");
        assert_eq!(
            (status.as_str(), reason.as_str()),
            ("False", "VolumeNotGrown")
        );
        assert!(
            message.contains("grow volume claim 'data-till-payments-0' to 5Gi"),
            "{message}"
        );
        world.run_workloads();
    }
    world.reconcile_edge("till").await.unwrap_err();
    assert_eq!(
        condition(&world, "EdgeRegion", "till", "Available").0,
        "True"
    );
    world.writes();
    world.reconcile_edge("till").await.unwrap_err();
    let writes = world.writes();
    assert!(
        writes
            .iter()
            .all(|(_, path)| path.contains("/persistentvolumeclaims/")),
        "{writes:?}"
    );

    world.server(|server| server.faults.clear());
    for _ in 0..2 {
        world.reconcile_edge("till").await.unwrap();
    }
    assert_eq!(size(&world), "5Gi");
    assert_eq!(
        condition(&world, "EdgeRegion", "till", "Accepted").0,
        "True"
    );
}

#[tokio::test]
async fn a_size_that_the_api_server_writes_in_its_own_way_is_the_same() {
    let world = with_volume().await;
    world.change("apps/v1", "StatefulSet", "till-payments", |set| {
        let claim = &mut set["spec"]["volumeClaimTemplates"][0];
        claim["spec"]["resources"]["requests"]["storage"] = json!("2048Mi");
    });
    world.change(OURS, "EdgeRegion", "till", |edge| {
        edge["spec"]["replicas"] = json!(3)
    });
    world.reconcile_edge("till").await.unwrap();
    let writes = world.writes();
    assert!(
        !writes.iter().any(|(method, _)| method == Method::DELETE),
        "{writes:?}"
    );
    let set = world
        .get("apps/v1", "StatefulSet", "till-payments")
        .unwrap();
    assert_eq!(set["spec"]["replicas"], 3);
}
