//! One direction of the network.

use super::random::Random;
use super::world::Faults;

/// Messages on their way, each with the step it arrives at.
pub(crate) struct Link<M> {
    on_the_way: Vec<(usize, M)>,
    parted: bool,
    healthy: bool,
    /// Something was lost since this was last asked.
    lost: bool,
}

impl<M: Clone> Link<M> {
    pub(crate) fn new() -> Self {
        Self {
            on_the_way: Vec::new(),
            parted: false,
            healthy: false,
            lost: false,
        }
    }

    /// Sends a message, or loses, repeats or delays it.
    pub(crate) fn send(
        &mut self,
        message: M,
        step: usize,
        random: &mut Random,
        faults: &mut Faults,
    ) {
        if self.healthy {
            self.on_the_way.push((step, message));
            return;
        }
        if self.parted {
            faults.parted += 1;
            self.lost = true;
            return;
        }
        if random.chance(7) {
            faults.dropped += 1;
            self.lost = true;
            return;
        }
        if random.chance(8) {
            faults.repeated += 1;
            self.on_the_way
                .push((step + 1 + random.below(12), message.clone()));
        }
        let delay = if random.chance(25) {
            1 + random.below(10)
        } else {
            0
        };
        faults.delayed += usize::from(delay > 0);
        let at = step + delay;
        faults.overtaken += usize::from(self.on_the_way.iter().any(|(other, _)| *other > at));
        self.on_the_way.push((at, message));
    }

    /// Sends a message that arrives after all that was sent before, if it does.
    pub(crate) fn send_behind(
        &mut self,
        message: M,
        step: usize,
        random: &mut Random,
        faults: &mut Faults,
    ) {
        if self.parted || (!self.healthy && random.chance(7)) {
            faults.dropped += 1;
            return;
        }
        let before = self.on_the_way.iter().map(|(at, _)| *at).max();
        let delay = if !self.healthy && random.chance(25) {
            random.below(60)
        } else {
            0
        };
        self.on_the_way
            .push((before.unwrap_or_default().max(step + delay), message));
    }

    /// Whether something was lost since this was last asked: a topic's reader is told so before it reads on.
    pub(crate) fn take_lost(&mut self) -> bool {
        std::mem::take(&mut self.lost)
    }

    /// Takes what has arrived by `step`, in the order it arrives.
    pub(crate) fn arrived(&mut self, step: usize) -> Vec<M> {
        let (mut here, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.on_the_way)
            .into_iter()
            .partition(|(at, _)| *at <= step);
        self.on_the_way = rest;
        here.sort_by_key(|(at, _)| *at);
        here.into_iter().map(|(_, message)| message).collect()
    }

    pub(crate) fn part(&mut self, parted: bool) {
        self.parted = parted && !self.healthy;
    }

    pub(crate) fn is_parted(&self) -> bool {
        self.parted
    }

    pub(crate) fn is_healthy(&self) -> bool {
        self.healthy
    }

    /// No more faults from here on.
    pub(crate) fn heal(&mut self) {
        self.healthy = true;
        self.parted = false;
    }

    /// What was on the way is lost.
    pub(crate) fn cut(&mut self) {
        self.on_the_way.clear();
        self.lost = true;
    }
}
