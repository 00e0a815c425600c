//! OpenFGA's own tests, through the API, on a node of ours.
//!
//! By hand: `cargo build -p meridian-server`, then
//! `cargo test -p meridian-e2e --test it conformance -- --nocapture`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use meridian_e2e::conformance::{self, Report, Tiers};
use meridian_e2e::{Kafka, MariaDb, Postgres, Workdir, free_port};
use tokio::sync::OnceCell;

use crate::system::{Node, Role};
use crate::until::heavy;

/// How many of upstream's tests upstream itself passes.
const PASSED: usize = 6439;
/// How many it skips: tests for one call that have no questions for another, tests in stages run with their tuples as
/// contextual ones, and models that its newer evaluator refuses.
const SKIPPED: usize = 277;

/// Upstream runs its tests so: without deadlines, on which answers would depend, and with all that its models use.
const SETTINGS: [(&str, &str); 3] = [
    ("OPENFGA_LIST_OBJECTS_DEADLINE", "0s"),
    ("OPENFGA_LIST_USERS_DEADLINE", "0s"),
    ("OPENFGA_EXPERIMENTALS", "inline_expressions"),
];

#[tokio::test]
async fn central_in_memory_conforms() {
    central_conforms("memory:").await;
}

#[tokio::test]
async fn central_on_sqlite_conforms() {
    let dir = Workdir::new("sqlite").unwrap();
    let file = dir.path().join("central.db");
    central_conforms(&format!("sqlite://{}?mode=rwc", file.display())).await;
}

#[tokio::test]
async fn central_on_postgres_conforms() {
    let postgres = Postgres::start().await.unwrap();
    central_conforms(&postgres.url()).await;
}

#[tokio::test]
async fn central_on_mariadb_conforms() {
    let mariadb = MariaDb::start().await.unwrap();
    central_conforms(&mariadb.url()).await;
}

/// Half of the types, those with most relations, are Critical and held by the edge, the others are Warm. Everything goes
/// through the edge, each test's writes before its questions.
#[tokio::test]
async fn an_edge_with_half_of_the_types_conforms() {
    let _leave = heavy().await;
    let kafka = Kafka::start().await.unwrap();
    let dir = Workdir::new("conformance").unwrap();
    let node = |role, more: &str| {
        let node = Node::new(role, &dir, &kafka.bootstrap(), more);
        with_settings(node)
    };
    let mut central = node(Role::Central, "datastore: {url: \"memory:\"}");
    let above = format!("upstream: [\"http://{}\"]", central.nodes);
    let mut regional = node(
        Role::Regional,
        &format!("{above}\ndatastore: {{url: \"memory:\"}}"),
    );
    let above = format!("upstream: [\"http://{}\"]", regional.nodes);
    // Questions follow writes at once, and await them on the topic rather than go up.
    let mut edge = node(
        Role::Edge,
        &format!("{above}\nedge: {{revisionWait: 500ms}}"),
    );
    for node in [&mut central, &mut regional, &mut edge] {
        node.start().await;
    }
    let report = conforms(edge.grpc, Tiers::HalfCritical).await;
    for call in ["Check", "ListObjects", "ListUsers"] {
        let (here, above) = by_the_edge(&report, call);
        println!("{call}: {here} answered by the edge, {above} above it");
        if call == "Check" {
            assert!(here >= above, "less than half of the checks");
        } else {
            assert!(here > 0, "no {call}");
        }
    }
}

/// How many calls the edge has answered, and how many the nodes above it.
fn by_the_edge(report: &Report, call: &str) -> (usize, usize) {
    let (mut here, mut above) = (0, 0);
    for ((_, node), count) in report.served.iter().filter(|((of, _), _)| of == call) {
        if node.starts_with("edge/") {
            here += count;
        } else {
            above += count;
        }
    }
    (here, above)
}

/// A central node takes writes and answers without Kafka, which nothing here reads.
async fn central_conforms(datastore: &str) {
    let _leave = heavy().await;
    let dir = Workdir::new("conformance").unwrap();
    let nowhere = format!("127.0.0.1:{}", free_port().unwrap());
    let datastore = format!("datastore: {{url: \"{datastore}\"}}");
    let mut node = with_settings(Node::new(Role::Central, &dir, &nowhere, &datastore));
    node.start().await;
    conforms(node.grpc, Tiers::AsTheyAre).await;
}

fn with_settings(mut node: Node) -> Node {
    for (name, value) in SETTINGS {
        node.process = node.process.env(name, value);
    }
    node
}

async fn conforms(server: SocketAddr, tiers: Tiers) -> Report {
    let report = conformance::run(suites().await, server, tiers)
        .await
        .unwrap();
    println!("{report}");
    assert!(report.failures.is_empty(), "{} failed", report.failed);
    assert_eq!(report.failed, 0);
    assert!(
        report.passed >= PASSED,
        "only {} passed, of {PASSED}",
        report.passed
    );
    assert!(
        report.skipped <= SKIPPED,
        "{} skipped, not {SKIPPED}",
        report.skipped
    );
    report
}

/// The compiled tests; compiled once.
async fn suites() -> &'static Path {
    static SUITES: OnceCell<PathBuf> = OnceCell::const_new();
    SUITES
        .get_or_init(async || {
            let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance.test");
            conformance::compile(&program).await.unwrap();
            program
        })
        .await
}
