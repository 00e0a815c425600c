//! The Go compiler.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{on_path, tool_dir};

/// The oldest Go that our modules are built with, as major and minor version.
pub const GO_OLDEST: (u32, u32) = (1, 26);
/// The version of Go that `cargo xtask setup` fetches where the one on the path is older.
pub const GO_FETCHED: &str = "1.26.8";

/// The `go` program: on the path, or what `cargo xtask setup` has fetched.
///
/// # Errors
///
/// When it is not there, or too old.
pub fn go() -> Result<PathBuf> {
    let is_new = |go: &PathBuf| version(go).is_some_and(|version| version >= GO_OLDEST);
    if let Some(go) = on_path("go").filter(is_new) {
        return Ok(go);
    }
    let fetched = go_toolchain(&tool_dir("go", GO_FETCHED)?)?.join("bin/go");
    let (major, minor) = GO_OLDEST;
    fetched.is_file().then_some(fetched).with_context(|| {
        format!(
            "no Go {major}.{minor} or newer on the path or in the cache: run `cargo xtask setup`"
        )
    })
}

/// Where Go's release is in the folder that it has been fetched to.
///
/// # Errors
///
/// When there is none for this processor.
pub fn go_toolchain(dir: &Path) -> Result<PathBuf> {
    let module = format!("modules/golang.org/toolchain@{}", go_release()?);
    Ok(dir.join(module))
}

/// The version of the module `golang.org/toolchain` that is Go's release for this processor.
///
/// # Errors
///
/// When there is none.
pub fn go_release() -> Result<String> {
    let processor = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => {
            let (major, minor) = GO_OLDEST;
            bail!(
                "no Go is fetched for the processor {other}: put Go {major}.{minor} or newer on the path"
            )
        }
    };
    Ok(format!("v0.0.1-go{GO_FETCHED}.linux-{processor}"))
}

fn version(go: &Path) -> Option<(u32, u32)> {
    let output = Command::new(go)
        .arg("version")
        .env("GOTOOLCHAIN", "local")
        .output()
        .ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
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
