//! LLVM's tools for coverage, of the version that the compiler is built on: the format of what it counts changes with it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use meridian_e2e::tools;

/// The two programs.
pub(crate) struct Llvm {
    pub(crate) cov: PathBuf,
    pub(crate) profdata: PathBuf,
}

/// The compiler's own, which rustup installs, or else those on the path whose name ends with the version.
pub(super) fn find() -> Result<Llvm> {
    let version = version()?;
    Ok(Llvm {
        cov: program("llvm-cov", version)?,
        profdata: program("llvm-profdata", version)?,
    })
}

/// What a person has to install.
pub(super) fn advice() -> String {
    let version = version().map_or_else(|_| String::new(), |version| format!(" {version}"));
    format!("LLVM{version}'s `llvm-cov` and `llvm-profdata` (or `rustup component add llvm-tools`)")
}

/// Debian's packages.
pub(super) fn packages() -> Vec<String> {
    version()
        .map(|version| format!("llvm-{version}"))
        .into_iter()
        .collect()
}

fn program(name: &str, version: u32) -> Result<PathBuf> {
    let sysroot = rustc(&["--print", "target-libdir"])?;
    let own = PathBuf::from(sysroot.trim())
        .with_file_name("bin")
        .join(name);
    if own.is_file() {
        return Ok(own);
    }
    tools::on_path(&format!("{name}-{version}")).with_context(|| format!("no {name}-{version}"))
}

fn version() -> Result<u32> {
    parse_version(&rustc(&["-vV"])?).context("`rustc -vV` names no version of LLVM")
}

fn rustc(args: &[&str]) -> Result<String> {
    let output = Command::new("rustc")
        .args(args)
        .output()
        .context("starting `rustc`")?;
    Ok(String::from_utf8(output.stdout)?)
}

/// From a line such as `LLVM version: 22.1.2`.
fn parse_version(text: &str) -> Option<u32> {
    let version = text
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn the_compilers_llvm_is_read() {
        let text = "rustc 1.95.0\nhost: x86_64-unknown-linux-gnu\nLLVM version: 22.1.2\n";
        assert_eq!(parse_version(text), Some(22));
        assert_eq!(parse_version("rustc 1.95.0\n"), None);
    }
}
