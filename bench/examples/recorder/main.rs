//! What the flow recorder costs and keeps: `cargo xtask bench recorder`.
//!
//! A central node on PostgreSQL answers Checks, in turns with its recorder off and with every decision recorded in another
//! PostgreSQL, both on this machine: its rate, and the processor time of the node itself. Then the recorder alone: events that
//! PostgreSQL keeps a second, and what they take on disk. Then the flows' database stops for a minute under the same load.
//! Aims are printed, not asserted.

mod alone;
mod node;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use meridian_bench::alone::evaluate;
use meridian_bench::ask::{Api, Writes};
use meridian_bench::calls::Calls;
use meridian_bench::data::{Asked, Data};
use meridian_bench::load::{self, Load};
use meridian_bench::nodes::processor_time;
use meridian_bench::report::{Row, median, ratio, table};

use node::Central;

const TUPLES: usize = 102_000;
const ROUNDS: usize = 7;
/// Checks of a round.
const CHECKS: usize = 20_000;
/// How long the flows' database is stopped.
const OUTAGE: Duration = Duration::from_secs(60);
/// How long what was recorded may take to be written.
const WRITTEN_WITHIN: Duration = Duration::from_secs(120);
const MEGABYTE: f64 = 1024.0 * 1024.0;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut data = Data::of(TUPLES)?;
    let questions = data.questions(CHECKS * (ROUNDS + 1))?;
    let (_, answers) = evaluate(&data.view(), &questions)?;
    let mut central = Central::start().await?;
    let api = Api::new(central.addresses.grpc)?;
    let store = api.create_store("bench").await?;
    Writes::new(&api, &store, &data.tuples).run().await?;

    let address = central.addresses.grpc;
    let part = |round: usize| -> anyhow::Result<Calls> {
        let span = round * CHECKS..(round + 1) * CHECKS;
        let (asked, wanted) = (questions.get(span.clone()), answers.get(span));
        let (asked, wanted): (&[Asked], _) =
            (asked.context("too few")?, wanted.context("too few")?);
        Calls::checks(address, &store, asked, wanted)
    };
    println!(
        "{} tuples; {} connections of {} calls in flight; medians of {ROUNDS} rounds of {CHECKS} Checks\n",
        data.tuples.len(),
        load::CONNECTIONS,
        load::IN_FLIGHT,
    );
    let mut rows = ["Check, recorder off", "Check, each recorded"].map(Row::new);
    Load::connect(part(ROUNDS)?)?.run()?;
    for round in 0..ROUNDS {
        // What comes first in a round has the database's cache colder.
        let mut order = [0, 1];
        order.rotate_left(round % 2);
        for which in order {
            central.switch(&store, which == 1).await?;
            let before = processor_time(central.process())?;
            let timing = Load::connect(part(round)?)?.run()?;
            let spent = processor_time(central.process())? - before;
            central.until_written(WRITTEN_WITHIN).await?;
            let row = rows.get_mut(which).context("two rows")?;
            row.add(&timing, CHECKS, Some(spent));
        }
    }
    table(&rows);
    let [off, on] = &rows;
    let loss = ratio(&on.rates, &off.rates).map_or(0.0, |ratio| 100.0 * (1.0 - ratio));
    let cost = median(&on.processor).zip(median(&off.processor));
    let cost = cost.map_or(0.0, |(on, off)| on - off);
    println!(
        "\nloss with every decision recorded: {loss:.1} % (aim 3), {cost:.1} us of the node's processor time a Check"
    );
    let events = central.events().await?;
    let recorded = (ROUNDS * CHECKS) as f64;
    ensure!(
        events.written + events.dropped >= recorded,
        "of {recorded} decisions {events:?} were recorded"
    );
    println!(
        "of {recorded} decisions {} were kept and {} dropped\n",
        events.written, events.dropped
    );

    alone::run(&central.flows).await?;
    outage(&mut central, &store, &part(0)?).await
}

/// Checks, again and again, before, while and after the flows' database is away.
async fn outage(central: &mut Central, store: &str, calls: &Calls) -> anyhow::Result<()> {
    central.switch(store, true).await?;
    println!("the flows' database stops for {OUTAGE:?} under load:");
    let before = phase(central, calls, "before", Duration::from_secs(10)).await?;
    central.flows.stop().await?;
    let during = phase(central, calls, "stopped", OUTAGE).await?;
    central.flows.start_again().await?;
    let after = phase(central, calls, "after", Duration::from_secs(10)).await?;
    central.until_written(WRITTEN_WITHIN).await?;
    let events = central.events().await?;
    println!(
        "in all {} events kept, {} dropped; the rate while it is away is {:.2} of that before, afterwards {:.2}",
        events.written,
        events.dropped,
        during / before,
        after / before
    );
    Ok(())
}

/// The rate of Checks over a while.
async fn phase(
    central: &Central,
    calls: &Calls,
    name: &str,
    lasts: Duration,
) -> anyhow::Result<f64> {
    let (start, mut made) = (Instant::now(), 0);
    let mut load = Load::connect(calls.clone())?;
    while start.elapsed() < lasts {
        tokio::task::block_in_place(|| load.run())?;
        made += calls.messages.len();
    }
    let rate = made as f64 / start.elapsed().as_secs_f64();
    let events = central.events().await?;
    println!(
        "{name:<10}{rate:>8.0} Checks/s, {:>8} events kept, {:>8} dropped, {:>5.1} MB wait, {:>6.1} MB of memory",
        events.written,
        events.dropped,
        events.waiting / MEGABYTE,
        meridian_bench::nodes::memory(central.process())? as f64 / MEGABYTE,
    );
    Ok(rate)
}
