//! The processes of a node, and of those who give it work.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use super::control_plane::{AUTHORITY, KEY, Site};
use super::credentials::User;
use super::kubectl::Kubectl;
use super::network::Network;
use super::sandbox::Sandbox;
use crate::process::Process;
use crate::tools::{self, Program};

/// The node's name.
const NAME: &str = "node";
/// Where containerd listens, in the cluster's namespaces.
pub(super) const SOCKET: &str = "/run/containerd/containerd.sock";
/// What keeps a pod's namespaces.
pub(super) const PAUSE: &str = "registry.local/pause:1";

const START_DEADLINE: Duration = Duration::from_secs(60);

/// Those who ask the API server.
pub(super) struct Users {
    manager: User,
    scheduler: User,
    kubelet: User,
    proxy: User,
    dns: User,
}

impl Users {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            manager: User::new("system:kube-controller-manager", "")?,
            scheduler: User::new("system:kube-scheduler", "")?,
            kubelet: User::new(format!("system:node:{NAME}"), "system:nodes")?,
            proxy: User::new("system:kube-proxy", "")?,
            dns: User::new("system:dns", "system:masters")?,
        })
    }

    pub(super) fn all(&self) -> [User; 5] {
        [
            &self.manager,
            &self.scheduler,
            &self.kubelet,
            &self.proxy,
            &self.dns,
        ]
        .map(User::clone)
    }
}

/// A node that is being made: where, in which network, and who its processes are.
pub(super) struct Node<'a> {
    pub(super) site: &'a Site<'a>,
    pub(super) sandbox: &'a Sandbox,
    pub(super) network: Network,
    pub(super) users: &'a Users,
}

impl Node<'_> {
    /// Starts containerd and waits until it answers.
    pub(super) async fn containerd(&self) -> Result<Process> {
        let cni = self.site.path("cni");
        fs::create_dir(&cni).with_context(|| format!("making {cni}"))?;
        self.settings("cni/pods.conflist", include_str!("settings/pods.conflist"))?;
        let config = self.settings("containerd.toml", include_str!("settings/containerd.toml"))?;
        let program = tools::on_path("containerd").context("no `containerd` on the path")?;
        let mut process = self
            .sandbox
            .process("containerd", program, self.site.dir)
            .args(["--config", &config, "--log-level", "warn"]);
        process.start()?;
        let ask = ["ctr", "--address", SOCKET, "version"];
        let probe = self.sandbox.probe(&ask);
        process.ready(&probe, START_DEADLINE).await?;
        Ok(process)
    }

    /// Starts what makes pods of Deployments and gives them a node; does not wait.
    pub(super) fn controllers(&self) -> Result<[Process; 2]> {
        let kubeconfig = self.site.kubeconfig(&self.users.manager)?;
        let mut manager = self.site.process(Program::KubeControllerManager)?.args([
            format!("--kubeconfig={kubeconfig}"),
            "--bind-address=127.0.0.1".to_owned(),
            "--leader-elect=false".to_owned(),
            "--use-service-account-credentials=true".to_owned(),
            format!("--service-account-private-key-file={}", self.site.path(KEY)),
            format!("--root-ca-file={}", self.site.path(AUTHORITY)),
            format!(
                "--flex-volume-plugin-dir={}",
                self.site.path("volume-plugins")
            ),
        ]);
        let kubeconfig = self.site.kubeconfig(&self.users.scheduler)?;
        let mut scheduler = self.site.process(Program::KubeScheduler)?.args([
            format!("--kubeconfig={kubeconfig}"),
            "--bind-address=127.0.0.1".to_owned(),
            "--leader-elect=false".to_owned(),
        ]);
        manager.start()?;
        scheduler.start()?;
        Ok([manager, scheduler])
    }

    /// Starts what runs pods, routes Services and answers for names; does not wait.
    pub(super) fn pods(&self) -> Result<[Process; 3]> {
        self.site.write("resolv.conf", "")?;
        let config = self.settings("kubelet.yaml", include_str!("settings/kubelet.yaml"))?;
        let kubeconfig = self.site.kubeconfig(&self.users.kubelet)?;
        let mut kubelet = self.site.process(Program::Kubelet)?.args([
            format!("--config={config}"),
            format!("--kubeconfig={kubeconfig}"),
            format!("--hostname-override={NAME}"),
            format!("--node-ip={}", self.network.node()),
            format!("--root-dir={}", self.site.path("kubelet")),
            format!("--cert-dir={}", self.site.path("kubelet-certificates")),
        ]);
        let kubeconfig = self.site.kubeconfig(&self.users.proxy)?;
        let mut proxy = self.site.process(Program::KubeProxy)?.args([
            format!("--kubeconfig={kubeconfig}"),
            format!("--hostname-override={NAME}"),
            "--proxy-mode=iptables".to_owned(),
            format!("--cluster-cidr={}", self.network.pods()),
            // The table of connections is the whole machine's.
            "--conntrack-max-per-core=0".to_owned(),
        ]);
        let corefile = include_str!("settings/Corefile")
            .replace("{kubeconfig}", &self.site.kubeconfig(&self.users.dns)?);
        let corefile = self.settings("Corefile", &corefile)?;
        let mut dns = self
            .site
            .process(Program::Coredns)?
            .args(["-conf", &corefile]);
        kubelet.start()?;
        proxy.start()?;
        dns.start()?;
        Ok([kubelet, proxy, dns])
    }

    /// Waits until the node takes pods and names are answered for.
    pub(super) async fn ready(&self, kubectl: &Kubectl) -> Result<()> {
        kubectl
            .apply(&self.filled(include_str!("settings/dns.yaml"))?)
            .await?;
        let node = format!("node/{NAME}");
        let limit = format!("--timeout={}s", START_DEADLINE.as_secs());
        for until in ["--for=create", "--for=condition=Ready"] {
            let wait = ["wait", until, &limit, &node];
            kubectl.run_with(wait, "", 2 * START_DEADLINE).await?;
        }
        let account = ["wait", "--for=create", &limit, "serviceaccount/default"];
        kubectl.run_with(account, "", 2 * START_DEADLINE).await?;
        Ok(())
    }

    fn settings(&self, name: &str, template: &str) -> Result<String> {
        self.site.write(name, &self.filled(template)?)
    }

    fn filled(&self, template: &str) -> Result<String> {
        Ok(template
            .replace("{dir}", &self.site.dir.display().to_string())
            .replace("{socket}", SOCKET)
            .replace("{pause}", PAUSE)
            .replace("{plugins}", &tools::cni_plugins()?.display().to_string())
            .replace("{group}", &self.network.name())
            .replace("{node}", &self.network.node().to_string())
            .replace("{dns}", &self.network.dns().to_string())
            .replace("{pods}", &self.network.pods()))
    }
}
