//! Every field of a spec has an effect, and it is where it should be. A field that is in the schema but not in these
//! tables fails the test, and so does one whose change changes nothing.

use std::collections::BTreeSet;

use kube::CustomResourceExt as _;
use meridian_operator::api::{AuthzStore, EdgeRegion};
use meridian_operator::build::{self, Object};
use serde_json::{Value, json};

use crate::fixtures::{
    MODEL, edge, edge_input, edge_json, full_edge_json, full_store_json, oidc_store_json, settings,
    store, store_input, store_json,
};

/// A field: where it is in the schema, its place in the fixture, another value, and what of the objects changes with it:
/// kind and path, where nothing else may change but hashes and what is named after them.
struct Field(
    &'static str,
    &'static str,
    Value,
    &'static [(&'static str, &'static str)],
);

const POD: &str = "/spec/template/spec";
const NODE: &str = "/spec/template/spec/containers/0";
const FILE: &str = "/data/node.yaml";

#[rustfmt::skip]
fn store_fields() -> Vec<Field> {
    let all_pods: &[_] = &[("Deployment", POD), ("Job", POD)];
    let images: &[_] = &[("Deployment", NODE), ("Job", NODE)];
    let url: &[_] = &[("Deployment", NODE), ("Job", NODE)];
    let file: &[_] = &[("ConfigMap", FILE)];
    let counts: &[_] = &[("Deployment", "/spec/replicas")];
    let placed: &[_] = &[("Deployment", POD), ("Job", POD)];
    let node: &[_] = &[("Deployment", NODE)];
    let nodes: &[_] = &[("Deployment", POD)];
    vec![
        Field("product", "/product", json!("orders"), file),
        Field("image", "/image", json!("other:2"), images),
        Field("imagePullPolicy", "/imagePullPolicy", json!("Always"), images),
        Field("imagePullSecrets.name", "/imagePullSecrets/0/name", json!("other"), all_pods),
        Field("datastore.urlSecretRef.name", "/datastore/urlSecretRef/name", json!("eu-1-db"), url),
        Field("datastore.urlSecretRef.key", "/datastore/urlSecretRef/key", json!("other"), url),
        Field("datastore.readReplicaUrlSecretRef.name", "/datastore/readReplicaUrlSecretRef/name", json!("other"), node),
        Field("datastore.readReplicaUrlSecretRef.key", "/datastore/readReplicaUrlSecretRef/key", json!("other"), node),
        Field("datastore.minConnections", "/datastore/minConnections", json!(3), file),
        Field("datastore.maxConnections", "/datastore/maxConnections", json!(30), file),
        Field("datastore.changelogRetention", "/datastore/changelogRetention", json!("1h"), file),
        Field("kafka.bootstrapServers", "/kafka/bootstrapServers", json!(["other:9092"]), file),
        Field("kafka.topicPrefix", "/kafka/topicPrefix", json!("other"), file),
        Field("kafka.partitions", "/kafka/partitions", json!(5), file),
        Field("kafka.replicationFactor", "/kafka/replicationFactor", json!(3), file),
        Field("kafka.propertiesSecretRef.name", "/kafka/propertiesSecretRef/name", json!("other"), nodes),
        Field("kafka.propertiesSecretRef.key", "/kafka/propertiesSecretRef/key", json!("other"), nodes),
        Field("central.replicas", "/central/replicas", json!(4), counts),
        Field("central.resources.requests.cpu", "/central/resources/requests/cpu", json!("1"), placed),
        Field("central.resources.requests.memory", "/central/resources/requests/memory", json!("1Gi"), placed),
        Field("central.resources.requests.ephemeral-storage", "/central/resources/requests/ephemeral-storage", json!("9Gi"), placed),
        Field("central.resources.limits.cpu", "/central/resources/limits/cpu", json!(2), placed),
        Field("central.resources.limits.memory", "/central/resources/limits/memory", json!("1Gi"), placed),
        Field("central.resources.limits.ephemeral-storage", "/central/resources/limits/ephemeral-storage", json!("9Gi"), placed),
        Field("central.nodeSelector", "/central/nodeSelector", json!({"pool": "other"}), placed),
        Field("central.tolerations.key", "/central/tolerations/0/key", json!("other"), placed),
        Field("central.tolerations.operator", "/central/tolerations/0/operator", json!("Exists"), placed),
        Field("central.tolerations.value", "/central/tolerations/0/value", json!("no"), placed),
        Field("central.tolerations.effect", "/central/tolerations/0/effect", json!("NoSchedule"), placed),
        Field("central.tolerations.tolerationSeconds", "/central/tolerations/0/tolerationSeconds", json!(1), placed),
        Field("regions.name", "/regions/1/name", json!("us-2"), &[("", "")]),
        Field("regions.replicas", "/regions/0/replicas", json!(4), counts),
        Field("regions.datastore.urlSecretRef.name", "/regions/0/datastore/urlSecretRef/name", json!("central-db"), url),
        Field("regions.datastore.urlSecretRef.key", "/regions/0/datastore/urlSecretRef/key", json!("other"), url),
        Field("regions.datastore.readReplicaUrlSecretRef.name", "/regions/0/datastore/readReplicaUrlSecretRef/name", json!("other"), node),
        Field("regions.datastore.readReplicaUrlSecretRef.key", "/regions/0/datastore/readReplicaUrlSecretRef/key", json!("other"), node),
        Field("regions.datastore.minConnections", "/regions/0/datastore/minConnections", json!(3), file),
        Field("regions.datastore.maxConnections", "/regions/0/datastore/maxConnections", json!(30), file),
        Field("regions.datastore.changelogRetention", "/regions/0/datastore/changelogRetention", json!("1h"), file),
        Field("regions.resources.requests.cpu", "/regions/0/resources/requests/cpu", json!("1"), placed),
        Field("regions.resources.requests.memory", "/regions/0/resources/requests/memory", json!("1Gi"), placed),
        Field("regions.resources.requests.ephemeral-storage", "/regions/0/resources/requests/ephemeral-storage", json!("9Gi"), placed),
        Field("regions.resources.limits.cpu", "/regions/0/resources/limits/cpu", json!(2), placed),
        Field("regions.resources.limits.memory", "/regions/0/resources/limits/memory", json!("1Gi"), placed),
        Field("regions.resources.limits.ephemeral-storage", "/regions/0/resources/limits/ephemeral-storage", json!("9Gi"), placed),
        Field("regions.nodeSelector", "/regions/0/nodeSelector", json!({"pool": "other"}), placed),
        Field("regions.tolerations.key", "/regions/0/tolerations/0/key", json!("other"), placed),
        Field("regions.tolerations.operator", "/regions/0/tolerations/0/operator", json!("Exists"), placed),
        Field("regions.tolerations.value", "/regions/0/tolerations/0/value", json!("no"), placed),
        Field("regions.tolerations.effect", "/regions/0/tolerations/0/effect", json!("NoSchedule"), placed),
        Field("regions.tolerations.tolerationSeconds", "/regions/0/tolerations/0/tolerationSeconds", json!(1), placed),
        Field("authn.preshared.keysSecretRef.name", "/authn/preshared/keysSecretRef/name", json!("other"), nodes),
        Field("authn.preshared.keysSecretRef.key", "/authn/preshared/keysSecretRef/key", json!("other"), nodes),
        Field("nodes.tokensSecretRef.name", "/nodes/tokensSecretRef/name", json!("other"), nodes),
        Field("nodes.tokensSecretRef.key", "/nodes/tokensSecretRef/key", json!("other"), nodes),
        Field("tls.api.secretRef.name", "/tls/api/secretRef/name", json!("other"), nodes),
        Field("tls.nodes.secretRef.name", "/tls/nodes/secretRef/name", json!("other"), nodes),
        Field("tls.nodes.caSecretRef.name", "/tls/nodes/caSecretRef/name", json!("other"), nodes),
        Field("tls.nodes.caSecretRef.key", "/tls/nodes/caSecretRef/key", json!("other"), nodes),
        Field("http.corsAllowedOrigins", "/http/corsAllowedOrigins", json!(["*"]), file),
        Field("http.corsAllowedHeaders", "/http/corsAllowedHeaders", json!([]), file),
        Field("http.trustedProxies", "/http/trustedProxies", json!(["192.0.2.7"]), file),
        Field("experimentals", "/experimentals", json!(["authzen", "inline_expressions"]), file),
        Field("authzen.baseUrl", "/authzen/baseUrl", json!("https://other.example"), file),
        Field("recorder.sampling", "/recorder/sampling", json!("0.5"), file),
        Field("recorder.explain", "/recorder/explain", json!("0.5"), file),
        Field("recorder.retention", "/recorder/retention", json!("24h"), file),
        Field("recorder.authenticationInterval", "/recorder/authenticationInterval", json!("0s"), file),
        Field("live.scope", "/live/scope", json!("product"), file),
        Field("live.durable", "/live/durable", json!(true), file),
        Field("live.retention", "/live/retention", json!("24h"), file),
        Field("live.endpoint.replicas", "/live/endpoint/replicas", json!(4), counts),
        Field("live.endpoint.resources.requests.cpu", "/live/endpoint/resources/requests/cpu", json!("1"), nodes),
        Field("live.endpoint.resources.requests.memory", "/live/endpoint/resources/requests/memory", json!("1Gi"), nodes),
        Field("live.endpoint.resources.requests.ephemeral-storage", "/live/endpoint/resources/requests/ephemeral-storage", json!("9Gi"), nodes),
        Field("live.endpoint.resources.limits.cpu", "/live/endpoint/resources/limits/cpu", json!(2), nodes),
        Field("live.endpoint.resources.limits.memory", "/live/endpoint/resources/limits/memory", json!("1Gi"), nodes),
        Field("live.endpoint.resources.limits.ephemeral-storage", "/live/endpoint/resources/limits/ephemeral-storage", json!("9Gi"), nodes),
        Field("live.endpoint.nodeSelector", "/live/endpoint/nodeSelector", json!({"pool": "other"}), nodes),
        Field("live.endpoint.tolerations.key", "/live/endpoint/tolerations/0/key", json!("other"), nodes),
        Field("live.endpoint.tolerations.operator", "/live/endpoint/tolerations/0/operator", json!("Exists"), nodes),
        Field("live.endpoint.tolerations.value", "/live/endpoint/tolerations/0/value", json!("no"), nodes),
        Field("live.endpoint.tolerations.effect", "/live/endpoint/tolerations/0/effect", json!("NoSchedule"), nodes),
        Field("live.endpoint.tolerations.tolerationSeconds", "/live/endpoint/tolerations/0/tolerationSeconds", json!(1), nodes),
        Field("live.endpoint.serviceType", "/live/endpoint/serviceType", json!("ClusterIP"), &[("Service", "/spec/type")]),
        Field("live.userType", "/live/userType", json!("user"), file),
        Field("live.relation", "/live/relation", json!("can_watch"), file),
        Field("live.relations", "/live/relations", json!([]), file),
        Field("live.wholeTypes", "/live/wholeTypes", json!([]), file),
        Field("live.oidc.issuer", "/live/oidc/issuer", json!("https://other.example"), file),
        Field("live.oidc.audience", "/live/oidc/audience", json!("other"), file),
        Field("live.userinfoUrl", "/live/userinfoUrl", json!("https://other.example"), file),
        Field("live.store", "/live/store", json!("01BX5ZZKBKACTAV9WEVGEMMVRZ"), file),
        Field("live.authorityUrl", "/live/authorityUrl", json!("https://other.example"), file),
        Field("live.allowedOrigins", "/live/allowedOrigins", json!(["*"]), file),
        Field("live.connectionsPerAddress", "/live/connectionsPerAddress", json!(600), file),
        Field("live.connectionsPerUser", "/live/connectionsPerUser", json!(20), file),
        Field("live.queueRecords", "/live/queueRecords", json!(20_000), file),
        Field("live.queueBytes", "/live/queueBytes", json!(5_000_000), file),
        Field("live.historyRecords", "/live/historyRecords", json!(0), file),
        Field("live.historyBytes", "/live/historyBytes", json!(0), file),
        Field("live.historyTotalBytes", "/live/historyTotalBytes", json!(600_000_000), file),
        Field("live.historyAge", "/live/historyAge", json!("1m"), file),
        Field("live.grace", "/live/grace", json!("4s"), file),
        Field("live.reviewInterval", "/live/reviewInterval", json!("2m"), file),
        Field("watch.connections", "/watch/connections", json!(60), file),
        Field("checkCache.maxAnswers", "/checkCache/maxAnswers", json!(0), file),
        Field("checkCache.answerMaxAge", "/checkCache/answerMaxAge", json!("2m"), file),
        Field("checkCache.window", "/checkCache/window", json!("0s"), file),
        Field("limits.requestTimeout", "/limits/requestTimeout", json!("3s"), file),
        Field("limits.requestBytes", "/limits/requestBytes", json!(200_000), file),
        Field("limits.tuplesPerWrite", "/limits/tuplesPerWrite", json!(20), file),
        Field("limits.typesPerModel", "/limits/typesPerModel", json!(60), file),
        Field("limits.modelBytes", "/limits/modelBytes", json!(200_000), file),
        Field("limits.readChangesPageSize", "/limits/readChangesPageSize", json!(300), file),
        Field("limits.changelogHorizon", "/limits/changelogHorizon", json!("2m"), file),
        Field("limits.resolveNodeLimit", "/limits/resolveNodeLimit", json!(40), file),
        Field("limits.conditionEvaluationCost", "/limits/conditionEvaluationCost", json!(300), file),
        Field("limits.checksPerBatch", "/limits/checksPerBatch", json!(70), file),
        Field("limits.listObjectsResults", "/limits/listObjectsResults", json!(600), file),
        Field("limits.listObjectsDeadline", "/limits/listObjectsDeadline", json!("2s"), file),
        Field("limits.listUsersResults", "/limits/listUsersResults", json!(1), file),
        Field("limits.listUsersDeadline", "/limits/listUsersDeadline", json!("2s"), file),
        Field("traces.endpoint", "/traces/endpoint", json!("https://other:4317"), node),
        Field("traces.sampler", "/traces/sampler", json!("always_on"), node),
        Field("traces.ratio", "/traces/ratio", json!("1"), node),
    ]
}

