//! On a real API server: that each rule of the kinds takes and refuses what it should.

use meridian_e2e::cluster::Kubectl;
use serde_json::{Value, json};

use crate::api_server::{DEADLINE, start, written};
use crate::fixtures::{MODEL, edge_json, store_json};

/// A spec with one place changed: whether it is taken, and what is said if not.
struct Case {
    place: &'static str,
    value: Value,
    refusal: Option<&'static str>,
}

fn taken(place: &'static str, value: Value) -> Case {
    Case {
        place,
        value,
        refusal: None,
    }
}

fn refused(place: &'static str, value: Value, why: &'static str) -> Case {
    Case {
        place,
        value,
        refusal: Some(why),
    }
}

#[rustfmt::skip]
fn new_stores() -> Vec<Case> {
    let model = "set exactly one of inline and configMapKeyRef";
    let map = json!({"name": "models", "key": "a.fga"});
    vec![
        taken("/metadata/name", json!("a")),
        taken("/metadata/name", json!("a23456789012345678901234")),
        refused("/metadata/name", json!("a234567890123456789012345"), "1 to 24 lower-case letters"),
        refused("/metadata/name", json!("with.dot"), "1 to 24 lower-case letters"),
        refused("/spec/product", json!("with space"), "should match"),
        refused("/spec/product", json!("ab"), "at least 3"),
        taken("/spec/model", json!({"configMapKeyRef": map})),
        refused("/spec/model", json!({"inline": MODEL, "configMapKeyRef": map}), model),
        refused("/spec/model", json!({}), model),
        refused("/spec/model/inline", json!("x".repeat(262_145)), "Too long"),
        refused("/spec/tiers/0/tier", json!("Hot"), "Unsupported value"),
        refused("/spec/tiers/1/type", json!("organization"), "duplicate entries for key"),
        refused("/spec/regions", json!([]), "at least 1 items"),
        refused("/spec/regions/1/name", json!("eu-1"), "duplicate entries for key"),
        refused("/spec/regions/1/name", json!("EU"), "should match"),
        refused("/spec/regions/1/name", json!("central"), "a region cannot be named central"),
        taken("/spec/datastore/minConnections", json!(20)),
        refused("/spec/datastore/minConnections", json!(21), "minConnections must not be more than maxConnections"),
        taken("/spec/datastore/changelogRetention", json!("1m")),
        refused("/spec/datastore/changelogRetention", json!("59s"), "changelogRetention must be 1m or more"),
        refused("/spec/datastore/changelogRetention", json!("a week"), "should match"),
        refused("/spec/kafka/bootstrapServers", json!(["kafka"]), "should match"),
        taken("/spec/kafka/bootstrapServers", json!(["[::1]:9092"])),
        refused("/spec/kafka/partitions", json!(0), "greater than or equal to 1"),
        refused("/spec/central/replicas", json!(0), "greater than or equal to 1"),
        taken("/spec/central/resources/limits/cpu", json!(2)),
        refused("/spec/central/resources/limits/cpu", json!("much"), "should match"),
        refused("/spec/image", json!(""), "at least 1 chars"),
        refused("/spec/image", json!("bad image"), "should match"),
        refused("/spec/image", json!("example.com/Meridian:1"), "should match"),
        refused("/spec/image", json!("meridian:1:2"), "should match"),
        refused("/spec/image", json!("meridian@sha256:12"), "should match"),
        taken("/spec/image", json!("meridian")),
        taken("/spec/image", json!("localhost:5000/a-b/c__d.e:1.0_x")),
        taken("/spec/image", json!("[::1]:5000/meridian")),
        taken("/spec/image", json!(format!("Registry.example.com/a/b:1@sha256:{}", "0a".repeat(32)))),
        refused("/spec/primaryRegion", json!("eu-1"), "field not declared in schema"),
    ]
}

#[rustfmt::skip]
fn changed_stores() -> Vec<Case> {
    vec![
        refused("/spec/product", json!("orders"), "product cannot be changed"),
        refused("/spec/kafka/partitions", json!(5), "partitions cannot be changed"),
        refused("/spec/kafka/topicPrefix", json!("other"), "topicPrefix cannot be changed"),
        taken("/spec/kafka/replicationFactor", json!(3)),
        taken("/spec/model/inline", json!("other")),
        taken("/spec/deletionPolicy", json!("Retain")),
    ]
}

