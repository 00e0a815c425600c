//! `cargo xtask bench`.

use std::env;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Error, Result, anyhow};
use clap::ValueEnum;

use crate::setup;
use crate::stage::{cargo, stage};

/// What can be measured.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Benchmark {
    /// A Check at an edge, against an empty call and the evaluator alone
    Check,
    /// Check, BatchCheck, ListObjects and Write beside OpenFGA, on PostgreSQL
    Openfga,
    /// The live channel, beside a bare broadcast with the same WebSocket library, and a storm of clients whose node dies
    Live,
    /// What recording every decision costs a Check, and what PostgreSQL keeps of flows; ten minutes of it are measuring
    Recorder,
    /// The engine's parts, each against the committed figures
    Engine,
}

/// Becomes the benchmark. Returns only when that fails.
pub(crate) async fn exec(benchmark: Benchmark) -> Error {
    match prepare(benchmark).await {
        Ok(mut command) => Error::new(command.exec()).context("starting cargo"),
        Err(error) => error,
    }
}

async fn prepare(benchmark: Benchmark) -> Result<Command> {
    setup::require_compilers()?;
    let mut command = cargo()?;
    match benchmark {
        Benchmark::Check => {
            command.args(["run", "--release", "--package", "meridian-bench"]);
            command.args(["--example", "check", "--", "--full"]);
        }
        Benchmark::Live => {
            build_with_servers("live", false).await?;
            command = Command::new(built_example("live")?);
        }
        Benchmark::Openfga => {
            build_with_servers("openfga", true).await?;
            command = Command::new(built_example("openfga")?);
        }
        Benchmark::Recorder => {
            build_with_servers("recorder", false).await?;
            command = Command::new(built_example("recorder")?);
        }
        Benchmark::Engine => {
            let figures = command
                .get_current_dir()
                .map(|root| root.join("bench/figures"));
            command.args(["bench", "--package", "meridian-bench", "--", "--noplot"]);
            command.args(["--baseline", "committed"]);
            command.envs(figures.map(|folder| ("CRITERION_HOME", folder)));
        }
    }
    Ok(command)
}

/// Sets up what the comparison runs beside itself, and builds all of it at once: cargo would build everything twice for
/// two choices of packages.
async fn build_with_servers(example: &str, with_programs: bool) -> Result<()> {
    let (_, ready) = stage("tools", async |stage| {
        setup::servers(stage).await?;
        if with_programs {
            setup::programs(stage).await?;
        }
        let mut build = cargo()?;
        build.args(["build", "--release", "--package", "meridian-server"]);
        build.args(["--bins", "--package", "meridian-bench"]);
        build.args(["--example", example]);
        stage.run(&mut build).await
    })
    .await;
    ready.ok_or_else(|| anyhow!("what the benchmark runs beside itself cannot be set up"))
}

/// A built example: the folder of release builds lies beside that of this program.
fn built_example(name: &str) -> Result<PathBuf> {
    let own = env::current_exe().context("asking where this program is")?;
    let target = own.parent().and_then(Path::parent).context("no folder")?;
    Ok(target.join("release/examples").join(name))
}
