//! A named piece of work whose output is shown while it runs, and kept.

use std::cell::RefCell;
use std::env;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use meridian_e2e::{Group, Signal};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{ChildStderr, ChildStdout};
use tokio::time::{interval, timeout};

/// How long one command may take; a cold build on a small machine takes minutes.
const COMMAND_DEADLINE: Duration = Duration::from_secs(60 * 60);
/// How long output is still read once the command has ended, should something it started hold the pipe open.
const DRAIN_DEADLINE: Duration = Duration::from_secs(2);
/// How often a stage that prints nothing says that it is still there.
const STILL_RUNNING: Duration = Duration::from_secs(30);
const COLOR_RESET: &str = "\u{1b}[0m";

/// What has become of a stage.
#[derive(Debug)]
pub(crate) enum Outcome {
    Passed,
    Failed(String),
    /// Could not run, since another stage failed.
    Skipped(String),
}

/// A stage that is over.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) name: &'static str,
    pub(crate) outcome: Outcome,
    pub(crate) took: Duration,
    pub(crate) lines: Vec<String>,
}

impl Done {
    pub(crate) fn skipped(name: &'static str, reason: &str) -> Self {
        Self {
            name,
            outcome: Outcome::Skipped(reason.to_owned()),
            took: Duration::ZERO,
            lines: Vec::new(),
        }
    }

    pub(crate) fn passed(&self) -> bool {
        matches!(self.outcome, Outcome::Passed)
    }
}

/// A running stage.
#[derive(Debug)]
pub(crate) struct Stage {
    name: &'static str,
    start: Instant,
    lines: RefCell<Vec<String>>,
}

/// Runs `work` as a stage; what it returns is there if it passed.
pub(crate) async fn stage<T>(
    name: &'static str,
    work: impl AsyncFnOnce(&Stage) -> Result<T>,
) -> (Done, Option<T>) {
    let stage = Stage {
        name,
        start: Instant::now(),
        lines: RefCell::default(),
    };
    say(&format!("==> {name}"));
    let result = tokio::select! {
        result = work(&stage) => result,
        never = stage.show_signs_of_life() => match never {},
    };
    let took = stage.start.elapsed();
    let (outcome, value) = match result {
        Ok(value) => (Outcome::Passed, Some(value)),
        Err(error) => (Outcome::Failed(format!("{error:#}")), None),
    };
    let verdict = if value.is_some() { "passed" } else { "FAILED" };
    say(&format!(
        "<== {name} {verdict} after {:.1} s",
        took.as_secs_f64()
    ));
    (
        Done {
            name,
            outcome,
            took,
            lines: stage.lines.into_inner(),
        },
        value,
    )
}

impl Stage {
    /// Shows a line of output and keeps it.
    pub(crate) fn line(&self, text: &str) {
        say(&format!("{:>8} | {text}", self.name));
        self.lines.borrow_mut().push(text.to_owned());
    }

    /// Runs a command to its end, as part of this stage.
    pub(crate) async fn run(&self, command: &mut Command) -> Result<()> {
        let shown = shown(command);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut group = Group::spawn(command, Signal::TERM)?;
        let (Some(out), Some(err)) = group.take_output() else {
            bail!("{shown}: no pipe to read its output from")
        };
        let (out, err) = (ChildStdout::from_std(out)?, ChildStderr::from_std(err)?);
        let mut reading = Box::pin(async { tokio::try_join!(self.show(out), self.show(err)) });
        let mut all_read = false;
        let status = {
            let mut ending = Box::pin(group.ended_within(COMMAND_DEADLINE));
            loop {
                tokio::select! {
                    read = &mut reading, if !all_read => { read?; all_read = true; }
                    status = &mut ending => break status?,
                }
            }
        };
        if !all_read && let Ok(read) = timeout(DRAIN_DEADLINE, reading).await {
            read?;
        }
        let status =
            status.with_context(|| format!("`{shown}` did not end in {COMMAND_DEADLINE:?}"))?;
        ensure!(status.success(), "`{shown}` failed ({status})");
        Ok(())
    }

    async fn show(&self, pipe: impl AsyncRead + Unpin) -> Result<()> {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).await? > 0 {
            let text = String::from_utf8_lossy(&line).replace(COLOR_RESET, "");
            // Maven prints a reset, and nothing else, even when it is to be quiet and without colours.
            if line.trim_ascii().is_empty() || !text.trim().is_empty() {
                self.line(text.trim_end());
            }
            line.clear();
        }
        Ok(())
    }

    async fn show_signs_of_life(&self) -> std::convert::Infallible {
        let mut ticks = interval(STILL_RUNNING);
        ticks.tick().await;
        let mut seen = self.lines.borrow().len();
        loop {
            ticks.tick().await;
            let now = self.lines.borrow().len();
            if now == seen {
                say(&format!(
                    "{:>8} | still running after {} s",
                    self.name,
                    self.start.elapsed().as_secs()
                ));
            }
            seen = now;
        }
    }
}

/// Prints a line. A reader that went away is no reason to stop.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// The cargo that runs this, at work on the workspace.
pub(crate) fn cargo() -> Result<Command> {
    let (Some(cargo), Some(manifest)) = (env::var_os("CARGO"), env::var_os("CARGO_MANIFEST_DIR"))
    else {
        bail!("CARGO and CARGO_MANIFEST_DIR are not set: start this as `cargo xtask`");
    };
    let mut root = PathBuf::from(manifest);
    root.pop();
    let mut command = Command::new(cargo);
    command.current_dir(root);
    Ok(command)
}

fn shown(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let name = program
        .file_name()
        .unwrap_or(command.get_program())
        .to_string_lossy()
        .into_owned();
    let args = command
        .get_args()
        .map(|arg| arg.to_string_lossy().into_owned());
    std::iter::once(name)
        .chain(args)
        .collect::<Vec<_>>()
        .join(" ")
}
