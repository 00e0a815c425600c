//! Meridian on Kubernetes.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use meridian_e2e::cluster::Cluster;

#[tokio::test]
#[ignore = "needs root: run by `cargo xtask test`"]
async fn starts() {
    let start = std::time::Instant::now();
    let cluster = Cluster::start(&|line| println!("{:?} {line}", start.elapsed()))
        .await
        .unwrap();
    println!(
        "{}",
        cluster
            .access()
            .kubectl()
            .unwrap()
            .run(["get", "nodes,pods,svc,endpointslices", "-A", "-o", "wide"])
            .await
            .unwrap()
    );
    if std::env::var_os("HOLD").is_some() {
        println!("{:?}", cluster.access());
        while std::path::Path::new("/tmp/cl/hold").exists() {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    }
}
