//! Meridian beside OpenFGA, both on PostgreSQL: `cargo xtask bench openfga`.
//!
//! OpenFGA's server, and a central, a regional and an edge node, are given the same model and the same 100,000 tuples by
//! their API, and asked the same questions. In every round both take their turn at each kind of call, on as many
//! connections with as much in flight; all of OpenFGA's answers and ours are compared with what the engine says of the
//! tuples, lists with each other. A ratio is the median of those of the rounds, so that what disturbs a round disturbs
//! both. Then ours beside ours: what deduplication saves, and what waiting for invalidation would cost. Aims are printed,
//! not asserted.

mod servers;
mod within;

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use meridian_bench::alone::evaluate;
use meridian_bench::ask::{self, Api, Batches, Lists, Writes};
use meridian_bench::calls::Calls;
use meridian_bench::data::{Asked, Data};
use meridian_bench::load::{self, Load};
use meridian_bench::report::{Row, ratio, table};

use servers::Servers;

/// Tuples of the store.
const TUPLES: usize = 102_000;
const ROUNDS: usize = 3;
/// Questions a round: as many as take some seconds.
const CHECKS_OPENFGA: usize = 3_000;
const CHECKS_CENTRAL: usize = 6_000;
const CHECKS_EDGE: usize = 100_000;
const BATCHES_OPENFGA: usize = 40;
const BATCHES_EDGE: usize = 2_000;
/// Checks in a batch.
const BATCH: usize = 50;
/// Listings a round.
const LISTS: usize = 60;

/// A system under measurement.
struct Subject {
    api: Api,
    store: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut data = Data::of(TUPLES)?;
    let questions = data.questions(CHECKS_EDGE * ROUNDS)?;
    let (_, answers) = evaluate(&data.view(), &questions)?;
    println!(
        "{} tuples, {} questions",
        data.tuples.len(),
        questions.len()
    );

    let servers = Servers::start().await?;
    let openfga = Subject::new(servers.openfga, "bench").await?;
    let central = Subject::new(servers.central, "bench").await?;
    servers.hold_everything(&central.store).await?;

    println!(
        "Checks: {} connections of {} calls in flight; the others: {} in flight. Medians of {ROUNDS} rounds. Writes are \
         counted in tuples.\n",
        load::CONNECTIONS,
        load::IN_FLIGHT,
        ask::IN_FLIGHT,
    );
    let written = writes(&data, [&openfga, &central]).await?;
    table(&written);
    told("Write of 100 tuples, tuples/s", rate(&written), 3);
    let edge = Subject {
        api: Api::new(servers.edge)?,
        store: central.store.clone(),
    };
    edge.api
        .until_served_by_edge(&edge.store, &questions)
        .await?;

    let [theirs, straight, at_edge] = checks(&questions, &answers, [&openfga, &central, &edge])?;
    table([&theirs, &straight, &at_edge]);
    told(
        "Check at an edge, rate",
        ratio(&at_edge.rates, &theirs.rates),
        100,
    );
    told(
        "Check at central from PostgreSQL, rate",
        ratio(&straight.rates, &theirs.rates),
        3,
    );
    let batches = batches(&questions, &answers, [&openfga, &edge]).await?;
    table(&batches);
    told("BatchCheck of 50 at an edge, rate", rate(&batches), 100);
    let listed = lists(&data, [&openfga, &edge]).await?;
    table(&listed);
    let [theirs, ours] = listed.each_ref().map(|row| &row.percentiles[1]);
    told("ListObjects at an edge, p95", ratio(theirs, ours), 20);
    let asked: Vec<_> = questions.into_iter().zip(answers).collect();
    within::compare(&asked, &central, &edge).await
}

impl Subject {
    async fn new(address: std::net::SocketAddr, name: &str) -> anyhow::Result<Self> {
        let api = Api::new(address)?;
        let store = api.create_store(name).await?;
        Ok(Self { api, store })
    }
}

