//! Logs, metrics and traces of a process.

pub(crate) mod below;
#[cfg(test)]
pub(crate) mod captured;
mod conditions;
mod counted;
mod exposition;
pub(crate) mod request;
pub mod traces;

use std::io::IsTerminal;

use anyhow::{Context as _, ensure};
use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::Logs;
pub(crate) use counted::Counted;
pub(crate) use exposition::has_rpc_histograms;
pub use exposition::serve_metrics;

/// How a process logs.
#[derive(Debug, Clone, Args)]
pub struct Logging {
    /// What is logged: a level, or targets with levels, like `info,meridian_sync=debug`. By default info, and warn where
    /// the screen shows something else.
    #[arg(long = "log", env = "MERIDIAN_LOG", value_name = "FILTER")]
    filter: Option<String>,
    /// How a line looks; text unless set.
    #[arg(long = "log-format", env = "MERIDIAN_LOG_FORMAT", value_enum)]
    format: Option<Format>,
}

/// What a process measures beside what it always does.
#[derive(Debug, Clone, Args)]
pub struct Measuring {
    /// Measures every call's time under the name that Go's gRPC library has for it, grpc_server_handling_seconds.
    #[arg(long, env = "OPENFGA_METRICS_ENABLE_RPC_HISTOGRAMS", value_parser = BoolishValueParser::new())]
    pub rpc_histograms: bool,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Logging {
    /// The same, with what OpenFGA's variables say where nothing else was said.
    #[must_use]
    pub fn or(mut self, logs: Logs) -> Self {
        let format = |json| if json { Format::Json } else { Format::Text };
        self.filter = self.filter.or_else(|| logs.level.map(str::to_owned));
        self.format = self.format.or_else(|| logs.json.map(format));
        self
    }

    /// Starts logging to standard error: what is asked for, else `usual`.
    ///
    /// # Errors
    /// When the filter cannot be read.
    pub fn start(&self, usual: &str) -> anyhow::Result<()> {
        let filter = self.filter.as_deref().unwrap_or(usual);
        let filter = read(filter).with_context(|| format!("log filter '{filter}'"))?;
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr);
        match self.format.unwrap_or(Format::Text) {
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
