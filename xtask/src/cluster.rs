//! `cargo xtask cluster`: Meridian on a Kubernetes of its own, for a look at it.

mod progress;
mod up;

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Subcommand;
use meridian_e2e::cluster::{Access, Record};
use meridian_e2e::tools;

use crate::stage::{Stage, cargo, say, stage};
use crate::{images, report, setup};

#[derive(Clone, Copy, Subcommand)]
pub(crate) enum Action {
    /// Start a one-node cluster with Kafka and PostgreSQL, install the operator, apply docs/examples; as root
    Up,
    /// End it; nothing of it stays
    Down,
    /// Say whether it runs, and how Meridian is on it
    Status,
    /// Build the images that a cluster loads, for the cluster's tests run by hand
    Images,
}

/// Does what is asked.
pub(crate) async fn command(action: Action) -> Result<ExitCode> {
    match action {
        Action::Up => {
            let _lock = lock()?;
            up::command().await
        }
        Action::Down => {
            let _lock = lock()?;
            down().await
        }
        Action::Status => status().await,
        Action::Images => {
            setup::require_compilers()?;
            let (done, _) = stage("images", build_images).await;
            let took = done.took;
            Ok(report::print(&[done], took))
        }
    }
}

async fn down() -> Result<ExitCode> {
    let path = record_path()?;
    let Some(record) = Record::load(&path)? else {
        say("no cluster is up");
        return Ok(ExitCode::SUCCESS);
    };
    record.end().await?;
    fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
    say("the cluster is down, and nothing of it is left");
    Ok(ExitCode::SUCCESS)
}

async fn status() -> Result<ExitCode> {
    let Some(record) = running()? else {
        say("no cluster is up: `cargo xtask cluster up` starts one");
        return Ok(ExitCode::FAILURE);
    };
    let access = record.access();
    let kubectl = access.kubectl()?;
    for what in ["nodes", "authzstores,edgeregions", "pods"] {
        let list = ["get", "--all-namespaces", what];
        say(&kubectl.run(list).await?);
    }
    say(&up::how_to_use(access).await?);
    Ok(ExitCode::SUCCESS)
}

/// Builds the programs, in the profile of tests, and images of them.
async fn build_images(stage: &Stage) -> Result<PathBuf> {
    let mut build = cargo()?;
    build.args(["build", "--bins"]);
    for package in ["meridian-server", "meridian-operator"] {
        build.args(["--package", package]);
    }
    stage.run(&mut build).await?;
    images::make(stage).await
}

/// The cluster that was left running and still does.
fn running() -> Result<Option<Record>> {
    Ok(Record::load(&record_path()?)?.filter(|record| record.access().is_up()))
}

fn record_path() -> Result<PathBuf> {
    Ok(tools::cache_dir()?.join("cluster.json"))
}

/// Keeps others from starting or ending the cluster; let go when it is dropped.
fn lock() -> Result<File> {
    let path = record_path()?.with_extension("lock");
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    let file = File::create(&path).with_context(|| format!("opening {}", path.display()))?;
    let locked = file.try_lock();
    locked.context("another `cargo xtask cluster` is at work: wait until it is done")?;
    Ok(file)
}

/// What a shell needs to use the cluster.
fn exports(access: &Access) -> Result<String> {
    let kubectl = access.kubectl()?;
    let dir = kubectl.program().parent();
    let dir = dir.map(|dir| dir.display().to_string()).unwrap_or_default();
    Ok(format!(
        "export KUBECONFIG={} PATH={dir}:$PATH",
        access.kubeconfig().display()
    ))
}
