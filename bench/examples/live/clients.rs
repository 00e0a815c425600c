//! Many clients that do as little as they can: what is measured is the node.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::endpoint::STORE;

/// Connections that are being made at a time: a listener keeps few.
const AT_ONCE: usize = 256;
/// Of so many records the delay of one is measured.
const SAMPLE: usize = 16;

#[derive(Clone)]
struct Seen {
    read: Arc<AtomicUsize>,
    /// In microseconds.
    delays: Arc<Mutex<Histogram<u64>>>,
}

/// Connects so many, says `ready` and how many microseconds that took, then again and again how many records all have read; at the end of its
/// input, how long they took.
pub(crate) async fn run(address: SocketAddr, count: usize) -> Result<()> {
    let seen = Seen {
        read: Arc::default(),
        delays: Arc::new(Mutex::new(Histogram::new(3)?)),
    };
    let (start, free) = (Instant::now(), Arc::new(Semaphore::new(AT_ONCE)));
    let mut connecting = tokio::task::JoinSet::new();
    for number in 0..count {
        let free = Arc::clone(&free);
        connecting.spawn(async move {
            let _one = free.acquire().await?;
            connect(address, number).await
        });
    }
    while let Some(connected) = connecting.join_next().await {
        let (stream, rest) = connected??;
        tokio::spawn(read(stream, rest, seen.clone()));
    }
    println!("ready {}", start.elapsed().as_micros());
    let read = Arc::clone(&seen.read);
    let telling = tokio::spawn(async move {
        let mut last = usize::MAX;
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let now = read.load(Ordering::Relaxed);
            if now != std::mem::replace(&mut last, now) {
                println!("{now}");
                let _flushed = std::io::stdout().flush();
            }
        }
    });
    let input = || std::io::stdin().read_to_end(&mut Vec::new());
    tokio::task::spawn_blocking(input).await??;
    telling.abort();
    let delays = seen.delays.lock().unwrap_or_else(PoisonError::into_inner);
    let at = |quantile| Duration::from_micros(delays.value_at_quantile(quantile));
    println!(
        "p50 {:.1?}, p99 {:.1?}, max {:.1?}",
        at(0.5),
        at(0.99),
        at(1.0)
    );
    Ok(())
}

/// Connects, shows a token and subscribes. Also returns what came behind.
pub(crate) async fn connect(address: SocketAddr, number: usize) -> Result<(TcpStream, Vec<u8>)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "GET /live?store_id={STORE} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Authorization: Bearer client-{number}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    stream
        .write_all(&frame(
            br#"{"type":"subscribe","id":"a","object":"event:42"}"#,
        )?)
        .await?;
    let mut got = Vec::new();
    let subscribed = br#""subscribed""#;
    loop {
        if let Some(at) = got
            .windows(subscribed.len())
            .position(|part| part == subscribed)
        {
            // The frame ends with the first brace behind.
            let end = got
                .iter()
                .skip(at)
                .position(|byte| *byte == b'}')
                .map(|end| at + end + 1);
            if let Some(end) = end {
                return Ok((stream, got.split_off(end)));
            }
        }
        ensure!(
            stream.read_buf(&mut got).await? > 0,
            "closed: {}",
            String::from_utf8_lossy(&got)
        );
    }
}

/// A client's frame; its mask is zero.
fn frame(text: &[u8]) -> Result<Vec<u8>> {
    let len = u8::try_from(text.len())
        .ok()
        .filter(|len| *len < 126)
        .context("too long")?;
    Ok([&[0x81, 0x80 | len, 0, 0, 0, 0], text].concat())
}

async fn read(mut stream: TcpStream, mut got: Vec<u8>, seen: Seen) {
    let mut count = 0_usize;
    loop {
        let mut rest = got.as_slice();
        let mut frames = 0;
        while let Some((text, after)) = split(rest) {
            rest = after;
            frames += 1;
            count += 1;
            if count.is_multiple_of(SAMPLE) {
                sample(text, &seen);
            }
        }
        let used = got.len() - rest.len();
        got.drain(..used);
        seen.read.fetch_add(frames, Ordering::Relaxed);
        match stream.read_buf(&mut got).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// The first frame's text, and what is behind it; `None` where it is not all there.
pub(crate) fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<2>()?;
    let (len, rest) = match usize::from(head[1]) {
        126 => {
            let (len, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*len)), rest)
        }
        len => (len, rest),
    };
    rest.split_at_checked(len)
}

fn sample(text: &[u8], seen: &Seen) {
    let text = String::from_utf8_lossy(text);
    let sent = text
        .split_once(r#""t":"#)
        .and_then(|(_, rest)| rest.split(',').next()?.parse::<u128>().ok());
    let Some(sent) = sent else { return };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos();
    let micros = u64::try_from(now.saturating_sub(sent) / 1000).unwrap_or(u64::MAX);
    let mut delays = seen.delays.lock().unwrap_or_else(PoisonError::into_inner);
    // It grows as it must, and takes anything.
    let _recorded = delays.record(micros);
}
