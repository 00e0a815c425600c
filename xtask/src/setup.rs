//! `cargo xtask setup`: what tests need and Rust does not bring.

mod go;
mod llvm;
mod packages;
mod programs;

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use meridian_e2e::conformance;
use meridian_e2e::tools::{self, KAFKA_VERSION, OPENFGA_VERSION, Program};

pub(crate) use llvm::Llvm;
use packages::Need;

use crate::report;
use crate::stage::{self, Stage, stage};

const CARGO_DENY: (&str, &str) = ("cargo-deny", "0.20.2");
const CARGO_LLVM_COV: (&str, &str) = ("cargo-llvm-cov", "0.9.1");
const COPY_DEPENDENCIES: &str =
    "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";
const KAFKA_POM: &str = include_str!("../kafka/pom.xml");

/// What coverage is measured with.
pub(crate) struct Coverage {
    pub(crate) cargo_llvm_cov: PathBuf,
    pub(crate) llvm: Llvm,
}

/// Sets everything up.
pub(crate) async fn command() -> Result<ExitCode> {
    let start = Instant::now();
    let (tools, deny) = tokio::join!(
        async {
            let (servers, _) = stage("tools", servers).await;
            let (programs, _) = stage("programs", programs).await;
            let (coverage, _) = stage("coverage", async |stage| coverage(stage).await).await;
            let (client, _) = stage("client", async |stage| client(stage).await).await;
            [servers, programs, coverage, client]
        },
        stage("deny", async |stage| cargo_deny(stage).await)
    );
    let mut stages = Vec::from(tools);
    stages.push(deny.0);
    Ok(report::print(&stages, start.elapsed()))
}

/// Whether any of the tools that take minutes to make is not there.
pub(crate) fn is_missing_tools() -> Result<bool> {
    let mut has_programs = Program::ALL.iter().all(|program| program.find().is_ok());
    for (name, version) in [CARGO_DENY, CARGO_LLVM_COV] {
        has_programs &= tools::tool_dir(name, version)?.is_dir();
    }
    let has_servers = tools::kafka_libs().is_ok() && tools::openfga().is_ok();
    Ok(!has_servers || !has_programs)
}

/// Kafka, PostgreSQL and MariaDB.
pub(crate) async fn servers(stage: &Stage) -> Result<()> {
    packages::install_missing(stage, &Need::SERVERS).await?;
    let jars = match tools::kafka_libs() {
        Ok(jars) => jars,
        Err(_) => kafka(stage).await?,
    };
    stage.line(&format!("Kafka      {}", jars.display()));
    stage.line(&format!("PostgreSQL {}", tools::postgres_bin()?.display()));
    stage.line(&format!("MariaDB    {}", tools::mariadb()?.0.display()));
    stage.line(&format!("Java       {}", tools::java()?.display()));
    Ok(())
}

/// What is built with Go: the programs of a cluster, OpenFGA's own tests, and its server. Not to run beside [`servers`], which
/// installs packages too.
pub(crate) async fn programs(stage: &Stage) -> Result<()> {
    packages::install_missing(stage, &[Need::Go]).await?;
    programs::build_missing(stage, &Program::ALL).await?;
    suites(stage).await?;
    openfga(stage).await?;
    for program in Program::ALL {
        stage.line(&format!(
            "{:<23} {}",
            program.name(),
            program.find()?.display()
        ));
    }
    Ok(())
}

/// OpenFGA's own tests, compiled only for what Go remembers of it: tests that run them link them.
async fn suites(stage: &Stage) -> Result<()> {
    go::find_or_fetch(stage).await?;
    stage.line("compiling OpenFGA's own tests: takes minutes, once");
    conformance::compile(Path::new("/dev/null")).await
}

/// OpenFGA's own server, which shares most of what [`suites`] has compiled.
async fn openfga(stage: &Stage) -> Result<()> {
    let dir = once(stage, "openfga", OPENFGA_VERSION, async |dir| {
        stage.line("building OpenFGA's own server");
        conformance::build_server(&dir.join("openfga")).await
    })
    .await?;
    stage.line(&format!("OpenFGA    {}", dir.display()));
    Ok(())
}

/// What a node takes besides, where it may run.
pub(crate) async fn node(stage: &Stage) -> Result<()> {
    ensure!(
        cfg!(target_os = "linux"),
        "a cluster runs on Linux only, for it is made of namespaces and control groups"
    );
    ensure!(
        is_root()?,
        "a cluster needs root, for it is made of namespaces and control groups: run this as root"
    );
    packages::install_missing(stage, &Need::NODE).await
}

/// Whether this may install packages and make namespaces.
fn is_root() -> Result<bool> {
    let output = Command::new("id")
        .arg("-u")
        .output()
        .context("starting `id`")?;
    Ok(output.stdout.trim_ascii() == b"0")
}

