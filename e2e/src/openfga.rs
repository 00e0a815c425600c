//! OpenFGA's own server.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;

use crate::ports::free_port;
use crate::probe::Probe;
use crate::process::Process;
use crate::tools;
use crate::workdir::Workdir;

const READY: Duration = Duration::from_secs(30);

/// A server that keeps its stores in memory.
#[derive(Debug)]
pub struct OpenFga {
    process: Process,
    grpc: SocketAddr,
    http: SocketAddr,
    _dir: Workdir,
}

impl OpenFga {
    /// Starts it with `settings`, which are environment variables of its own, and waits until it listens.
    ///
    /// # Errors
    ///
    /// When it is not there, or refuses the settings.
    pub async fn start(settings: &[(String, String)]) -> Result<Self> {
        let dir = Workdir::new("openfga")?;
        let address = || -> Result<_> { Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?))) };
        let (grpc, http) = (address()?, address()?);
        let mut process = Process::new("openfga", tools::openfga()?, dir.path())
            .args(["run", "--datastore-engine=memory", "--log-level=error"])
            .args([
                "--playground-enabled=false",
                "--metrics-enabled=false",
                "--profiler-enabled=false",
            ])
            .args([format!("--grpc-addr={grpc}"), format!("--http-addr={http}")]);
        for (name, value) in settings {
            process = process.env(name, value);
        }
        process.start()?;
        for address in [grpc, http] {
            process.ready(&Probe::Tcp(address), READY).await?;
        }
        Ok(Self {
            process,
            grpc,
            http,
            _dir: dir,
        })
    }

    /// Where it serves gRPC.
    #[must_use]
    pub fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    /// Where it serves HTTP.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// The end of what it has printed.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        self.process.log_tail(lines)
    }
}
