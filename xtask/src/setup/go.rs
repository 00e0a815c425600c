//! The Go compiler.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use meridian_e2e::tools;

use super::once;
use crate::stage::Stage;

/// The oldest Go that the modules are built with.
pub(super) const OLDEST: (u32, u32) = (1, 25);
/// What is fetched where Go is older.
const FETCHED: &str = "1.25.5";

/// A Go that is new enough: on the path, or fetched by an older one, which can do that much.
pub(super) async fn find_or_fetch(stage: &Stage) -> Result<PathBuf> {
    let Some(go) = tools::on_path("go") else {
        bail!("{}", advice());
    };
    let version = version(&go).with_context(|| format!("asking {} its version", go.display()))?;
    if version >= OLDEST {
        return Ok(go);
    }
    let dir = once(stage, "go", FETCHED, async |dir| {
        fetch(stage, &go, dir).await
    })
    .await?;
    Ok(toolchain(&dir)?.join("bin/go"))
}

/// What to do where there is no Go at all.
pub(super) fn advice() -> String {
    let (major, minor) = OLDEST;
    format!("Go {major}.{minor} or newer, or an older one, which then fetches it, on the path")
}

/// Go's own releases are modules too, so that whatever delivers modules delivers them.
async fn fetch(stage: &Stage, go: &Path, dir: &Path) -> Result<()> {
    stage.line(&format!(
        "fetching Go {FETCHED}, since {} is older",
        go.display()
    ));
    let mut download = Command::new(go);
    download
        .args(["mod", "download"])
        .arg(format!("golang.org/toolchain@{}", module_version()?))
        .current_dir(dir)
        .env("GOMODCACHE", dir.join("modules"))
        .env("GOFLAGS", "-modcacherw");
    stage.run(&mut download).await?;
    let toolchain = toolchain(dir)?;
    // Files of modules are not executable.
    for folder in ["bin", "pkg/tool"] {
        make_executable(&toolchain.join(folder))?;
    }
    Ok(())
}

fn toolchain(dir: &Path) -> Result<PathBuf> {
    Ok(dir.join(format!(
        "modules/golang.org/toolchain@{}",
        module_version()?
    )))
}

fn module_version() -> Result<String> {
    let processor = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => bail!(
            "no Go is fetched for the processor {other}: put {} there",
            advice()
        ),
    };
    Ok(format!("v0.0.1-go{FETCHED}.linux-{processor}"))
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

fn version(go: &Path) -> Result<(u32, u32)> {
    let output = Command::new(go)
        .arg("version")
        .env("GOTOOLCHAIN", "local")
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    parse_version(&text).with_context(|| format!("no version in {text:?}"))
}

/// From a line such as `go version go1.26.8 linux/amd64`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let version = text.split_whitespace().nth(2)?.strip_prefix("go")?;
    let mut numbers = version.split(['.', '-', 'r', 'b']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn versions_of_go_are_read() {
        let read = |version: &str| parse_version(&format!("go version {version} linux/amd64\n"));
        assert_eq!(read("go1.26.8"), Some((1, 26)));
        assert_eq!(read("go1.19"), Some((1, 19)));
        assert_eq!(read("go1.25rc1"), Some((1, 25)));
        assert_eq!(parse_version("go: cannot find GOROOT directory"), None);
    }
}
