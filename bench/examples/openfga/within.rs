//! Ours beside ours.

use anyhow::Context as _;
use meridian_bench::data::Asked;
use meridian_bench::report::{Row, ratio, table};
use meridian_model::TupleKey;

use crate::{BATCH, ROUNDS, Subject};
use meridian_bench::ask::{Batches, Writes};

/// Different questions in a batch of [`BATCH`].
const DIFFERENT: usize = 5;
/// Batches a round.
const BATCHES_CENTRAL: usize = 200;
const BATCHES_EDGE: usize = 2_000;
/// Writes of one tuple a round.
const WRITES: usize = 300;

/// Measures and prints.
///
/// # Errors
/// When a call fails or is answered wrongly.
pub(crate) async fn compare(
    asked: &[(Asked, bool)],
    central: &Subject,
    edge: &Subject,
) -> anyhow::Result<()> {
    let at_central = batches(
        asked,
        central,
        BATCHES_CENTRAL,
        [
            "BatchCheck, 5 of 50, central",
            "the same without deduplication",
        ],
    );
    let at_central = at_central.await?;
    let at_edge = batches(
        asked,
        edge,
        BATCHES_EDGE,
        [
            "BatchCheck, 5 of 50, edge",
            "the same without deduplication",
        ],
    );
    let at_edge = at_edge.await?;
    let writes = writes(central, edge).await?;
    println!(
        "\nOurs beside ours. Writes are of one tuple; awaited: until the edge itself shows it.\n"
    );
    table(at_central.iter().chain(&at_edge).chain(&writes));
    println!();
    for (what, [one, other]) in [
        ("Deduplication at central, rate", &at_central),
        ("Deduplication at an edge, rate", &at_edge),
        ("Not awaiting invalidation, rate", &writes),
    ] {
        let ratio = ratio(&one.rates, &other.rates).unwrap_or_default();
        println!("{what:<44}{ratio:>9.1} times that without");
    }
    Ok(())
}

/// Batches in which each question stands ten times: as they are, and with all checks told apart.
async fn batches(
    asked: &[(Asked, bool)],
    subject: &Subject,
    count: usize,
    names: [&'static str; 2],
) -> anyhow::Result<[Row; 2]> {
    let mut rows = names.map(Row::new);
    let mut parts = asked.chunks(count * DIFFERENT);
    for _ in 0..ROUNDS {
        for (row, told_apart) in rows.iter_mut().zip([false, true]) {
            let part = parts.next().context("too few questions")?;
            let part: Vec<_> = part
                .chunks(DIFFERENT)
                .flat_map(|few| few.iter().cycle().take(BATCH))
                .cloned()
                .collect();
            let (api, store) = (&subject.api, &subject.store);
            let batches = if told_apart {
                Batches::told_apart(api, store, &part, BATCH)
            } else {
                Batches::new(api, store, &part, BATCH)
            };
            row.add(&batches.run().await?, count, None);
        }
    }
    Ok(rows)
}

/// Writes at central that are over once they are committed, and such that are over once the edge has let go of what they
/// made untrue.
async fn writes(central: &Subject, edge: &Subject) -> anyhow::Result<[Row; 2]> {
    let mut rows = ["Write", "Write, invalidation awaited"].map(Row::new);
    let mut users = 0..;
    for _ in 0..ROUNDS {
        for (row, awaited) in rows.iter_mut().zip([false, true]) {
            let tuples = users
                .by_ref()
                .take(WRITES)
                .map(|user: usize| {
                    TupleKey::parse("group:0", "member", &format!("user:new-{user}"))
                })
                .collect::<Result<Vec<_>, _>>()?;
            let mut writes = Writes::of(&central.api, &central.store, &tuples, 1);
            if awaited {
                writes = writes.until_shown_by(&edge.api);
            }
            row.add(&writes.run().await?, WRITES, None);
        }
    }
    Ok(rows)
}
