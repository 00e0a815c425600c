//! Central, region and edge, and the network between them.

mod faults;
mod invariants;
mod misfortune;

use std::collections::BTreeMap;
use std::time::Duration;

use meridian_engine::View;
use meridian_model::ids::{Epoch, Position, StoreId, Timestamp};
use meridian_model::ports::StoreHead;
use meridian_model::tuple::Tuple;
use meridian_sync::Patience;
use meridian_sync::edge::{Ask, Command, Edge, Input, Limits};
use meridian_sync::envelope::{Heartbeat, Record};
use meridian_sync::tier::for_edge;
use meridian_sync::upstream::{Changes, UpstreamError};

use super::bug::{Bug, bend, stages};
use super::history::{Central, TYPES, Tuples, USERS};
use super::link::Link;
use super::random::Random;
use super::reader::{Answer, Read, Reader};
use super::region::Region;
pub(crate) use faults::Faults;

const STEP: Duration = Duration::from_millis(100);
const LIMITS: Limits = Limits {
    // Small, so that histories run over it.
    set_aside: 5,
    patience: Patience {
        timeout: Duration::from_millis(1500),
        first_pause: Duration::from_millis(100),
        longest_pause: Duration::from_millis(800),
    },
};

/// What an edge asks.
#[derive(Clone)]
pub(crate) enum Question {
    /// With its ticket, and when it was asked.
    Positions(u64, Duration),
    Store(Ask, Position),
    /// What is read, at this position or later.
    Evaluate(StoreId, Vec<Read>, Position),
}

/// What it is answered.
#[derive(Clone)]
pub(crate) enum Reply {
    Positions {
        ticket: u64,
        asked: Duration,
        stores: Vec<(StoreId, Position)>,
        heartbeat: Option<(Heartbeat, Duration)>,
    },
    Evaluated(Answer),
    Changes(StoreId, Changes),
    Head(StoreHead),
    Filled(StoreId, String, Position, Vec<Tuple>),
    Trimmed(Ask),
    Behind(Ask),
    UnknownStore(Ask),
    Unavailable(Question),
}

/// What the clocks on the wall say, all the same.
pub(crate) fn wall(now: Duration) -> Timestamp {
    Timestamp(i64::try_from(now.as_micros()).unwrap())
}

/// Runs one history; `Err` tells the first invariant that broke.
pub(crate) fn simulate(seed: u64, steps: usize, bug: Option<Bug>) -> Result<Faults, String> {
    let mut world = World::new(seed, bug);
    for _ in 0..steps {
        world
            .step()
            .map_err(|what| format!("step {}: {what}", world.step))?;
    }
    world
        .heal()
        .map_err(|what| format!("step {} (healing): {what}", world.step))?;
    Ok(world.faults)
}

struct World {
    random: Random,
    bug: Option<Bug>,
    step: usize,
    central: Central,
    /// The full topic, whole: what a restarted region reads again.
    topic: Vec<Vec<u8>>,
    to_region: Link<Vec<u8>>,
    region: Region,
    to_edge: Link<Vec<u8>>,
    questions: Link<Question>,
    replies: Link<Reply>,
    edge: Edge,
    published: BTreeMap<StoreId, View>,
    /// The latest position of each store that readers saw at this edge.
    floors: BTreeMap<StoreId, Position>,
    files: Vec<Vec<u8>>,
    reader: Reader,
    /// Upstream's heartbeat, its age and when it was asked for, until the edge is settled.
    vouched: Option<(Heartbeat, Duration, Duration)>,
    generation: Option<u64>,
    faults: Faults,
}

impl World {
    fn new(seed: u64, bug: Option<Bug>) -> Self {
        Self {
            random: Random::new(seed),
            bug,
            step: 0,
            central: Central::new(),
            topic: Vec::new(),
            to_region: Link::new(),
            region: Region::default(),
            to_edge: Link::new(),
            questions: Link::new(),
            replies: Link::new(),
            edge: Edge::new(LIMITS, Duration::ZERO),
            published: BTreeMap::new(),
            floors: BTreeMap::new(),
            files: Vec::new(),
            reader: Reader::new(),
            vouched: None,
            generation: None,
            faults: Faults::default(),
        }
    }

    fn now(&self) -> Duration {
        STEP * u32::try_from(self.step).unwrap()
    }

