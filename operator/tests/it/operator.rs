//! The process: who leads, what ends it, and what it says of its health.

use std::process::Command;
use std::time::Duration;

use http::Method;
use meridian_operator::controller::{self, Parts, Scope};
use meridian_operator::events::Events;
use meridian_operator::lease::{Election, Leadership};
use meridian_operator::metrics::{Readiness, serve_health};
use meridian_operator::operator::{supervise, traffic_distribution};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::fixtures::{NAMESPACE, settings};
use crate::world::{World, path};

const LEASE: (&str, &str, &str) = ("coordination.k8s.io/v1", "Lease", "meridian-operator");

fn candidate(world: &World, name: &str) -> Election {
    Election::new(world.client(), NAMESPACE, LEASE.2, name.to_owned())
}

fn lease(world: &World) -> Value {
    let (api, kind, name) = LEASE;
    world.get(api, kind, name).unwrap()["spec"].clone()
}

#[test]
fn a_log_level_that_is_none_ends_the_start() {
    for filter in ["verbose", "info,meridian_operator=loud"] {
        let output = Command::new(env!("CARGO_BIN_EXE_meridian-operator"))
            .args(["run", "--node-image", "meridian", "--log", filter])
            .output()
            .unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success());
        assert!(
            told.contains(filter) && told.contains("is no level"),
            "{told}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_not_renewed_is_taken_over_and_its_holder_writes_no_more() {
    let world = World::new();
    let (mut one, mut other) = (candidate(&world, "one"), candidate(&world, "other"));
    one.win(|| {}).await;
    let (first, second) = (one.leadership(), other.leadership());
    // It stops renewing, without giving it up.
    let start = tokio::time::Instant::now();
    other
        .win(|| {
            assert!(
                first.check().is_err() || second.check().is_err(),
                "both lead"
            )
        })
        .await;
    let took = start.elapsed();
    assert!(
        (Duration::from_secs(15)..Duration::from_secs(20)).contains(&took),
        "{took:?}"
    );
    assert!(first.check().is_err() && second.check().is_ok());
    assert_eq!(lease(&world)["holderIdentity"], "other");
    assert_eq!(lease(&world)["leaseTransitions"], 1);
    // It notices as soon as it looks again.
    one.keep().await;
    assert!(first.check().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_cannot_renew_its_lease_stops_before_another_may_start() {
    let world = World::new();
    let mut one = candidate(&world, "one");
    one.win(|| {}).await;
    world.server(|server| {
        server
            .faults
            .push((Method::PUT, "/leases/".to_owned(), 500))
    });
    let start = tokio::time::Instant::now();
    one.keep().await;
    assert!(one.leadership().check().is_err());
    assert!(start.elapsed() < Duration::from_secs(15));
}

/// What becomes of an operator that leads and does this.
async fn led(
    world: &World,
    controllers: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) -> anyhow::Error {
    let mut election = candidate(world, "one");
    election.win(|| {}).await;
    let controllers = tokio::spawn(controllers);
    let (stopping, _) = watch::channel(false);
    let never = std::future::pending();
    let error = supervise(&mut election, controllers, stopping, never)
        .await
        .unwrap_err();
    assert!(election.leadership().check().is_err());
    assert!(lease(world)["holderIdentity"].is_null(), "{}", lease(world));
    error
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_panics_ends_the_process_and_gives_up_the_lease() {
    let error = led(&World::new(), async { panic!("out of luck") }).await;
    assert!(format!("{error:#}").contains("out of luck"), "{error:#}");
    let error = led(&World::new(), async { Ok(()) }).await;
    assert!(error.to_string().contains("ended"), "{error:#}");
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_renewed_while_what_is_under_way_ends() {
    let world = World::new();
    let mut election = candidate(&world, "one");
    election.win(|| {}).await;
    let leadership = election.leadership();
    let (stopping, mut stopped) = watch::channel(false);
    let (end, ended) = tokio::sync::oneshot::channel();
    let controllers = tokio::spawn(async move {
        stopped.wait_for(|stop| *stop).await?;
        // For longer than a Lease is trusted that is not renewed.
        tokio::time::sleep(Duration::from_secs(15)).await;
        end.send(leadership.check().is_ok()).unwrap();
        Ok(())
    });
    let stop = std::future::ready(());
    supervise(&mut election, controllers, stopping, stop)
        .await
        .unwrap();
    assert!(ended.await.unwrap(), "it could write no more");
    assert!(
        lease(&world)["holderIdentity"].is_null(),
        "{}",
        lease(&world)
    );
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_cannot_be_listed_ends_the_process_with_its_name() {
    let world = World::new();
    let kinds = [
        ("meridian.dev/v1alpha1", "AuthzStore"),
        ("meridian.dev/v1alpha1", "EdgeRegion"),
        ("v1", "ServiceAccount"),
        ("v1", "ConfigMap"),
        ("v1", "Service"),
        ("v1", "Pod"),
        ("v1", "Secret"),
        ("apps/v1", "Deployment"),
        ("apps/v1", "StatefulSet"),
        ("batch/v1", "Job"),
        ("networking.k8s.io/v1", "NetworkPolicy"),
    ];
    for (api, kind) in kinds {
        let path = path(api, kind, "");
        let list = json!({
            "apiVersion": api, "kind": format!("{kind}List"),
            "metadata": {"resourceVersion": "1"}, "items": [],
        });
        let path = path.trim_end_matches('/').to_owned();
        world.server(|server| server.objects.insert(path, list));
    }
    world.server(|server| {
        let budgets = "/poddisruptionbudgets".to_owned();
        server.faults.push((Method::GET, budgets, 403));
    });
    let parts = Parts {
        client: world.client(),
        nodes: world.nodes.clone(),
        settings: settings(),
        leadership: Leadership::always(),
        events: Events::new(world.client(), "test"),
    };
    let (_stopping, stopped) = watch::channel(false);
    let scopes = vec![Scope::Namespace(NAMESPACE.to_owned())];
    let error = led(&world, controller::run(parts, scopes, stopped)).await;
    assert!(
        error
            .to_string()
            .contains("PodDisruptionBudget in namespace 'shop'"),
        "{error:#}"
    );
}

#[tokio::test]
async fn it_is_alive_at_once_and_ready_when_it_has_reached_its_api_server() {
    let readiness = Readiness::default();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let serving = serve_health(address, readiness.clone()).await.unwrap();
    let serving = tokio::spawn(serving);
    assert_eq!(status_of(address, "/livez").await, 200);
    assert_eq!(status_of(address, "/readyz").await, 503);
    readiness.set();
    assert_eq!(status_of(address, "/readyz").await, 200);
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn edges_on_the_same_machine_are_preferred_where_the_cluster_knows_that() {
    let world = World::new();
    let version = |minor: &str| {
        let mut version = json!({"major": "1", "minor": minor});
        for field in [
            "gitVersion",
            "gitCommit",
            "gitTreeState",
            "buildDate",
            "goVersion",
            "compiler",
            "platform",
        ] {
            version[field] = json!("x");
        }
        world.server(|server| server.objects.insert("/version".to_owned(), version));
    };
    version("33");
    assert_eq!(traffic_distribution(&world.client()).await, "PreferClose");
    version("34+");
    assert_eq!(
        traffic_distribution(&world.client()).await,
        "PreferSameNode"
    );
    for code in [500, 0] {
        let fault = (Method::GET, "/version".to_owned(), code);
        world.server(|server| server.faults = vec![fault]);
        assert_eq!(traffic_distribution(&world.client()).await, "PreferClose");
    }
}

async fn status_of(address: std::net::SocketAddr, path: &str) -> u16 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}
