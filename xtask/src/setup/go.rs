//! The Go compiler.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use meridian_e2e::tools::{self, GO_FETCHED, GO_OLDEST};

use super::once;
use crate::stage::Stage;

/// A Go that is new enough: on the path, or fetched by an older one, which can do that much.
pub(super) async fn find_or_fetch(stage: &Stage) -> Result<PathBuf> {
    if let Ok(go) = tools::go() {
        return Ok(go);
    }
    let Some(older) = tools::on_path("go") else {
        bail!("{}", advice());
    };
    once(stage, "go", GO_FETCHED, async |dir| {
        fetch(stage, &older, dir).await
    })
    .await?;
    tools::go()
}

/// What to do where there is no Go at all.
pub(super) fn advice() -> String {
    let (major, minor) = GO_OLDEST;
    format!("Go {major}.{minor} or newer, or an older one, which then fetches it, on the path")
}

/// Go's own releases are modules too, so that whatever delivers modules delivers them.
async fn fetch(stage: &Stage, go: &Path, dir: &Path) -> Result<()> {
    stage.line(&format!(
        "fetching Go {GO_FETCHED}, since {} is older",
        go.display()
    ));
    let mut download = Command::new(go);
    download
        .args(["mod", "download"])
        .arg(format!("golang.org/toolchain@{}", tools::go_release()?))
        .current_dir(dir)
        .env("GOMODCACHE", dir.join("modules"))
        .env("GOFLAGS", "-modcacherw");
    stage.run(&mut download).await?;
    let toolchain = tools::go_toolchain(dir)?;
    // Files of modules are not executable.
    for folder in ["bin", "pkg/tool"] {
        make_executable(&toolchain.join(folder))?;
    }
    Ok(())
}

fn make_executable(folder: &Path) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            make_executable(&path)?;
        } else {
            fs::set_permissions(&path, Permissions::from_mode(0o755))
                .with_context(|| format!("making {} executable", path.display()))?;
        }
    }
    Ok(())
}