/// Each system writes a part of the tuples in every round.
async fn writes(data: &Data, subjects: [&Subject; 2]) -> anyhow::Result<[Row; 2]> {
    let mut rows = [
        "Write of 100, OpenFGA",
        "Write of 100, central on PostgreSQL",
    ]
    .map(Row::new);
    for part in data.tuples.chunks(data.tuples.len().div_ceil(ROUNDS)) {
        for (subject, row) in subjects.iter().zip(&mut rows) {
            let writes = Writes::new(&subject.api, &subject.store, part);
            row.add(&writes.run().await?, part.len(), None);
        }
    }
    Ok(rows)
}

/// Check: OpenFGA, our central straight from PostgreSQL, and an edge. No question is asked of a system twice.
fn checks(
    questions: &[Asked],
    answers: &[bool],
    subjects: [&Subject; 3],
) -> anyhow::Result<[Row; 3]> {
    let mut rows = [
        "Check, OpenFGA",
        "Check, central on PostgreSQL",
        "Check, edge",
    ]
    .map(Row::new);
    let counts = [CHECKS_OPENFGA, CHECKS_CENTRAL, CHECKS_EDGE];
    for round in 0..ROUNDS {
        for ((subject, row), count) in subjects.iter().zip(&mut rows).zip(counts) {
            let span = round * CHECKS_EDGE..round * CHECKS_EDGE + count;
            let (asked, wanted) = (questions.get(span.clone()), answers.get(span));
            let calls = Calls::checks(
                subject.api.address(),
                &subject.store,
                asked.context("too few questions")?,
                wanted.context("too few answers")?,
            )?;
            row.add(&Load::connect(calls)?.run()?, count, None);
        }
    }
    Ok(rows)
}

async fn batches(
    questions: &[Asked],
    answers: &[bool],
    subjects: [&Subject; 2],
) -> anyhow::Result<[Row; 2]> {
    let mut rows = ["BatchCheck of 50, OpenFGA", "BatchCheck of 50, edge"].map(Row::new);
    let asked: Vec<_> = questions
        .iter()
        .cloned()
        .zip(answers.iter().copied())
        .collect();
    for round in 0..ROUNDS {
        for ((subject, row), count) in subjects
            .iter()
            .zip(&mut rows)
            .zip([BATCHES_OPENFGA, BATCHES_EDGE])
        {
            let start = round * CHECKS_EDGE;
            let part = asked
                .get(start..start + count * BATCH)
                .context("too few questions")?;
            let batches = Batches::new(&subject.api, &subject.store, part, BATCH);
            row.add(&batches.run().await?, count, None);
        }
    }
    Ok(rows)
}

/// ListObjects for users that are not asked about twice; both must list the same. Of a relation that OpenFGA lists to the end
/// in its 3 s: of `viewer`, which goes up a tree and subtracts, it does not even in 60 s.
async fn lists(data: &Data, subjects: [&Subject; 2]) -> anyhow::Result<[Row; 2]> {
    let mut rows = ["ListObjects, OpenFGA", "ListObjects, edge"].map(Row::new);
    let users: BTreeSet<_> = data
        .tuples
        .iter()
        .map(|key| key.subject.to_string())
        .filter(|subject| subject.starts_with("user:"))
        .collect();
    let users: Vec<_> = users.into_iter().step_by(7).collect();
    for part in users.chunks(LISTS).take(ROUNDS) {
        let mut found = Vec::new();
        for (subject, row) in subjects.iter().zip(&mut rows) {
            let lists = Lists::new(&subject.api, &subject.store, "document", "editor", part);
            let (timing, objects) = lists.run().await?;
            row.add(&timing, part.len(), None);
            found.push(objects);
        }
        let [theirs, ours] = found.as_slice() else {
            continue;
        };
        for ((user, theirs), ours) in part.iter().zip(theirs).zip(ours) {
            ensure!(
                theirs == ours,
                "{user}: only OpenFGA lists {:?}, only the edge {:?}",
                theirs.difference(ours),
                ours.difference(theirs)
            );
        }
    }
    Ok(rows)
}

/// How much faster ours is than OpenFGA's.
fn rate([theirs, ours]: &[Row; 2]) -> Option<f64> {
    ratio(&ours.rates, &theirs.rates)
}

fn told(what: &str, ratio: Option<f64>, aim: u32) {
    let ratio = ratio.unwrap_or_default();
    println!("\n{what:<44}{ratio:>9.1} times OpenFGA's (aim {aim})\n");
}
