//! What a reconcile does, on an API server in memory: what it writes and in which order, what it makes of errors, and
//! that it writes nothing where there is nothing to do.

mod apply;
mod blocked;
mod caches;
mod creation;
mod deletion;
mod edge;
mod events;
mod live;
mod migration;
mod model;
mod parts;
mod recreated;
mod references;
mod stale;
mod status;
mod volumes;

use serde_json::{Value, json};

use crate::fixtures::store_json;
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
