//! A storm: the node of thousands of clients dies, and all of them come back at once at another, each with its token, its question
//! and its position, while records go on.
//!
//! All parts are real: PostgreSQL, Kafka, a regional node that dies and a central one, tokens of an OIDC issuer, Checks that are read
//! from the database. The clients try at once, as no good client would.

mod issuer;
pub(crate) mod watchers;

use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use meridian_bench::ask::{Api, Writes};
use meridian_bench::nodes::{Addresses, start_node};
use meridian_e2e::{Kafka, Postgres, Workdir};
use meridian_model::TupleKey;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

use issuer::{AUDIENCE, Issuer};

const OBJECT: &str = "document:race";
/// Between two records.
const EVERY: Duration = Duration::from_millis(500);

/// Lets so many clients come back, and prints how long that takes and what they missed.
pub(crate) async fn run(count: usize) -> Result<()> {
    let (postgres, kafka) = tokio::try_join!(Postgres::start(), Kafka::start())?;
    let (issuer, dir) = (Issuer::start().await?, Workdir::new("storm")?);
    let live = format!(
        "live: {{enabled: true, relation: viewer, connectionsPerAddress: {}, oidc: {{issuer: \"{}\", audience: {AUDIENCE}}}}}",
        2 * count,
        issuer.url
    );
    let bootstrap = kafka.bootstrap();
    let more = format!(
        "datastore: {{url: \"{}\"}}\n{live}",
        postgres.database("central").await?
    );
    let (central, _central) = start_node(&dir, &bootstrap, "central", &more).await?;
    let more = format!(
        "datastore: {{url: \"{}\"}}\nupstream: [\"http://{}\"]\n{live}",
        postgres.database("regional").await?,
        central.nodes
    );
    let (regional, mut dies) = start_node(&dir, &bootstrap, "regional", &more).await?;

    let api = Api::new(central.grpc)?;
    let store = api.create_store("race").await?;
    let users = (0..count).map(|number| format!("fan-{number}"));
    let tuple = |object, relation, user: &str| {
        TupleKey::parse(object, relation, user).map_err(|why| anyhow::anyhow!("{why}"))
    };
    let mut tuples = vec![tuple(OBJECT, "viewer", "group:fans#member")?];
    for user in users.clone() {
        tuples.push(tuple("group:fans", "member", &format!("user:{user}"))?);
    }
    Writes::new(&api, &store, &tuples).run().await?;
    let tokens: Vec<_> = users
        .map(|user| issuer.token(&user))
        .collect::<Result<_>>()?;
    let tokens = dir.write("tokens", &tokens.join("\n"))?;

    let mut clients = Command::new(std::env::current_exe()?)
        .args([
            "--watchers",
            &regional.http.to_string(),
            &central.http.to_string(),
            &store,
            OBJECT,
        ])
        .arg(tokens)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut told = BufReader::new(clients.stdout.take().context("no output")?).lines();
    let mut next = async || told.next_line().await?.context("the clients ended");
    let sent = AtomicU64::new(0);
    let storm = async {
        let ready = numbers(&next().await?, "ready ")?;
        let [took, failed] = ready[..] else {
            bail!("ready: {ready:?}")
        };
        println!(
            "{count} clients at a regional node: tokens verified, permissions checked, subscribed in {:.2} s, {failed} tries failed",
            seconds(took)
        );
        // Records that all of them have, before their node goes.
        let before = sent.load(Ordering::Relaxed);
        while sent.load(Ordering::Relaxed) < before + 4 {
            tokio::time::sleep(EVERY).await;
        }
        dies.kill().await;
        let back = numbers(&next().await?, "back ")?;
        let [half, most, all, failed] = back[..] else {
            bail!("back: {back:?}")
        };
        println!(
            "it dies: all are at central {:.2} s later (half in {:.2} s, 99 % in {:.2} s), {failed} tries failed",
            seconds(all),
            seconds(half),
            seconds(most)
        );
        anyhow::Ok(())
    };
    tokio::select! {
        over = storm => over?,
        sending = send(&central, &store, &sent) => sending?,
    }
    let last = format!("{}\n", sent.load(Ordering::Relaxed) - 1);
    let mut input = clients.stdin.take().context("no input")?;
    input.write_all(last.as_bytes()).await?;
    let kept = numbers(&next().await?, "")?;
    let [not_recovered, missed, doubled] = kept[..] else {
        bail!("kept: {kept:?}")
    };
    println!(
        "of {} records at 2/s while that went on: {missed} missed, {doubled} doubled; {not_recovered} clients were told that some are missing",
        sent.load(Ordering::Relaxed)
    );
    Ok(())
}

/// Sends numbered records at a steady pace, until it is dropped.
async fn send(central: &Addresses, store: &str, sent: &AtomicU64) -> Result<()> {
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tick.tick().await;
        let n = sent.load(Ordering::Relaxed);
        let body = format!(r#"{{"records":[{{"object":"{OBJECT}","data":{{"n":{n}}}}}]}}"#);
        let request = format!(
            "POST /stores/{store}/live/publish HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(central.http).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        ensure!(answer.starts_with("HTTP/1.1 200"), answer);
        sent.store(n + 1, Ordering::Relaxed);
    }
}

/// The numbers of a line behind its name.
fn numbers(line: &str, name: &str) -> Result<Vec<u64>> {
    let rest = line.strip_prefix(name).with_context(|| line.to_owned())?;
    let numbers = rest.split(' ').map(str::parse);
    numbers
        .collect::<Result<_, _>>()
        .with_context(|| line.to_owned())
}

fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}
