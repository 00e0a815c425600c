//! A PostgreSQL server of a test's own.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Signal, geteuid};

use crate::place::Place;
use crate::probe::Probe;
use crate::process::{Account, Process};
use crate::tools;
use crate::workdir::Workdir;

const INIT_DEADLINE: Duration = Duration::from_secs(60);
const START_DEADLINE: Duration = Duration::from_secs(60);
/// Lets in whoever reaches the server without asking for a password.
const ANYBODY: &str = "host all all all trust\n";
const CALL_DEADLINE: Duration = Duration::from_secs(20);

/// One PostgreSQL server with an empty database `postgres`, on 127.0.0.1 or in a cluster's network.
///
/// Its files go when it is dropped, but stay when the test fails.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    address: SocketAddr,
    place: Place,
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
        Self::start_at(&Place::here()).await
    }

    pub(crate) async fn start_at(place: &Place) -> Result<Self> {
        let bin = tools::postgres_bin()?;
        let account = account()?;
        let dir = Workdir::owned("postgres", account)?;
        let address = SocketAddr::from((place.host(), place.port(5432)?));
        let data = dir.path().join("data");

        let mut initdb = place
            .process("initdb", &bin.join("initdb"), dir.path())
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
        if place.is_inside() {
            let path = data.join("pg_hba.conf");
            fs::write(&path, ANYBODY).with_context(|| format!("writing {}", path.display()))?;
        }

        Self::run(place.clone(), address, account, dir).await
    }

    /// Makes a copy of this server, which follows it by streaming replication and answers reads.
    ///
    /// # Errors
    ///
    /// When the copy cannot be made, or does not become ready in a minute.
    pub async fn replica(&self) -> Result<Self> {
        let account = account()?;
        let dir = Workdir::owned("postgres", account)?;
        let address = SocketAddr::from((self.place.host(), self.place.port(5432)?));
        let program = tools::postgres_bin()?.join("pg_basebackup");
        let mut copy = self
            .place
            .process("pg_basebackup", &program, dir.path())
            .args([
                "--write-recovery-conf",
                "--checkpoint=fast",
                "--wal-method=stream",
                "--no-sync",
                "--dbname",
            ])
            .args([self.url()])
            .args(["--pgdata".into(), dir.path().join("data")])
            .account(account);
        copy.start()?;
        copy.finish(INIT_DEADLINE).await?;
        Self::run(self.place.clone(), address, account, dir).await
    }

    /// Starts a server on the data in `dir`.
    async fn run(
        place: Place,
        address: SocketAddr,
        account: Option<Account>,
        dir: Workdir,
    ) -> Result<Self> {
        let data = dir.path().join("data");
        let mut args = String::new();
        for setting in [
            &format!("listen_addresses={}", address.ip()),
            "unix_socket_directories=",
            "max_connections=300",
        ] {
            write!(args, "-c {setting} ")?;
        }
        let program = tools::postgres_bin()?.join("postgres");
        let process = place
            .process("postgres", &program, dir.path())
            .args(args.split_whitespace())
            .args(["-p", &address.port().to_string(), "-D"])
            .args([&data])
            .account(account)
            // Fast and immediate shutdown. The latter leaves recovery to the next start, as a crash does; SIGKILL
            // would also leave shared memory and children that hold up the next start.
            .signals(Signal::INT, Signal::QUIT);
        let mut server = Self {
            process,
            address,
            place,
            dir,
        };
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
            .ready(&Probe::Postgres(self.address), START_DEADLINE)
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

    /// Where it is reached, as `postgres://postgres@<address>:<port>/postgres`. The same over restarts.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.address)
    }

    /// Makes an empty database and returns where it is reached, as [`Self::url`].
    ///
    /// # Errors
    ///
    /// When the server refuses, as it does if `name` exists.
    pub async fn database(&self, name: &str) -> Result<String> {
        self.execute(&format!("create database {name}")).await?;
        Ok(format!("postgres://postgres@{}/{name}", self.address))
    }

    /// Runs a statement in the database `postgres`.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub async fn execute(&self, statement: &str) -> Result<()> {
        let psql = tools::postgres_bin()?.join("psql");
        let mut psql = self.place.process("psql", &psql, self.dir.path()).args([
            "--no-psqlrc".to_owned(),
            format!("--command={statement}"),
            self.url(),
        ]);
        psql.start()?;
        psql.finish(CALL_DEADLINE).await
    }

    /// The server's process, for its log and for signals.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The folder of its data and log.
    pub(crate) fn dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// Lets it run on, and its files stay, when this process ends.
    pub(crate) fn leave_running(&mut self) {
        self.process.leave_running();
        self.dir.leave();
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

/// What `psql` prints for one statement: a line for each row, columns between `|`.
///
/// # Errors
///
/// When the server refuses, or does not answer in 20 s.
pub async fn sql(url: &str, statement: &str) -> Result<String> {
    let dir = Workdir::new("psql")?;
    let mut psql = Process::new("psql", tools::postgres_bin()?.join("psql"), dir.path()).args([
        "--no-psqlrc",
        "--tuples-only",
        "--no-align",
        "--set=ON_ERROR_STOP=1",
        "--command",
        statement,
        url,
    ]);
    psql.start()?;
    psql.finish(CALL_DEADLINE).await?;
    let printed = fs::read_to_string(psql.log())
        .with_context(|| format!("reading {}", psql.log().display()))?;
    Ok(printed.trim().to_owned())
}
