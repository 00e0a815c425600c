//! Nodes as processes of their own.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use meridian_e2e::{Probe, Process, Workdir, free_port};

const READY: Duration = Duration::from_secs(60);

/// Where a node listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// For clients that speak gRPC.
    pub grpc: SocketAddr,
    /// For clients that speak HTTP.
    pub http: SocketAddr,
    /// For nodes below.
    pub nodes: SocketAddr,
    /// For Prometheus.
    pub metrics: SocketAddr,
}

/// Starts a node and waits until it is ready. `more` are lines of its configuration.
///
/// # Errors
/// When its program was not built, or it does not become ready.
pub async fn start_node(
    dir: &Workdir,
    kafka: &str,
    role: &str,
    more: &str,
) -> anyhow::Result<(Addresses, Process)> {
    let [grpc, http, nodes, metrics] = [address()?, address()?, address()?, address()?];
    let config = format!(
        "name: bench
region: here
listen: {{grpc: \"{grpc}\", http: \"{http}\", nodes: \"{nodes}\", metrics: \"{metrics}\"}}
kafka: {{bootstrap: \"{kafka}\", partitions: 4}}
{more}
"
    );
    let file = dir.write(&format!("{role}.yaml"), &config)?;
    let mut process =
        Process::new(role, program(role)?, dir.path()).args(["--config".into(), file]);
    process.start()?;
    let ready = Probe::Http(http, "/healthz".into());
    process.ready(&ready, READY).await?;
    let addresses = Addresses {
        grpc,
        http,
        nodes,
        metrics,
    };
    Ok((addresses, process))
}

/// A free port of this machine.
///
/// # Errors
/// When there is none.
pub fn address() -> anyhow::Result<SocketAddr> {
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?)))
}

/// A node's program, beside the folder of the examples.
fn program(role: &str) -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe()?;
    let folder = this.parent().and_then(|examples| examples.parent());
    let program = folder
        .context("no folder")?
        .join(format!("meridian-{role}"));
    ensure!(
        program.is_file(),
        "no {}: run this as `cargo xtask bench …`",
        program.display()
    );
    Ok(program)
}

/// Processor time of all threads of a process so far.
///
/// # Errors
/// When there is no such process.
pub fn processor_time(process: u32) -> anyhow::Result<Duration> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let times = fs::read_to_string(thread?.path().join("schedstat"))?;
        let on_processor = times.split(' ').next().context("no times")?;
        nanoseconds += on_processor.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Bytes of memory that a process has.
///
/// # Errors
/// When there is no such process.
pub fn memory(process: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.context("no memory")?.trim().trim_end_matches(" kB");
    Ok(kilobytes.parse::<u64>()? * 1024)
}