/// The `cargo-deny` program.
pub(crate) async fn cargo_deny(stage: &Stage) -> Result<PathBuf> {
    cargo_program(stage, CARGO_DENY).await
}

/// What coverage is measured with. Not to run beside [`servers`], which installs packages too.
pub(crate) async fn coverage(stage: &Stage) -> Result<Coverage> {
    packages::install_missing(stage, &[Need::Llvm]).await?;
    Ok(Coverage {
        cargo_llvm_cov: cargo_program(stage, CARGO_LLVM_COV).await?,
        llvm: llvm::find()?,
    })
}

/// What the browser client is made with and tried in. Not to run beside [`servers`], which installs packages too.
pub(crate) async fn client(stage: &Stage) -> Result<()> {
    packages::install_missing(stage, &Need::CLIENT).await?;
    stage.line(&format!("Chromium   {}", tools::chromium()?.display()));
    Ok(())
}

/// A program that cargo installs, built once.
async fn cargo_program(stage: &Stage, (name, version): (&str, &str)) -> Result<PathBuf> {
    let dir = once(stage, name, version, async |dir| {
        // In the background, since a build of our own runs beside it.
        let mut install = Command::new("nice");
        install.arg(stage::cargo()?.get_program()).current_dir(dir);
        install
            .args([
                "install",
                "--locked",
                &format!("{name}@{version}"),
                "--root",
            ])
            .arg(dir);
        let target = dir.join("target");
        stage.run(install.env("CARGO_TARGET_DIR", &target)).await?;
        fs::remove_dir_all(&target).with_context(|| format!("removing {}", target.display()))
    })
    .await?;
    Ok(dir.join("bin").join(name))
}

/// Checks for what crates written in C are built with.
pub(crate) fn require_compilers() -> Result<()> {
    let missing: Vec<_> = ["cc", "make", "perl"]
        .into_iter()
        .filter(|name| tools::on_path(name).is_none())
        .collect();
    ensure!(
        missing.is_empty(),
        "not on the path: {}. Install a C compiler, make and perl (Debian: `apt-get install build-essential perl`)",
        missing.join(", ")
    );
    Ok(())
}

async fn kafka(stage: &Stage) -> Result<PathBuf> {
    let dir = once(stage, "kafka", KAFKA_VERSION, async |dir| {
        let pom = dir.join("pom.xml");
        fs::write(&pom, KAFKA_POM).with_context(|| format!("writing {}", pom.display()))?;
        stage.line(&format!(
            "fetching Kafka {KAFKA_VERSION} and what it needs, about 90 jars"
        ));
        let mut maven = Command::new("mvn");
        maven.current_dir(dir).args([
            "--quiet",
            "--batch-mode",
            "--strict-checksums",
            COPY_DEPENDENCIES,
        ]);
        maven
            .arg(format!("-Dkafka.version={KAFKA_VERSION}"))
            .arg("-DincludeScope=runtime");
        let mut libs = OsString::from("-DoutputDirectory=");
        libs.push(dir.join("libs"));
        stage.run(maven.arg(libs)).await
    })
    .await?;
    Ok(dir.join("libs"))
}

/// The folder of a tool, which `make` fills if it is not there. It appears whole, under its name, or not at all; of
/// several processes that want it, one makes it.
async fn once(
    stage: &Stage,
    tool: &str,
    version: &str,
    make: impl AsyncFnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let dir = tools::tool_dir(tool, version)?;
    if dir.is_dir() {
        return Ok(dir);
    }
    let _lock = lock(stage, &beside(&dir, ".lock")).await?;
    if dir.is_dir() {
        return Ok(dir);
    }
    let partial = beside(&dir, ".partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).with_context(|| format!("removing {}", partial.display()))?;
    }
    fs::create_dir_all(&partial).with_context(|| format!("making {}", partial.display()))?;
    make(&partial).await?;
    fs::rename(&partial, &dir)
        .with_context(|| format!("renaming {} to {}", partial.display(), dir.display()))?;
    Ok(dir)
}

fn beside(dir: &Path, suffix: &str) -> PathBuf {
    let mut path = dir.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Waits for the lock; it is let go when the file is dropped, or this process dies.
async fn lock(stage: &Stage, path: &Path) -> Result<File> {
    const RETRY: Duration = Duration::from_millis(200);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    }
    let file = File::create(path).with_context(|| format!("opening {}", path.display()))?;
    let mut said = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", path.display()));
            }
            Err(TryLockError::WouldBlock) if !said => {
                stage.line(&format!(
                    "waiting for another process that holds {}",
                    path.display()
                ));
                said = true;
            }
            Err(TryLockError::WouldBlock) => {}
        }
        tokio::time::sleep(RETRY).await;
    }
}
