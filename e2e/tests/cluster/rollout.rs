//! Another image for a store that runs, while applications ask all the time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;

use crate::load::{Load, Patience};
use crate::pod;
use crate::site::Site;

/// Pods go in good order, so a client that asks again at once is answered by another. What is asked of the region may
/// meet a node that has just gone, and edges try the next.
const PATIENCE: Patience = Patience {
    critical: Duration::from_secs(5),
    warm: Duration::from_secs(10),
};

/// Rolls all nodes out anew under a second name of their image.
pub(crate) async fn of_another_image(site: &Site, load: &Load<'_>, store: &str) {
    let nodes = site.nodes().await;
    let image = pod::image(nodes.first().unwrap());
    let next = "registry.local/meridian:next";
    site.access().tag(image, next).await.unwrap();
    let roll_out = async {
        site.patch(store, &json!({"spec": {"image": next}})).await;
        site.until("all nodes run the next image", async || {
            let nodes = site.nodes().await;
            let old = nodes.iter().filter(|node| pod::image(node) != next).count();
            (old == 0).then_some(()).ok_or(format!("{old} do not"))
        })
        .await;
        site.holds(store, "Ready").await;
        site.holds("edgeregion/shop", "Ready").await;
    };
    load.during("roll-out", PATIENCE, roll_out).await;
}

/// An image that is not there: it is told, and the pods that run go on answering, until it is set back.
pub(crate) async fn of_a_missing_image(site: &Site, load: &Load<'_>, store: &str) {
    let missing = "registry.local/meridian:none";
    let image = site.get([store]).await["spec"]["image"].clone();
    let before = ready_nodes(site).await;
    let attempt = async {
        site.patch(store, &json!({"spec": {"image": missing}}))
            .await;
        site.fails(store, "Ready", &[missing]).await;
        assert_eq!(ready_nodes(site).await, before, "with a missing image");
    };
    let by = load.during("missing image", PATIENCE, attempt).await;
    let names: BTreeSet<_> = before.into_keys().collect();
    let answered = by.iter().map(|by| by.split_once('/').unwrap().1);
    assert!(
        answered.clone().all(|by| names.contains(by)),
        "{by:?} of {names:?}"
    );

    let before = ready_nodes(site).await;
    site.patch(store, &json!({"spec": {"image": image}})).await;
    site.holds(store, "Ready").await;
    site.holds("edgeregion/shop", "Ready").await;
    assert_eq!(ready_nodes(site).await, before, "after it was set back");
}

/// The nodes that are ready: name and uid.
async fn ready_nodes(site: &Site) -> BTreeMap<String, String> {
    let nodes = site.nodes().await;
    let ready = nodes.iter().filter(|node| pod::is_ready(node));
    ready
        .map(|node| (pod::name(node).to_owned(), pod::uid(node).to_owned()))
        .collect()
}
