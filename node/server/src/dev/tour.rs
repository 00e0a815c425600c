//! What a newcomer sees: a sample store, a check answered at the edge, one that had to go up, a revocation arriving.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use meridian_model::TupleKey;

use super::Stage;
use crate::client::{Checked, Client, parse_tuple};

/// The sample store's name.
const STORE: &str = "GitHub";
const MODEL: &str = include_str!("../../../../examples/github/model.fga");
const TUPLES: &str = include_str!("../../../../examples/github/tuples.txt");
/// Types of which the edge holds every tuple. Issues are Warm.
const CRITICAL: [&str; 4] = ["user", "organization", "team", "repo"];

const AT_THE_EDGE: &str = "repo:acme/api#admin@user:diane";
const NOT_ALLOWED: &str = "repo:acme/api#reader@user:mallory";
const GOES_UP: &str = "issue:acme/api/17#can_close@user:anne";
const REVOKED: &str = "team:acme/backend#member@user:diane";

/// How long a change may take to reach the edge here.
const ARRIVAL: Duration = Duration::from_secs(20);

/// What came this fast came by the topics.
const STREAMED: Duration = Duration::from_millis(200);

/// Says what has come up.
pub(super) fn step(what: &str) {
    println!("  up  {what}");
}

pub(super) async fn run(stage: &Stage) -> anyhow::Result<()> {
    let mut central = Client::new(&stage.central.grpc.to_string())?;
    let mut edge = Client::new(&stage.edge.grpc.to_string())?;
    let store = load(&mut central).await?;
    step("sample store: GitHub's organizations, teams, repositories and issues");
    println!(
        "  ..  waiting for the readers of Kafka's topics to take their places, about ten seconds"
    );
    if stream_flows(&mut central, &mut edge, &store).await? {
        step("changes flow from central over Kafka to the edge");
    } else {
        step("changes reach the edge, but slowly: from the node above, not over Kafka");
    }

    let (at_edge, refused, goes_up, revoked) = (
        parse_tuple(AT_THE_EDGE)?,
        parse_tuple(NOT_ALLOWED)?,
        parse_tuple(GOES_UP)?,
        parse_tuple(REVOKED)?,
    );
    let covered = arrives(&mut edge, &store, &at_edge, |answer| {
        answer.allowed && by_edge(answer)
    })
    .await?;
    let denied = edge.check(&store, &refused).await?;
    ensure!(!denied.allowed, "{NOT_ALLOWED} was allowed");
    let up = edge.check(&store, &goes_up).await?;
    ensure!(
        up.allowed && !by_edge(&up),
        "{GOES_UP} was not answered above: {up:?}"
    );
    let kept = edge.check(&store, &goes_up).await?;

    screen(
        stage,
        &store,
        &[
            (AT_THE_EDGE, &covered),
            (NOT_ALLOWED, &denied),
            (GOES_UP, &up),
            (GOES_UP, &kept),
        ],
    );

    let watched = Instant::now();
    let revision = central
        .delete(&store, std::slice::from_ref(&revoked))
        .await?;
    let committed = watched.elapsed();
    let after = arrives(&mut edge, &store, &at_edge, |answer| {
        !answer.allowed && by_edge(answer)
    })
    .await?;
    println!("A revocation, watched arriving");
    println!(
        "  at central   delete {REVOKED}   committed as revision {revision} in {committed:.1?}"
    );
    println!(
        "  at the edge  {AT_THE_EDGE}   {} {:.1?} after that, by {}",
        verdict(&after),
        watched.elapsed().saturating_sub(committed),
        after.served_by
    );
    central.write(&store, &[revoked]).await?;
    println!("  (given back to diane, so that the lines above work as printed)\n");
    println!("Running. Ctrl-C stops everything.");
    Ok(())
}

