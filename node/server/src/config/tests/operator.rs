//! The files that the operator writes for nodes, as its tests have them. It shares no code with nodes.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::super::authn::Method;
use super::super::settings::SETTINGS;
use super::*;

#[derive(Deserialize)]
struct ConfigMap {
    data: BTreeMap<String, String>,
}

/// What nodes make of the file in one of the operator's ConfigMaps, with what it names there.
fn made(path: &Path) -> Config {
    let text = std::fs::read_to_string(path).unwrap();
    let map: ConfigMap = serde_saphyr::from_str(&text).unwrap();
    let secrets = tempfile::tempdir().unwrap();
    for file in [
        "kafka.properties",
        "callers.keys",
        "nodes.tokens",
        "issuer-ca.crt",
    ] {
        std::fs::write(secrets.path().join(file), "client.id=one\n").unwrap();
    }
    let folder = secrets.path().to_str().unwrap();
    let text = map.data["node.yaml"].replace("/etc/meridian-secrets", folder);
    load(&text).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

#[test]
fn every_file_of_the_operator_is_read() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../operator/tests/it/golden");
    for (folder, method) in [
        ("plain", Method::None),
        ("full", Method::Preshared),
        ("oidc", Method::Oidc),
    ] {
        for name in [
            "payments-central",
            "payments-regional-eu-1",
            "payments-regional-us-1",
            "payments-live-eu-1",
            "payments-live-us-1",
            "till-payments",
        ] {
            // The plain store has no pods for the live channel alone.
            if folder == "plain" && name.starts_with("payments-live") {
                continue;
            }
            let config = made(&golden.join(format!("{folder}/configmap-{name}.yaml")));
            assert_eq!(config.authn.method, method, "{folder} {name}");
            let is_secured = folder != "plain";
            assert_eq!(config.tls.grpc.both().is_some(), is_secured);
            assert_eq!(config.tls.http.both().is_some(), is_secured);
            let is_in_memory = name == "till-payments" || name.starts_with("payments-live");
            let has_below = is_secured && !is_in_memory;
            assert_eq!(config.tls.nodes.both().is_some(), has_below);
            let has_above = is_secured && name != "payments-central";
            assert_eq!(config.nodes.ca.is_some(), has_above);
            assert_eq!(config.nodes.tokens.iter().count(), usize::from(is_secured));
            let scheme = if is_secured { "https://" } else { "http://" };
            assert!(config.upstream.iter().all(|url| url.starts_with(scheme)));
            assert_eq!(config.authzen().enabled, is_secured);
            let role = match name {
                "payments-central" => Role::Central,
                "till-payments" => Role::Edge,
                "payments-live-eu-1" | "payments-live-us-1" => Role::Live,
                _ => Role::Regional,
            };
            if is_in_memory {
                config.check_has_upstream().unwrap();
            } else {
                config.check_guarded().unwrap();
            }
            if role == Role::Live {
                config.check_has_live().unwrap();
            }
            // Who has no database stores nothing.
            let usual = Live::default();
            let keeps = is_secured && !is_in_memory;
            assert_eq!(config.live.durable, usual.durable && !keeps);
            assert_eq!(config.live.retention != usual.retention, keeps);
            let told = config.advice(role);
            assert_eq!(told.is_empty(), is_secured, "{folder} {name}: {told:?}");
        }
    }
}

/// The least and the most that a field's schema lets in, as a node's file would have them; none for what is neither a number nor
/// a time.
fn bounds(schema: &Value) -> Vec<String> {
    if schema["type"] == "integer" {
        // Whole numbers, which schemas write as if they were none.
        let bound = |name: &str, unless: i64| {
            let bound = schema[name].as_f64().map(|bound| format!("{bound:.0}"));
            bound.unwrap_or_else(|| unless.to_string())
        };
        return vec![bound("minimum", i64::MIN), bound("maximum", i64::MAX)];
    }
    let rules = schema["x-kubernetes-validations"].as_array();
    let rules = rules.into_iter().flatten();
    let rule = rules.filter_map(|rule| rule["rule"].as_str());
    let Some(rule) = rule
        .into_iter()
        .find(|rule| rule.contains("duration(self)"))
    else {
        return Vec::new();
    };
    let bound = |comparison: &str, unless: &str| {
        let (_, rest) = rule.split_once(comparison).unwrap_or(("", unless));
        rest.split('\'').next().unwrap_or_default().to_owned()
    };
    // What CEL itself can hold.
    vec![
        bound(">= duration('", "0s"),
        bound("<= duration('", "2562047h"),
    ]
}

/// A resource that the API server took must not keep nodes from starting.
#[test]
fn what_the_resources_let_in_nodes_take() {
    let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds");
    let spec = |kind: &str| {
        let text = std::fs::read_to_string(crds.join(format!("{kind}.yaml"))).unwrap();
        let crd: Value = serde_saphyr::from_str(&text).unwrap();
        let path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
        crd.pointer(path).unwrap().clone()
    };
    let (store, edge) = (spec("authzstores"), spec("edgeregions"));
    let mut compared = Vec::new();
    for setting in SETTINGS {
        let of_edge = setting.path.strip_prefix("edge.");
        let (of, path) = match of_edge {
            Some(rest) => (&edge, format!("freshness.{rest}")),
            None => (&store, setting.path.to_owned()),
        };
        let path = format!("/properties/{}", path.replace('.', "/properties/"));
        let bounds = of.pointer(&path).map(bounds).unwrap_or_default();
        for bound in &bounds {
            let taken = setting.set(&mut Config::default(), setting.path, bound);
            taken.unwrap_or_else(|why| panic!("{bound}: {why}"));
        }
        compared.extend((!bounds.is_empty()).then_some(setting.path));
    }
    for known in [
        "recorder.retention",
        "live.queueRecords",
        "edge.maxStaleness",
        "kafka.partitions",
    ] {
        assert!(
            compared.contains(&known),
            "{known} is not among {compared:?}"
        );
    }
}