/// Those of callers with a token.
#[rustfmt::skip]
fn oidc_fields() -> Vec<Field> {
    let file: &[_] = &[("ConfigMap", FILE)];
    vec![
        Field("authn.oidc.issuer", "/authn/oidc/issuer", json!("https://other.example"), file),
        Field("authn.oidc.issuerAliases", "/authn/oidc/issuerAliases", json!([]), file),
        Field("authn.oidc.audience", "/authn/oidc/audience", json!("other"), file),
        Field("authn.oidc.subjects", "/authn/oidc/subjects", json!(["other"]), file),
        Field("authn.oidc.clientIdClaims", "/authn/oidc/clientIdClaims", json!(["cid"]), file),
        Field("authn.oidc.refreshInterval", "/authn/oidc/refreshInterval", json!("1h"), file),
        Field("authn.oidc.refetchPause", "/authn/oidc/refetchPause", json!("1s"), file),
        Field("authn.oidc.caSecretRef.name", "/authn/oidc/caSecretRef/name", json!("other"), &[("Deployment", POD)]),
        Field("authn.oidc.caSecretRef.key", "/authn/oidc/caSecretRef/key", json!("other"), &[("Deployment", POD)]),
    ]
}

/// What changes no object, but what is said to the nodes or done at the end, or whom nodes are taken for; each has a test
/// of its own in `reconcile.rs` or `secured.rs`.
const BEYOND_OBJECTS: [&str; 8] = [
    "tls.api.caSecretRef.name",
    "tls.api.caSecretRef.key",
    "model.inline",
    "model.configMapKeyRef.name",
    "model.configMapKeyRef.key",
    "tiers.type",
    "tiers.tier",
    "deletionPolicy",
];

