//! How soon a revocation is felt: from the node's showing it to the last record that its user was sent.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::io::AsyncReadExt as _;

use crate::clients::{connect, split};
use crate::endpoint::{Channel, Endpoint as _};

/// Those who stay, and are asked about again with each revocation.
const OTHERS: usize = 100;
/// Records of a user before its permission is taken away.
const BEFORE: usize = 20;
const PAUSE: Duration = Duration::from_micros(500);

/// Takes so many permissions away while records go out, and prints the times.
pub(crate) async fn run(channel: &Channel, rounds: usize) -> Result<()> {
    let mut others = Vec::new();
    for number in 0..OTHERS {
        let (mut stream, _) = connect(channel.address(), number).await?;
        others.push(tokio::spawn(async move {
            let mut read = vec![0; 64 * 1024];
            while stream.read(&mut read).await.is_ok_and(|bytes| bytes > 0) {}
        }));
    }
    let sending = async {
        let mut tick = tokio::time::interval(PAUSE);
        loop {
            tick.tick().await;
            channel.send();
        }
    };
    let measuring = async {
        let (mut last, mut told) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let (record, end) = one(channel, OTHERS + round).await?;
            last.push(record);
            told.push(end);
        }
        anyhow::Ok((last, told))
    };
    let (last, told) = tokio::select! {
        measured = measuring => measured?,
        () = sending => return Ok(()),
    };
    others.iter().for_each(tokio::task::JoinHandle::abort);
    let per_second = 1.0 / PAUSE.as_secs_f64();
    println!(
        "after a revocation, {OTHERS} others and {per_second:.0} records/s beside it, {rounds} rounds:"
    );
    print("last record", last);
    print("told", told);
    Ok(())
}

/// How long after a revocation the last record came, and the word of it.
async fn one(channel: &Channel, number: usize) -> Result<(Duration, Duration)> {
    let (mut stream, mut got) = connect(channel.address(), number).await?;
    let (mut records, mut revoked, mut last) = (0, None::<Instant>, None::<Instant>);
    loop {
        let mut rest = got.as_slice();
        while let Some((text, after)) = split(rest) {
            rest = after;
            if text.starts_with(br#"{"type":"record""#) {
                records += 1;
                last = Some(Instant::now());
            } else if let Some(since) = revoked {
                let last = last.unwrap_or(since);
                return Ok((last.saturating_duration_since(since), since.elapsed()));
            }
        }
        let used = got.len() - rest.len();
        got.drain(..used);
        if records >= BEFORE && revoked.is_none() {
            channel.revoke(format!("user:client-{number}"));
            revoked = Some(Instant::now());
        }
        ensure!(stream.read_buf(&mut got).await? > 0, "closed");
    }
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| {
        let at = (times.len() as f64 * share).ceil() as usize;
        times.get(at.saturating_sub(1)).copied().unwrap_or_default()
    };
    println!(
        "  {what}: median {:.1?}, p99 {:.1?}, worst {:.1?}",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}
