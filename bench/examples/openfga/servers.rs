//! The servers: PostgreSQL, Kafka, OpenFGA, and our three nodes.

use std::net::SocketAddr;
use std::time::Duration;

use meridian_bench::data::TYPES;
use meridian_bench::nodes::{address, start_node};
use meridian_e2e::{Kafka, Postgres, Probe, Process, Workdir, tools};
use meridian_server::client::Client;

const READY: Duration = Duration::from_secs(60);
const MIGRATED: Duration = Duration::from_secs(60);

/// All of them; they end when this is dropped.
pub(crate) struct Servers {
    /// gRPC of OpenFGA.
    pub(crate) openfga: SocketAddr,
    /// gRPC of our nodes.
    pub(crate) central: SocketAddr,
    pub(crate) edge: SocketAddr,
    _processes: Vec<Process>,
    _postgres: Postgres,
    _kafka: Kafka,
    _dir: Workdir,
}

impl Servers {
    /// Starts all, and waits until they are ready.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let (postgres, kafka) = tokio::try_join!(Postgres::start(), Kafka::start())?;
        let dir = Workdir::new("bench")?;
        let (openfga, openfga_process) =
            openfga(&dir, &postgres.database("openfga").await?).await?;
        let mut processes = vec![openfga_process];
        let mut node = async |role: &str, more: String| {
            let (addresses, process) = start_node(&dir, &kafka.bootstrap(), role, &more).await?;
            processes.push(process);
            anyhow::Ok(addresses)
        };
        let datastore = |url: &str| format!("datastore: {{url: \"{url}\", maxConnections: 30}}");
        // Nothing is kept of central's answers: what is measured comes straight from PostgreSQL.
        let straight = "checkCache: {maxAnswers: 0}";
        let truth = datastore(&postgres.database("central").await?);
        let central = node("central", format!("{truth}\n{straight}")).await?;
        let above = |nodes| format!("upstream: [\"http://{nodes}\"]");
        let copy = datastore(&postgres.database("regional").await?);
        let regional = node("regional", format!("{copy}\n{}", above(central.nodes))).await?;
        let edge = node("edge", above(regional.nodes)).await?;
        Ok(Self {
            openfga,
            central: central.grpc,
            edge: edge.grpc,
            _processes: processes,
            _postgres: postgres,
            _kafka: kafka,
            _dir: dir,
        })
    }

    /// Has the edge hold all types of a store.
    pub(crate) async fn hold_everything(&self, store: &str) -> anyhow::Result<()> {
        let critical = TYPES.map(str::to_owned).into();
        let mut client = Client::new(&self.central.to_string())?;
        client.assign_tiers(store, critical, Vec::new()).await
    }
}

/// OpenFGA as it comes, but without what only a person looks at; no cache is on by default.
async fn openfga(dir: &Workdir, database: &str) -> anyhow::Result<(SocketAddr, Process)> {
    let datastore = [
        "--datastore-engine=postgres".to_owned(),
        format!("--datastore-uri={database}"),
    ];
    let program = tools::openfga()?;
    let mut migrate = Process::new("openfga-migrate", &program, dir.path())
        .args(["migrate"])
        .args(&datastore);
    migrate.start()?;
    migrate.finish(MIGRATED).await?;
    let [grpc, http] = [address()?, address()?];
    let mut server = Process::new("openfga", &program, dir.path())
        .args(["run", "--log-level=error"])
        .args([
            "--playground-enabled=false",
            "--profiler-enabled=false",
            "--metrics-enabled=false",
        ])
        .args([format!("--grpc-addr={grpc}"), format!("--http-addr={http}")])
        .args(&datastore);
    server.start()?;
    server.ready(&Probe::Tcp(grpc), READY).await?;
    Ok((grpc, server))
}
