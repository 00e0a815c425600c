//! How a running cluster is used.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::audit::AuditLog;
use super::kubectl::Kubectl;
use super::network::Network;
use super::node::SOCKET;
use super::record::Known;
use super::sandbox::Sandbox;

/// Loading an image is the longest of what is asked of containerd.
const CTR_DEADLINE: Duration = Duration::from_secs(120);

/// A running cluster's addresses and settings. From this machine pods and Services are reached at their own addresses.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Access {
    pub(super) holder: Known,
    pub(super) network: Network,
    pub(super) dir: PathBuf,
    pub(super) kubeconfig: PathBuf,
    pub(super) audit: PathBuf,
    pub(super) kafka: String,
    pub(super) postgres: String,
}

impl Access {
    /// The settings file of a client that may do everything.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// `kubectl` that may do everything.
    ///
    /// # Errors
    ///
    /// When there is no `kubectl`.
    pub fn kubectl(&self) -> Result<Kubectl> {
        Kubectl::new(&self.kubeconfig)
    }

    /// All that has been written through the API server.
    #[must_use]
    pub fn audit(&self) -> AuditLog {
        AuditLog::new(self.audit.clone())
    }

    /// Where pods' clients of Kafka start.
    #[must_use]
    pub fn kafka(&self) -> &str {
        &self.kafka
    }

    /// Where pods reach one of PostgreSQL's databases.
    #[must_use]
    pub fn postgres(&self, database: &str) -> String {
        format!("{}/{database}", self.postgres)
    }

    /// The node's address, at which this machine reaches it.
    #[must_use]
    pub fn node(&self) -> Ipv4Addr {
        self.network.node()
    }

    /// The folder of settings, data and logs.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.holder.runs()
    }

    /// Loads the image of a tar archive.
    ///
    /// # Errors
    ///
    /// When containerd refuses it.
    pub async fn import(&self, archive: &Path) -> Result<()> {
        let Some(path) = archive.to_str() else {
            bail!("{} is no UTF-8", archive.display());
        };
        self.ctr(&["images", "import", path])
            .await
            .with_context(|| format!("loading the image of {path}"))
    }

    /// Gives an image that is loaded a second name.
    ///
    /// # Errors
    ///
    /// When there is no such image.
    pub async fn tag(&self, image: &str, as_well: &str) -> Result<()> {
        self.ctr(&["images", "tag", "--force", image, as_well])
            .await
    }

    /// Ends a container's main process by SIGKILL, of which neither it nor Kubernetes is told: what is left is a crash.
    /// `container` is its id in a pod's status, without the scheme.
    ///
    /// # Errors
    ///
    /// When no such container runs.
    pub async fn crash(&self, container: &str) -> Result<()> {
        self.ctr(&["tasks", "kill", "--signal", "SIGKILL", container])
            .await
    }

    async fn ctr(&self, args: &[&str]) -> Result<()> {
        let ctr = ["ctr", "--address", SOCKET, "--namespace", "k8s.io"];
        let command = ctr.into_iter().chain(args.iter().copied());
        Sandbox::of(self.holder.pid())
            .run(command, CTR_DEADLINE)
            .await?;
        Ok(())
    }
}
