//! A program that a test starts, awaits, stops and starts again.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use tokio::time::sleep;

use crate::group::Group;
use crate::probe::Probe;

pub use rustix::process::Signal;

/// How long a process may take to end in good order.
const STOP_DEADLINE: Duration = Duration::from_secs(30);
/// The time between two tries of a probe.
const TICK: Duration = Duration::from_millis(20);
/// How much of a log goes into an error.
const TAIL_LINES: usize = 40;

/// The system account that a process runs under: user and group number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

/// One program with its arguments, environment and log file; running or not.
///
/// It runs in a process group of its own. Dropped, it is ended hard.
#[derive(Debug)]
pub struct Process {
    name: String,
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    dir: PathBuf,
    account: Option<Account>,
    network: Option<PathBuf>,
    tidy: String,
    stop: Signal,
    kill: Signal,
    running: Option<Group>,
}

impl Process {
    /// Describes `program`, which will run in folder `dir` and write what it prints to `<dir>/<name>.log`.
    pub fn new(
        name: impl Into<String>,
        program: impl Into<PathBuf>,
        dir: impl Into<PathBuf>,
    ) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            dir: dir.into(),
            account: None,
            network: None,
            tidy: String::new(),
            stop: Signal::TERM,
            kill: Signal::KILL,
            running: None,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable, besides those of the test.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Ends the process with other signals than SIGTERM in good order and SIGKILL hard.
    #[must_use]
    pub fn signals(mut self, stop: Signal, kill: Signal) -> Self {
        self.stop = stop;
        self.kill = kill;
        self
    }

    /// Runs the process under another account, which only root may.
    #[must_use]
    pub(crate) fn account(mut self, account: Option<Account>) -> Self {
        self.account = account;
        self
    }

    /// Runs the process in the network namespace that a file stands for, which only root may.
    #[must_use]
    pub(crate) fn network(mut self, network: PathBuf) -> Self {
        self.network = Some(network);
        self
    }

    /// Has `sh` tidy up after the process, should the process of the test die.
    #[must_use]
    pub(crate) fn tidy(mut self, script: String) -> Self {
        self.tidy = script;
        self
    }

    /// Starts the process; does not wait until it is ready.
    ///
    /// # Errors
    ///
    /// When it runs already, or the program or its log file cannot be opened.
    pub fn start(&mut self) -> Result<()> {
        ensure!(!self.is_running()?, "{} runs already", self.name);
        let path = self.log();
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("opening {}", path.display()))?;
        let mut command = self.command();
        command
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        command
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.running = None; // what an earlier run has left behind ends first
        self.running = Some(Group::spawn_tidy(&mut command, self.kill, &self.tidy)?);
        Ok(())
    }

    /// The program, without its arguments, under its account and in its network.
    fn command(&self) -> Command {
        let Some(network) = &self.network else {
            let mut command = Command::new(&self.program);
            if let Some(account) = self.account {
                command.uid(account.user).gid(account.group);
            }
            return command;
        };
        // Becomes the program, so that signals reach it. The account may not enter the network by itself.
        let mut command = Command::new("nsenter");
        let mut net = OsString::from("--net=");
        net.push(network);
        command.arg(net);
        if let Some(account) = self.account {
            command.arg(format!("--setuid={}", account.user));
            command.arg(format!("--setgid={}", account.group));
        }
        command.arg("--").arg(&self.program);
        command
    }

    /// Waits until the process does what `probe` asks.
    ///
    /// # Errors
    ///
    /// When it ends, or `deadline` passes; with the end of its log.
    pub async fn ready(&mut self, probe: &Probe, deadline: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.group()?.exit_status()? {
                bail!(
                    "{} ended ({status}) before it was ready\n{}",
                    self.name,
                    self.log_tail(TAIL_LINES)
                );
            }
            let Err(reason) = probe.ask().await else {
                return Ok(());
            };
            if start.elapsed() > deadline {
                let tail = self.log_tail(TAIL_LINES);
                bail!(
                    "{} is not ready after {deadline:?}: {probe:?}: {reason}\n{tail}",
                    self.name
                );
            }
            sleep(TICK).await;
        }
    }

    /// Waits until the process has ended by itself, with success.
    ///
    /// # Errors
    ///
    /// When it fails, or `deadline` passes, which ends it hard; with the end of its log.
    pub async fn finish(&mut self, deadline: Duration) -> Result<()> {
        let status = self.ended(deadline).await?;
        ensure!(
            status.success(),
            "{} failed ({status})\n{}",
            self.name,
            self.log_tail(TAIL_LINES)
        );
        Ok(())
    }

    /// Waits until the process has ended by itself, with success or not.
    ///
    /// # Errors
    ///
    /// When `deadline` passes, which ends it hard; with the end of its log.
    pub async fn ended(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let ended = self.group()?.ended_within(deadline).await?;
        self.kill().await;
        ended.ok_or_else(|| {
            let tail = self.log_tail(TAIL_LINES);
            anyhow!("{} did not finish in {deadline:?}\n{tail}", self.name)
        })
    }

    /// Ends the process in good order (SIGTERM, if not set otherwise). Does nothing if it does not run.
    ///
    /// # Errors
    ///
    /// When it has not ended after 30 seconds, which ends it hard; with the end of its log.
    pub async fn stop(&mut self) -> Result<()> {
        let Some(group) = &mut self.running else {
            return Ok(());
        };
        group.signal(self.stop)?;
        let ended = group.ended_within(STOP_DEADLINE).await?.is_some();
        self.kill().await;
        ensure!(
            ended,
            "{} did not stop in {STOP_DEADLINE:?}\n{}",
            self.name,
            self.log_tail(TAIL_LINES)
        );
        Ok(())
    }

    /// Ends the process hard (SIGKILL, if not set otherwise). Does nothing if it does not run.
    pub async fn kill(&mut self) {
        if let Some(group) = self.running.take() {
            group.end().await;
        }
    }

    /// Sends a signal, such as [`Signal::STOP`] and [`Signal::CONT`] to freeze the process and to let it go on.
    ///
    /// # Errors
    ///
    /// When the process has not been started, or the system refuses the signal.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.group()?.signal(signal)
    }

    /// Whether the process has been started and has not ended.
    ///
    /// # Errors
    ///
    /// When the system does not say.
    pub fn is_running(&mut self) -> Result<bool> {
        match &mut self.running {
            Some(group) => Ok(group.exit_status()?.is_none()),
            None => Ok(false),
        }
    }

    /// The process id, from its start until it is stopped.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.running.as_ref().map(Group::id)
    }

    /// The file that takes what the process prints, over all its starts.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join(format!("{}.log", self.name))
    }

    /// The log's last `lines`, headed by its path.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        let path = self.log();
        match tail(&path, lines) {
            Ok(tail) => format!("--- {}\n{tail}", path.display()),
            Err(error) => format!("--- {}: {error}", path.display()),
        }
    }

    /// Lets the process run on when this and the process of the test are gone.
    pub(crate) fn leave_running(&mut self) {
        if let Some(group) = self.running.take() {
            group.leave_running();
        }
    }

    fn group(&mut self) -> Result<&mut Group> {
        self.running
            .as_mut()
            .ok_or_else(|| anyhow!("{} has not been started", self.name))
    }
}

fn tail(path: &Path, lines: usize) -> Result<String> {
    const AT_MOST: u64 = 64 * 1024;
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(AT_MOST)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    let skipped = all.len().saturating_sub(lines);
    Ok(all.into_iter().skip(skipped).collect::<Vec<_>>().join("\n"))
}
