//! `cargo xtask dev`.

use std::os::unix::process::CommandExt;

use anyhow::{Context, Error};

use crate::{setup, stage};

/// Becomes `cargo run`, which becomes `meridian dev`: its output, its exit code and Ctrl-C are its own. Returns only
/// when that fails.
pub(crate) fn exec(args: &[String]) -> Error {
    match prepare(args) {
        Ok(mut command) => Error::new(command.exec()).context("starting cargo"),
        Err(error) => error,
    }
}

fn prepare(args: &[String]) -> anyhow::Result<std::process::Command> {
    setup::require_compilers()?;
    let mut command = stage::cargo().context("looking for the workspace")?;
    command
        .args([
            "run",
            "--package",
            "meridian-server",
            "--bin",
            "meridian",
            "--",
            "dev",
        ])
        .args(args);
    Ok(command)
}
