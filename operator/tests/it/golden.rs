//! Every built object is what stands in its golden file.

use std::collections::BTreeSet;
use std::path::Path;

use meridian_operator::build::{self, Object};

use serde_json::Value;

use crate::fixtures::{
    edge, edge_input, edge_json, full_edge_json, full_store_json, oidc_store_json, settings, store,
    store_input, store_json,
};

/// With `UPDATE=1` the files are written.
#[test]
fn every_object_is_what_stands_in_its_golden_file() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden");
    are_in(&folder.join("plain"), &built(store_json(), edge_json()));
    are_in(
        &folder.join("full"),
        &built(full_store_json(), full_edge_json()),
    );
    let mut oidc = built(oidc_store_json(), full_edge_json());
    oidc.retain(|object| object.kind == build::Kind::ConfigMap);
    are_in(&folder.join("oidc"), &oidc);
}

fn built(store_json: Value, edge_json: Value) -> Vec<Object> {
    let (store, edge) = (store(store_json), edge(edge_json));
    let mut objects = build::store(&store_input(&store), &settings());
    objects.extend(build::edge(&edge_input(&edge, &store), &settings()));
    objects
}

fn are_in(folder: &Path, objects: &[Object]) {
    let mut names = BTreeSet::new();
    for object in objects {
        let name = file_name(object);
        let path = folder.join(&name);
        let built = serde_saphyr::to_string(&object.body).unwrap();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &built).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            built == golden,
            "{} differs from what is built; with UPDATE=1 the test writes it:\n{built}",
            path.display()
        );
        assert!(names.insert(name.clone()), "{name} is built twice");
    }
    let there = std::fs::read_dir(folder).unwrap();
    for file in there {
        let name = file.unwrap().file_name().into_string().unwrap();
        let place = folder.display();
        assert!(names.contains(&name), "nothing is built for {place}/{name}");
    }
}

/// Hashes in names change with every detail of a Job or ConfigMap.
fn file_name(object: &Object) -> String {
    let kind = format!("{:?}", object.kind).to_lowercase();
    let name = if matches!(object.kind, build::Kind::Job | build::Kind::ConfigMap) {
        object.name.rsplit_once('-').unwrap().0
    } else {
        &object.name
    };
    format!("{kind}-{name}.yaml")
}

#[test]
fn objects_come_in_the_order_in_which_others_need_them() {
    let store = store(store_json());
    let kinds: Vec<_> = build::store(&store_input(&store), &settings())
        .iter()
        .map(|object| object.kind)
        .collect();
    assert!(kinds.is_sorted(), "{kinds:?}");
}

#[test]
fn workloads_wait_for_the_migration_of_their_own_database() {
    let store = store(store_json());
    let objects = build::store(&store_input(&store), &settings());
    let after = |name: &str| {
        let found = objects
            .iter()
            .find(|of| of.kind == build::Kind::Deployment && of.name == name);
        found.unwrap().after.clone().unwrap()
    };
    for (workload, prefix) in [
        ("payments-central", "payments-migrate-central-"),
        ("payments-regional-eu-1", "payments-migrate-eu-1-"),
        ("payments-regional-us-1", "payments-migrate-us-1-"),
    ] {
        assert!(after(workload).starts_with(prefix), "{workload}");
    }
}

/// What a cluster that enforces the restricted standard asks of pods.
#[test]
fn pods_keep_the_restricted_standard() {
    let store = store(store_json());
    let mut objects = build::store(&store_input(&store), &settings());
    objects.extend(build::edge(
        &edge_input(&edge(edge_json()), &store),
        &settings(),
    ));
    let mut seen = 0;
    for object in &objects {
        let Some(pod) = object.body.pointer("/spec/template/spec") else {
            continue;
        };
        seen += 1;
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(
            pod["securityContext"]["seccompProfile"]["type"],
            "RuntimeDefault"
        );
        assert_eq!(pod["automountServiceAccountToken"], false);
        for container in pod["containers"].as_array().unwrap() {
            let context = &container["securityContext"];
            assert_eq!(context["allowPrivilegeEscalation"], false);
            assert_eq!(context["readOnlyRootFilesystem"], true);
            assert_eq!(context["capabilities"]["drop"][0], "ALL");
        }
    }
    assert_eq!(seen, 7, "three migrations, central, two regions, the edge");
}
