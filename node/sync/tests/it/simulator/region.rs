//! The regional node: a durable copy of every store, kept by compare and set, and what an edge asks of it.

use std::collections::BTreeMap;
use std::time::Duration;

use meridian_model::change::ChangeSet;
use meridian_model::ids::{Epoch, Position, StoreId};
use meridian_model::watermark::Admit;
use meridian_sync::edge::Ask;
use meridian_sync::envelope::Heartbeat;
use meridian_sync::tier::for_edge;
use meridian_sync::upstream::Changes;

use super::history::{Central, Kept, OutboxRow, as_tuple};
use super::reader::{Answer, evaluate};
use super::world::{Faults, Question, Reply};

/// How many change sets a Changes call returns at most here: few, so that answers end in the middle.
const PAGE: usize = 3;

#[derive(Default)]
pub(crate) struct Region {
    pub(crate) stores: BTreeMap<StoreId, Kept>,
    pub(crate) outbox: Vec<OutboxRow>,
    /// The last heartbeat that everything before was applied of, and when it came.
    pub(crate) heartbeat: Option<(Heartbeat, Duration)>,
    epoch: Epoch,
    /// Something may be missing: heartbeats prove nothing.
    pub(crate) doubted: bool,
    generation: u64,
}

impl Region {
    /// Takes a record of the full topic. `upstream` is central when it can be reached.
    pub(crate) fn record(
        &mut self,
        set: &ChangeSet,
        upstream: Option<&Central>,
        faults: &mut Faults,
    ) {
        match self.apply(set) {
            Admit::Apply => {}
            Admit::Skip => faults.skipped += 1,
            Admit::Fenced => faults.fenced += 1,
            Admit::Gap => {
                faults.gaps += 1;
                match upstream {
                    Some(central) => self.repair(set.store, central),
                    None => self.doubted = true,
                }
            }
            Admit::NewEpoch => {
                faults.new_epochs += 1;
                match upstream {
                    Some(central) => self.replace(set.store, central),
                    None => self.doubted = true,
                }
            }
        }
    }

    /// Takes a heartbeat of the full topic.
    pub(crate) fn beat(&mut self, beat: Heartbeat, now: Duration) {
        // That there is a newer reign is central's to say.
        self.doubted |= beat.epoch > self.epoch;
        if !self.doubted && beat.epoch == self.epoch {
            let generation = self.generation;
            self.heartbeat = Some((Heartbeat { generation, ..beat }, now));
        }
    }

    /// What it tells its edges.
    pub(crate) fn last_heartbeat(&self) -> Option<Heartbeat> {
        let generation = self.generation;
        let (beat, _) = self.heartbeat?;
        Some(Heartbeat { generation, ..beat })
    }

    /// A restart: only what is in the database is left.
    pub(crate) fn crash(&mut self) {
        self.heartbeat = None;
        self.doubted = true;
        self.generation += 1;
    }

    /// Compares positions with central's, as a heartbeat of a newer epoch or a silent broker makes it.
    pub(crate) fn compare(&mut self, central: &Central) {
        for (store, kept) in &central.stores {
            let have = self.position(*store);
            if kept.position.epoch > have.epoch {
                self.replace(*store, central);
            } else if kept.position > have {
                self.repair(*store, central);
            }
        }
        // What central no longer has was in a history that was given up.
        self.stores.retain(|store, kept| {
            central.stores.contains_key(store) || kept.position.epoch.0 == central.epoch
        });
        self.epoch = Epoch(central.epoch);
        self.doubted = false;
    }

    /// Answers the edge; `None` where a real node would be down.
    pub(crate) fn answer(&self, question: &Question, now: Duration) -> Reply {
        let (ask, min) = match question {
            Question::Positions(ticket, asked) => {
                let stores = self.stores.iter();
                return Reply::Positions {
                    ticket: *ticket,
                    asked: *asked,
                    stores: stores.map(|(id, kept)| (*id, kept.position)).collect(),
                    heartbeat: self.heartbeat.map(|(beat, came)| (beat, now - came)),
                };
            }
            Question::Evaluate(store, reads, min) => {
                let kept = self.stores.get(store);
                return match kept.filter(|kept| kept.position >= *min && !kept.facts.deleted) {
                    Some(kept) => Reply::Evaluated(Answer {
                        store: *store,
                        reads: reads.clone(),
                        position: kept.position,
                        found: evaluate(&kept.facts, reads),
                    }),
                    None => Reply::Unavailable(question.clone()),
                };
            }
            Question::Store(ask, min) => (ask, *min),
        };
        let (Ask::Changes(store) | Ask::Head(store) | Ask::Fill(store, _)) = ask;
        let Some(kept) = self.stores.get(store) else {
            return Reply::UnknownStore(ask.clone());
        };
        match ask {
            Ask::Changes(_) => match kept.changes(min, PAGE) {
                Some(sets) => {
                    let change_sets = sets
                        .iter()
                        .map(|set| for_edge(set, &kept.facts.tiers))
                        .collect();
                    Reply::Changes(
                        *store,
                        Changes {
                            change_sets,
                            position: kept.position,
                        },
                    )
                }
                None => Reply::Trimmed(ask.clone()),
            },
            _ if kept.position < min => Reply::Behind(ask.clone()),
            Ask::Head(_) => kept
                .head()
                .map_or_else(|| Reply::UnknownStore(ask.clone()), Reply::Head),
            Ask::Fill(_, object_type) => {
                let tuples = kept
                    .facts
                    .of_type(object_type)
                    .into_iter()
                    .map(as_tuple)
                    .collect();
                Reply::Filled(*store, object_type.clone(), kept.position, tuples)
            }
        }
    }

    fn position(&self, store: StoreId) -> Position {
        self.stores
            .get(&store)
            .map_or_else(Position::default, |kept| kept.position)
    }

    fn apply(&mut self, set: &ChangeSet) -> Admit {
        let mut kept = self.stores.remove(&set.store).unwrap_or_default();
        let verdict = kept.apply(set);
        if verdict == Admit::Apply {
            self.outbox.push((set.clone(), kept.facts.tiers.clone()));
        }
        if kept.facts.info.is_some() {
            self.stores.insert(set.store, kept);
        }
        verdict
    }

    fn repair(&mut self, store: StoreId, central: &Central) {
        let Some(theirs) = central.stores.get(&store) else {
            return;
        };
        let have = self.position(store);
        match theirs
            .changes(have, usize::MAX)
            .filter(|_| have.epoch == theirs.position.epoch)
        {
            Some(sets) => sets.iter().for_each(|set| {
                self.apply(set);
            }),
            None => self.replace(store, central),
        }
    }

    fn replace(&mut self, store: StoreId, central: &Central) {
        if let Some(theirs) = central
            .stores
            .get(&store)
            .filter(|theirs| theirs.position > self.position(store))
        {
            self.stores.insert(store, Kept::replaced_by(theirs));
            self.generation += 1;
        }
    }
}
