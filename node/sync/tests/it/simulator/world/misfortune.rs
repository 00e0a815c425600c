//! What goes wrong beside the network's small faults.

use meridian_engine::View;
use meridian_model::ids::{Epoch, Position, Revision};
use meridian_sync::edge::{Edge, Input};
use meridian_sync::envelope::{Heartbeat, Record};

use super::{LIMITS, Reader, World, wall};

impl World {
    pub(super) fn misfortune(&mut self) -> Result<(), String> {
        let random = &mut self.random;
        for parted in [
            random.chance(3).then_some(true),
            random.chance(20).then_some(false),
        ]
        .into_iter()
        .flatten()
        {
            match random.below(4) {
                0 => self.to_region.part(parted),
                1 => self.to_edge.part(parted),
                2 => self.questions.part(parted),
                _ => self.replies.part(parted),
            }
        }
        if random.chance(1) && random.chance(60) {
            self.central.fail_over(random);
            self.faults.fail_overs += 1;
        }
        if random.chance(4) {
            let keep = random.below(6);
            self.central
                .stores
                .values_mut()
                .for_each(|kept| kept.trim(keep));
            self.region
                .stores
                .values_mut()
                .for_each(|kept| kept.trim(keep));
            self.faults.trims += 1;
        }
        if random.chance(1) {
            self.to_region.cut();
            let again = random.below(20);
            for record in self.topic.iter().rev().take(again).rev() {
                self.to_region
                    .send(record.clone(), self.step, random, &mut self.faults);
            }
            self.region.crash();
            self.faults.regional_crashes += 1;
        }
        if random.chance(4) {
            self.files = self.edge.views().map(|(_, view)| view.to_file()).collect();
        }
        if random.chance(2) {
            self.crash_edge()?;
        }
        if self.random.chance(1) {
            self.hand(Input::Reset)?;
        }
        if self.random.chance(3) {
            let commands = self.edge.poll(self.now());
            self.carry_out(commands)?;
        }
        Ok(())
    }

    pub(super) fn crash_edge(&mut self) -> Result<(), String> {
        self.faults.edge_crashes += 1;
        self.questions.cut();
        self.replies.cut();
        self.published.clear();
        self.floors.clear();
        self.reader = Reader::new();
        (self.vouched, self.generation) = (None, None);
        self.edge = Edge::new(LIMITS, self.now());
        if self.random.chance(50) {
            for file in self.files.clone() {
                let view = View::from_file(&file)
                    .map_err(|error| format!("an edge's own file is unreadable: {error}"))?;
                let commands = self.edge.restore(view, self.now());
                self.faults.files += 1;
                self.carry_out(commands)?;
            }
        }
        self.hand(Input::Reset)
    }

    /// Somebody who may not writes to the topics: what never was.
    pub(super) fn lie(&mut self) {
        if self.healthy() || !self.random.chance(2) {
            return;
        }
        let stores: Vec<_> = self.region.stores.iter().collect();
        let record = if stores.is_empty() || self.random.chance(50) {
            self.faults.bogus_beats += 1;
            Record::Heartbeat(Heartbeat {
                epoch: Epoch(self.central.epoch + 1000),
                clock: wall(self.now()),
                generation: 0,
            })
        } else {
            self.faults.bogus_announced += 1;
            let (store, kept) = *self.random.pick(&stores);
            let revision = Revision(kept.position.revision.0 + 1000);
            Record::Announced {
                store: *store,
                position: Position {
                    revision,
                    ..kept.position
                },
            }
        };
        let link = if self.random.chance(50) {
            &mut self.to_edge
        } else {
            &mut self.to_region
        };
        link.send(
            record.encode(),
            self.step,
            &mut self.random,
            &mut self.faults,
        );
    }
}
