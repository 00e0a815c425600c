//! OpenFGA's own tests, which the Go module `e2e/conformance` lets loose on a server.

mod report;

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::Process;
use crate::tools;
use crate::workdir::Workdir;

pub use report::{Failure, Report};

const MODULE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/conformance");
/// What it takes to compile OpenFGA and all that it needs, on a small and busy machine.
const COMPILE_DEADLINE: Duration = Duration::from_secs(30 * 60);
/// OpenFGA itself takes ten seconds.
const RUN_DEADLINE: Duration = Duration::from_secs(10 * 60);

/// Compiles the tests into the program `output`; does little if it is there and nothing has changed. Into `/dev/null`,
/// it only makes the next time short.
///
/// # Errors
///
/// When Go is not there, cannot fetch the modules, or finds errors in them.
pub async fn compile(output: &Path) -> Result<()> {
    let dir = Workdir::new("compile")?;
    let mut go = go("compile", &dir)?
        .args(["test", "-C", MODULE, "-c"])
        .args(["-mod=readonly", "-trimpath", "-ldflags=-s -w", "-o"])
        .args([output.as_os_str(), OsStr::new(".")])
        .env("CGO_ENABLED", "0");
    go.start()?;
    go.finish(COMPILE_DEADLINE).await
}

/// Builds OpenFGA's own server into the program `output`, of the modules that the tests are compiled of, and so in little
/// time once those are.
///
/// # Errors
///
/// As [`compile`].
pub async fn build_server(output: &Path) -> Result<()> {
    let dir = Workdir::new("compile")?;
    let mut go = go("build", &dir)?
        .args(["build", "-C", MODULE])
        .args(["-mod=readonly", "-trimpath", "-ldflags=-s -w", "-o"])
        .args([
            output.as_os_str(),
            OsStr::new("github.com/openfga/openfga/cmd/openfga"),
        ])
        .env("CGO_ENABLED", "0");
    go.start()?;
    go.finish(COMPILE_DEADLINE).await
}

/// What the tests do with the tiers of the types in their models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tiers {
    /// Nothing: all are Warm.
    AsTheyAre,
    /// Half of a model's are made Critical, those with most relations.
    HalfCritical,
}

/// Runs the compiled tests against the server whose gRPC address is given.
///
/// # Errors
///
/// When they cannot be run, or take more than ten minutes; that some fail is none.
pub async fn run(program: &Path, server: SocketAddr, tiers: Tiers) -> Result<Report> {
    let dir = Workdir::new("conformance")?;
    let tiers = match tiers {
        Tiers::AsTheyAre => "",
        Tiers::HalfCritical => "half",
    };
    let mut tests = go("conformance", &dir)?
        .args(["tool", "test2json"])
        .args([program.as_os_str(), OsStr::new("-test.v=test2json")])
        .env("MERIDIAN_TEST_CONFORMANCE_ADDRESS", server.to_string())
        .env("MERIDIAN_TEST_CONFORMANCE_TIERS", tiers);
    tests.start()?;
    tests.ended(RUN_DEADLINE).await?;
    let log = tests.log();
    let printed = fs::read_to_string(&log).with_context(|| format!("reading {}", log.display()))?;
    Report::read(&printed)
}

/// Go, whatever the user has set for it.
fn go(name: &str, dir: &Workdir) -> Result<Process> {
    let go = Process::new(name, tools::go()?, dir.path())
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "")
        .env("GOWORK", "off");
    Ok(go)
}
