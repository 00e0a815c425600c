//! `cargo xtask <command>`: run the system, test it, measure it.

mod bench;
mod client;
mod cluster;
mod coverage;
mod dev;
mod images;
mod report;
mod setup;
mod stage;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Run the system, test it, measure it"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build and run a central, a regional and an edge node with a sample store; Ctrl-C stops them
    Dev {
        /// Passed on to `meridian dev`: `--data FOLDER` keeps the data, `--once` ends after the tour
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Measure; takes minutes, most of them for an optimised build
    Bench {
        /// What
        #[arg(value_enum)]
        benchmark: bench::Benchmark,
    },
    /// Meridian on a Kubernetes of its own, on this machine
    Cluster {
        /// What to do
        #[command(subcommand)]
        action: cluster::Action,
    },
    /// Bring what the tests need: Kafka, PostgreSQL, the programs of a Kubernetes cluster, cargo-deny, cargo-llvm-cov, Chromium
    Setup,
    /// Set up, then check format, lints and licences, build, and run every test on real Kafka, PostgreSQL, Kubernetes and Chromium
    Test,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    run(Arguments::parse().command)
        .await
        .unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        })
}

async fn run(command: Command) -> Result<ExitCode> {
    // The signals are taken over only for commands that have something to tidy up.
    match command {
        Command::Dev { args } => Err(dev::exec(&args)),
        Command::Bench { benchmark } => Err(bench::exec(benchmark).await),
        Command::Cluster { action } => until_interrupted(cluster::command(action)).await,
        Command::Setup => until_interrupted(setup::command()).await,
        Command::Test => until_interrupted(test::command()).await,
    }
}

/// Runs a command; Ctrl-C drops it, which ends everything that it has started.
async fn until_interrupted(command: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let code = tokio::select! {
        done = command => return done,
        _ = interrupt.recv() => 130,
        _ = terminate.recv() => 143,
        _ = hang_up.recv() => 129,
    };
    stage::say("interrupted: everything started has been stopped");
    Ok(ExitCode::from(code))
}
