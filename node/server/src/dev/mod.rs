//! `meridian dev`: all three roles in one process, on SQLite files and a Kafka that lives in the process too, with a
//! sample store to try them by.
//!
//! The in-process broker keeps only the newest 5 MiB of a partition. That loses nothing: whoever finds a gap repairs it
//! from the node above.

mod tour;

use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use tempfile::TempDir;

use crate::cli::stop_signal;
use crate::config::authn::{Nodes, Secrets};
use crate::config::{Config, Datastore, Edge, Kafka, Listen, Live};
use crate::roles::{self, Node};
use crate::telemetry::Logging;

/// Partitions of each topic.
const PARTITIONS: u16 = 4;
/// The port of central's HTTP; that of its gRPC is the next.
const CENTRAL: u16 = 8080;
/// How long a node may take to become ready here.
const READY: Duration = Duration::from_secs(60);

/// The options of `meridian dev`.
#[derive(Debug, Args)]
pub struct Dev {
    /// Folder for the nodes' data, kept afterwards; without it they are gone at the end.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Ends after the tour, instead of waiting for Ctrl-C.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    logging: Logging,
}

/// The three nodes and what they stand on. Fields are dropped in this order.
struct Stage {
    edge: Node,
    regional: Node,
    central: Node,
    _kafka: MockCluster<'static, DefaultProducerContext>,
    _lock: File,
    temporary: Option<TempDir>,
}

/// Runs the three roles until Ctrl-C.
///
/// # Errors
/// When something cannot be started, or the tour meets an answer that should not be.
pub async fn run(options: Dev) -> anyhow::Result<()> {
    options.logging.start("warn")?;
    let stage = tokio::select! {
        stage = start(options.data.as_deref()) => stage?,
        stopped = stop_signal() => return stopped.map(drop),
    };
    let toured = tokio::select! {
        toured = tour::run(&stage) => toured,
        stopped = stop_signal() => stopped.map(drop),
    };
    if toured.is_ok() && !options.once {
        stop_signal().await?;
        println!("\nStopping edge, regional and central ...");
    }
    let Stage {
        edge,
        regional,
        central,
        ..
    } = stage;
    edge.stop().await;
    regional.stop().await;
    central.stop().await;
    toured
}

async fn start(data: Option<&Path>) -> anyhow::Result<Stage> {
    let temporary = if data.is_none() {
        Some(tempfile::tempdir().context("cannot make a temporary folder")?)
    } else {
        None
    };
    let folder = data
        .or_else(|| temporary.as_ref().map(TempDir::path))
        .unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let lock = lock(folder)?;
    let kafka = MockCluster::new(1).context("cannot start the in-process Kafka")?;
    // It makes no topics by request.
    for topic in [
        "meridian.default.changes",
        "meridian.default.dev.edge",
        "meridian.default.live",
    ] {
        kafka
            .create_topic(topic, i32::from(PARTITIONS), 1)
            .with_context(|| format!("cannot make topic {topic}"))?;
    }
    tour::step("Kafka, in this process");
    // Others on this machine have no business between the nodes.
    let token = ulid::Ulid::generate().to_string();
    let settings = |role: &str, ports: u16, upstream: Vec<String>| Config {
        nodes: Nodes {
            tokens: Secrets::new([token.clone()]),
            ..Nodes::default()
        },
        name: "dev".into(),
        region: "dev".into(),
        listen: Listen {
            grpc: free(ports + 1),
            http: free(ports),
            nodes: free(ports + 2),
            metrics: None,
        },
        datastore: Datastore {
            url: format!(
                "sqlite://{}?mode=rwc",
                folder.join(format!("{role}.db")).display()
            ),
            min_connections: 1,
            max_connections: 8,
            ..Datastore::default()
        },
        kafka: Kafka {
            bootstrap: kafka.bootstrap_servers(),
            partitions: PARTITIONS,
            // The in-process broker answers a waiting reader only when its wait is over, unlike a real one.
            properties: [("fetch.wait.max.ms".to_owned(), "5".to_owned())].into(),
            ..Kafka::default()
        },
        upstream,
        // Nobody shows who they are here: a token is the name of its user.
        live: Live {
            enabled: true,
            ..Live::default()
        },
        edge: Edge {
            directory: Some(folder.join("edge")),
            ..Edge::default()
        },
        ..Config::default()
    };
    let above = |node: &Node| {
        node.nodes
            .map(|address| format!("http://{address}"))
            .into_iter()
            .collect::<Vec<_>>()
    };
    let central = ready(
        roles::central(&settings("central", CENTRAL, Vec::new())).await?,
        "central, on SQLite",
    )
    .await?;
    let regional = ready(
        roles::regional(&settings("regional", 8090, above(&central))).await?,
        "regional, on SQLite, reading the changes from Kafka",
    )
    .await?;
    let both = [above(&regional), above(&central)].concat();
    let edge = ready(
        roles::edge(&settings("edge", 8100, both)).await?,
        "edge, in memory, reading its part of the changes from Kafka",
    )
    .await?;
    Ok(Stage {
        edge,
        regional,
        central,
        _kafka: kafka,
        _lock: lock,
        temporary,
    })
}

/// Keeps a folder from being used by two at a time; until the file is closed, however this process ends.
fn lock(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join("dev.lock");
    let cannot = |what: &str| format!("cannot {what} {}", path.display());
    let mut options = File::options();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(|| cannot("open"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(error)) => return Err(error).with_context(|| cannot("lock")),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder)
                .with_context(|| cannot("read"))?;
            bail!(
                "{} is in use by another `meridian dev`, process {}: stop that one, or name another folder",
                folder.display(),
                holder.trim()
            );
        }
    }
    file.set_len(0).with_context(|| cannot("empty"))?;
    writeln!(file, "{}", std::process::id()).with_context(|| cannot("write"))?;
    Ok(file)
}

async fn ready(node: Node, what: &str) -> anyhow::Result<Node> {
    let waited = tokio::time::timeout(READY, node.ready()).await;
    waited.with_context(|| format!("{} was not ready after {READY:?}", node.name))?;
    tour::step(what);
    Ok(node)
}

/// The usual port, or any free one if that is taken.
fn free(port: u16) -> SocketAddr {
    let usual = SocketAddr::from(([127, 0, 0, 1], port));
    if TcpListener::bind(usual).is_ok() {
        usual
    } else {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }
}
