//! A PostgreSQL server of a test's own.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Signal, geteuid};

use crate::ports::free_port;
use crate::probe::Probe;
use crate::process::{Account, Process};
use crate::tools;
use crate::workdir::Workdir;

const INIT_DEADLINE: Duration = Duration::from_secs(60);
const START_DEADLINE: Duration = Duration::from_secs(60);
const CALL_DEADLINE: Duration = Duration::from_secs(20);

/// One PostgreSQL server with an empty database `postgres`, on 127.0.0.1.
///
/// Its files go when it is dropped, but stay when the test fails.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    port: u16,
    dir: Workdir,
}

impl Postgres {
    /// Makes a new database cluster and starts it. As root, the server runs as the system's user `postgres`, since
    /// PostgreSQL refuses to run as root.
    ///
    /// # Errors
    ///
    /// When PostgreSQL is not there (the message says how to get it) or does not become ready in a minute.
    pub async fn start() -> Result<Self> {
        let bin = tools::postgres_bin()?;
        let account = account()?;
        let dir = Workdir::owned("postgres", account)?;
        let port = free_port()?;
        let data = dir.path().join("data");

        let mut initdb = Process::new("initdb", bin.join("initdb"), dir.path())
            .args([
                "--auth=trust",
                "--username=postgres",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
                "--pgdata",
            ])
            .args([&data])
            .account(account);
        initdb.start()?;
        initdb.finish(INIT_DEADLINE).await?;

        let mut args = String::new();
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_connections=300",
        ] {
            write!(args, "-c {setting} ")?;
        }
        let process = Process::new("postgres", bin.join("postgres"), dir.path())
            .args(args.split_whitespace())
            .args(["-p", &port.to_string(), "-D"])
            .args([&data])
            .account(account)
            // Fast and immediate shutdown. The latter leaves recovery to the next start, as a crash does; SIGKILL
            // would also leave shared memory and children that hold up the next start.
            .signals(Signal::INT, Signal::QUIT);
        let mut server = Self { process, port, dir };
        server.start_again().await?;
        Ok(server)
    }

    /// Starts a stopped server on the same data and port.
    ///
    /// # Errors
    ///
    /// When it runs already, or does not become ready in a minute.
    pub async fn start_again(&mut self) -> Result<()> {
        self.process.start()?;
        self.process
            .ready(&Probe::Postgres(self.address()), START_DEADLINE)
            .await
    }

    /// Stops the server in good order; clients are cut off.
    ///
    /// # Errors
    ///
    /// When it has not ended after 30 seconds.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.stop().await
    }

    /// Ends the server as a crash does: no checkpoint, recovery at the next start.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Where it is reached, as `postgres://postgres@127.0.0.1:<port>/postgres`. The same over restarts.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.address())
    }

    /// Makes an empty database and returns where it is reached, as [`Self::url`].
    ///
    /// # Errors
    ///
    /// When the server refuses, as it does if `name` exists.
    pub async fn database(&self, name: &str) -> Result<String> {
        let psql = tools::postgres_bin()?.join("psql");
        let mut create = Process::new("psql", psql, self.dir.path()).args([
            "--no-psqlrc".to_owned(),
            format!("--command=create database {name}"),
            self.url(),
        ]);
        create.start()?;
        create.finish(CALL_DEADLINE).await?;
        Ok(format!("postgres://postgres@{}/{name}", self.address()))
    }

    /// The server's process, for its log and for signals.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }
}

fn account() -> Result<Option<Account>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let number = |flag: &str| -> Result<u32> {
        let output = Command::new("id")
            .args([flag, "postgres"])
            .output()
            .context("starting `id`")?;
        if !output.status.success() {
            bail!(
                "PostgreSQL does not run as root, and there is no user `postgres`: add one, or run as another user"
            );
        }
        Ok(String::from_utf8(output.stdout)?.trim().parse()?)
    };
    Ok(Some(Account {
        user: number("-u")?,
        group: number("-g")?,
    }))
}
