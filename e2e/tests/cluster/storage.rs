//! An edge that keeps its snapshot on a volume.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::pod;
use crate::site::Site;

const EDGES: &str = "edgeregion/kept";
const POD: &str = "pod/kept-github-0";
const CLAIMS: [&str; 3] = [
    "persistentvolumeclaims",
    "--selector",
    "meridian.dev/edge-region=kept",
];

/// A pod that takes another's place starts from the other's file, and the volume goes with the edges.
pub(crate) async fn outlives_a_pod(site: &Site, store: &str) {
    let folder = site.access().dir().join("kept");
    fs::create_dir(&folder).unwrap();
    // A volume of this kind is the machine's folder as it is, and nodes are not root.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let manifests = include_str!("manifests/kept.yaml");
    site.apply(&manifests.replace("{folder}", folder.to_str().unwrap()))
        .await;
    site.holds(EDGES, "Ready").await;
    let claims = site.get(CLAIMS).await;
    assert_eq!(claims["items"][0]["status"]["phase"], "Bound", "{claims}");
    let started = "starting from the snapshot file";
    let log = async || site.kubectl(["logs", POD]).await;
    assert!(!log().await.contains(started));

    let first = site.get([POD]).await;
    site.kubectl(["delete", POD]).await;
    let file = folder.join(format!("{store}.view"));
    assert!(file.is_file(), "no {}", file.display());
    site.until("another pod on the volume", async || {
        let list = site.get(["pods", "--selector", CLAIMS[2]]).await;
        let found = &list["items"][0];
        let is_back =
            found.is_object() && pod::is_ready(found) && pod::uid(found) != pod::uid(&first);
        is_back.then_some(()).ok_or(found["status"].to_string())
    })
    .await;
    let log = log().await;
    let line = log.lines().find(|line| line.contains(started));
    assert!(line.is_some_and(|line| line.contains(store)), "{log}");

    site.kubectl(["delete", EDGES]).await;
    site.until("its volume is given back", async || {
        let left = site.get(CLAIMS).await["items"].as_array().unwrap().len();
        (left == 0).then_some(()).ok_or(format!("{left} claims"))
    })
    .await;
    site.kubectl(["delete", "persistentvolume/kept"]).await;
}
