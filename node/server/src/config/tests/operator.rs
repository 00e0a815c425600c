//! The files that the operator writes for nodes, as its tests have them. It shares no code with nodes.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::authn::Method;
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
