//! A central, a regional and an edge process on a Kafka and a PostgreSQL of their own.

use std::env;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use meridian_e2e::{Kafka, Postgres, Probe, Process, Workdir, free_port};

use crate::client::Client;

const READY: Duration = Duration::from_secs(60);

/// How long an edge trusts what it holds here: longer than any outage.
const MAX_STALENESS: &str = "120s";

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Central,
    Regional,
    Edge,
}

impl Role {
    pub(crate) const ALL: [Self; 3] = [Self::Central, Self::Regional, Self::Edge];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Central => "central",
            Self::Regional => "regional",
            Self::Edge => "edge",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One node's process, with addresses that stay over restarts.
pub(crate) struct Node {
    pub(crate) process: Process,
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) nodes: SocketAddr,
    pub(crate) metrics: SocketAddr,
}

impl Node {
    /// Describes a node. `more` goes into its configuration file.
    pub(crate) fn new(role: Role, dir: &Workdir, kafka: &str, more: &str) -> Self {
        Self::of(role.name(), dir, kafka, more)
    }

    /// Describes a process of the program `meridian-<program>`.
    pub(crate) fn of(program: &str, dir: &Workdir, kafka: &str, more: &str) -> Self {
        let address = || SocketAddr::from((Ipv4Addr::LOCALHOST, free_port().unwrap()));
        let (grpc, http, nodes, metrics) = (address(), address(), address(), address());
        let config = format!(
            "name: test
region: here
listen: {{grpc: \"{grpc}\", http: \"{http}\", nodes: \"{nodes}\", metrics: \"{metrics}\"}}
kafka: {{bootstrap: \"{kafka}\", partitions: 4}}
shutdownTimeout: 2s
{more}
"
        );
        let file = dir.write(&format!("{program}.yaml"), &config).unwrap();
        let process = Process::new(program, binary(&format!("meridian-{program}")), dir.path())
            .args(["--config".into(), file]);
        Self {
            process,
            grpc,
            http,
            nodes,
            metrics,
        }
    }

    pub(crate) async fn start(&mut self) {
        self.process.start().unwrap();
        self.ready().await;
    }

    /// Waits until it says that it is ready.
    pub(crate) async fn ready(&mut self) {
        let probe = Probe::Http(self.http, "/healthz".into());
        self.process.ready(&probe, READY).await.unwrap();
    }

    /// Waits until it listens, ready or not.
    pub(crate) async fn listening(&mut self) {
        for address in [self.http, self.grpc] {
            let probe = Probe::Tcp(address);
            self.process.ready(&probe, READY).await.unwrap();
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.grpc)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.process.log()).unwrap()
    }
}

/// Where the regional node keeps its copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RegionalStore {
    Postgres,
    Sqlite,
}

/// Everything.
pub(crate) struct System {
    pub(crate) central: Node,
    pub(crate) regional: Node,
    pub(crate) edge: Node,
    pub(crate) postgres: Postgres,
    pub(crate) kafka: Kafka,
    _dir: Workdir,
}

impl System {
    /// Starts everything, and waits until all nodes are ready.
    pub(crate) async fn start(regional: RegionalStore) -> Self {
        let mut system = Self::describe(regional).await;
        system.start_nodes().await;
        system
    }

    /// Starts the nodes, from above.
    pub(crate) async fn start_nodes(&mut self) {
        self.central.start().await;
        self.regional.start().await;
        self.edge.start().await;
    }

    /// Kafka and PostgreSQL run, the nodes do not yet.
    pub(crate) async fn describe(regional: RegionalStore) -> Self {
        Self::describe_with(regional, "").await
    }

    /// The same, with `more` in every node's configuration file.
    pub(crate) async fn describe_with(regional: RegionalStore, more: &str) -> Self {
        let (postgres, kafka) = tokio::join!(Postgres::start(), Kafka::start());
        let (postgres, kafka) = (postgres.unwrap(), kafka.unwrap());
        let dir = Workdir::new("nodes").unwrap();
        let datastore = |url: &str| {
            format!("datastore: {{url: \"{url}\", minConnections: 2, acquireTimeout: 2s}}")
        };
        let central_url = postgres.database("central").await.unwrap();
        let regional_url = match regional {
            RegionalStore::Postgres => postgres.database("regional").await.unwrap(),
            RegionalStore::Sqlite => {
                format!("sqlite://{}?mode=rwc", path(&dir, "regional.db").display())
            }
        };
        let bootstrap = kafka.bootstrap();
        let node = |role, own: &str| Node::new(role, &dir, &bootstrap, &format!("{own}\n{more}"));

        let central = node(Role::Central, &datastore(&central_url));
        let above_regional = format!("upstream: [\"http://{}\"]", central.nodes);
        let regional = node(
            Role::Regional,
            &format!("{above_regional}\n{}", datastore(&regional_url)),
        );
        let above_edge = format!(
            "upstream: [\"http://{}\", \"http://{}\"]",
            regional.nodes, central.nodes
        );
        let folder = format!(
            "edge: {{directory: \"{}\", maxStaleness: {MAX_STALENESS}, snapshotInterval: 2s}}",
            path(&dir, "edge").display()
        );
        let edge = node(Role::Edge, &format!("{above_edge}\n{folder}"));
        Self {
            central,
            regional,
            edge,
            postgres,
            kafka,
            _dir: dir,
        }
    }

    pub(crate) fn node(&self, role: Role) -> &Node {
        match role {
            Role::Central => &self.central,
            Role::Regional => &self.regional,
            Role::Edge => &self.edge,
        }
    }

    pub(crate) fn node_mut(&mut self, role: Role) -> &mut Node {
        match role {
            Role::Central => &mut self.central,
            Role::Regional => &mut self.regional,
            Role::Edge => &mut self.edge,
        }
    }

    pub(crate) fn client(&self, role: Role) -> Client {
        self.node(role).client()
    }
}

fn path(dir: &Workdir, name: &str) -> PathBuf {
    dir.path().join(name)
}

/// A program of this build, which stands beside the folder of this test's own.
pub(crate) fn binary(name: &str) -> PathBuf {
    let test = env::current_exe().unwrap();
    let built = test.parent().and_then(Path::parent).unwrap().join(name);
    assert!(
        built.is_file(),
        "no {}: run `cargo build` with the same profile first",
        built.display()
    );
    built
}
