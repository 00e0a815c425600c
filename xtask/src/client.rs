//! The browser client of the live channel: a package for npm in `clients/live`.

use std::process::Command;

use anyhow::{Context, Result};

use crate::setup;
use crate::stage::{Stage, cargo};

/// What `package.json` calls each step, in order. The first runs the compiler over all, the last says how large it is.
const STEPS: [&str; 4] = ["check", "test", "build", "size"];

/// Checks, tests and builds it, with exactly what its lock file names.
pub(crate) async fn test(stage: &Stage) -> Result<()> {
    setup::client(stage).await?;
    let mut install = npm()?;
    // No script of a package runs: the build tools need none.
    install.args(["ci", "--ignore-scripts", "--prefer-offline"]);
    stage.run(install.args(["--no-audit", "--no-fund"])).await?;
    for step in STEPS {
        stage.run(npm()?.args(["run", "--silent", step])).await?;
    }
    Ok(())
}

fn npm() -> Result<Command> {
    let workspace = cargo()?;
    let root = workspace.get_current_dir().context("no workspace")?;
    let mut npm = Command::new("npm");
    npm.current_dir(root.join("clients/live"));
    Ok(npm)
}
