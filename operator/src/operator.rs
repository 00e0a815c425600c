//! The process: from its options to running controllers, and in order out again.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use kube::{Client, Config};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};

use crate::build::Settings;
use crate::controller::{self, Parts, Scope};
use crate::events::Events;
use crate::lease::{Election, Leadership};
use crate::metrics::{self, Readiness};
use crate::nodes;
use crate::reconcile::read::call;

/// How long what is under way may take once the operator is told to stop.
const SHUTDOWN: Duration = Duration::from_secs(20);
/// How long the API server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the cluster's version is asked for.
const VERSION_TRIES: u64 = 4;

/// What the operator is told.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The image of nodes where an AuthzStore names none.
    #[arg(long, env = "MERIDIAN_NODE_IMAGE", value_name = "IMAGE")]
    node_image: String,
    /// The namespaces to look after, separated by commas; all unless set.
    #[arg(
        long,
        env = "WATCH_NAMESPACE",
        value_name = "NAMES",
        default_value = ""
    )]
    watch_namespace: String,
    /// Who this operator is to the others; its host's name unless set.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    name: Option<String>,
    /// The namespace of the Lease that operators compete for; the operator's own unless set.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// The Lease that operators compete for. Those that look after other namespaces need another.
    #[arg(
        long,
        env = "MERIDIAN_LEASE",
        value_name = "NAME",
        default_value = "meridian-operator"
    )]
    lease: String,
    /// Where `/livez` and `/readyz` are served.
    #[arg(
        long,
        env = "MERIDIAN_HEALTH_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:8080"
    )]
    health: SocketAddr,
    /// Where `/metrics` is served.
    #[arg(
        long,
        env = "MERIDIAN_METRICS_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:9090"
    )]
    metrics: SocketAddr,
}

/// Runs the operator until `stop` resolves.
///
/// # Errors
/// When it cannot start, or has lost its Lease: started anew, it competes again.
pub async fn run(options: Options, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let readiness = Readiness::default();
    let handle = metrics::record()?;
    let health = metrics::serve_health(options.health, readiness.clone()).await?;
    let figures = metrics::serve_metrics(options.metrics, handle).await?;
    let mut config = Config::infer()
        .await
        .context("no Kubernetes: neither a pod's service account nor a kubeconfig is there")?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    let namespace = options
        .namespace
        .clone()
        .unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config)?;
    let name = identity(&options);
    let mut election = Election::new(client.clone(), &namespace, &options.lease, name.clone());
    let leadership = election.leadership();
    tokio::select! {
        done = lead(&options, client, &name, &mut election, leadership, &readiness, stop) => done?,
        served = health => served.context("serving health")?,
        served = figures => served.context("serving metrics")?,
    }
    Ok(())
}

async fn lead(
    options: &Options,
    client: Client,
    name: &str,
    election: &mut Election,
    leadership: Leadership,
    readiness: &Readiness,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let mut stop = std::pin::pin!(stop);
    // While it does not lead yet: what leads must renew its Lease.
    let traffic_distribution = tokio::select! {
        known = traffic_distribution(&client) => known.to_owned(),
        () = &mut stop => return Ok(()),
    };
    tokio::select! {
        () = election.win(|| readiness.set()) => {}
        () = &mut stop => return Ok(()),
    }
    metrics::leading(true);
    let parts = Parts {
        settings: Settings {
            node_image: options.node_image.clone(),
            traffic_distribution,
        },
        nodes: Arc::new(nodes::Client::default()),
        events: Events::new(client.clone(), name),
        leadership,
        client,
    };
    let (stopping, stopped) = watch::channel(false);
    let scopes = scopes(&options.watch_namespace);
    let controllers = tokio::spawn(controller::run(parts, scopes, stopped));
    supervise(election, controllers, stopping, stop).await
}

/// Leads until `stop` resolves, and then ends in order: `stopping` tells the controllers.
///
/// # Errors
/// When the Lease is lost, or the controllers end without being told to. The Lease is given up, so that another operator
/// leads at once, and not one that does nothing.
pub async fn supervise(
    election: &mut Election,
    mut controllers: JoinHandle<anyhow::Result<()>>,
    stopping: watch::Sender<bool>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let why = tokio::select! {
        () = election.keep() => Err(anyhow!("the lease was lost: another operator leads")),
        () = stop => Ok(()),
        ended = &mut controllers => Err(died(ended)),
    };
    stopping.send_replace(true);
    if !controllers.is_finished() {
        let leads = election.leadership().check().is_ok();
        let ended = tokio::time::timeout(SHUTDOWN, async {
            // Renewed meanwhile: what is under way may still write.
            tokio::select! {
                _ = &mut controllers => {}
                () = election.keep(), if leads => {}
            }
        });
        if ended.await.is_err() {
            tracing::warn!("what was under way took too long and is given up");
        }
    }
    controllers.abort();
    metrics::leading(false);
    election.release().await;
    if why.is_ok() {
        tracing::info!("stopped");
    }
    why
}

fn died(ended: Result<anyhow::Result<()>, JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ok(())) => anyhow!("the controllers ended, and nobody told them to"),
        Ok(Err(error)) => error,
        Err(error) => anyhow::Error::new(error).context("a controller failed"),
    }
}

/// Unique among operators, also among those that a host has had one after the other.
fn identity(options: &Options) -> String {
    let host = || std::env::var("HOSTNAME").unwrap_or_else(|_| "operator".to_owned());
    let name = options.name.clone().unwrap_or_else(host);
    format!("{name}-{:08x}", rand::random::<u32>())
}

fn scopes(namespaces: &str) -> Vec<Scope> {
    let named: Vec<Scope> = namespaces
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(|name| Scope::Namespace(name.to_owned()))
        .collect();
    if named.is_empty() {
        vec![Scope::All]
    } else {
        named
    }
}

/// What edge Services prefer where nothing is said, by the cluster's version: clusters before 1.34 know a preference for
/// the zone only, under another name, which is what is taken where the version cannot be read either.
pub async fn traffic_distribution(client: &Client) -> &'static str {
    let mut tries = 1;
    let version = loop {
        match call(|| "read the version".to_owned(), client.apiserver_version()).await {
            Ok(version) => break Some(version),
            Err(error) if tries == VERSION_TRIES => {
                tracing::warn!(%error, "edge Services prefer the same zone, not the same machine");
                break None;
            }
            Err(_) => tokio::time::sleep(Duration::from_secs(tries)).await,
        }
        tries += 1;
    };
    let minor = version.and_then(|version| {
        let digits = version.minor.chars().take_while(char::is_ascii_digit);
        digits.collect::<String>().parse::<u32>().ok()
    });
    if minor.is_some_and(|minor| minor >= 34) {
        "PreferSameNode"
    } else {
        "PreferClose"
    }
}
