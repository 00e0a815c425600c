//! Nothing is decided from half of what there is.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector;
use meridian_operator::api::{AuthzStore, EdgeRegion};
use meridian_operator::reconcile::{self, Context};

use super::{OURS, retained};
use crate::fixtures::edge_json;
use crate::world::World;

/// Longer than anything else is waited for.
const LONG: Duration = Duration::from_secs(600);

#[tokio::test(start_paused = true)]
async fn nothing_is_done_until_all_that_is_watched_was_read_once() {
    let world = World::new();
    world.put(retained());
    world.put(edge_json());
    let get = |kind: &str, name: &str| world.get(OURS, kind, name).unwrap();
    let store: AuthzStore = serde_json::from_value(get("AuthzStore", "payments")).unwrap();
    let edge: EdgeRegion = serde_json::from_value(get("EdgeRegion", "till")).unwrap();
    let (unread, _writer) = reflector::store::<Pod>();
    let context = || {
        let mut context: Context = world.context();
        context.caches.of_edges.pods = unread.clone();
        context.into()
    };
    let reconciling = reconcile::store::reconcile(store.into(), context());
    assert!(tokio::time::timeout(LONG, reconciling).await.is_err());
    let reconciling = reconcile::edge::reconcile(edge.into(), context());
    assert!(tokio::time::timeout(LONG, reconciling).await.is_err());
    assert!(world.server(|server| server.calls.is_empty()));
}
