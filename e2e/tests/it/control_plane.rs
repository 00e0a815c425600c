use meridian_e2e::cluster::ControlPlane;

const CONFIG_MAP: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: default}
data: {color: blue}
";

#[tokio::test]
async fn takes_manifests_and_logs_writes_alone() {
    let control_plane = ControlPlane::start().await.unwrap();
    let kubectl = control_plane.kubectl();
    let before = control_plane.audit().writes().unwrap().len();

    kubectl.apply(CONFIG_MAP).await.unwrap();
    let read = kubectl.get(["configmap", "settings"]).await.unwrap();
    assert_eq!(read["data"]["color"], "blue");

    let writes = control_plane.audit().writes().unwrap().split_off(before);
    let ours: Vec<_> = writes
        .iter()
        .filter(|write| write.user == "admin")
        .collect();
    assert_eq!(ours.len(), 1, "{writes:?}");
    assert_eq!(ours[0].verb, "patch");
    assert_eq!(ours[0].resource, "configmaps");
    assert_eq!(
        (ours[0].namespace.as_str(), ours[0].name.as_str()),
        ("default", "settings")
    );
    assert_eq!(ours[0].code, 201);
}
