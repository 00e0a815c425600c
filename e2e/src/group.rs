//! A process and all that it starts in turn.

use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::time::sleep;

use crate::guard::Guard;

/// How long a group may take to end, before SIGKILL ends it in any case.
const END_DEADLINE: Duration = Duration::from_secs(5);
/// The time between two looks at a process.
const TICK: Duration = Duration::from_millis(20);

/// A running program in a process group of its own. It is ended when dropped, and when this process dies.
#[derive(Debug)]
pub struct Group {
    leader: Child,
    pid: Pid,
    end: Signal,
    left: bool,
    _guard: Guard,
}

impl Group {
    /// Starts a program, to be ended with `end` and, 5 seconds later, with SIGKILL.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn spawn(command: &mut Command, end: Signal) -> Result<Self> {
        Self::spawn_tidy(command, end, "")
    }

    /// The same; should this process die, `sh` does what `tidy` says once the group has ended.
    pub(crate) fn spawn_tidy(command: &mut Command, end: Signal, tidy: &str) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut leader = command
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {program}"))?;
        match Guard::over(leader.id(), end, tidy) {
            Ok(guard) => Ok(Self {
                pid: Pid::from_child(&leader),
                leader,
                end,
                left: false,
                _guard: guard,
            }),
            Err(error) => {
                leader.kill()?;
                leader.wait()?;
                Err(error)
            }
        }
    }

    /// The process id of the program.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.leader.id()
    }

    /// Its output and error output, if they were asked for as pipes and not taken yet.
    pub fn take_output(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.leader.stdout.take(), self.leader.stderr.take())
    }

    /// How the program has ended, if it has.
    ///
    /// # Errors
    ///
    /// When the system does not say.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.leader.try_wait()?)
    }

    /// Waits for the program to end by itself; `None` when `deadline` passes.
    ///
    /// # Errors
    ///
    /// When the system does not say.
    pub async fn ended_within(&mut self, deadline: Duration) -> Result<Option<ExitStatus>> {
        let start = Instant::now();
        loop {
            let status = self.exit_status()?;
            if status.is_some() || start.elapsed() >= deadline {
                return Ok(status);
            }
            sleep(TICK).await;
        }
    }

    /// Sends a signal to the program alone, unless it has ended.
    ///
    /// # Errors
    ///
    /// When the system refuses the signal.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.exit_status()?.is_none() {
            kill_process(self.pid, signal)
                .with_context(|| format!("sending {signal:?} to process {}", self.id()))?;
        }
        Ok(())
    }

    /// Ends the group. The same as dropping it, but does not block.
    pub async fn end(mut self) {
        self.ask_to_end();
        // Dropping does the rest, whatever came of this.
        let _ = self.ended_within(END_DEADLINE).await;
    }

    /// Lets the group run on, unwatched.
    pub(crate) fn leave_running(mut self) {
        self.left = true;
    }

    fn ask_to_end(&mut self) {
        if matches!(self.exit_status(), Ok(None)) {
            // Refused only when nothing is left.
            let _ = kill_process_group(self.pid, self.end);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        self.ask_to_end();
        let start = Instant::now();
        while matches!(self.exit_status(), Ok(None)) && start.elapsed() < END_DEADLINE {
            std::thread::sleep(TICK);
        }
        // What the program has left behind; refused only when nothing is left.
        let _ = kill_process_group(self.pid, Signal::KILL);
        let _ = self.leader.wait();
    }
}
