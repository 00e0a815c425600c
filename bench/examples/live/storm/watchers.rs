//! The clients of the storm: each shows its token, subscribes, and goes to the other node by its position when the first one dies.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use serde::Deserialize;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::clients::{AT_ONCE, split, subscribe};

/// Between two tries of one client.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a client may try.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a node tells, as far as it matters here.
#[derive(Deserialize)]
struct Told {
    r#type: String,
    position: Option<String>,
    recovered: Option<bool>,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    n: u64,
}

/// What all of them have in common.
struct All {
    /// The node that dies, and the other.
    nodes: [SocketAddr; 2],
    store: String,
    object: String,
    free: Semaphore,
    /// Tries that came to nothing.
    failed: AtomicU64,
    missed: AtomicU64,
    doubled: AtomicU64,
    not_recovered: AtomicU64,
    /// The last number that was sent, once that is known.
    last: watch::Receiver<u64>,
}

/// What one says of itself.
enum Said {
    Subscribed,
    /// After so long.
    Back(Duration),
    Done,
}

struct Watcher {
    all: Arc<All>,
    token: String,
    position: Option<String>,
    next: Option<u64>,
}

/// Connects one client for each token of the file to the first node; says `ready`, and `back` with the times once all are at the
/// other, each with microseconds. Its input then tells the last number that was sent: it says what became of all of them.
pub(crate) async fn run(
    nodes: [SocketAddr; 2],
    (store, object): (&str, &str),
    tokens: &Path,
) -> Result<()> {
    let tokens = std::fs::read_to_string(tokens)?;
    let (telling, last) = watch::channel(u64::MAX);
    let all = Arc::new(All {
        nodes,
        store: store.to_owned(),
        object: object.to_owned(),
        free: Semaphore::new(AT_ONCE),
        failed: AtomicU64::default(),
        missed: AtomicU64::default(),
        doubled: AtomicU64::default(),
        not_recovered: AtomicU64::default(),
        last,
    });
    let (say, mut said) = mpsc::unbounded_channel();
    let (start, mut count) = (Instant::now(), 0_u64);
    for token in tokens.lines() {
        let watcher = Watcher {
            all: Arc::clone(&all),
            token: token.to_owned(),
            position: None,
            next: None,
        };
        count += 1;
        let say = say.clone();
        tokio::spawn(async move {
            if let Err(why) = watcher.run(&say).await {
                eprintln!("a client gave up: {why:#}");
                std::process::exit(1);
            }
        });
    }
    let (mut times, mut heard) = (Histogram::<u64>::new(3)?, BTreeMap::<_, u64>::new());
    while heard.get("done") != Some(&count) {
        let one = match said.recv().await.context("nobody is left")? {
            Said::Subscribed => "ready",
            Said::Back(took) => {
                times.record(u64::try_from(took.as_micros())?)?;
                "back"
            }
            Said::Done => "done",
        };
        let many = heard.entry(one).or_default();
        *many += 1;
        if *many < count {
            continue;
        }
        let failed = all.failed.swap(0, Ordering::Relaxed);
        match one {
            "ready" => println!("ready {} {failed}", start.elapsed().as_micros()),
            "back" => {
                let at = |quantile| times.value_at_quantile(quantile);
                println!("back {} {} {} {failed}", at(0.5), at(0.99), at(1.0));
                let input = || std::io::stdin().lines().next();
                let line = tokio::task::spawn_blocking(input).await?;
                let line = line.context("no last number")??;
                telling.send_replace(line.trim().parse()?);
            }
            _ => {}
        }
    }
    let told = [&all.not_recovered, &all.missed, &all.doubled];
    let [not_recovered, missed, doubled] = told.map(|count| count.load(Ordering::Relaxed));
    println!("{not_recovered} {missed} {doubled}");
    Ok(())
}

impl Watcher {
    async fn run(mut self, say: &mpsc::UnboundedSender<Said>) -> Result<()> {
        let [first, other] = self.all.nodes;
        let (stream, got) = self.subscribe(first).await?;
        say.send(Said::Subscribed)?;
        // Nothing ends it but the node's end.
        self.read(stream, got).await?;
        let gone = Instant::now();
        let (stream, got) = self.subscribe(other).await?;
        say.send(Said::Back(gone.elapsed()))?;
        self.read(stream, got).await?;
        say.send(Said::Done)?;
        Ok(())
    }

    /// Again and again, as any client would.
    async fn subscribe(&mut self, node: SocketAddr) -> Result<(TcpStream, Vec<u8>)> {
        let all = Arc::clone(&self.all);
        let (start, _turn) = (Instant::now(), all.free.acquire().await?);
        let message = json!({
            "type": "subscribe",
            "id": "a",
            "object": all.object,
            "position": self.position,
        });
        loop {
            let tried = subscribe(node, &all.store, &self.token, &message.to_string()).await;
            match tried {
                Ok((stream, subscribed, rest)) => {
                    let told: Told = serde_json::from_slice(&subscribed)?;
                    if told.recovered == Some(false) {
                        all.not_recovered.fetch_add(1, Ordering::Relaxed);
                    }
                    self.position = told.position;
                    return Ok((stream, rest));
                }
                Err(why) => {
                    all.failed.fetch_add(1, Ordering::Relaxed);
                    ensure!(start.elapsed() < PATIENCE, why);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Reads until the node is gone, or the last record is there.
    async fn read(&mut self, mut stream: TcpStream, mut got: Vec<u8>) -> Result<()> {
        let mut last = self.all.last.clone();
        loop {
            let mut rest = got.as_slice();
            while let Some((text, after)) = split(rest) {
                rest = after;
                if text.starts_with(b"{") {
                    self.take(&serde_json::from_slice(text)?)?;
                }
            }
            let used = got.len() - rest.len();
            got.drain(..used);
            if self
                .next
                .is_some_and(|next| next > *last.borrow_and_update())
            {
                return Ok(());
            }
            tokio::select! {
                read = stream.read_buf(&mut got) => if !read.is_ok_and(|bytes| bytes > 0) {
                    return Ok(());
                },
                told = last.changed() => told?,
            }
        }
    }

    fn take(&mut self, told: &Told) -> Result<()> {
        let (Some(position), Some(Data { n })) = (&told.position, &told.data) else {
            anyhow::bail!("not a record, but {}", told.r#type);
        };
        self.position = Some(position.clone());
        let next = self.next.unwrap_or(*n);
        let (count, many) = match n.checked_sub(next) {
            Some(missed) => (&self.all.missed, missed),
            None => (&self.all.doubled, 1),
        };
        count.fetch_add(many, Ordering::Relaxed);
        self.next = Some(next.max(n + 1));
        Ok(())
    }
}
