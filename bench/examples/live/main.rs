//! The live channel's figures, printed: deliveries a second to 1,000 clients beside a bare broadcast with the same WebSocket
//! library, memory of a connection that is idle, how often the authority was asked, how soon a revocation is felt, and a storm of clients
//! whose node dies. `--revocations N` and `--storm N` measure one of the last two alone.
//!
//! But for the storm, the endpoint runs in this process, its clients in another, both on the same machine.

mod clients;
mod endpoint;
mod revoking;
mod storm;

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use endpoint::{Bare, Channel, Endpoint};
use meridian_bench::nodes::memory;

const CLIENTS: usize = 1000;
const IDLE: usize = 10_000;
const STORM: usize = 5000;
/// Records of a run at full speed.
const RECORDS: usize = 2000;
const REVOCATIONS: usize = 500;
/// Records sent ahead of the slowest client's reading.
const AHEAD: usize = 64;

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    match args[..] {
        [] => all().await,
        ["--revocations", rounds] => revoking::run(&Channel::start().await?, rounds.parse()?).await,
        ["--storm", count] => storm::run(count.parse()?).await,
        // Of this program itself.
        ["--clients", address, count] => clients::run(address.parse()?, count.parse()?).await,
        ["--watchers", first, other, store, object, tokens] => {
            let nodes = [first.parse()?, other.parse()?];
            storm::watchers::run(nodes, (store, object), tokens.as_ref()).await
        }
        _ => bail!("give nothing, --revocations ROUNDS or --storm CLIENTS"),
    }
}

async fn all() -> Result<()> {
    let bare = Bare::start().await?;
    let most_bare = at_full_speed("bare broadcast", &bare, CLIENTS).await?;
    let channel = Channel::start().await?;
    let most = at_full_speed("live channel", &channel, CLIENTS).await?;
    println!(
        "live channel / bare broadcast: {:.0} %",
        100.0 * most / most_bare
    );
    for rate in [10_000.0, most / 2.0] {
        at_rate(&channel, CLIENTS, rate).await?;
    }
    let asked = channel.asked();
    let mut few = Clients::start(channel.address(), 10).await?;
    let before = channel.asked();
    for sent in 0..100_000 {
        channel.send();
        if sent % 256 == 0 {
            few.wait_for((sent.max(256) - 256) * 10).await?;
        }
    }
    few.wait_for(100_000 * 10).await?;
    println!(
        "authority asked {} times for 10 subscriptions, {} times over 100,000 records",
        before - asked,
        channel.asked() - before
    );
    few.stop().await?;

    let empty = memory(std::process::id())?;
    let idle = Clients::start(channel.address(), IDLE).await?;
    let full = memory(std::process::id())?;
    println!(
        "{IDLE} idle connections, each with a subscription: {:.1} KB each",
        (full - empty) as f64 / IDLE as f64 / 1024.0
    );
    idle.stop().await?;
    revoking::run(&Channel::start().await?, REVOCATIONS).await?;
    storm::run(STORM).await
}

/// Sends as fast as all clients read; returns deliveries a second.
async fn at_full_speed(name: &str, endpoint: &impl Endpoint, count: usize) -> Result<f64> {
    let mut clients = Clients::start(endpoint.address(), count).await?;
    let start = Instant::now();
    for sent in 0..RECORDS {
        endpoint.send();
        clients.wait_for(sent.saturating_sub(AHEAD) * count).await?;
    }
    clients.wait_for(RECORDS * count).await?;
    let rate = (RECORDS * count) as f64 / start.elapsed().as_secs_f64();
    println!("{name}, {count} clients: {rate:.0} deliveries/s");
    clients.stop().await?;
    Ok(rate)
}

/// Sends at a steady rate, of deliveries a second; prints how long a record takes.
async fn at_rate(endpoint: &impl Endpoint, count: usize, rate: f64) -> Result<()> {
    let mut clients = Clients::start(endpoint.address(), count).await?;
    let pause = Duration::from_secs_f64(count as f64 / rate);
    let mut tick = tokio::time::interval(pause);
    let records = (5.0 / pause.as_secs_f64()) as usize;
    for _ in 0..records {
        tick.tick().await;
        endpoint.send();
    }
    clients.wait_for(records * count).await?;
    let delays = clients.stop_with_delays().await?;
    println!("at {rate:.0} deliveries/s to {count} clients: {delays}");
    Ok(())
}

/// The clients' process.
struct Clients {
    process: Child,
    told: Lines<BufReader<ChildStdout>>,
    read: usize,
}

impl Clients {
    /// Starts them, and waits until all have subscribed.
    async fn start(address: SocketAddr, count: usize) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["--clients", &address.to_string(), &count.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = process.stdout.take().context("no output")?;
        let mut told = BufReader::new(stdout).lines();
        let ready = told.next_line().await?.context("the clients ended")?;
        ensure!(ready == "ready", "the clients say {ready}");
        Ok(Self {
            process,
            told,
            read: 0,
        })
    }

    /// Waits until so many records were read, by all together.
    async fn wait_for(&mut self, records: usize) -> Result<()> {
        while self.read < records {
            let line = self.told.next_line().await?.context("the clients ended")?;
            self.read = line.parse().with_context(|| line.clone())?;
        }
        Ok(())
    }

    async fn stop(self) -> Result<()> {
        self.stop_with_delays().await.map(drop)
    }

    async fn stop_with_delays(mut self) -> Result<String> {
        drop(self.process.stdin.take());
        let mut last = String::new();
        while let Some(line) = self.told.next_line().await? {
            last = line;
        }
        self.process.wait().await?;
        Ok(last)
    }
}