/// Loads the sample store, or what an earlier run that shared the folder left out of it.
async fn load(central: &mut Client) -> anyhow::Result<String> {
    let store = match central.find_store(STORE).await? {
        Some(store) => store,
        None => central.create_store(STORE).await?,
    };
    if central.tiers(&store).await?.is_empty() {
        central
            .write_model(&store, MODEL)
            .await
            .context("the sample model")?;
    }
    central
        .assign_tiers(&store, CRITICAL.map(str::to_owned).to_vec(), Vec::new())
        .await?;
    let lines = TUPLES
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut missing = Vec::new();
    for tuple in lines.map(parse_tuple) {
        let tuple = tuple?;
        if !central.has(&store, &tuple).await? {
            missing.push(tuple);
        }
    }
    if !missing.is_empty() {
        central.write(&store, &missing).await?;
    }
    Ok(store)
}

/// Whether changes come over the topics. Until their readers have joined, what they miss is fetched from the node above,
/// which takes longer.
async fn stream_flows(
    central: &mut Client,
    edge: &mut Client,
    store: &str,
) -> anyhow::Result<bool> {
    let guest = parse_tuple("organization:acme#member@user:guest")?;
    if central.has(store, &guest).await? {
        central.delete(store, std::slice::from_ref(&guest)).await?;
    }
    let start = Instant::now();
    let mut took = Duration::MAX;
    while took > STREAMED && start.elapsed() < ARRIVAL {
        central.write(store, std::slice::from_ref(&guest)).await?;
        let written = Instant::now();
        arrives(edge, store, &guest, |answer| {
            answer.allowed && by_edge(answer)
        })
        .await?;
        took = written.elapsed();
        central.delete(store, std::slice::from_ref(&guest)).await?;
        arrives(edge, store, &guest, |answer| {
            !answer.allowed && by_edge(answer)
        })
        .await?;
    }
    Ok(took <= STREAMED)
}

fn by_edge(answer: &Checked) -> bool {
    answer.served_by.starts_with("edge/")
}

fn verdict(answer: &Checked) -> &'static str {
    if answer.allowed { "allowed" } else { "denied" }
}

/// Asks the edge until its answer is as wanted.
async fn arrives(
    edge: &mut Client,
    store: &str,
    question: &TupleKey,
    wanted: impl Fn(&Checked) -> bool,
) -> anyhow::Result<Checked> {
    let start = Instant::now();
    loop {
        let answer = edge.check(store, question).await;
        match answer {
            Ok(answer) if wanted(&answer) => return Ok(answer),
            other => ensure!(
                start.elapsed() < ARRIVAL,
                "{question} at the edge is still {other:?}"
            ),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn screen(stage: &Stage, store: &str, checks: &[(&str, &Checked)]) {
    println!("\nMeridian runs: a central, a regional and an edge node\n");
    println!("                gRPC                  HTTP");
    for node in [&stage.central, &stage.regional, &stage.edge] {
        println!(
            "  {:<12}  {:<20}  http://{}",
            node.name, node.grpc, node.http
        );
    }
    if stage.central.grpc.port() != super::CENTRAL + 1 {
        println!(
            "\nThe usual ports are taken: export MERIDIAN_API={}",
            stage.central.grpc
        );
    }
    if stage.temporary.is_some() {
        println!("\nData   temporary, gone when this ends: keep it with --data FOLDER");
    }
    println!("\nStore  {store}  (model and data: examples/github)\n");
    println!("Asked at the edge");
    for (question, answer) in checks {
        println!(
            "  {question:<42} {:<8} by {:<14} at revision {}",
            verdict(answer),
            answer.served_by,
            answer.revision
        );
    }
    println!(
        "  The third is about an issue, which the edge does not hold: it went up, and the answer was kept.\n"
    );
    println!("Paste");
    println!(
        "  {} check --api {} --store {store} {AT_THE_EDGE}",
        program(),
        stage.edge.grpc
    );
    println!(
        "  curl -si http://{}/stores/{store}/check -d '{}'\n",
        stage.edge.http,
        json(AT_THE_EDGE)
    );
}

/// How this program was started, as short as it can be pasted.
fn program() -> String {
    let path = std::env::current_exe().unwrap_or_else(|_| "meridian".into());
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here)
        .unwrap_or(&path)
        .display()
        .to_string()
}

fn json(question: &str) -> String {
    parse_tuple(question)
        .map(|key| {
            format!(
                r#"{{"tuple_key":{{"user":"{}","relation":"{}","object":"{}"}}}}"#,
                key.subject, key.relation, key.object
            )
        })
        .unwrap_or_default()
}
