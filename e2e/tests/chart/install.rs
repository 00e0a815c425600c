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

/// Whether the operator may do what `kubectl auth can-i` is asked.
async fn may(kubectl: &Kubectl, what: &str) -> bool {
    let ask = ["auth", "can-i", USER].into_iter().chain(what.split(' '));
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
        "how callers show who they are (spec.authn)",
    ] {
        assert!(notes.contains(part), "{part} is not in {notes}");
    }
    assert!(!notes.contains("Warnings"), "{notes}");

    for what in [
        "watch edgeregions.meridian.dev --all-namespaces",
        "patch authzstores.meridian.dev --namespace=payments",
        "patch authzstores.meridian.dev --subresource=status --namespace=payments",
        "watch secrets --all-namespaces",
        "create statefulsets.apps --namespace=payments",
        "list pods --namespace=payments",
        "patch persistentvolumeclaims --namespace=payments",
        "create events.events.k8s.io --namespace=payments",
        "create leases.coordination.k8s.io --namespace=meridian-system",
        "update leases.coordination.k8s.io/meridian-operator --namespace=meridian-system",
    ] {
        assert!(may(kubectl, what).await, "the operator may not {what}");
    }
    for what in [
        "create secrets --namespace=payments",
        "patch secrets --namespace=payments",
        "create pods --namespace=payments",
        "create persistentvolumeclaims --namespace=payments",
        "create authzstores.meridian.dev --namespace=payments",
        "patch edgeregions.meridian.dev --namespace=payments",
        "update authzstores.meridian.dev --subresource=finalizers --namespace=payments",
        "create roles.rbac.authorization.k8s.io --namespace=payments",
        "update leases.coordination.k8s.io/another --namespace=meridian-system",
        "update leases.coordination.k8s.io/meridian-operator --namespace=kube-system",
        "get nodes",
        "patch customresourcedefinitions.apiextensions.k8s.io",
    ] {
        assert!(!may(kubectl, what).await, "the operator may {what}");
    }

    let uninstall = ["uninstall", "meridian", "--namespace", NAMESPACE];
    run(uninstall, cluster.kubeconfig()).unwrap();
    let kinds = kubectl.get(["customresourcedefinitions"]).await.unwrap();
    assert_eq!(kinds["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn named_namespaces_are_all_it_gets() {
    let cluster = ControlPlane::start().await.unwrap();
    let kubectl = cluster.kubectl();
    let payments = ["create", "namespace", "payments"];
    kubectl.run(payments).await.unwrap();
    let args = [
        "--set",
        "watchNamespaces={payments},networkPolicy.enabled=false,image.tag=dev,crds.keep=false",
    ];
    let notes = install(cluster.kubeconfig(), &args);
    for warned in [
        "networkPolicy.enabled is false",
        "image.tag is 'dev'",
        "crds.keep is false",
        "before the release: without the operator nothing lets them go",
        "before one of these namespaces (payments)",
    ] {
        assert!(notes.contains(warned), "{warned} is not in {notes}");
    }
    for what in [
        "list authzstores.meridian.dev",
        "get secrets",
        "create deployments.apps",
    ] {
        let [here, there] = ["payments", "default"].map(|of| format!("{what} --namespace={of}"));
        assert!(may(kubectl, &here).await, "the operator may not {here}");
        assert!(!may(kubectl, &there).await, "the operator may {there}");
    }
}

/// The controller that gives `view` and `edit` these rules does not run here; what it goes by is on them.
#[tokio::test]
async fn people_get_what_their_roles_say() {
    let cluster = ControlPlane::start().await.unwrap();
    install(cluster.kubeconfig(), &[]);
    for (role, into, not_into) in [
        ("meridian-view", &["view", "edit", "admin"][..], &[][..]),
        ("meridian-edit", &["edit", "admin"], &["view"]),
    ] {
        let role = cluster.kubectl().get(["clusterrole", role]).await.unwrap();
        let labels = &role["metadata"]["labels"];
        let label = |of: &str| &labels[format!("rbac.authorization.k8s.io/aggregate-to-{of}")];
        assert!(into.iter().all(|of| label(of) == "true"), "{labels}");
        assert!(not_into.iter().all(|of| label(of).is_null()), "{labels}");
    }
}
