//! OpenFGA's own tests, through the API, on a node of ours.
//!
//! By hand: `cargo build -p meridian-server`, then
//! `cargo test -p meridian-e2e --test it conformance -- --nocapture`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use meridian_e2e::{Postgres, Workdir, conformance, free_port};
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

/// A central node takes writes and answers without Kafka, which nothing here reads.
async fn central_conforms(datastore: &str) {
    let _leave = heavy().await;
    let dir = Workdir::new("conformance").unwrap();
    let nowhere = format!("127.0.0.1:{}", free_port().unwrap());
    let datastore = format!("datastore: {{url: \"{datastore}\"}}");
    let mut node = with_settings(Node::new(Role::Central, &dir, &nowhere, &datastore));
    node.start().await;
    conforms(node.grpc).await;
}

fn with_settings(mut node: Node) -> Node {
    for (name, value) in SETTINGS {
        node.process = node.process.env(name, value);
    }
    node
}

async fn conforms(server: SocketAddr) {
    let report = conformance::run(suites().await, server).await.unwrap();
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