#[rustfmt::skip]
fn new_edges() -> Vec<Case> {
    vec![
        taken("/metadata/name", json!("a23456789012345678901234567")),
        refused("/metadata/name", json!("a234567890123456789012345678"), "1 to 27 lower-case letters"),
        refused("/spec/subscriptions", json!([]), "at least 1 items"),
        taken("/spec/subscriptions", json!([{"storeRef": {"name": "a"}}, {"storeRef": {"name": "b"}}])),
        refused("/spec/subscriptions", json!([{"storeRef": {"name": "a"}}, {"storeRef": {"name": "a"}}]), "name each store once"),
        taken("/spec/replicas", json!(0)),
        refused("/spec/replicas", json!(-1), "greater than or equal to 0"),
        taken("/spec/freshness/maxStaleness", json!("2s")),
        refused("/spec/freshness/maxStaleness", json!("1s"), "maxStaleness must be 2s to 720h"),
        refused("/spec/freshness/maxStaleness", json!("721h"), "maxStaleness must be 2s to 720h"),
        taken("/spec/freshness/answerMaxAge", json!("1ms")),
        refused("/spec/freshness/answerMaxAge", json!("0s"), "answerMaxAge must be 1ms to 720h"),
        refused("/spec/storage/size", json!("big"), "should match"),
        refused("/spec/service/trafficDistribution", json!("Nearest"), "Unsupported value"),
        refused("/spec/service/type", json!("ExternalName"), "Unsupported value"),
    ]
}

#[rustfmt::skip]
fn changed_edges() -> Vec<Case> {
    vec![
        refused("/spec/parentRegion", json!("us-1"), "parentRegion cannot be changed"),
        taken("/spec/storage/size", json!("2048Mi")),
        taken("/spec/storage/size", json!("3Gi")),
        refused("/spec/storage/size", json!("2G"), "size may only grow"),
        refused("/spec/storage/storageClassName", json!("slow"), "storageClassName cannot be changed"),
        refused("/spec/storage", Value::Null, "storage can be neither added nor taken away"),
        taken("/spec/replicas", json!(7)),
    ]
}

#[tokio::test]
async fn each_rule_takes_and_refuses_what_it_should() {
    let plane = start().await;
    let kubectl = plane.kubectl();
    let mut wrong = Vec::new();
    let mut without_storage = edge_json();
    without_storage["metadata"]["name"] = json!("bare");
    let spec = without_storage["spec"].as_object_mut().unwrap();
    let storage = spec.remove("storage").unwrap();
    let added = vec![refused(
        "/spec/storage",
        storage,
        "storage can be neither added nor taken away",
    )];
    for (json, new, changed) in [
        (store_json(), new_stores(), changed_stores()),
        (edge_json(), new_edges(), changed_edges()),
        (without_storage, Vec::new(), added),
    ] {
        let json = written(json);
        for case in new {
            wrong.extend(try_case(kubectl, &json, case).await);
        }
        kubectl.apply(&json.to_string()).await.unwrap();
        for case in changed {
            wrong.extend(try_case(kubectl, &json, case).await);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is wrong with how a case is taken, if anything.
async fn try_case(kubectl: &Kubectl, json: &Value, case: Case) -> Option<String> {
    let mut json = json.clone();
    set(&mut json, case.place, case.value.clone());
    let args = [
        "apply",
        "--server-side",
        "--dry-run=server",
        "--force-conflicts",
        "--filename=-",
    ];
    let done = kubectl.run_with(args, &json.to_string(), DEADLINE).await;
    let shown: String = case.value.to_string().chars().take(80).collect();
    match (done, case.refusal) {
        (Ok(_), None) => None,
        (Ok(_), Some(why)) => Some(format!("{} {shown} is taken; expected: {why}", case.place)),
        (Err(error), None) => Some(format!("{} {shown} is refused: {error:#}", case.place)),
        (Err(error), Some(why)) => {
            let told = format!("{error:#}");
            (!told.contains(why))
                .then(|| format!("{} {shown}: expected {why}, found {told}", case.place))
        }
    }
}

fn set(json: &mut Value, place: &str, value: Value) {
    let (parent, key) = place.rsplit_once('/').unwrap();
    let parent = json.pointer_mut(parent).unwrap();
    match parent {
        Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
        other => other[key] = value,
    }
}
