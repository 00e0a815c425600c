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
        ("serviceMonitor.interval=0s", "serviceMonitor.interval"),
        ("serviceMonitor.interval=5s1m", "serviceMonitor.interval"),
        (
            r"serviceMonitor.labels.app\.kubernetes\.io/name=x",
            "serviceMonitor.labels",
        ),
        ("fullnameOverride=Meridian", "fullnameOverride"),
        ("logLevel=verbose", "logLevel"),
        (r"logLevel=info\,meridian_operator", "logLevel"),
        ("logLevel=meridian_operator=loud", "logLevel"),
        ("resources.limits.memory=lots", "resources.limits.memory"),
        ("resources.limits.memory=-1", "resources.limits.memory"),
        (r"resources.limits.a\ b=1", "resources.limits"),
        ("serviceAccount.name=Foo_", "serviceAccount.name"),
        ("imagePullSecrets[0].name=A_b", "imagePullSecrets"),
        ("priorityClassName=A_b", "priorityClassName"),
        (r"nodeSelector.bad\ label=x", "nodeSelector"),
        (r"podLabels.bad\ label!=x", "podLabels"),
        ("podLabels.team=a b", "podLabels.team"),
        (r"podLabels.app\.kubernetes\.io/name=evil", "podLabels"),
        (r"podAnnotations.bad\ one=x", "podAnnotations"),
        ("tolerations[0].foo=x", "foo"),
        (
            "tolerations[0].key=a,tolerations[0].operator=Likes",
            "operator",
        ),
        ("tolerations[0].value=x", "tolerations"),
        (
            "tolerations[0].operator=Exists,tolerations[0].value=x",
            "tolerations",
        ),
        (
            "tolerations[0].key=a,tolerations[0].tolerationSeconds=5",
            "tolerations",
        ),
        ("affinity.foo=1", "foo"),
        ("affinity.podAffinity.required=x", "required"),
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
fn what_pods_may_have_is_taken() {
    let values = r#"
logLevel: info,meridian_operator::reconcile=debug,kube=off
serviceAccount: {name: meridian.prod}
resources: {requests: {cpu: 0.5, memory: 64Mi, example.com/device: 1}, limits: {memory: 1.5Gi, ephemeral-storage: 1e9}}
priorityClassName: system-cluster-critical
nodeSelector: {kubernetes.io/arch: amd64}
podLabels: {team: ""}
podAnnotations: {example.com/Note: "any text"}
serviceMonitor: {enabled: true, interval: 1m30s, labels: {release: prometheus}}
tolerations:
  - {operator: Exists}
  - {key: example.com/dedicated, value: meridian, effect: NoSchedule}
  - {key: a, operator: Exists, effect: NoExecute, tolerationSeconds: 30}
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms:
        - matchExpressions: [{key: kubernetes.io/os, operator: In, values: [linux]}]
    preferredDuringSchedulingIgnoredDuringExecution:
      - {weight: 1, preference: {matchFields: [{key: metadata.name, operator: NotIn, values: [a]}]}}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector: {matchLabels: {a: b}, matchExpressions: [{key: c, operator: Exists}]}
  podAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      - {topologyKey: zone, namespaces: [a], namespaceSelector: {}, matchLabelKeys: [pod-template-hash]}
"#;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.yaml");
    std::fs::write(&file, values).unwrap();
    template(&["--values", file.to_str().unwrap()]).unwrap();
}

#[test]
fn a_value_left_out_has_no_effect() {
    let plain = template(&[]).unwrap();
    assert_eq!(template(&["--set", "podLabels=null"]).unwrap(), plain);
    assert!(!plain.contains("WATCH_NAMESPACE"));
    assert!(!plain.contains("PodDisruptionBudget"));
    assert!(!plain.contains("ServiceMonitor"));
}
