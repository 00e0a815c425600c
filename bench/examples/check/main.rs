//! What a Check at an edge costs: `cargo xtask bench check`.
//!
//! A child process is the edge; this one asks. Three kinds of calls take turns, round by round, on the same settings and
//! number of connections: an empty call with nothing around it, an empty call through tonic's router, and Checks that the
//! edge answers from what it holds. Beside them the evaluator alone answers the same questions in this process.
//!
//! Without `--full` (as `cargo test` runs it) it is short, and shows only that all of it works.

mod ask;
mod node;
mod report;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use meridian_bench::alone::evaluate;
use meridian_bench::calls::Calls;
use meridian_bench::data::Data;
use meridian_bench::load::{self, Load};
use meridian_bench::nodes::processor_time;
use meridian_bench::report::Row;
use meridian_proto::meridian::v1::{GetTiersRequest, GetTiersResponse};

/// The argument that makes a process the measured one.
const NODE: &str = "--node";

/// How much is measured.
#[derive(Clone, Copy)]
struct Size {
    tuples: usize,
    questions: usize,
    rounds: usize,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next();
    match (first.as_deref(), arguments.next()) {
        (Some(NODE), Some(tuples)) => node::run(tuples.parse()?),
        (Some("--full"), _) => measure(Size {
            tuples: 100_000,
            questions: 100_000,
            rounds: 7,
        }),
        _ => measure(Size {
            tuples: 2_000,
            questions: 2_000,
            rounds: 1,
        }),
    }
}

fn measure(size: Size) -> anyhow::Result<()> {
    let mut data = Data::of(size.tuples)?;
    let questions = data.questions(size.questions)?;
    let view = data.view();
    let (first, answers) = evaluate(&view, &questions)?;
    let node = Node::start(size.tuples)?;
    let checks = Calls::checks(node.edge, data.head.info.id.as_str(), &questions, &answers)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(ask::all(&checks))?;
    let mut loads = [
        Load::connect(empty(node.empty, size.questions)?)?,
        Load::connect(empty(node.edge, size.questions)?)?,
        Load::connect(checks)?,
    ];
    let mut rows = ["empty call, bare", "empty call, tonic's router", "Check"].map(Row::new);
    for load in &mut loads {
        load.run()?;
    }
    let mut evaluator = vec![first];
    for _ in 0..size.rounds {
        for (load, row) in loads.iter_mut().zip(&mut rows) {
            let before = processor_time(node.child.id())?;
            let timing = load.run()?;
            row.add(
                &timing,
                size.questions,
                Some(processor_time(node.child.id())? - before),
            );
        }
        evaluator.push(evaluate(&view, &questions)?.0);
    }
    let mut rows = Vec::from(rows);
    let mut alone = Row::new("evaluator alone");
    for timing in &evaluator {
        alone.add(timing, size.questions, None);
    }
    rows.push(alone);
    let allowed = answers.iter().filter(|allowed| **allowed).count();
    println!(
        "{} tuples, {} distinct questions ({} % allowed), all answered by the edge, none forwarded, nothing kept;\n\
         {} connections of {} calls in flight; medians of {} rounds\n",
        data.tuples.len(),
        questions.len(),
        allowed * 100 / questions.len(),
        load::CONNECTIONS,
        load::IN_FLIGHT,
        size.rounds,
    );
    report::print(&rows);
    Ok(())
}

/// So many empty calls.
fn empty(address: SocketAddr, count: usize) -> anyhow::Result<Calls> {
    let call = (&GetTiersRequest::default(), &GetTiersResponse::default());
    Calls::same(address, node::EMPTY, call, count)
}

/// The measured process. It ends when this is dropped, or when this process does.
struct Node {
    child: Child,
    empty: SocketAddr,
    edge: SocketAddr,
}

impl Node {
    fn start(tuples: usize) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([NODE, &tuples.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("no pipe to read from")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let (empty, edge) = line
            .trim()
            .split_once(' ')
            .context("the edge did not start")?;
        Ok(Self {
            empty: empty.parse()?,
            edge: edge.parse()?,
            child,
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It ends by itself when its standard input does; nobody waits for what it has left to do.
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
