//! A MariaDB server of a test's own.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Signal, geteuid};

use crate::place::Place;
use crate::probe::Probe;
use crate::process::Process;
use crate::tools;
use crate::workdir::Workdir;

const INSTALL_DEADLINE: Duration = Duration::from_secs(120);
const START_DEADLINE: Duration = Duration::from_secs(60);
const CALL_DEADLINE: Duration = Duration::from_secs(20);
const DATABASE: &str = "CREATE DATABASE IF NOT EXISTS meridian;";

/// One MariaDB server with an empty database `meridian`, on 127.0.0.1, which lets `root` in without a password.
///
/// It forgets what it has just committed if the machine goes down. Its files go when it is dropped, but stay when the test
/// fails.
#[derive(Debug)]
pub struct MariaDb {
    process: Process,
    address: SocketAddr,
    dir: Workdir,
}

impl MariaDb {
    /// Makes a new data folder and starts a server on it, which no file of the system's has a say in.
    ///
    /// # Errors
    ///
    /// When MariaDB is not there (the message says how to get it) or does not become ready in a minute.
    pub async fn start() -> Result<Self> {
        Self::start_with("", &["--server-id=1"]).await
    }

    /// Makes a server that follows this one, from its first statement on, and answers reads.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub async fn replica(&self) -> Result<Self> {
        let follow = format!(
            "CHANGE MASTER TO MASTER_HOST = '{}', MASTER_PORT = {}, MASTER_USER = 'root', \
             MASTER_CONNECT_RETRY = 1, MASTER_USE_GTID = slave_pos; START SLAVE;",
            self.address.ip(),
            self.address.port()
        );
        // Started again it would follow by itself, beside what it is told here, and whichever came second would fail.
        Self::start_with(&follow, &["--server-id=2", "--skip-slave-start"]).await
    }

    /// Starts a server with `options` that first runs `statements`.
    async fn start_with(statements: &str, options: &[&str]) -> Result<Self> {
        let (server, install) = tools::mariadb()?;
        let place = Place::here();
        let dir = Workdir::new("mariadb")?;
        let address = SocketAddr::from((place.host(), place.port(3306)?));
        let option =
            |name: &str, file: &str| format!("--{name}={}", dir.path().join(file).display());
        // A server that starts clears away what others have in a folder that they share.
        let temporary = format!("--tmpdir={}", dir.path().display());
        // It refuses to run as root unless told to.
        let user = geteuid().is_root().then_some("--user=root");

        let mut installer = place
            .process("mariadb-install-db", &install, dir.path())
            .args([
                "--no-defaults",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--skip-name-resolve",
            ])
            .args([option("datadir", "data"), temporary.clone()])
            .args(user);
        installer.start()?;
        installer.finish(INSTALL_DEADLINE).await?;

        // Run at every start, a line each.
        let first = format!("{DATABASE}\n{}\n", statements.replace("; ", ";\n"));
        let first = dir.write("init.sql", &first)?;
        let process = place
            .process("mariadbd", &server, dir.path())
            .args(["--no-defaults"])
            .args([
                option("datadir", "data"),
                option("socket", "socket"),
                option("pid-file", "pid"),
                temporary,
                option("log-bin", "log"),
                format!("--init-file={}", first.display()),
                format!("--bind-address={}", address.ip()),
                format!("--port={}", address.port()),
            ])
            .args([
                "--innodb-flush-log-at-trx-commit=2",
                "--innodb-buffer-pool-size=128M",
                "--max-connections=300",
                "--skip-name-resolve",
            ])
            .args(options.iter().copied())
            .args(user)
            .signals(Signal::TERM, Signal::KILL);
        let mut server = Self {
            process,
            address,
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
            .ready(&Probe::MariaDb(self.address), START_DEADLINE)
            .await
    }

    /// Where it is reached, as `mysql://root@<address>:<port>/meridian`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mysql://root@{}/meridian", self.address)
    }

    /// Runs a statement.
    ///
    /// # Errors
    ///
    /// When the server refuses, or its client `mariadb` is not on the path.
    pub async fn execute(&self, statement: &str) -> Result<()> {
        let program = tools::on_path("mariadb").context("no `mariadb` on the path")?;
        let mut client = Process::new("mariadb", program, self.dir.path()).args([
            "--no-defaults".to_owned(),
            format!("--host={}", self.address.ip()),
            format!("--port={}", self.address.port()),
            "--user=root".to_owned(),
            format!("--execute={statement}"),
        ]);
        client.start()?;
        client.finish(CALL_DEADLINE).await
    }

    /// Ends the server at once, as a crash does.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }
}
