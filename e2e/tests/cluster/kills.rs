//! Each node crashes once and loses its pod once, and so does the operator, while applications ask all the time.

use std::collections::BTreeSet;
use std::time::Duration;

use meridian_e2e::cluster::OPERATOR_NAMESPACE;
use serde_json::Value;

use crate::load::{Load, Patience};
use crate::pod;
use crate::site::Site;

/// A Service goes on choosing a pod that is gone until its endpoints are written anew, and may do so several times in a
/// row. Edges ask central while their region's only node is away, so Warm data take no longer.
const PATIENCE: Patience = Patience {
    critical: Duration::from_secs(20),
    warm: Duration::from_secs(20),
};

/// No question passes the operator, so none may wait longer than a busy machine makes it.
const WITHOUT_OPERATOR: Patience = Patience {
    critical: Duration::from_secs(5),
    warm: Duration::from_secs(5),
};

/// What a process that was ended by SIGKILL exits with, in the words of shells.
const BY_SIGKILL: i64 = 128 + 9;

/// Crashes every central, regional and edge node in its pod, and then takes every pod away, one when all are ready again;
/// after each, what is written counts at the edge.
pub(crate) async fn of_each_node(site: &Site, load: &Load<'_>) {
    for node in site.nodes().await {
        let name = pod::name(&node);
        let what = format!("crash of {name}");
        load.during(&what, PATIENCE, crash(site, &node)).await;
        load.writes(site, &format!("crash-{name}")).await;
    }
    for node in site.nodes().await {
        let name = pod::name(&node);
        let what = format!("loss of {name}");
        load.during(&what, PATIENCE, lose(site, name)).await;
        load.writes(site, &format!("loss-{name}")).await;
    }
}

/// Kills the operator, of which nodes are to notice nothing.
pub(crate) async fn of_the_operator(site: &Site, load: &Load<'_>) {
    let kubectl = site.access().kubectl().unwrap();
    let namespace = ["--namespace", OPERATOR_NAMESPACE];
    let pods = async || {
        let pods = kubectl.get(namespace.into_iter().chain(["pods"])).await;
        pods.unwrap()["items"].as_array().unwrap().clone()
    };
    let kill = async {
        let before = uids(&pods().await);
        let all = ["delete", "pods", "--all", "--force", "--grace-period=0"];
        kubectl.run(namespace.into_iter().chain(all)).await.unwrap();
        site.until("another operator", async || {
            let pods = pods().await;
            let is_new = |found: &Value| pod::is_ready(found) && !before.contains(pod::uid(found));
            let is_back = !pods.is_empty() && pods.iter().all(is_new);
            is_back.then_some(()).ok_or("none is ready".to_owned())
        })
        .await;
    };
    load.during("loss of the operator", WITHOUT_OPERATOR, kill)
        .await;
}

/// Ends a node's process by SIGKILL; its kubelet starts another in the same pod.
async fn crash(site: &Site, node: &Value) {
    let restarts = |node: &Value| pod::container(node)["restartCount"].as_i64().unwrap();
    let id = pod::container(node)["containerID"].as_str().unwrap();
    let id = id.strip_prefix("containerd://").unwrap();
    site.access().crash(id).await.unwrap();
    site.until(&format!("{} after a crash", pod::name(node)), async || {
        let now = site.get(["pod", pod::name(node)]).await;
        assert_eq!(pod::uid(&now), pod::uid(node), "another pod");
        let container = pod::container(&now);
        if restarts(&now) == restarts(node) || !pod::is_ready(&now) {
            return Err(container.to_string());
        }
        let last = &container["lastState"]["terminated"];
        assert_eq!(last["exitCode"], BY_SIGKILL, "{container}");
        Ok(())
    })
    .await;
}

/// Deletes a pod by force: it is gone from the API at once, and its kubelet ends what is left of it.
async fn lose(site: &Site, name: &str) {
    let before = uids(&site.nodes().await);
    site.kubectl(["delete", "pod", name, "--force", "--grace-period=0"])
        .await;
    site.until(&format!("another pod for {name}"), async || {
        let nodes = site.nodes().await;
        let ready = nodes.iter().filter(|node| pod::is_ready(node)).count();
        let others = uids(&nodes).difference(&before).count();
        let is_back = nodes.len() == before.len() && ready == nodes.len() && others == 1;
        let still = format!("{ready} of {} are ready, {others} new", nodes.len());
        is_back.then_some(()).ok_or(still)
    })
    .await;
}

fn uids(pods: &[Value]) -> BTreeSet<String> {
    pods.iter()
        .map(|found| pod::uid(found).to_owned())
        .collect()
}