#[rustfmt::skip]
fn edge_fields() -> Vec<Field> {
    let file: &[_] = &[("ConfigMap", FILE)];
    let pod: &[_] = &[("StatefulSet", POD)];
    let claim: &[_] = &[("StatefulSet", "/spec/volumeClaimTemplates/0/spec")];
    vec![
        Field("parentRegion", "/parentRegion", json!("us-1"), &[("", "")]),
        Field("replicas", "/replicas", json!(3), &[("StatefulSet", "/spec/replicas")]),
        Field("resources.requests.cpu", "/resources/requests/cpu", json!("1"), pod),
        Field("resources.requests.memory", "/resources/requests/memory", json!("1Gi"), pod),
        Field("resources.requests.ephemeral-storage", "/resources/requests/ephemeral-storage", json!("9Gi"), pod),
        Field("resources.limits.cpu", "/resources/limits/cpu", json!(2), pod),
        Field("resources.limits.memory", "/resources/limits/memory", json!("1Gi"), pod),
        Field("resources.limits.ephemeral-storage", "/resources/limits/ephemeral-storage", json!("9Gi"), pod),
        Field("nodeSelector", "/nodeSelector", json!({"pool": "other"}), pod),
        Field("tolerations.key", "/tolerations/0/key", json!("other"), pod),
        Field("tolerations.operator", "/tolerations/0/operator", json!("Exists"), pod),
        Field("tolerations.value", "/tolerations/0/value", json!("no"), pod),
        Field("tolerations.effect", "/tolerations/0/effect", json!("NoSchedule"), pod),
        Field("tolerations.tolerationSeconds", "/tolerations/0/tolerationSeconds", json!(1), pod),
        Field("storage.size", "/storage/size", json!("3Gi"), claim),
        Field("storage.storageClassName", "/storage/storageClassName", json!("slow"), claim),
        Field("freshness.maxStaleness", "/freshness/maxStaleness", json!("1m"), file),
        Field("freshness.answerMaxAge", "/freshness/answerMaxAge", json!("1m"), file),
        Field("service.trafficDistribution", "/service/trafficDistribution", json!("PreferSameNode"), &[("Service", "/spec/trafficDistribution")]),
        Field("service.type", "/service/type", json!("ClusterIP"), &[("Service", "/spec/type")]),
        Field("tls.secretRef.name", "/tls/secretRef/name", json!("other"), pod),
        Field("authzen.baseUrl", "/authzen/baseUrl", json!("https://other.example"), file),
    ]
}

