//! Namespaces that everything of a cluster lives in, and dies with.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::process::Command;

use super::command::run;
use super::groups;
use super::network::Network;
use crate::probe::Probe;
use crate::process::Process;

const START_DEADLINE: Duration = Duration::from_secs(30);

/// What `sh` does as the first process, given the cluster's folder; then it reaps what others leave behind.
///
/// Everything that a node writes outside the cluster's folder is written to memory, or refused: nothing of it is left
/// when the namespaces are gone. Settings of the kernel that a kubelet changes are the whole machine's, so it is shown
/// files in their place.
const SCRIPT: &str = r#"set -eu
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/cluster /run/lock
mount --bind "$1" /run/cluster
for dir in /var/lib /var/log /tmp; do
    over="/run/over$dir"
    mkdir -p "$over/upper" "$over/work"
    mount -t overlay -o "lowerdir=$dir,upperdir=$over/upper,workdir=$over/work" overlay "$dir"
done
mkdir -p "$1"
mount --bind /run/cluster "$1"
mount -o remount,bind,ro /
for setting in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops \
    kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
    shown="/run/settings/$setting"
    mkdir -p "${shown%/*}"
    cat "/proc/sys/$setting" > "$shown"
    mount --bind "$shown" "/proc/sys/$setting"
done
mount --make-rshared /
echo 1 > /proc/sys/net/ipv4/ip_forward
ip link set lo up
: > /run/ready
while :; do
    sleep 86400 &
    wait
done
"#;

/// The way into the namespaces of processes, mounts and network that a process holds.
#[derive(Clone, Debug)]
pub(super) struct Sandbox {
    holder: u32,
}

impl Sandbox {
    /// Makes the namespaces; they end, with all that runs in them, when the returned process does.
    ///
    /// Should this process die, then also the control groups of `network` and the folder go.
    pub(super) async fn start(dir: &Path, network: Network) -> Result<(Self, Process)> {
        let tidy = format!(
            "{}rm -rf -- '{}'",
            groups::remove_script(&network.name()),
            dir.display()
        );
        let mut holder = Process::new("sandbox", "unshare", dir)
            .args([
                "--pid",
                "--mount",
                "--net",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "sh",
                "-c",
                SCRIPT,
                "sandbox",
            ])
            .args([dir])
            .tidy(tidy);
        holder.start()?;
        let pid = holder.id().context("the sandbox has no process")?;
        let sandbox = Self::of(pid);
        let probe = sandbox.probe(&["test", "-e", "/run/ready"]);
        holder.ready(&probe, START_DEADLINE).await?;
        Ok((sandbox, holder))
    }

    /// The namespaces that the process `holder` has made.
    pub(super) fn of(holder: u32) -> Self {
        Self { holder }
    }

    /// A program inside, in a folder with the same path there as here.
    pub(super) fn process(&self, name: &str, program: PathBuf, dir: &Path) -> Process {
        Process::new(name, "nsenter", dir)
            .args(self.all())
            .args([program.into_os_string()])
    }

    /// Asks whether a program ends with success inside.
    pub(super) fn probe(&self, args: &[&str]) -> Probe {
        let mut all = self.all();
        all.extend(args.iter().map(OsString::from));
        Probe::Command("nsenter".into(), all)
    }

    /// Runs a program inside to its end; returns what it prints.
    pub(super) async fn run<'a>(
        &self,
        args: impl IntoIterator<Item = &'a str>,
        deadline: Duration,
    ) -> Result<String> {
        let args: Vec<_> = args.into_iter().collect();
        let shown = args.join(" ");
        let mut command = Command::new("nsenter");
        command.args(self.all()).args(args);
        run(&mut command, &shown, "", deadline).await
    }

    /// Links the network inside with this machine's.
    pub(super) async fn connect(&self, network: Network) -> Result<()> {
        network.link(self.holder).await?;
        let script = network.inside();
        self.run(["sh", "-euc", &script], START_DEADLINE).await?;
        Ok(())
    }

    /// The file that stands for the network's namespace.
    pub(super) fn network(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.holder).into()
    }

    /// `nsenter`'s arguments. Its holder is itself in all of them but that of processes, where only its children are.
    fn all(&self) -> Vec<OsString> {
        let pid = self.holder;
        [
            format!("--mount=/proc/{pid}/ns/mnt"),
            format!("--net=/proc/{pid}/ns/net"),
            format!("--pid=/proc/{pid}/ns/pid_for_children"),
            "--".to_owned(),
        ]
        .map(OsString::from)
        .to_vec()
    }
}
