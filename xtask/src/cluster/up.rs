//! `cargo xtask cluster up`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use meridian_e2e::cluster::{Access, Cluster, Record};
use meridian_e2e::images::Images;

use super::{build_images, exports, progress, record_path, running};
use crate::stage::{Done, Stage, cargo, say, stage};
use crate::{report, setup};

/// Where the examples are applied.
pub(super) const NAMESPACE: &str = "github";

/// What the examples' Secrets name.
const DATABASES: &str = "create role meridian login;
create database github_central owner meridian;
create database github_eu_1 owner meridian;
";

/// Starts a cluster, or uses the one that is up, and brings it to the state of this checkout.
pub(super) async fn command() -> Result<ExitCode> {
    setup::require_compilers()?;
    let start = Instant::now();
    let mut stages = Vec::new();
    match all(&mut stages).await {
        Some(text) => {
            say(&text);
            Ok(ExitCode::SUCCESS)
        }
        None => Ok(report::print(&stages, start.elapsed())),
    }
}

/// What is to be said once it is up. Where a stage fails, everything that was started ends.
async fn all(stages: &mut Vec<Done>) -> Option<String> {
    keep(stages, stage("tools", prepare).await)?;
    let images = keep(stages, stage("images", build_images).await)?;
    let started = keep(stages, stage("cluster", start).await)?;
    let meridian = stage("meridian", async |stage: &Stage| {
        install(stage, started.access(), &images).await?;
        let text = how_to_use(started.access()).await?;
        started.leave_running()?;
        Ok(text)
    });
    keep(stages, meridian.await)
}

fn keep<T>(stages: &mut Vec<Done>, (done, value): (Done, Option<T>)) -> Option<T> {
    stages.push(done);
    value
}

/// A cluster that was started now, and ends if this is dropped; or one that has been up.
enum Started {
    Now(Box<Cluster>),
    Before(Box<Record>),
}

impl Started {
    fn access(&self) -> &Access {
        match self {
            Self::Now(cluster) => cluster.access(),
            Self::Before(record) => record.access(),
        }
    }

    /// Lets it outlive this process.
    fn leave_running(self) -> Result<()> {
        let Self::Now(mut cluster) = self else {
            return Ok(());
        };
        // Written down first: should this process be killed before the next line, all of it ends.
        cluster.record()?.save(&record_path()?)?;
        cluster.leave_running();
        Ok(())
    }
}

/// Everything that is not made of this checkout.
async fn prepare(stage: &Stage) -> Result<()> {
    setup::node(stage).await?;
    setup::servers(stage).await?;
    setup::programs(stage).await
}

async fn start(stage: &Stage) -> Result<Started> {
    if let Some(record) = running()? {
        stage.line("one is up already");
        return Ok(Started::Before(Box::new(record)));
    }
    // One that has died, with the machine or by hand, has left files.
    if let Some(record) = Record::load(&record_path()?)? {
        record.end().await?;
    }
    let cluster = Cluster::start(&|line| stage.line(line)).await?;
    cluster.access().sql("postgres", DATABASES).await?;
    cluster.access().name_servers().await?;
    Ok(Started::Now(Box::new(cluster)))
}

async fn install(stage: &Stage, access: &Access, images: &Path) -> Result<()> {
    access.load(&Images::load(images)?).await?;
    stage.line("images are loaded");
    access
        .install_operator(&root()?.join("charts/meridian"), &Images::load(images)?)
        .await?;
    stage.line("the operator runs");
    let kubectl = access.kubectl()?;
    let namespace = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}}}\n");
    kubectl.apply(&namespace).await?;
    for path in examples()? {
        let manifests =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        // As the documentation has people do it, so that theirs goes on from this.
        let apply = ["apply", "--namespace", NAMESPACE, "--filename=-"];
        kubectl
            .run_with(apply, &manifests, progress::CALL_DEADLINE)
            .await?;
        stage.line(&format!("applied {}", path.display()));
    }
    progress::until_ready(stage, access).await
}

fn examples() -> Result<Vec<PathBuf>> {
    let dir = root()?.join("docs/examples");
    let entries = fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn root() -> Result<PathBuf> {
    let cargo = cargo()?;
    let root = cargo.get_current_dir().context("no workspace")?;
    Ok(root.to_owned())
}

/// What to try next, to be pasted.
pub(super) async fn how_to_use(access: &Access) -> Result<String> {
    let kubectl = access.kubectl()?;
    let read = async |object: &str, path: &str| {
        let path = format!("--output=jsonpath={path}");
        kubectl
            .run(["--namespace", NAMESPACE, "get", object, &path])
            .await
    };
    let store = read("authzstore/github", "{.status.storeId}").await?;
    let edge = read("service/shop-github", "{.spec.clusterIP}").await?;
    let exports = exports(access)?;
    Ok(format!(
        r#"
Meridian runs on Kubernetes: a store, its central and regional nodes, and edges

  {exports}
  kubectl -n {NAMESPACE} get azs,edge,pods

Write a tuple through the edge's Service, and ask; the answer's header meridian-served-by says who gave it

  curl -s http://{edge}:8080/stores/{store}/write -d '{{"writes": {{"tuple_keys": [
    {{"user": "user:anne", "relation": "reader", "object": "repo:acme/api"}}]}}}}'
  curl -si http://{edge}:8080/stores/{store}/check -d '{{"tuple_key":
    {{"user": "user:anne", "relation": "reader", "object": "repo:acme/api"}}}}'

Change the number of edges, or the model, and watch

  kubectl -n {NAMESPACE} scale edgeregion/shop --replicas=3
  kubectl -n {NAMESPACE} edit authzstore/github
  kubectl -n {NAMESPACE} get azs,edge --watch

`cargo xtask cluster down` ends all of it. Logs are in {dir}"#,
        dir = access.dir().display()
    ))
}
