//! A whole cluster.

use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};
use tokio::time::sleep;

use super::access::Access;
use super::control_plane::{Api, Site};
use super::groups;
use super::network::{Claim, Network};
use super::node::{Node, Users};
use super::record::{Known, Record};
use super::sandbox::Sandbox;
use crate::kafka::Kafka;
use crate::place::Place;
use crate::postgres::Postgres;
use crate::process::Process;
use crate::workdir::Workdir;

/// The time between two looks at processes.
const TICK: Duration = Duration::from_millis(100);
/// How much of each log goes into an error.
const TAIL_LINES: usize = 20;

/// A one-node Kubernetes cluster with Kafka and PostgreSQL beside it.
///
/// It ends when this is dropped, and when the test's process dies. Its files go with it, but stay when the test fails.
/// Root alone can make one.
#[derive(Debug)]
pub struct Cluster {
    access: Access,
    // Fields are dropped in this order. The first to end, and with it all that runs in its namespaces.
    holder: Holder,
    inside: Vec<Process>,
    kafka: Kafka,
    postgres: Postgres,
    dir: Workdir,
}

impl Cluster {
    /// Starts it and waits until its node takes pods, about half a minute. `say` is told how far it has come.
    ///
    /// # Errors
    ///
    /// When a program is not there (the message says how to get it) or does not become ready, or without root's rights.
    pub async fn start(say: &dyn Fn(&str)) -> Result<Self> {
        let dir = Workdir::new("cluster")?;
        let claim = Claim::first().await.context("choosing a network")?;
        let network = claim.network;
        groups::remove(&network.name()).await?;
        let (sandbox, process) = Sandbox::start(dir.path(), network)
            .await
            .context("making namespaces, which takes root's rights")?;
        let holder = Holder {
            process: Some(process),
            claim,
        };
        groups::make(&network.name())?;
        sandbox.connect(network).await?;
        say("namespaces and their network are there");

        let place = Place::inside(sandbox.network(), network.node());
        let servers = async {
            let servers = tokio::try_join!(Kafka::start_at(&place), Postgres::start_at(&place));
            say("Kafka and PostgreSQL run");
            servers
        };
        let kubernetes = kubernetes(&dir, &sandbox, network, say);
        let ((kafka, postgres), (api, mut inside)) = tokio::try_join!(servers, kubernetes)?;
        let access = Access {
            holder: Known::now(holder.id()?)?,
            network,
            dir: dir.path().to_owned(),
            kubeconfig: api.kubeconfig.clone(),
            audit: api.audit.path().to_owned(),
            kafka: kafka.bootstrap(),
            postgres: format!("postgres://postgres@{}:5432", network.node()),
        };
        inside.extend(api.into_processes());
        Ok(Self {
            access,
            holder,
            inside,
            kafka,
            postgres,
            dir,
        })
    }

    /// How it is used.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The broker, to be stopped and started again.
    pub fn kafka(&mut self) -> &mut Kafka {
        &mut self.kafka
    }

    /// The database server, to make databases, or to be stopped and started again.
    pub fn postgres(&mut self) -> &mut Postgres {
        &mut self.postgres
    }

    /// How to end it when nobody watches over it.
    ///
    /// # Errors
    ///
    /// When a part of it has ended already.
    pub fn record(&mut self) -> Result<Record> {
        let known = |process: &Process| Known::now(process.id().context("a server has ended")?);
        Ok(Record {
            access: self.access.clone(),
            kafka: known(self.kafka.process())?,
            postgres: known(self.postgres.process())?,
            dirs: vec![
                self.kafka.dir(),
                self.postgres.dir(),
                self.access.dir.clone(),
            ],
        })
    }

    /// Lets it run on when this process ends.
    pub fn leave_running(mut self) {
        self.dir.leave();
        self.kafka.leave_running();
        self.postgres.leave_running();
        self.holder.leave_running();
        for mut process in self.inside {
            process.leave_running();
        }
    }
}

/// The process whose end is the cluster's.
#[derive(Debug)]
struct Holder {
    process: Option<Process>,
    claim: Claim,
}

impl Holder {
    fn id(&self) -> Result<u32> {
        let process = self.process.as_ref().and_then(Process::id);
        process.context("the sandbox has no process")
    }

    fn leave_running(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.leave_running();
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            drop(process);
            let network = self.claim.network;
            network.unlink_blocking();
            groups::remove_blocking(&network.name());
        }
    }
}

/// Starts control plane and node.
async fn kubernetes(
    dir: &Workdir,
    sandbox: &Sandbox,
    network: Network,
    say: &dyn Fn(&str),
) -> Result<(Api, Vec<Process>)> {
    let site = Site {
        dir: dir.path(),
        host: network.node(),
        services: network.services(),
        api_port: 6443,
        etcd_ports: [2379, 2380],
        sandbox: Some(sandbox),
    };
    let users = Users::new()?;
    let all = users.all();
    let node = Node {
        site: &site,
        sandbox,
        network,
        users: &users,
    };
    let (api, containerd) = tokio::try_join!(Api::start(&site, &all, &[]), node.containerd())?;
    say("the API server answers");
    let mut processes = vec![containerd];
    processes.extend(node.controllers()?);
    processes.extend(node.pods()?);
    let ready = tokio::select! {
        ready = node.ready(&api.kubectl) => ready,
        ended = first_end(&mut processes) => Err(ended),
    };
    if let Err(error) = ready {
        let tails = processes.iter().map(|process| process.log_tail(TAIL_LINES));
        let tails = tails.collect::<Vec<_>>().join("\n");
        return Err(error.context(format!("the node is not ready\n{tails}")));
    }
    say("the node takes pods");
    Ok((api, processes))
}

/// Waits until one of these has ended, which none should.
async fn first_end(processes: &mut [Process]) -> Error {
    loop {
        for process in &mut *processes {
            match process.is_running() {
                Ok(true) => {}
                Ok(false) => return anyhow!("{} has ended", process.log().display()),
                Err(error) => return error,
            }
        }
        sleep(TICK).await;
    }
}
