//! Each pod is killed once, while somebody asks all the time.

use std::time::{Duration, Instant};

use crate::client::{Client, Triple};
use crate::site::Site;

const PODS: &str = "app.kubernetes.io/name=meridian,app.kubernetes.io/component!=migration";
/// How long there may be no answer, for a Service goes on choosing a pod that was killed until somebody has noticed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Kills every central, regional and edge pod, each when all are ready again; checks are answered, and right.
pub(crate) async fn of_each_pod(site: &Site, edge: &Client, store: &str, allowed: Triple<'_>) {
    let kills = async {
        for pod in site.pods(PODS).await {
            kill(site, &pod).await;
        }
    };
    let mut asked = 0;
    tokio::select! {
        never = ask(edge, store, allowed, &mut asked) => match never {},
        () = kills => {}
    }
    assert!(asked > 0);
    println!("{asked} checks were answered while each pod was killed once");
}

/// As a machine that fails does: nobody asks the pod to end.
async fn kill(site: &Site, pod: &str) {
    let uid = async || {
        let found = site.get(["pods", "--selector", PODS]).await;
        let pods = found["items"].as_array().unwrap().clone();
        let ready = |pod: &serde_json::Value| {
            let conditions = pod["status"]["conditions"].as_array();
            let mut conditions = conditions.into_iter().flatten();
            conditions.any(|found| found["type"] == "Ready" && found["status"] == "True")
        };
        let uids = pods.iter().map(|pod| pod["metadata"]["uid"].to_string());
        (
            uids.collect::<Vec<_>>(),
            pods.iter().filter(|pod| ready(pod)).count(),
        )
    };
    let (before, count) = uid().await;
    site.kubectl(["delete", "pod", pod, "--force", "--grace-period=0"])
        .await;
    site.until(&format!("another pod for {pod}"), async || {
        let (now, ready) = uid().await;
        let others = now.iter().filter(|uid| !before.contains(uid)).count();
        let is_back = now.len() == before.len() && ready == count && others == 1;
        is_back
            .then_some(())
            .ok_or(format!("{ready} of {count} are ready, {others} new"))
    })
    .await;
}

/// Asks on and on. No is never right; no answer is, for a while.
async fn ask(
    edge: &Client,
    store: &str,
    allowed: Triple<'_>,
    asked: &mut u32,
) -> std::convert::Infallible {
    let mut last = Instant::now();
    loop {
        match edge.check(store, allowed).await {
            Ok(answer) => {
                assert!(answer.allowed, "{answer:?}");
                last = Instant::now();
                *asked += 1;
            }
            Err(status) => assert!(last.elapsed() < PATIENCE, "no answer: {status:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
