//! Many clients that do as little as they can: what is measured is the node.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::endpoint::STORE;

/// Connections that are being made at a time: a listener keeps few.
pub(crate) const AT_ONCE: usize = 256;
/// Of so many records the delay of one is measured.
const SAMPLE: usize = 16;

#[derive(Clone)]
struct Seen {
    read: Arc<AtomicUsize>,
    /// In microseconds.
    delays: Arc<Mutex<Histogram<u64>>>,
}

/// Connects so many, says `ready`, then again and again how many records all have read; at the end of its
/// input, how long they took.
pub(crate) async fn run(address: SocketAddr, count: usize) -> Result<()> {
    let seen = Seen {
        read: Arc::default(),
        delays: Arc::new(Mutex::new(Histogram::new(3)?)),
    };
    let free = Arc::new(Semaphore::new(AT_ONCE));
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
    println!("ready");
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
    let message = r#"{"type":"subscribe","id":"a","object":"event:42"}"#;
    let token = format!("client-{number}");
    let (stream, _, rest) = subscribe(address, STORE, &token, message).await?;
    Ok((stream, rest))
}

/// Connects, shows a token and subscribes with a message. Also returns what was answered to that, and what came behind.
///
/// # Errors
/// When the node refuses any of it.
pub(crate) async fn subscribe(
    address: SocketAddr,
    store: &str,
    token: &str,
    message: &str,
) -> Result<(TcpStream, Vec<u8>, Vec<u8>)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "GET /live?store_id={store} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Authorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    stream.write_all(&frame(message)?).await?;
    let mut got = Vec::new();
    let head = loop {
        let end = got.windows(4).position(|part| part == b"\r\n\r\n");
        if let Some(end) = end {
            break end + 4;
        }
        more(&mut stream, &mut got).await?;
    };
    ensure!(
        got.starts_with(b"HTTP/1.1 101"),
        "refused: {}",
        String::from_utf8_lossy(&got)
    );
    got.drain(..head);
    loop {
        while let Some((text, rest)) = split(&got) {
            let (text, rest) = (text.to_vec(), rest.to_vec());
            if text.starts_with(br#"{"type":"subscribed""#) {
                return Ok((stream, text, rest));
            }
            ensure!(
                text.starts_with(br#"{"type":"welcome""#),
                "refused: {}",
                String::from_utf8_lossy(&text)
            );
            got = rest;
        }
        more(&mut stream, &mut got).await?;
    }
}

async fn more(stream: &mut TcpStream, got: &mut Vec<u8>) -> Result<()> {
    let read = stream.read_buf(got).await?;
    ensure!(read > 0, "closed: {}", String::from_utf8_lossy(got));
    Ok(())
}

/// A client's frame; its mask is zero.
fn frame(text: &str) -> Result<Vec<u8>> {
    let len = u16::try_from(text.len()).context("too long")?;
    let head = match u8::try_from(len) {
        Ok(len) if len < 126 => vec![0x81, 0x80 | len],
        _ => [[0x81, 0x80 | 126], len.to_be_bytes()].concat(),
    };
    Ok([&*head, &[0; 4], text.as_bytes()].concat())
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
