//! docs/examples.

use std::collections::BTreeSet;
use std::fs;

use meridian_e2e::cluster::ControlPlane;
use meridian_model::TypeSystem;
use meridian_model::dsl;

use crate::install::install;
use crate::{root, yaml_files};

/// As the API server reads them: every field must be one of the kind's, and its rules must hold.
#[tokio::test]
async fn examples_are_valid_and_their_model_is_the_sample_store_s() {
    let cluster = ControlPlane::start().await.unwrap();
    install(cluster.kubeconfig(), &[]);
    let kubectl = cluster.kubectl();
    for kind in ["authzstores", "edgeregions"] {
        let name = format!("customresourcedefinition/{kind}.meridian.dev");
        let wait = [
            "wait",
            "--for=condition=Established",
            "--timeout=30s",
            &name,
        ];
        kubectl.run(wait).await.unwrap();
    }
    let examples = root().join("docs/examples");
    let secured = examples.join("secured/store.yaml");
    for file in yaml_files(&examples).into_iter().chain([secured]) {
        let name = file.display().to_string();
        let apply = [
            "apply",
            "--server-side",
            "--validate=strict",
            "--filename",
            &name,
        ];
        kubectl.run(apply).await.unwrap();
    }

    let store = kubectl.get(["authzstore", "github"]).await.unwrap();
    let text = store["spec"]["model"]["inline"].as_str().unwrap();
    let sample = fs::read_to_string(root().join("examples/github/model.fga")).unwrap();
    assert_eq!(
        text, sample,
        "the example's model and the sample store's differ"
    );
    let model = dsl::parse(text).unwrap();
    let defined: BTreeSet<_> = model
        .type_definitions
        .iter()
        .map(|definition| definition.name.clone())
        .collect();
    TypeSystem::new(model.into()).unwrap();

    let tiers = store["spec"]["tiers"].as_array().unwrap();
    for tier in tiers {
        let name = tier["type"].as_str().unwrap();
        assert!(
            defined.contains(name),
            "a tier of '{name}', which the model does not define"
        );
    }
    assert!(tiers.iter().any(|tier| tier["tier"] == "Warm"));

    let edges = kubectl.get(["edgeregion", "shop"]).await.unwrap();
    let regions = store["spec"]["regions"].as_array().unwrap();
    assert!(
        regions
            .iter()
            .any(|region| region["name"] == edges["spec"]["parentRegion"])
    );
}
