//! What has to be ended when a cluster ends that nobody watches over.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::access::Access;
use super::groups;

const TICK: Duration = Duration::from_millis(20);
/// How long a process may take to end in good order.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// How long the system may take to end one.
const KILL_DEADLINE: Duration = Duration::from_secs(30);

/// A cluster that runs by itself.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Record {
    pub(super) access: Access,
    pub(super) kafka: Known,
    pub(super) postgres: Known,
    pub(super) dirs: Vec<PathBuf>,
}

impl Record {
    /// How the cluster is used.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Reads what [`Self::save`] has written; `None` if there is no such file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn load(path: &Path) -> Result<Option<Self>> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("reading {}", path.display()));
            }
        };
        let record = serde_json::from_str(&text)
            .with_context(|| format!("{} is no record of a cluster", path.display()))?;
        Ok(Some(record))
    }

    /// Writes it down.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// Ends the cluster and removes all that it has left; does nothing where nothing is left.
    ///
    /// # Errors
    ///
    /// When a process does not end or a file cannot be removed.
    pub async fn end(&self) -> Result<()> {
        let Access {
            holder, network, ..
        } = &self.access;
        let was_up = holder.runs();
        // All that runs inside ends with it, and is not asked. The two servers do not run inside.
        holder.end(Signal::KILL).await?;
        self.kafka.end(Signal::TERM).await?;
        self.postgres.end(Signal::INT).await?;
        if was_up {
            network.unlink_blocking();
        }
        if !network.is_used() {
            groups::remove(&network.name()).await?;
        }
        for dir in &self.dirs {
            if dir.exists() {
                fs::remove_dir_all(dir).with_context(|| format!("removing {}", dir.display()))?;
            }
        }
        Ok(())
    }
}

/// A process that is known for sure to be the one that was started: numbers are given anew, moments of start are not.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Known {
    pid: u32,
    /// In ticks of the system's clock since it was booted.
    started: u64,
    /// Which boot.
    boot: String,
}

impl Known {
    /// The process that has this number now.
    pub(super) fn now(pid: u32) -> Result<Self> {
        let started = started(pid).with_context(|| format!("process {pid} has ended"))?;
        Ok(Self {
            pid,
            started,
            boot: boot()?,
        })
    }

    /// Its number.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it still runs.
    pub(super) fn runs(&self) -> bool {
        started(self.pid) == Some(self.started) && boot().is_ok_and(|boot| boot == self.boot)
    }

    /// Asks it with `signal` to end, if it still runs, then ends it.
    pub(super) async fn end(&self, signal: Signal) -> Result<()> {
        for (signal, deadline) in [(signal, STOP_DEADLINE), (Signal::KILL, KILL_DEADLINE)] {
            let start = Instant::now();
            self.signal(signal);
            while self.runs() {
                if start.elapsed() > deadline {
                    break;
                }
                sleep(TICK).await;
            }
        }
        if self.runs() {
            bail!("process {} does not end, not even by SIGKILL", self.pid);
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| self.runs()) {
            // Refused only when it has just ended.
            let _ = kill_process(pid, signal);
        }
    }
}

/// When a process was started; `None` if there is none, or it has ended and was not asked about.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses, which may hold anything.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    let state = fields.next()?;
    (state != "Z").then_some(())?;
    fields.nth(18)?.parse().ok()
}

fn boot() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    Ok(text.trim().to_owned())
}