    fn step(&mut self) -> Result<(), String> {
        self.step += 1;
        self.central.now = self.now();
        if self.random.chance(70) {
            self.central.write(&mut self.random);
            self.faults.writes += 1;
        }
        self.misfortune()?;
        self.travel()
    }

    /// Everything moves on by one step.
    fn travel(&mut self) -> Result<(), String> {
        if self.random.chance(80) {
            for (set, _) in std::mem::take(&mut self.central.outbox) {
                let record = Record::ChangeSet(set).encode();
                self.topic.push(record.clone());
                self.to_region
                    .send(record, self.step, &mut self.random, &mut self.faults);
            }
            self.beat_of_central();
        }
        self.lie();
        let reachable = !self.to_region.is_parted() && !self.random.chance(10);
        for record in self.to_region.arrived(self.step) {
            let upstream = reachable.then_some(&self.central);
            match Record::decode(&record).map_err(|error| format!("own record: {error}"))? {
                Record::ChangeSet(set) => self.region.record(&set, upstream, &mut self.faults),
                Record::Heartbeat(beat) => {
                    self.region.doubted |= self.to_region.take_lost();
                    self.region.beat(beat, self.now());
                }
                Record::Announced { .. } => self.region.doubted = true,
            }
        }
        if reachable && self.random.chance(8) {
            self.region.compare(&self.central);
        }
        self.relay_to_edge();
        for record in self.to_edge.arrived(self.step) {
            match Record::decode(&record) {
                Ok(Record::ChangeSet(set)) => self.hand(Input::Record(set))?,
                Ok(Record::Announced { store, position }) => {
                    self.hand(Input::Announced(store, position))?;
                }
                Ok(Record::Heartbeat(beat)) => self.beat(beat)?,
                Err(_) => self.hand(Input::Reset)?,
            }
        }
        self.ask_and_answer()?;
        let commands = self.edge.tick(self.now());
        self.carry_out(commands)?;
        self.wonder();
        let now = self.now();
        self.reader.check(&self.central, now, &mut self.faults)?;
        self.published
            .iter()
            .try_for_each(|(store, view)| self.agrees(*store, view).map(drop))
    }

    /// A heartbeat of central, of the moment before what was just sent was looked up.
    fn beat_of_central(&mut self) {
        if self.random.chance(40) {
            let beat = Heartbeat {
                epoch: Epoch(self.central.epoch),
                clock: wall(self.now()),
                generation: 0,
            };
            self.to_region.send_behind(
                Record::Heartbeat(beat).encode(),
                self.step,
                &mut self.random,
                &mut self.faults,
            );
        }
    }

    /// A heartbeat reaches the edge, whose driver does this.
    fn beat(&mut self, beat: Heartbeat) -> Result<(), String> {
        if self.to_edge.take_lost() {
            self.hand(Input::Reset)?;
        }
        let held: Vec<_> = self.published.keys().copied().collect();
        self.hand(Input::Reign(beat.epoch))?;
        if beat.epoch.0 > self.central.epoch && !self.published.keys().eq(&held) {
            return Err("a reign that never was emptied the edge".to_owned());
        }
        if beat.epoch != self.edge.epoch() {
            return Ok(());
        }
        if self.generation.replace(beat.generation) != Some(beat.generation) {
            self.hand(Input::Reset)?;
        }
        self.reader.beat(self.bug, beat, self.now());
        Ok(())
    }

    /// Somebody asks the edge what it does not hold.
    fn wonder(&mut self) {
        let stores: Vec<_> = self
            .reader
            .views()
            .map(|(id, view)| (id, view.position()))
            .collect();
        if stores.is_empty() || !self.random.chance(30) {
            return;
        }
        let (store, min) = *self.random.pick(&stores);
        let reads = (0..=self.random.below(2)).map(|_| Read::some(&mut self.random));
        let question = Question::Evaluate(store, reads.collect(), min);
        self.questions
            .send(question, self.step, &mut self.random, &mut self.faults);
    }

