//! An API server on an etcd of its own.

use std::ffi::OsString;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::audit::{self, AuditLog};
use super::credentials::User;
use super::kubectl::Kubectl;
use super::sandbox::Sandbox;
use crate::ports::free_port;
use crate::probe::Probe;
use crate::process::Process;
use crate::tools::Program;
use crate::workdir::Workdir;

const START_DEADLINE: Duration = Duration::from_secs(90);
/// Where Services get addresses from that nobody can reach.
const SERVICES: &str = "10.96.0.0/16";

/// etcd and kube-apiserver on 127.0.0.1, with ports and a folder of their own.
///
/// There are no controllers: nothing runs pods, fills Endpoints or collects what has lost its owner. Both end when this
/// is dropped, and when the test's process dies. Their files go with them, but stay when the test fails.
#[derive(Debug)]
pub struct ControlPlane {
    api: Api,
    _dir: Workdir,
}

impl ControlPlane {
    /// Starts both and waits until the API server is ready, which takes some seconds.
    ///
    /// # Errors
    ///
    /// When a program is not there (the message says how to get it), or is not ready after 90 seconds.
    pub async fn start() -> Result<Self> {
        let dir = Workdir::new("kubernetes")?;
        let site = Site {
            dir: dir.path(),
            host: Ipv4Addr::LOCALHOST,
            services: SERVICES.to_owned(),
            api_port: free_port()?,
            etcd_ports: [free_port()?, free_port()?],
            sandbox: None,
        };
        // Who is not let in without a controller that makes service accounts, nor announced at a loopback address. What
        // some clusters ask of who owns objects, this one asks too.
        let alone = [
            "--disable-admission-plugins=ServiceAccount",
            "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
            "--endpoint-reconciler-type=none",
        ];
        let api = Api::start(&site, &[], &alone).await?;
        Ok(Self { api, _dir: dir })
    }

    /// The settings file of a client that may do everything.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.api.kubeconfig
    }

    /// `kubectl` that may do everything.
    #[must_use]
    pub fn kubectl(&self) -> &Kubectl {
        &self.api.kubectl
    }

    /// All that has been written.
    #[must_use]
    pub fn audit(&self) -> &AuditLog {
        &self.api.audit
    }
}

/// Where a control plane lives.
pub(super) struct Site<'a> {
    /// Its folder.
    pub(super) dir: &'a Path,
    /// The address that the API server listens on.
    pub(super) host: Ipv4Addr,
    /// Where Services get their addresses from.
    pub(super) services: String,
    pub(super) api_port: u16,
    /// For clients, and for other members, of which there are none.
    pub(super) etcd_ports: [u16; 2],
    /// What its processes run in, if it is not just this machine.
    pub(super) sandbox: Option<&'a Sandbox>,
}

impl Site<'_> {
    /// A program of the cluster.
    pub(super) fn process(&self, program: Program) -> Result<Process> {
        let path = program.find()?;
        Ok(match self.sandbox {
            Some(sandbox) => sandbox.process(program.name(), path, self.dir),
            None => Process::new(program.name(), path, self.dir),
        })
    }

    /// The path of a file in its folder.
    pub(super) fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Writes a file into its folder; returns its path.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<String> {
        let path = self.path(name);
        fs::write(&path, text).with_context(|| format!("writing {path}"))?;
        Ok(path)
    }

    /// Writes the settings by which `user` reaches the API server; returns the file's path.
    pub(super) fn kubeconfig(&self, user: &User) -> Result<String> {
        let text = user.kubeconfig(&self.api(), &self.path(AUTHORITY));
        self.write(&format!("{}.kubeconfig", user.name()), &text)
    }

    fn api(&self) -> String {
        format!("https://{}:{}", self.host, self.api_port)
    }
}

/// The running processes of a control plane.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) kubeconfig: PathBuf,
    pub(super) kubectl: Kubectl,
    pub(super) audit: AuditLog,
    // Ends before what it keeps its data in.
    server: Process,
    etcd: Process,
}

impl Api {
    /// Starts etcd and the API server, which lets in `users` besides its master.
    pub(super) async fn start(site: &Site<'_>, users: &[User], args: &[&str]) -> Result<Self> {
        let mut etcd = etcd(site)?;
        etcd.start()?;
        let master = User::new("admin", "system:masters")?;
        let tokens: String = users.iter().chain([&master]).map(User::line).collect();
        site.write("tokens.csv", &tokens)?;
        site.write("audit-policy.yaml", audit::POLICY)?;
        let kubeconfig = site.kubeconfig(&master)?;
        let kubectl = Kubectl::new(&kubeconfig)?;

        let mut server = api_server(site)?.args(args);
        server.start()?;
        let ask = ["--kubeconfig", &kubeconfig, "get", "--raw=/readyz"]
            .map(OsString::from)
            .to_vec();
        let probe = Probe::Command(kubectl.program().to_owned(), ask);
        server.ready(&probe, START_DEADLINE).await?;
        Ok(Self {
            audit: AuditLog::new(site.dir.join(AUDIT)),
            kubeconfig: kubeconfig.into(),
            kubectl,
            server,
            etcd,
        })
    }
}

impl Api {
    /// Its processes, to be ended in this order.
    pub(super) fn into_processes(self) -> [Process; 2] {
        [self.server, self.etcd]
    }
}

/// What the API server signs its certificate with, both made by itself.
pub(super) const AUTHORITY: &str = "certificates/apiserver.crt";
/// The key of its certificate, which signs the tokens of service accounts too.
pub(super) const KEY: &str = "certificates/apiserver.key";
const AUDIT: &str = "audit.log";

fn etcd(site: &Site<'_>) -> Result<Process> {
    let [client, peer] = site
        .etcd_ports
        .map(|port| format!("http://127.0.0.1:{port}"));
    Ok(site.process(Program::Etcd)?.args([
        format!("--data-dir={}", site.path("etcd")),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        // Its data do not outlive it.
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ]))
}

fn api_server(site: &Site<'_>) -> Result<Process> {
    let [etcd, _] = site.etcd_ports;
    Ok(site.process(Program::KubeApiserver)?.args([
        format!("--etcd-servers=http://127.0.0.1:{etcd}"),
        format!("--bind-address={}", site.host),
        format!("--advertise-address={}", site.host),
        format!("--secure-port={}", site.api_port),
        format!("--cert-dir={}", site.path("certificates")),
        format!("--token-auth-file={}", site.path("tokens.csv")),
        "--authorization-mode=Node,RBAC".to_owned(),
        // Nobody answers for a node's name.
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", site.path(KEY)),
        format!("--service-account-signing-key-file={}", site.path(KEY)),
        format!("--service-cluster-ip-range={}", site.services),
        "--allow-privileged=true".to_owned(),
        format!("--audit-policy-file={}", site.path("audit-policy.yaml")),
        format!("--audit-log-path={}", site.path(AUDIT)),
        "--profiling=false".to_owned(),
    ]))
}