#[test]
fn every_field_of_an_authz_store_has_its_effect() {
    let mut covered: BTreeSet<String> = BEYOND_OBJECTS.map(str::to_owned).into();
    covered.extend(check(store_fields(), &full_store_json(), build_store));
    covered.extend(check(oidc_fields(), &oidc_store_json(), build_store));
    assert_all::<AuthzStore>(&covered);
}

#[test]
fn every_field_of_an_edge_region_has_its_effect() {
    // Which stores are served says what is built at all: `reconcile.rs` has it. Of the certificates by which edges are
    // trusted `secured.rs` has the effect.
    let others = [
        "subscriptions.storeRef.name",
        "tls.caSecretRef.name",
        "tls.caSecretRef.key",
    ];
    let mut covered: BTreeSet<String> = others.map(str::to_owned).into();
    covered.extend(check(edge_fields(), &full_edge_json(), build_edge));
    assert_all::<EdgeRegion>(&covered);
}

#[test]
fn the_image_is_the_operators_own_where_none_is_named() {
    let mut json = store_json();
    json["spec"].as_object_mut().unwrap().remove("image");
    let objects = build_store(json);
    let central = find(&objects, "Deployment", "payments-central");
    let image = central
        .body
        .pointer("/spec/template/spec/containers/0/image");
    assert_eq!(image.unwrap(), "registry.example/default:9");
}

