//! What the chart renders.

use std::collections::BTreeMap;
use std::fs;

use crate::helm::{chart, helm, template};
use crate::{is_update, root, yaml_files};

/// The values files that chart-testing tools use too, by name.
fn cases() -> Vec<(String, String)> {
    let files = yaml_files(&chart().join("ci"));
    let name = |path: &std::path::PathBuf| {
        let file = path.file_name().unwrap().to_str().unwrap();
        file.strip_suffix("-values.yaml").unwrap().to_owned()
    };
    files
        .iter()
        .map(|path| (name(path), path.display().to_string()))
        .collect()
}

#[test]
fn lint_finds_nothing() {
    let chart = chart().display().to_string();
    for (name, values) in cases() {
        let linted = helm(["lint", "--strict", &chart, "--values", &values]);
        linted.unwrap_or_else(|why| panic!("{name}: {why}"));
    }
}

#[test]
fn manifests_are_as_expected() {
    let folder = root().join("e2e/tests/chart/golden");
    let mut missing = Vec::new();
    for (name, values) in cases() {
        let rendered = template(&["--values", &values]).unwrap();
        let file = folder.join(format!("{name}.yaml"));
        if is_update() {
            fs::write(&file, &rendered).unwrap();
        }
        if fs::read_to_string(&file).unwrap_or_default() != rendered {
            missing.push(name);
        }
    }
    assert!(
        missing.is_empty(),
        "other manifests than in {} for {missing:?}: run again with UPDATE=1 and look at the difference",
        folder.display()
    );
}

#[test]
fn the_chart_has_the_kinds_of_this_checkout() {
    let read = |folder: &str| {
        let files = yaml_files(&root().join(folder));
        let file = |path: std::path::PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        };
        files.into_iter().map(file).collect::<BTreeMap<_, _>>()
    };
    let generated = read("crds");
    assert!(!generated.is_empty(), "crds/ is empty");
    let copies = chart().join("files/crds");
    fs::create_dir_all(&copies).unwrap();
    if is_update() {
        for old in yaml_files(&copies) {
            fs::remove_file(old).unwrap();
        }
        for (name, text) in &generated {
            fs::write(copies.join(name), text).unwrap();
        }
    }
    assert!(
        generated == read("charts/meridian/files/crds"),
        "charts/meridian/files/crds is not what crds/ has: run again with UPDATE=1"
    );
}

#[test]
fn each_release_competes_for_a_lease_of_its_own() {
    for name in ["meridian", "another"] {
        let set = format!("fullnameOverride={name}");
        let rendered = template(&["--set", &set]).unwrap();
        for text in [
            format!("- name: MERIDIAN_LEASE\n              value: {name}-operator\n"),
            format!("resources: [leases]\n    resourceNames: [{name}-operator]\n"),
        ] {
            assert!(rendered.contains(&text), "{text} is not in\n{rendered}");
        }
    }
}

#[test]
fn kinds_are_installed_kept_and_left_out_as_asked() {
    let kinds = |args: &[&str]| {
        let rendered = template(args).unwrap();
        let count = |what: &str| rendered.lines().filter(|line| line.trim() == what).count();
        (
            count("kind: CustomResourceDefinition"),
            count("helm.sh/resource-policy: keep"),
        )
    };
    assert_eq!(kinds(&[]), (2, 2));
    assert_eq!(kinds(&["--set", "crds.keep=false"]), (2, 0));
    assert_eq!(kinds(&["--set", "crds.enabled=false"]), (0, 0));
}
