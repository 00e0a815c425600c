//! Values that the chart refuses.

use crate::helm::template;

#[test]
fn mistakes_are_refused_by_name() {
    for (value, named) in [
        ("replica=2", "replica"),
        ("image.repo=x", "repo"),
        ("replicas=two", "replicas"),
        ("replicas=-1", "replicas"),
        ("image.repository=", "image.repository"),
        ("image.repository=Not A Name", "image.repository"),
        ("image.tag=a/b", "image.tag"),
        ("image.pullPolicy=Sometimes", "image.pullPolicy"),
        ("nodeImage.digest=x", "digest"),
        ("watchNamespaces=payments", "watchNamespaces"),
        ("watchNamespaces={Payments}", "watchNamespaces"),
        ("watchNamespaces={a,a}", "watchNamespaces"),
        ("crds.keep=perhaps", "crds.keep"),
        ("crds.install=true", "install"),
        ("logLevel=", "logLevel"),
        ("serviceAccount.create=false", "serviceAccount.name"),
        ("resources.limit.memory=1Gi", "limit"),
        ("networkPolicy.apiServerPorts={0}", "apiServerPorts"),
        ("serviceMonitor.interval=often", "serviceMonitor.interval"),
        ("fullnameOverride=Meridian", "fullnameOverride"),
    ] {
        let refused = template(&["--set", value]).unwrap_err();
        let (schema, path) = (refused.contains("schema"), named.replace('.', "/"));
        assert!(
            schema && (refused.contains(named) || refused.contains(&path)),
            "{value}: {refused}"
        );
    }
}

#[test]
fn a_value_left_out_has_no_effect() {
    let plain = template(&[]).unwrap();
    assert_eq!(template(&["--set", "podLabels=null"]).unwrap(), plain);
    assert!(!plain.contains("WATCH_NAMESPACE"));
    assert!(!plain.contains("PodDisruptionBudget"));
    assert!(!plain.contains("ServiceMonitor"));
}