#[test]
fn an_edge_prefers_its_own_machine_where_nothing_is_said() {
    let mut json = edge_json();
    json["spec"].as_object_mut().unwrap().remove("service");
    let objects = build_edge(json);
    let service = find(&objects, "Service", "till-payments");
    assert_eq!(
        service.body["spec"]["trafficDistribution"],
        "PreferSameNode"
    );
    assert_eq!(service.body["spec"]["type"], "ClusterIP");
}

#[test]
fn the_model_is_no_part_of_any_object() {
    let mut json = store_json();
    json["spec"]["model"]["inline"] = json!(format!("{MODEL}type other\n"));
    assert!(build_store(json) == build_store(store_json()));
}

fn build_store(json: Value) -> Vec<Object> {
    build::store(&store_input(&store(json)), &settings())
}

fn build_edge(json: Value) -> Vec<Object> {
    let store = store(full_store_json());
    build::edge(&edge_input(&edge(json), &store), &settings())
}

fn find<'a>(objects: &'a [Object], kind: &str, name: &str) -> &'a Object {
    let found = objects
        .iter()
        .find(|of| format!("{:?}", of.kind) == kind && of.name == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

/// Checks the effect of each; says which they are.
fn check(
    fields: Vec<Field>,
    fixture: &Value,
    build: impl Fn(Value) -> Vec<Object>,
) -> BTreeSet<String> {
    let before = build(fixture.clone());
    let mut covered = BTreeSet::new();
    for Field(name, place, value, effects) in fields {
        let mut json = fixture.clone();
        let field = json.pointer_mut(&format!("/spec{place}"));
        let field = field.unwrap_or_else(|| panic!("{place} is not in the fixture"));
        assert_ne!(*field, value, "{name}: the other value is the same");
        *field = value;
        let after = build(json);
        let changes = changes(&before, &after);
        assert!(!changes.is_empty(), "{name} has no effect");
        for (kind, path) in effects {
            assert!(
                changes
                    .iter()
                    .any(|(k, p)| k.starts_with(kind) && p.starts_with(path)),
                "{name} should change {kind} {path} and changes {changes:?}"
            );
        }
        let is_expected = |(kind, path): &&(String, String)| {
            effects
                .iter()
                .any(|(k, p)| kind.starts_with(k) && path.starts_with(p))
        };
        let others: Vec<_> = changes
            .iter()
            .filter(|change| !is_expected(change))
            .collect();
        assert!(others.is_empty(), "{name} changes besides: {others:?}");
        covered.insert(name.to_owned());
    }
    covered
}

fn assert_all<K: kube::CustomResourceExt>(covered: &BTreeSet<String>) {
    let schema = serde_json::to_value(K::crd()).unwrap();
    let spec = schema
        .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec")
        .unwrap();
    let mut all = BTreeSet::new();
    leaves(spec, "", &mut all);
    assert_eq!(
        all, *covered,
        "left: fields of the schema, right: fields with a test"
    );
}

/// Where two builds differ, leaving out hashes and what is named by one: kind and path of each leaf.
fn changes(before: &[Object], after: &[Object]) -> Vec<(String, String)> {
    let key = |of: &Object| {
        let name = if matches!(of.kind, build::Kind::Job | build::Kind::ConfigMap) {
            of.name.rsplit_once('-').unwrap().0.to_owned()
        } else {
            of.name.clone()
        };
        (of.kind, name)
    };
    let mut found = Vec::new();
    let keys: BTreeSet<_> = before.iter().chain(after).map(key).collect();
    for wanted in keys {
        let of = |objects: &[Object]| {
            let object = objects.iter().find(|of| key(of) == wanted);
            object.map_or(Value::Null, |of| of.body.clone())
        };
        let kind = format!("{:?}", wanted.0);
        compare(&of(before), &of(after), &kind, String::new(), &mut found);
    }
    found
}

fn compare(
    before: &Value,
    after: &Value,
    kind: &str,
    path: String,
    found: &mut Vec<(String, String)>,
) {
    let is_hash = path.contains("/annotations/meridian.dev")
        || path.ends_with("/configMap/name")
        || (matches!(kind, "Job" | "ConfigMap") && path == "/metadata/name");
    if before == after || is_hash {
        return;
    }
    match (before, after) {
        (Value::Object(one), Value::Object(other)) => {
            let keys: BTreeSet<_> = one.keys().chain(other.keys()).collect();
            for key in keys {
                let (one, other) = (one.get(key), other.get(key));
                let (one, other) = (one.unwrap_or(&Value::Null), other.unwrap_or(&Value::Null));
                compare(one, other, kind, format!("{path}/{key}"), found);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (at, (one, other)) in one.iter().zip(other).enumerate() {
                compare(one, other, kind, format!("{path}/{at}"), found);
            }
        }
        _ => found.push((kind.to_owned(), path)),
    }
}

/// The leaves of a schema, by their names; those of a list's elements under the list's name.
fn leaves(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    if let Some(items) = schema
        .get("items")
        .filter(|items| items["type"] == "object")
    {
        return leaves(items, path, found);
    }
    match schema.get("properties").and_then(Value::as_object) {
        Some(properties) => {
            for (name, schema) in properties {
                let dot = if path.is_empty() { "" } else { "." };
                leaves(schema, &format!("{path}{dot}{name}"), found);
            }
        }
        None => {
            found.insert(path.to_owned());
        }
    }
}

/// A text or list without a bound has a cost without one, and the API server may refuse the whole kind for it.
#[test]
fn every_text_and_list_and_map_of_a_spec_has_a_bound() {
    fn unbounded(schema: &Value, path: &str, found: &mut Vec<String>) {
        let bound = match schema["type"].as_str() {
            Some("string") if schema.get("enum").is_none() => Some("maxLength"),
            Some("array") => Some("maxItems"),
            Some("object") if schema.get("additionalProperties").is_some() => Some("maxProperties"),
            _ => None,
        };
        if bound.is_some_and(|bound| schema.get(bound).is_none()) {
            found.push(path.to_owned());
        }
        for part in ["items", "additionalProperties"] {
            if let Some(schema) = schema.get(part) {
                unbounded(schema, &format!("{path}[]"), found);
            }
        }
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            unbounded(schema, &format!("{path}.{name}"), found);
        }
    }
    for crd in [AuthzStore::crd(), EdgeRegion::crd()] {
        let schema = serde_json::to_value(crd).unwrap();
        let spec = schema
            .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec")
            .unwrap();
        let mut found = Vec::new();
        unbounded(spec, "spec", &mut found);
        assert!(found.is_empty(), "without a bound: {found:?}");
    }
}

/// `kubectl explain` must explain everything.
#[test]
fn every_field_is_documented() {
    fn undocumented(schema: &Value, path: &str, found: &mut Vec<String>) {
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if schema.get("description").is_none() {
                found.push(path.clone());
            }
            undocumented(schema, &path, found);
            undocumented(&schema["items"], &path, found);
        }
    }
    for crd in [AuthzStore::crd(), EdgeRegion::crd()] {
        let schema = serde_json::to_value(crd).unwrap();
        for part in ["spec", "status"] {
            let path = format!("/spec/versions/0/schema/openAPIV3Schema/properties/{part}");
            let mut found = Vec::new();
            undocumented(schema.pointer(&path).unwrap(), part, &mut found);
            assert!(found.is_empty(), "without documentation: {found:?}");
        }
    }
}
