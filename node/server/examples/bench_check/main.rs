//! What a Check at an edge costs: `cargo xtask bench check`.
//!
//! A child process is the edge; this one asks. Three kinds of calls take turns, round by round, on the same settings and
//! number of connections: an empty call with nothing around it, an empty call through tonic's router, and Checks that the
//! edge answers from what it holds. Beside them the evaluator alone answers the same questions in this process.
//!
//! Without `--full` (as `cargo test` runs it) it is short, and shows only that all of it works.

mod ask;
mod calls;
mod data;
mod load;
mod node;
mod report;

use std::hint::black_box;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use meridian_engine::{Budget, Limits, Outcome, Question, Scratch, View};

use calls::Calls;
use data::{Asked, Data, TYPES};
use load::{Load, Timing, histogram};
use report::Row;

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
    let view = whole(&data);
    let (first, answers) = evaluate(&view, &questions)?;
    let node = Node::start(size.tuples)?;
    let checks = Calls::checks(node.edge, &data, &questions, &answers)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(ask::all(&checks))?;
    let mut loads = [
        Load::connect(Calls::empty(node.empty, size.questions)?)?,
        Load::connect(Calls::empty(node.edge, size.questions)?)?,
        Load::connect(checks)?,
    ];
    let mut rows = ["empty call, bare", "empty call, tonic's router", "Check"].map(Row::new);
    for load in &mut loads {
        load.run()?;
    }
    let mut evaluator = vec![first];
    for _ in 0..size.rounds {
        for (load, row) in loads.iter_mut().zip(&mut rows) {
            let before = node.processor_time()?;
            let timing = load.run()?;
            row.add(
                &timing,
                size.questions,
                Some(node.processor_time()? - before),
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

/// The whole store in one view.
fn whole(data: &Data) -> View {
    let head = View::new(data.head.position).with_models(data.head.models.iter().cloned());
    TYPES.iter().fold(head, |view, name| {
        view.cover(name, data.tuples.iter().map(|key| (key.clone(), None)))
    })
}

/// Answers the questions in this thread: how long it took, and what the answers are.
fn evaluate(view: &View, questions: &[Asked]) -> anyhow::Result<(Timing, Vec<bool>)> {
    let model = view.model(None).context("no model")?;
    let compiled = model
        .compiled
        .as_ref()
        .context("the model does not compile")?;
    let questions = questions
        .iter()
        .map(|asked| Question::parse(&asked.object, asked.relation, &asked.user))
        .collect::<Result<Vec<_>, _>>()?;
    let (budget, mut scratch) = (Budget::of(Limits::default()), Scratch::default());
    let nothing = meridian_condition::Context::new();
    let given = meridian_engine::Given {
        tuples: &[],
        context: &nothing,
    };
    let mut check = |question| {
        meridian_engine::check(
            view,
            &compiled.program,
            question,
            given,
            budget,
            &mut scratch,
        )
    };
    // The rate without a clock between the questions, the latencies with one.
    let start = Instant::now();
    for question in &questions {
        black_box(check(question));
    }
    let took = start.elapsed();
    let mut latencies = histogram()?;
    let mut answers = Vec::with_capacity(questions.len());
    for question in &questions {
        let start = Instant::now();
        let outcome = check(question);
        latencies.record(u64::try_from(start.elapsed().as_nanos())?)?;
        answers.push(match outcome {
            Outcome::Allowed => true,
            Outcome::Denied => false,
            other => anyhow::bail!("{question:?} came to {other:?}"),
        });
    }
    Ok((Timing { took, latencies }, answers))
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

    /// Processor time of all its threads so far.
    fn processor_time(&self) -> anyhow::Result<Duration> {
        let mut nanoseconds = 0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let times = std::fs::read_to_string(thread?.path().join("schedstat"))?;
            let on_processor = times.split(' ').next().context("no times")?;
            nanoseconds += on_processor.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
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
