//! Writes and questions that go on in the background, through outages and all.
//!
//! The writer is the only one to write the store, so the state at every revision is known: revisions have no gaps, and
//! a write whose outcome is unclear is made again until it is clear. Every answer names the revision that it holds at,
//! and is compared with what was right at that very revision.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use meridian_model::TupleKey;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::client::{Answer, Client, Failure};
use crate::oracle::Step;
use crate::stores::{Known, Store};
use crate::system::{Role, System};
use crate::world;

/// The time between two writes.
const WRITE_PACE: Duration = Duration::from_millis(40);
/// The time between two questions at a node.
const ASK_PACE: Duration = Duration::from_millis(10);
/// How many of the latest writes are asked about most.
const RECENT: usize = 30;

/// What was counted, by what it was.
pub(crate) type Tally = BTreeMap<String, u64>;

/// The writer, and askers at every node.
pub(crate) struct Load {
    shared: Arc<Shared>,
    store: Store,
    tasks: JoinSet<()>,
}

struct Shared {
    store: String,
    /// The revision before the first step.
    base: u64,
    steps: Mutex<Vec<Step>>,
    samples: Mutex<Vec<Sample>>,
    tally: Mutex<Tally>,
    /// Held during each write until its outcome is clear.
    turn: tokio::sync::Mutex<()>,
    stop: AtomicBool,
}

struct Sample {
    role: Role,
    question: TupleKey,
    answer: Answer,
}

