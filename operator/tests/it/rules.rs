//! On a real API server: that each rule of the kinds takes and refuses what it should.

use meridian_e2e::cluster::Kubectl;
use serde_json::{Value, json};

use crate::api_server::{DEADLINE, start, written};
use crate::fixtures::{MODEL, full_edge_json, full_store_json, oidc_store_json};

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
        refused("/spec/datastore/changelogRetention", json!("59s"), "changelogRetention must be 1m to 876000h"),
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
        refused("/spec/authn", json!({}), "set exactly one of preshared and oidc"),
        refused("/spec/authn/oidc", json!({"issuer": "https://i.example", "audience": "a"}), "set exactly one of preshared and oidc"),
        refused("/spec/authn/preshared", json!({"keys": ["inline"]}), "field not declared in schema"),
        refused("/spec/nodes", Value::Null, "authn needs nodes.tokensSecretRef"),
        taken("/spec/authn", Value::Null),
        refused("/spec/tls", json!({}), "set api, nodes or both"),
        taken("/spec/tls", json!({"nodes": {"secretRef": {"name": "a"}}})),
        refused("/spec/tls/api/secretRef/name", json!(""), "at least 1 chars"),
        refused("/spec/experimentals", json!([]), "authzen needs 'authzen' among experimentals"),
        refused("/spec/experimentals", json!(["authzen", "authzen"]), "uplicate"),
        refused("/spec/experimentals", json!(["more"]), "Unsupported value"),
        taken("/spec/authzen/baseUrl", json!("http://pdp.example:8080/a/b")),
        refused("/spec/authzen/baseUrl", json!("https://me@pdp.example"), "should match"),
        refused("/spec/authzen/baseUrl", json!("pdp.example"), "should match"),
        refused("/spec/checkCache/maxAnswers", json!(-1), "greater than or equal to 0"),
        refused("/spec/checkCache/answerMaxAge", json!("0s"), "answerMaxAge must be 1ms to 720h"),
        refused("/spec/checkCache/window", json!("61s"), "window must be 0s to 1m"),
        refused("/spec/limits/requestTimeout", json!("0s"), "requestTimeout must be 1ms to 1h"),
        refused("/spec/limits/requestBytes", json!(1023), "greater than or equal to 1024"),
        refused("/spec/limits/conditionEvaluationCost", json!(99), "greater than or equal to 100"),
        refused("/spec/limits/changelogHorizon", json!("25h"), "changelogHorizon must be 0s to 24h"),
        taken("/spec/limits/listObjectsDeadline", json!("1h")),
        refused("/spec/limits/listObjectsDeadline", json!("61m"), "listObjectsDeadline must be 0s to 1h"),
        refused("/spec/limits/listUsersDeadline", json!("soon"), "should match"),
        refused("/spec/limits/checkWork", json!(1), "field not declared in schema"),
        refused("/spec/recorder/sampling", json!("1.5"), "should match"),
        taken("/spec/recorder", json!({})),
        refused("/spec/recorder/retention", json!("59m"), "retention must be 1h to 87600h"),
        refused("/spec/recorder/authenticationInterval", json!("25h"), "authenticationInterval must be 0s to 24h"),
        taken("/spec/live", json!({"userinfoUrl": "https://users.example/me"})),
        refused("/spec/live", json!({}), "live needs oidc or userinfoUrl where authn is preshared"),
        refused("/spec/live/scope", json!("all"), "Unsupported value"),
        taken("/spec/live/endpoint", json!({})),
        refused("/spec/live/endpoint/replicas", json!(0), "greater than or equal to 1"),
        refused("/spec/live/endpoint/serviceType", json!("ExternalName"), "Unsupported value"),
        taken("/spec/live/retention", json!("1h")),
        refused("/spec/live/retention", json!("59m"), "retention must be 1h to 87600h"),
        refused("/spec/live/relations", json!(["can_see"]), "should match"),
        refused("/spec/live/wholeTypes", json!(["race=can_watch_all"]), "should match"),
        refused("/spec/live/oidc/issuer", json!("users.example"), "should match"),
        refused("/spec/live/authorityUrl", json!("authority.example"), "should match"),
        refused("/spec/live/store", json!("payments"), "should match"),
        refused("/spec/live/historyAge", json!("0s"), "historyAge must be 1s to 720h"),
        refused("/spec/live/reviewInterval", json!("25h"), "reviewInterval must be 1s to 24h"),
        refused("/spec/live/queueRecords", json!(1), "greater than or equal to 2"),
        refused("/spec/live/historyTotalBytes", json!(99_999_999), "must be at least historyBytes"),
        taken("/spec/watch", json!({})),
        refused("/spec/watch/connections", json!(0), "greater than or equal to 1"),
        refused("/spec/live/store", Value::Null, "authorityUrl knows the objects of one store"),
        refused("/spec/traces/endpoint", json!("collector:4317"), "should match"),
        refused("/spec/traces/sampler", json!("sometimes"), "Unsupported value"),
        taken("/spec/traces/ratio", json!("1.0")),
        refused("/spec/traces/ratio", json!("1.5"), "should match"),
        refused("/spec/primaryRegion", json!("eu-1"), "field not declared in schema"),
    ]
}

#[rustfmt::skip]
fn new_oidc_stores() -> Vec<Case> {
    let no_issuer = json!({"audience": "meridian"});
    vec![
        taken("/spec/authn/oidc/issuer", json!("http://dex.auth:5556/dex")),
        refused("/spec/authn/oidc/issuer", json!("issuer.example"), "should match"),
        refused("/spec/authn/oidc/issuer", json!("https://issuer.example?a=b"), "should match"),
        refused("/spec/authn/oidc/audience", json!(""), "at least 1 chars"),
        refused("/spec/authn/oidc", no_issuer, "Required value"),
        refused("/spec/authn/oidc/subjects", json!([""]), "at least 1 chars"),
        taken("/spec/authn/oidc/refreshInterval", json!("48h")),
        refused("/spec/authn/oidc/refreshInterval", json!("999ms"), "refreshInterval must be 1s to 48h"),
        taken("/spec/authn/oidc/refetchPause", json!("0s")),
        refused("/spec/authn/oidc/refetchPause", json!("61m"), "refetchPause must be 0s to 1h"),
    ]
}

/// Beside the other.
fn renamed(mut store: Value) -> Value {
    store["metadata"]["name"] = json!("orders");
    store
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
        taken("/spec/tls", json!({"secretRef": {"name": "a"}})),
        refused("/spec/tls", json!({}), "Required value"),
        refused("/spec/authzen", json!({"baseUrl": "ftp://pdp.example"}), "should match"),
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
    let mut without_storage = full_edge_json();
    without_storage["metadata"]["name"] = json!("bare");
    let spec = without_storage["spec"].as_object_mut().unwrap();
    let storage = spec.remove("storage").unwrap();
    let added = vec![refused(
        "/spec/storage",
        storage,
        "storage can be neither added nor taken away",
    )];
    for (json, new, changed) in [
        (full_store_json(), new_stores(), changed_stores()),
        (full_edge_json(), new_edges(), changed_edges()),
        (renamed(oidc_store_json()), new_oidc_stores(), Vec::new()),
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
