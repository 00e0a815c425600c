//! The chart on a real API server. Nothing runs there, so this is about what is accepted and allowed.

use std::path::Path;

use meridian_e2e::cluster::{ControlPlane, Kubectl};

use crate::helm::{NAMESPACE, chart, run};

const USER: &str = "--as=system:serviceaccount:meridian-system:meridian-operator";

/// Installs the chart; returns its notes.
pub(crate) fn install(kubeconfig: &Path, args: &[&str]) -> String {
    let chart = chart().display().to_string();
    let common = [
        "install",
        "meridian",
        &chart,
        "--namespace",
        NAMESPACE,
        "--create-namespace",
    ];
    run(common.into_iter().chain(args.iter().copied()), kubeconfig).unwrap()
}

/// Whether the operator may do something.
async fn may(kubectl: &Kubectl, what: &[&str]) -> bool {
    let ask = ["auth", "can-i", USER]
        .into_iter()
        .chain(what.iter().copied());
    kubectl.run(ask).await.is_ok()
}

#[tokio::test]
async fn it_installs_says_how_to_go_on_and_leaves_the_kinds_behind() {
    let cluster = ControlPlane::start().await.unwrap();
    let kubectl = cluster.kubectl();
    let notes = install(cluster.kubeconfig(), &[]);
    for part in [
        "kubectl -n meridian-system rollout status deployment/meridian-operator",
        "kubectl wait --for=condition=Ready",
        "port-forward",
        "authenticates nobody yet",
    ] {
        assert!(notes.contains(part), "{part} is not in {notes}");
    }
    assert!(!notes.contains("Warnings"), "{notes}");

    for what in [
        &[
            "patch",
            "authzstores.meridian.dev/status",
            "--namespace=payments",
        ][..],
        &["get", "secrets", "--namespace=payments"],
        &["create", "statefulsets.apps", "--namespace=payments"],
        &["list", "pods", "--namespace=payments"],
        &["create", "events.events.k8s.io", "--namespace=payments"],
        &[
            "update",
            "leases.coordination.k8s.io",
            "--namespace=meridian-system",
        ],
    ] {
        assert!(may(kubectl, what).await, "the operator may not {what:?}");
    }
    for what in [
        &["list", "secrets", "--all-namespaces"][..],
        &["watch", "secrets", "--namespace=payments"],
        &["create", "secrets", "--namespace=payments"],
        &["create", "pods", "--namespace=payments"],
        &["create", "authzstores.meridian.dev", "--namespace=payments"],
        &[
            "create",
            "roles.rbac.authorization.k8s.io",
            "--namespace=payments",
        ],
        &[
            "update",
            "leases.coordination.k8s.io",
            "--namespace=kube-system",
        ],
        &["get", "nodes"],
        &["patch", "customresourcedefinitions.apiextensions.k8s.io"],
    ] {
        assert!(!may(kubectl, what).await, "the operator may {what:?}");
    }

    run(
        ["uninstall", "meridian", "--namespace", NAMESPACE],
        cluster.kubeconfig(),
    )
    .unwrap();
    let kinds = kubectl.get(["customresourcedefinitions"]).await.unwrap();
    assert_eq!(kinds["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn named_namespaces_are_all_it_gets() {
    let cluster = ControlPlane::start().await.unwrap();
    let kubectl = cluster.kubectl();
    kubectl
        .run(["create", "namespace", "payments"])
        .await
        .unwrap();
    let args = [
        "--set",
        "watchNamespaces={payments},networkPolicy.enabled=false,image.tag=dev,crds.keep=false",
    ];
    let notes = install(cluster.kubeconfig(), &args);
    for warned in [
        "networkPolicy.enabled is false",
        "image.tag is 'dev'",
        "crds.keep is false",
    ] {
        assert!(notes.contains(warned), "{warned} is not in {notes}");
    }
    let list = ["list", "authzstores.meridian.dev"];
    let [here, there] = ["--namespace=payments", "--namespace=default"];
    assert!(may(kubectl, &[list[0], list[1], here]).await);
    assert!(!may(kubectl, &[list[0], list[1], there]).await);
    assert!(!may(kubectl, &["get", "secrets", there]).await);

    // What people may do is not the operator's.
    let viewer = ["auth", "can-i", "--as=viewer", here];
    kubectl
        .run([
            "create",
            "rolebinding",
            "viewer",
            "--clusterrole=view",
            "--user=viewer",
            here,
        ])
        .await
        .unwrap();
    // The controller that aggregates roles does not run here; its rule is what counts.
    let role = kubectl.get(["clusterrole", "meridian-view"]).await.unwrap();
    let label = &role["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"];
    assert_eq!(label, "true");
    let cannot = viewer
        .into_iter()
        .chain(["delete", "authzstores.meridian.dev"]);
    assert!(kubectl.run(cannot).await.is_err());
}
