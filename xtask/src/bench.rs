//! `cargo xtask bench`.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Error, Result};
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
    let example = [
        "run",
        "--release",
        "--package",
        "meridian-bench",
        "--example",
    ];
    match benchmark {
        Benchmark::Check => command.args(example).args(["check", "--", "--full"]),
        Benchmark::Openfga => {
            servers().await?;
            command.args(example).arg("openfga")
        }
        Benchmark::Engine => {
            let figures = command
                .get_current_dir()
                .map(|root| root.join("bench/figures"));
            command
                .args(["bench", "--package", "meridian-bench", "--", "--noplot"])
                .args(["--baseline", "committed"])
                .envs(figures.map(|folder| ("CRITERION_HOME", folder)))
        }
    };
    Ok(command)
}

/// What the comparison runs beside itself.
async fn servers() -> Result<()> {
    let (_, ready) = stage("tools", async |stage| {
        setup::servers(stage).await?;
        setup::programs(stage).await?;
        let build = [
            "build",
            "--release",
            "--package",
            "meridian-server",
            "--bins",
        ];
        stage.run(cargo()?.args(build)).await
    })
    .await;
    ready.ok_or_else(|| anyhow::anyhow!("what the benchmark runs beside itself cannot be set up"))
}
