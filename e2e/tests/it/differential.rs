//! Random models, tuples and questions: a node of ours must answer as OpenFGA's own server does.
//!
//! A world is a model with tuples; each is written to both servers, refused by both or by neither, and asked about with
//! every call. What differs is made as small as it can be while it differs still, and printed with its seed.
//!
//! `MERIDIAN_TEST_SEED` sets the seed (the same every time if it is not set) and `MERIDIAN_TEST_QUESTIONS` how many questions are
//! asked. By hand: `cargo build -p meridian-server`, then
//! `MERIDIAN_TEST_SEED=7 MERIDIAN_TEST_QUESTIONS=100000 cargo test -p meridian-e2e --test it differential -- --nocapture`.

mod answers;
mod ask;
mod conditions;
mod constructs;
mod draw;
mod met;
mod shrink;
mod verdict;
mod world;

use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::task::JoinSet;

use crate::side_by_side::Pair;
use answers::Outcome;
use ask::{Asked, Stores};
use verdict::{Verdict, verdict};
use world::{Call, Question, World};

const SEED: u64 = 5;
const QUESTIONS: usize = 20_000;
/// What is asked, each at least in one of a hundred questions.
const CALLS: [&str; 11] = [
    "Check",
    "BatchCheck",
    "Expand",
    "ListObjects",
    "StreamedListObjects",
    "ListUsers",
    "Read",
    "ReadChanges",
    "ReadAuthorizationModels",
    "WriteAssertions",
    "ReadAssertions",
];
/// Of one world.
const QUESTIONS_A_WORLD: usize = 60;
/// Worlds at a time: both servers have something to do while others wait.
const WORKERS: usize = 6;
/// Of one kind; more are counted, but not made small.
const SHOWN: usize = 2;

/// What was asked, by what it was, and how answers compared.
#[derive(Default)]
struct Tally {
    counts: BTreeMap<String, usize>,
    questions: usize,
    different: Vec<Different>,
}

/// A question whose answers differ.
struct Different {
    seed: u64,
    world: World,
    question: Question,
    /// The call and what came of it, for counts.
    kind: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn differential_answers_are_the_same() {
    let seed = number("MERIDIAN_TEST_SEED").unwrap_or(SEED);
    let goal =
        number("MERIDIAN_TEST_QUESTIONS").map_or(QUESTIONS, |goal| usize::try_from(goal).unwrap());
    println!("MERIDIAN_TEST_SEED={seed} MERIDIAN_TEST_QUESTIONS={goal}");
    let settings = [
        ("OPENFGA_LIST_OBJECTS_DEADLINE", "0s"),
        ("OPENFGA_LIST_USERS_DEADLINE", "0s"),
    ];
    let pair = Arc::new(Pair::start(&settings).await);
    let start = Instant::now();
    // A quarter of the models are refused. Which worlds are asked about does not hang on who is quicker.
    let worlds = goal.div_ceil(QUESTIONS_A_WORLD) * 29 / 20;
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        let (pair, next) = (Arc::clone(&pair), Arc::clone(&next));
        workers.spawn(async move {
            let mut tally = Tally::default();
            loop {
                let world = next.fetch_add(1, Ordering::Relaxed);
                if world >= worlds {
                    return tally;
                }
                // Worlds have a seed of their own, so that one alone can be asked about again.
                one_world(&pair, seed * 1_000_003 + world as u64, &mut tally).await;
            }
        });
    }
    let mut tally = Tally::default();
    for other in workers.join_all().await {
        tally.add(other);
    }
    tally.print(start);
    let mut kinds: BTreeMap<&str, Vec<&Different>> = BTreeMap::new();
    for different in &tally.different {
        kinds.entry(&different.kind).or_default().push(different);
    }
    let mut report = String::new();
    for (kind, all) in &kinds {
        println!("{:>8} DIFFERENT {kind}", all.len());
        for different in all.iter().take(SHOWN) {
            report += &shrink::smallest(&pair, different).await;
        }
    }
    tally.assert_enough(goal);
    assert!(
        tally.different.is_empty(),
        "{} questions are answered differently, of which some, made small:\n{report}",
        tally.different.len()
    );
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number")),
    )
}

async fn one_world(pair: &Pair, seed: u64, tally: &mut Tally) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = draw::world(&mut random);
    let stores = match Stores::make(pair, &mut world).await {
        Asked::Ready(stores, counts) => {
            tally.count_all(counts);
            stores
        }
        Asked::Refused(how) => {
            tally.count(how);
            return;
        }
        Asked::Different(question, _) => {
            tally.different.push(Different {
                seed,
                world,
                kind: format!("{} is refused by one", question.call.method()),
                question,
            });
            return;
        }
    };
    tally.count("model: written");
    for turn in 0..QUESTIONS_A_WORLD {
        let question = match turn {
            0 => Question::of(Call::Read),
            1 => Question::of(Call::ReadChanges),
            2 => Question::of(Call::ReadModels),
            3 => draw::assertions(&world, &mut random.clone()),
            4 => Question::of(Call::ReadAssertions),
            _ => draw::question(&world, &mut random),
        };
        let answers = stores.ask(pair, &question).await;
        tally.questions += 1;
        tally.count(format!("call: {}", question.call.method()));
        for construct in constructs::of(&world, &question) {
            tally.count(format!("construct: {construct}"));
        }
        tally.count(format!("answer: {}", answers[1].kind()));
        match verdict(pair, &stores, &world, &question, &answers).await {
            Verdict::Same => {}
            Verdict::OnPurpose(reason) => {
                tally.count(format!(
                    "on purpose: {reason} ({})",
                    kind(&question, &answers)
                ));
            }
            Verdict::Different => tally.different.push(Different {
                seed,
                world: world.clone(),
                kind: kind(&question, &answers),
                question,
            }),
        }
    }
}

/// The call, and what came of it.
fn kind(question: &Question, answers: &[Outcome; 2]) -> String {
    let [ours, theirs] = answers.each_ref().map(Outcome::kind);
    let method = question.call.method();
    format!("{method}: ours {ours}, theirs {theirs}")
}

impl Tally {
    fn count(&mut self, what: impl Into<String>) {
        *self.counts.entry(what.into()).or_default() += 1;
    }

    fn count_all(&mut self, counts: BTreeMap<String, usize>) {
        for (what, count) in counts {
            *self.counts.entry(what).or_default() += count;
        }
    }

    fn add(&mut self, other: Self) {
        self.count_all(other.counts);
        self.questions += other.questions;
        self.different.extend(other.different);
    }

    /// As much was asked as was to be, of every call, and not much of it is excused.
    fn assert_enough(&self, goal: usize) {
        assert!(self.questions >= goal, "{} of {goal}", self.questions);
        for call in CALLS {
            let asked = self.counts.get(&format!("call: {call}"));
            let asked = asked.copied().unwrap_or_default();
            assert!(asked >= goal / 100, "{call} was asked {asked} times");
        }
        let excused = self
            .counts
            .iter()
            .filter(|(what, _)| what.starts_with("on purpose"));
        let excused: usize = excused.map(|(_, count)| count).sum();
        assert!(excused <= goal / 20, "{excused} answers are excused");
    }

    fn print(&self, start: Instant) {
        println!("{} questions in {:.1?}", self.questions, start.elapsed());
        for (what, count) in &self.counts {
            println!("{count:>8} {what}");
        }
    }
}
