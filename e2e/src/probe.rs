//! Whether a server answers yet.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

/// How long one try may take.
const TRY: Duration = Duration::from_secs(2);

/// What a server must do to count as ready.
#[derive(Clone, Debug)]
pub enum Probe {
    /// Accept a TCP connection.
    Tcp(SocketAddr),
    /// Answer `GET <path>` over HTTP/1.1 with status 200.
    Http(SocketAddr, String),
    /// Let PostgreSQL's user `postgres` into the database `postgres`.
    Postgres(SocketAddr),
    /// Greet whoever connects, as MariaDB does once its first statements are run.
    MariaDb(SocketAddr),
    /// Answer Kafka's ApiVersions call, which a broker does once it has joined its cluster.
    Kafka(SocketAddr),
    /// Let this program, with these arguments, end with success.
    Command(PathBuf, Vec<OsString>),
}

impl Probe {
    /// Asks once; an error says what was wrong.
    pub(crate) async fn ask(&self) -> Result<()> {
        timeout(TRY, async {
            match self {
                Self::Tcp(address) => tcp(*address).await,
                Self::Http(address, path) => http(*address, path).await,
                Self::Postgres(address) => postgres(*address).await,
                Self::MariaDb(address) => mariadb(*address).await,
                Self::Kafka(address) => kafka(*address).await,
                Self::Command(program, args) => command(Command::new(program).args(args)).await,
            }
        })
        .await?
    }
}

async fn tcp(address: SocketAddr) -> Result<()> {
    TcpStream::connect(address).await?;
    Ok(())
}

async fn http(address: SocketAddr, path: &str) -> Result<()> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).await?;
    ensure!(
        head.ends_with(b" 200"),
        "GET {path} answers {:?}",
        String::from_utf8_lossy(&head)
    );
    Ok(())
}

/// Protocol 3.0's start-up message; a server that still recovers answers it with an error.
async fn postgres(address: SocketAddr) -> Result<()> {
    const PARAMETERS: &[u8] = b"user\0postgres\0database\0postgres\0\0";
    const VERSION: u32 = 3 << 16;
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_u32(u32::try_from(8 + PARAMETERS.len())?)
        .await?;
    stream.write_u32(VERSION).await?;
    stream.write_all(PARAMETERS).await?;
    let kind = stream.read_u8().await?;
    ensure!(
        kind == b'R',
        "answers the start-up message with {:?}",
        char::from(kind)
    );
    Ok(())
}

/// The first packet is the server's: three bytes of length, a number, and the protocol's version, or 255 and an error.
async fn mariadb(address: SocketAddr) -> Result<()> {
    const VERSION: u8 = 10;
    let mut stream = TcpStream::connect(address).await?;
    let mut head = [0; 5];
    stream.read_exact(&mut head).await?;
    let [.., version] = head;
    ensure!(version == VERSION, "greets with {version}");
    Ok(())
}

async fn kafka(address: SocketAddr) -> Result<()> {
    const API_VERSIONS: u16 = 18;
    const NO_CLIENT_ID: i16 = -1;
    let mut stream = TcpStream::connect(address).await?;
    stream.write_u32(10).await?; // bytes that follow
    stream.write_u16(API_VERSIONS).await?;
    stream.write_u16(0).await?; // version of the call
    stream.write_u32(1).await?; // correlation id
    stream.write_i16(NO_CLIENT_ID).await?;
    let _length = stream.read_u32().await?;
    let _correlation = stream.read_u32().await?;
    let code = stream.read_i16().await?;
    ensure!(code == 0, "answers ApiVersions with error {code}");
    Ok(())
}

async fn command(command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{}: {}",
        output.status,
        said.trim()
    );
    Ok(())
}
