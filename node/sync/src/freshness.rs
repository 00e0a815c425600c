//! How old a node's knowledge is, from the heartbeats it received.
//!
//! Two clocks are compared, since either alone can lie: the writer's against this node's wall clock (which shows a
//! partition anywhere above, but also skew), and this node's monotonic clock since receipt (which shows silence whatever
//! the wall clocks say). The larger counts, and of all partitions the worst.

use std::time::Duration;

use meridian_model::ids::{Epoch, Timestamp};

use crate::envelope::Heartbeat;

/// The latest heartbeat by one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Beat {
    clock: Timestamp,
    received: Duration,
}

impl Beat {
    fn age(&self, wall: Timestamp, now: Duration) -> Duration {
        Duration::from_micros(wall.micros_since(self.clock)).max(now.saturating_sub(self.received))
    }
}

/// Heartbeats received, by partition of the topic and from upstream. Times called `now` are this node's monotonic clock,
/// as the duration since some fixed start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Freshness {
    epoch: Epoch,
    partitions: Vec<Option<Beat>>,
    upstream: Option<Beat>,
}

impl Freshness {
    /// The topic has so many partitions: until each has brought a heartbeat, the topic's word is not known. What a
    /// partition said before it was read anew stays true, and ages.
    pub fn assign(&mut self, partitions: usize) {
        self.partitions.resize(partitions, None);
    }

    /// Takes a heartbeat of a partition. One that is older than what is known (repeated, or of an older epoch) does nothing.
    pub fn beat(&mut self, partition: usize, heartbeat: Heartbeat, now: Duration) {
        if heartbeat.epoch < self.epoch {
            return;
        }
        self.enter(heartbeat.epoch);
        if let Some(slot) = self.partitions.get_mut(partition) {
            advance(slot, heartbeat.clock, now);
        }
    }

    /// Takes what upstream said of its own freshness: its heartbeat, received there `age` before `asked`, the moment this
    /// node asked.
    pub fn upstream(&mut self, heartbeat: Heartbeat, age: Duration, asked: Duration) {
        if heartbeat.epoch >= self.epoch {
            self.enter(heartbeat.epoch);
            advance(
                &mut self.upstream,
                heartbeat.clock,
                asked.saturating_sub(age),
            );
        }
    }

    /// How old this node's knowledge is; `None` while nothing proves any age.
    pub fn age(&self, wall: Timestamp, now: Duration) -> Option<Duration> {
        let by_topic = self.worst(|beat| beat.age(wall, now));
        let by_upstream = self.upstream.map(|beat| beat.age(wall, now));
        match (by_topic, by_upstream) {
            (Some(topic), Some(upstream)) => Some(topic.min(upstream)),
            (one, other) => one.or(other),
        }
    }

    /// For how long the quietest partition has brought no heartbeat; `None` when one never did.
    pub fn silence(&self, now: Duration) -> Option<Duration> {
        self.worst(|beat| now.saturating_sub(beat.received))
    }

    /// The latest heartbeat that all partitions have reached, or upstream vouched for, and when it was received.
    pub fn heartbeat(&self) -> Option<(Heartbeat, Duration)> {
        let partitions = self.partitions.iter().copied().collect::<Option<Vec<_>>>();
        let slowest = partitions.and_then(|beats| beats.into_iter().min_by_key(|beat| beat.clock));
        let best = slowest
            .into_iter()
            .chain(self.upstream)
            .max_by_key(|beat| beat.clock)?;
        Some((
            Heartbeat {
                epoch: self.epoch,
                clock: best.clock,
                generation: 0,
            },
            best.received,
        ))
    }

    /// A heartbeat of a newer epoch makes those of the older say nothing: their clock was another writer's.
    fn enter(&mut self, epoch: Epoch) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.partitions.fill(None);
            self.upstream = None;
        }
    }

    fn worst(&self, of: impl Fn(&Beat) -> Duration) -> Option<Duration> {
        // Asked with every check: nothing is collected.
        let worse = |worst: Option<Duration>, slot: &Option<Beat>| {
            Some(worst.max(Some(of(slot.as_ref()?))))
        };
        self.partitions.iter().try_fold(None, worse).flatten()
    }
}

fn advance(slot: &mut Option<Beat>, clock: Timestamp, received: Duration) {
    // A repeated heartbeat is no news, so it must not look freshly received.
    if slot.is_none_or(|known| known.clock < clock) {
        *slot = Some(Beat { clock, received });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * SECOND)
    }

    fn beat(epoch: u64, seconds: i64) -> Heartbeat {
        Heartbeat {
            epoch: Epoch(epoch),
            clock: at(seconds),
            generation: 0,
        }
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_worst_partition_and_the_larger_clock_count() {
        let mut fresh = Freshness::default();
        fresh.assign(2);
        fresh.beat(0, beat(1, 100), secs(10));
        assert_eq!(
            fresh.age(at(100), secs(10)),
            None,
            "partition 1 never spoke"
        );
        fresh.beat(1, beat(1, 98), secs(10));
        assert_eq!(
            fresh.age(at(101), secs(10)),
            Some(secs(3)),
            "wall clock of the slower partition"
        );
        assert_eq!(
            fresh.age(at(90), secs(17)),
            Some(secs(7)),
            "a wall clock that runs behind hides no silence"
        );
        assert_eq!(fresh.silence(secs(15)), Some(secs(5)));
        assert_eq!(fresh.heartbeat(), Some((beat(1, 98), secs(10))));
    }

    #[test]
    fn repeated_and_fenced_heartbeats_are_no_news() {
        let mut fresh = Freshness::default();
        fresh.assign(1);
        fresh.beat(0, beat(2, 100), secs(0));
        fresh.beat(0, beat(2, 100), secs(50));
        fresh.beat(0, beat(1, 150), secs(50));
        fresh.beat(7, beat(2, 150), secs(50));
        assert_eq!(fresh.age(at(100), secs(50)), Some(secs(50)));
    }

    #[test]
    fn a_newer_epoch_starts_anew() {
        let mut fresh = Freshness::default();
        fresh.assign(2);
        fresh.beat(0, beat(1, 500), secs(1));
        fresh.beat(1, beat(1, 500), secs(1));
        fresh.beat(0, beat(2, 400), secs(2));
        assert_eq!(fresh.age(at(500), secs(2)), None);
        fresh.beat(1, beat(2, 400), secs(2));
        assert_eq!(fresh.age(at(400), secs(2)), Some(secs(0)));
    }

    #[test]
    fn upstream_vouches_while_the_topic_is_silent() {
        let mut fresh = Freshness::default();
        fresh.assign(1);
        fresh.upstream(beat(1, 100), secs(2), secs(10));
        assert_eq!(fresh.age(at(100), secs(11)), Some(secs(3)));
        fresh.beat(0, beat(1, 104), secs(14));
        assert_eq!(fresh.age(at(104), secs(14)), Some(secs(0)));
        assert_eq!(
            fresh.silence(secs(20)),
            Some(secs(6)),
            "upstream's word is not the topic's"
        );
    }
}
