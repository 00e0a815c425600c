//! `cargo xtask bench`.

use std::os::unix::process::CommandExt;

use anyhow::{Context, Error};
use clap::ValueEnum;

use crate::{setup, stage};

/// What can be measured.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Benchmark {
    /// A Check at an edge, against an empty call and the evaluator alone
    Check,
}

/// Becomes `cargo run`. Returns only when that fails.
pub(crate) fn exec(benchmark: Benchmark) -> Error {
    match prepare(benchmark) {
        Ok(mut command) => Error::new(command.exec()).context("starting cargo"),
        Err(error) => error,
    }
}

fn prepare(benchmark: Benchmark) -> anyhow::Result<std::process::Command> {
    setup::require_compilers()?;
    let name = match benchmark {
        Benchmark::Check => "bench_check",
    };
    let mut command = stage::cargo().context("looking for the workspace")?;
    command
        .args(["run", "--release", "--package", "meridian-server"])
        .args(["--example", name, "--", "--full"]);
    Ok(command)
}