impl Load {
    /// Starts the load on `store`; `calm` is a store that nobody writes to, with questions that its edge covers.
    pub(crate) fn start(
        system: &System,
        store: Store,
        questions: &[Known],
        calm: (String, Vec<Known>),
        random: &mut StdRng,
    ) -> Self {
        let shared = Arc::new(Shared {
            store: store.id.clone(),
            base: store.revision,
            steps: Mutex::default(),
            samples: Mutex::default(),
            tally: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let mut tasks = JoinSet::new();
        let gateways = Role::ALL.map(|role| (role, system.client(role)));
        let writer = Writer::new(Arc::clone(&shared), gateways.into(), &store, random);
        tasks.spawn(writer.run());
        let questions: Arc<[TupleKey]> = questions
            .iter()
            .map(|known| known.question.clone())
            .collect();
        for role in Role::ALL {
            let asker = Asker {
                shared: Arc::clone(&shared),
                role,
                client: system.client(role),
                questions: Arc::clone(&questions),
                random: StdRng::from_rng(random),
                floor: 0,
            };
            tasks.spawn(asker.run());
        }
        tasks.spawn(ask_calm(
            Arc::clone(&shared),
            system.client(Role::Edge),
            calm,
        ));
        Self {
            shared,
            store,
            tasks,
        }
    }

    /// What was counted so far. A failed expectation of the load itself ends the test here.
    pub(crate) fn tally(&mut self) -> Tally {
        if let Some(ended) = self.tasks.try_join_next() {
            ended.unwrap();
            panic!("a part of the load has ended early");
        }
        self.shared.tally.lock().unwrap().clone()
    }

    /// The store as acknowledged, while nothing is written; the writer goes on when `look` is done.
    pub(crate) async fn paused(&mut self, look: impl AsyncFnOnce(&Store)) {
        let _turn = self.shared.turn.lock().await;
        let steps = self.shared.steps.lock().unwrap().clone();
        let mut now = self.store.clone();
        for step in &steps {
            now.oracle.apply(step);
        }
        now.revision += u64::try_from(steps.len()).unwrap();
        look(&now).await;
    }

    /// Ends the load. Every answer must have been right at the revision that it named.
    pub(crate) async fn finish(mut self) -> Tally {
        let tally = self.tally();
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        let steps = self.shared.steps.lock().unwrap();
        let mut samples = std::mem::take(&mut *self.shared.samples.lock().unwrap());
        samples.sort_by_key(|sample| sample.answer.revision);
        let (mut at, mut oracle) = (self.shared.base, self.store.oracle);
        let mut steps = steps.iter();
        for Sample {
            role,
            question,
            answer,
        } in &samples
        {
            while at < answer.revision {
                oracle.apply(
                    steps
                        .next()
                        .unwrap_or_else(|| panic!("no such revision: {answer:?}")),
                );
                at += 1;
            }
            let right = oracle.allows(question);
            assert_eq!(
                answer.allowed, right,
                "{question} at the {role}: {answer:?}"
            );
        }
        println!(
            "{} answers under load, each right at its revision",
            samples.len()
        );
        tally
    }
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn acknowledged(&self) -> u64 {
        self.base + u64::try_from(self.steps.lock().unwrap().len()).unwrap()
    }

    fn count(&self, what: String) {
        *self.tally.lock().unwrap().entry(what).or_default() += 1;
    }

    /// A tuple of the latest writes.
    fn recent(&self, random: &mut StdRng) -> Option<TupleKey> {
        let steps = self.steps.lock().unwrap();
        let recent = &steps[steps.len().saturating_sub(RECENT)..];
        let step = recent.choose(random)?;
        step.writes.iter().chain(&step.deletes).next_back().cloned()
    }
}

fn paced(pace: Duration) -> tokio::time::Interval {
    let mut pace = interval(pace);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

/// Writes and deletes a tuple at a time, through one node after the other.
struct Writer {
    shared: Arc<Shared>,
    gateways: VecDeque<(Role, Client)>,
    held: VecDeque<TupleKey>,
    used: HashSet<TupleKey>,
    random: StdRng,
}

impl Writer {
    fn new(
        shared: Arc<Shared>,
        gateways: VecDeque<(Role, Client)>,
        store: &Store,
        random: &mut StdRng,
    ) -> Self {
        let mut held: Vec<_> = store.oracle.tuples().iter().cloned().collect();
        held.sort_by_key(ToString::to_string);
        held.shuffle(random);
        Self {
            shared,
            gateways,
            held: held.into(),
            used: store.oracle.tuples().clone(),
            random: StdRng::from_rng(random),
        }
    }

    async fn run(mut self) {
        let mut pace = paced(WRITE_PACE);
        let shared = Arc::clone(&self.shared);
        while !shared.stopped() {
            pace.tick().await;
            let _turn = shared.turn.lock().await;
            let step = self.step();
            self.commit(&step).await;
            shared.steps.lock().unwrap().push(step);
        }
    }

    /// A grant, a revocation, or both. No tuple is written twice, so that a late echo of a write shows.
    fn step(&mut self) -> Step {
        let mut step = Step::default();
        let kind = self.random.random_range(0..3);
        if kind != 0 {
            let fresh = loop {
                let next = world::leaf(&mut self.random);
                if self.used.insert(next.clone()) {
                    break next;
                }
            };
            self.held.push_back(fresh.clone());
            step.writes.push(fresh);
        }
        if kind != 1 {
            step.deletes.extend(self.held.pop_front());
        }
        step
    }

    async fn commit(&mut self, step: &Step) {
        let expected = self.shared.acknowledged() + 1;
        let mut unclear = false;
        let mut pace = paced(WRITE_PACE);
        loop {
            pace.tick().await;
            self.gateways.rotate_left(1);
            let (role, client) = &mut self.gateways[0];
            match client
                .write(&self.shared.store, &step.writes, &step.deletes)
                .await
            {
                Ok(revision) => {
                    assert_eq!(revision, expected, "revisions have no gaps: {step:?}");
                    return self.shared.count(format!("write through the {role} done"));
                }
                Err(failure) if unclear && failure.is_done_already() => return,
                Err(failure) => {
                    assert!(failure.is_clear(), "write through the {role}: {failure:?}");
                    self.shared
                        .count(format!("write through the {role} {}", refused(&failure)));
                    unclear = true;
                }
            }
        }
    }
}

fn refused(failure: &Failure) -> String {
    match failure {
        Failure::Coded(code, _) => format!("refused: {}", code.name()),
        Failure::Cut(_) | Failure::Odd(_) => "cut off".into(),
    }
}

/// Asks one node, about what was written lately and about everything else.
struct Asker {
    shared: Arc<Shared>,
    role: Role,
    client: Client,
    questions: Arc<[TupleKey]>,
    random: StdRng,
    /// What this node has answered at before, since it was last started.
    floor: u64,
}

impl Asker {
    async fn run(mut self) {
        let mut pace = paced(ASK_PACE);
        while !self.shared.stopped() {
            pace.tick().await;
            let recent = self
                .random
                .random_bool(0.5)
                .then(|| self.shared.recent(&mut self.random));
            let question = recent
                .flatten()
                .or_else(|| self.questions.choose(&mut self.random).cloned());
            let asked = self
                .random
                .random_bool(0.25)
                .then(|| self.shared.acknowledged());
            self.ask(question.unwrap(), asked).await;
        }
    }

    async fn ask(&mut self, question: TupleKey, asked: Option<u64>) {
        let role = self.role;
        match self
            .client
            .check(&self.shared.store, &question, asked)
            .await
        {
            Ok(answer) => {
                let least = self.floor.max(asked.unwrap_or_default());
                assert!(
                    answer.revision >= least,
                    "{question} at the {role}: {answer:?}, not at {least}"
                );
                self.floor = answer.revision;
                let by = answer.served_by.split('/').next().unwrap();
                self.shared
                    .count(format!("check at the {role} by the {by}"));
                self.shared.samples.lock().unwrap().push(Sample {
                    role,
                    question,
                    answer,
                });
            }
            Err(failure) => {
                assert!(failure.is_clear(), "{question} at the {role}: {failure:?}");
                if matches!(failure, Failure::Cut(_)) {
                    self.floor = 0;
                }
                self.shared
                    .count(format!("check at the {role} {}", refused(&failure)));
            }
        }
    }
}

/// Asks the edge about data that it holds and that do not change.
async fn ask_calm(shared: Arc<Shared>, mut edge: Client, (store, questions): (String, Vec<Known>)) {
    let mut pace = paced(ASK_PACE);
    for Known { question, allowed } in questions.iter().cycle() {
        pace.tick().await;
        if shared.stopped() {
            return;
        }
        match edge.check(&store, question, None).await {
            Ok(answer) => {
                assert_eq!(answer.allowed, *allowed, "{question}: {answer:?}");
                let by = answer.served_by.split('/').next().unwrap();
                shared.count(format!("calm check by the {by}"));
            }
            Err(failure) => {
                assert!(failure.is_clear(), "{question}: {failure:?}");
                shared.count(format!("calm check {}", refused(&failure)));
            }
        }
    }
}