    fn relay_to_edge(&mut self) {
        for (set, tiers) in std::mem::take(&mut self.region.outbox) {
            let (store, position) = (set.store, set.position());
            let mut record = Record::ChangeSet(for_edge(&set, &tiers)).encode();
            if self.random.chance(3) {
                record = Record::Announced { store, position }.encode();
                self.faults.announced += 1;
            } else if !self.healthy() && self.random.chance(1) {
                record = vec![0xFF; 3];
                self.faults.garbage += 1;
            }
            self.to_edge
                .send(record, self.step, &mut self.random, &mut self.faults);
        }
        if let Some(beat) = self
            .region
            .last_heartbeat()
            .filter(|_| self.random.chance(30))
        {
            self.to_edge.send_behind(
                Record::Heartbeat(beat).encode(),
                self.step,
                &mut self.random,
                &mut self.faults,
            );
        }
    }

    fn ask_and_answer(&mut self) -> Result<(), String> {
        for question in self.questions.arrived(self.step) {
            let reply = if !self.healthy() && self.random.chance(8) {
                self.faults.unavailable += 1;
                Reply::Unavailable(question)
            } else {
                self.region.answer(&question, self.now())
            };
            self.replies
                .send(reply, self.step, &mut self.random, &mut self.faults);
        }
        for reply in self.replies.arrived(self.step) {
            let input = match reply {
                Reply::Positions {
                    ticket,
                    asked,
                    stores,
                    heartbeat,
                } => {
                    self.vouched = heartbeat.map(|(beat, age)| (beat, age, asked));
                    Input::Positions {
                        ticket,
                        epoch: heartbeat.map(|(beat, _)| beat.epoch),
                        stores,
                    }
                }
                Reply::Evaluated(answer) => {
                    self.reader.keep(answer);
                    continue;
                }
                Reply::Changes(store, changes) => Input::Changes(store, changes),
                Reply::Head(head) => Input::Head(head),
                Reply::Filled(store, object_type, position, tuples) => Input::Filled {
                    store,
                    object_type,
                    position,
                    tuples,
                },
                Reply::Trimmed(ask) => {
                    self.faults.trimmed += 1;
                    Input::Failed(ask, UpstreamError::Trimmed)
                }
                Reply::Behind(ask) => Input::Failed(ask, UpstreamError::Behind),
                Reply::UnknownStore(ask) => Input::Failed(ask, UpstreamError::UnknownStore),
                Reply::Unavailable(Question::Positions(..)) => Input::PositionsFailed,
                Reply::Unavailable(Question::Evaluate(..)) => continue,
                Reply::Unavailable(Question::Store(ask, _)) => {
                    Input::Failed(ask, UpstreamError::Unavailable("down".into()))
                }
            };
            self.hand(input)?;
            if self.edge.is_settled()
                && let Some((beat, age, asked)) = self.vouched.take()
            {
                self.faults.vouched += 1;
                self.reader.vouched(beat, age, asked);
            }
        }
        Ok(())
    }

    fn hand(&mut self, input: Input) -> Result<(), String> {
        let input = bend(self.bug, &self.published, input);
        let commands = self.edge.handle(input, self.now());
        self.carry_out(commands)
    }

    fn carry_out(&mut self, commands: Vec<Command>) -> Result<(), String> {
        for command in commands {
            let question = match command {
                Command::Publish(publish) => {
                    for view in stages(self.bug, self.published.get(&publish.store), &publish) {
                        self.publish(publish.store, view)?;
                    }
                    self.reader.publish(self.bug, &publish, self.now());
                    continue;
                }
                Command::Drop(store) => {
                    self.published.remove(&store);
                    self.reader.drop_store(store);
                    continue;
                }
                Command::AskPositions { ticket } => Question::Positions(ticket, self.now()),
                Command::AskChanges { store, after } => Question::Store(Ask::Changes(store), after),
                Command::AskHead { store, min } => Question::Store(Ask::Head(store), min),
                Command::AskFill {
                    store,
                    object_type,
                    min,
                } => Question::Store(Ask::Fill(store, object_type), min),
            };
            self.questions
                .send(question, self.step, &mut self.random, &mut self.faults);
        }
        Ok(())
    }

    fn publish(&mut self, store: StoreId, view: View) -> Result<(), String> {
        let position = view.position();
        let floor = self.floors.entry(store).or_default();
        if position < *floor {
            return Err(format!("store {store}: published {position} after {floor}"));
        }
        *floor = position;
        self.faults.published += 1;
        self.faults.coverage_checks += self.agrees(store, &view)?;
        if self.random.chance(30) {
            self.answers(store, &view)?;
        }
        self.published.insert(store, view);
        Ok(())
    }

    fn healthy(&self) -> bool {
        self.to_region.is_healthy()
    }
}
