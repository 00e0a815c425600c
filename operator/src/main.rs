//! The operator's program.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use meridian_operator::{api, operator};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Runs Meridian on Kubernetes.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Looks after AuthzStores and EdgeRegions.
    Run {
        #[command(flatten)]
        options: Box<operator::Options>,
        #[command(flatten)]
        logging: Logging,
    },
    /// Prints the definitions of both kinds.
    Crd,
}

/// How the operator logs.
#[derive(Debug, Clone, Args)]
struct Logging {
    /// What is logged: a level, or targets with levels, like `info,meridian_operator=debug`.
    #[arg(
        long = "log",
        env = "MERIDIAN_LOG",
        default_value = "info",
        value_name = "FILTER"
    )]
    filter: String,
    /// How a line looks.
    #[arg(
        long = "log-format",
        env = "MERIDIAN_LOG_FORMAT",
        value_enum,
        default_value = "text"
    )]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

fn main() -> ExitCode {
    match start(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Crd => print_definitions(),
        Command::Run { options, logging } => {
            logging.start()?;
            tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()?
                .block_on(async {
                    let (mut term, mut int) = (
                        signal(SignalKind::terminate())?,
                        signal(SignalKind::interrupt())?,
                    );
                    let stop = async {
                        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
                        tracing::info!("stopping");
                    };
                    operator::run(*options, stop).await
                })
        }
    }
}

fn print_definitions() -> anyhow::Result<()> {
    for (_, definition) in api::definitions() {
        println!("---\n{}", api::yaml(&definition)?.trim_end());
    }
    Ok(())
}

impl Logging {
    fn start(&self) -> anyhow::Result<()> {
        let filter = read(&self.filter).with_context(|| format!("log filter '{}'", self.filter))?;
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr);
        match self.format {
            Format::Text => builder.init(),
            Format::Json => builder.json().init(),
        }
        Ok(())
    }
}

/// Reads a filter. One without a level, like a level that is none, would be a target's name and leave out all others.
fn read(filter: &str) -> anyhow::Result<EnvFilter> {
    for part in filter.split(',').filter(|part| !part.is_empty()) {
        let level = part.rsplit('=').next().unwrap_or_default();
        ensure!(
            level.parse::<LevelFilter>().is_ok(),
            "'{level}' is no level: use off, error, warn, info, debug or trace, or a target with one, like meridian=debug"
        );
    }
    Ok(filter.parse()?)
}
