//! What was said lately, for those who come back: all that they missed, or the word that it is not all there.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Map, Value};

use crate::frames::Frame;
use crate::outbox::Names;
use crate::record::Place;

/// A record that is kept.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) frame: Frame,
    pub(crate) place: Place,
    pub(crate) names: Names,
}

/// What is kept of one store.
#[derive(Debug)]
pub(crate) struct History {
    lists: HashMap<Arc<str>, List>,
    /// With when each was read.
    order: VecDeque<(Instant, Arc<Kept>)>,
    bytes: usize,
    /// From these offsets on, by partition, nothing was left out of what is kept as a whole.
    whole_from: Vec<i64>,
    max_records: usize,
    max_bytes: usize,
}

/// What is kept of one object.
#[derive(Debug, Default)]
struct List {
    kept: VecDeque<Arc<Kept>>,
    /// From these offsets on, by partition, nothing was left out of it.
    whole_from: HashMap<usize, i64>,
}

impl History {
    /// Nothing, of a topic that is read from these offsets on.
    pub(crate) fn new(from: Vec<i64>, max_records: usize, max_bytes: usize) -> Self {
        Self {
            lists: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            whole_from: from,
            max_records,
            max_bytes,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Bytes of what is kept.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the newest of it was read.
    pub(crate) fn newest(&self) -> Option<Instant> {
        self.order.back().map(|(read, _)| *read)
    }

    /// From which offsets on, by partition, nothing was left out.
    pub(crate) fn whole_from(&self) -> &[i64] {
        &self.whole_from
    }

    /// Forgets what was read before.
    pub(crate) fn expire(&mut self, before: Instant) {
        while self.order.front().is_some_and(|(read, _)| *read < before) {
            self.forget_oldest();
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        while self.forget_oldest() {}
    }

    pub(crate) fn add(&mut self, record: Arc<Kept>) {
        if self.max_records == 0 {
            return self.leave_out(record.place);
        }
        for name in record.names.iter() {
            let list = self.lists.entry(Arc::clone(name)).or_default();
            list.kept.push_back(Arc::clone(&record));
            if list.kept.len() > self.max_records
                && let Some(oldest) = list.kept.pop_front()
            {
                let Place { partition, offset } = oldest.place;
                list.whole_from.insert(partition, offset + 1);
            }
        }
        self.bytes += record.frame.len();
        self.order.push_back((Instant::now(), record));
        while self.bytes > self.max_bytes && self.forget_oldest() {}
    }

    /// Whether there was one.
    fn forget_oldest(&mut self) -> bool {
        let oldest = self.order.pop_front();
        if let Some((_, oldest)) = &oldest {
            self.forget(oldest);
        }
        oldest.is_some()
    }

    fn forget(&mut self, oldest: &Arc<Kept>) {
        self.bytes = self.bytes.saturating_sub(oldest.frame.len());
        for name in oldest.names.iter() {
            let Some(list) = self.lists.get_mut(name) else {
                continue;
            };
            if list
                .kept
                .front()
                .is_some_and(|first| Arc::ptr_eq(first, oldest))
            {
                list.kept.pop_front();
            }
            if list.kept.is_empty() {
                // All that it left out is older than what is left out of the whole now.
                self.lists.remove(name);
            }
        }
        self.leave_out(oldest.place);
    }

    fn leave_out(&mut self, Place { partition, offset }: Place) {
        if let Some(from) = self.whole_from.get_mut(partition) {
            *from = (*from).max(offset + 1);
        }
    }

    /// The last record that is kept of a name.
    pub(crate) fn last(&self, name: &str) -> Option<&Arc<Kept>> {
        self.lists.get(name)?.kept.back()
    }

    /// What is kept of a name from the offsets `next` on, by partition; `None` when that is not all there was.
    pub(crate) fn after(&self, name: &str, next: &[i64]) -> Option<Vec<&Arc<Kept>>> {
        let reaches = |from: &i64, next: &i64| next >= from;
        if next.len() != self.whole_from.len()
            || !self
                .whole_from
                .iter()
                .zip(next)
                .all(|(from, next)| reaches(from, next))
        {
            return None;
        }
        let Some(list) = self.lists.get(name) else {
            return Some(Vec::new());
        };
        let whole = |(partition, from): (&usize, &i64)| {
            next.get(*partition).is_some_and(|next| reaches(from, next))
        };
        if !list.whole_from.iter().all(whole) {
            return None;
        }
        let missed = list.kept.iter().filter(|kept| {
            next.get(kept.place.partition)
                .is_some_and(|next| kept.place.offset >= *next)
        });
        Some(missed.collect())
    }
}

/// The top-level fields of a record's frame, for filters.
pub(crate) fn fields(frame: &Frame) -> Map<String, Value> {
    let whole: Option<Map<String, Value>> = serde_json::from_str(frame.as_str()).ok();
    match whole.and_then(|mut whole| whole.remove("data")) {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(history: &mut History, name: &str, partition: usize, offset: i64) {
        let frame = format!("{name} {partition} {offset}");
        history.add(Arc::new(Kept {
            frame: frame.into(),
            place: Place { partition, offset },
            names: [name.into(), "all".into()].into(),
        }));
    }

    fn after(history: &History, name: &str, next: [i64; 2]) -> Option<Vec<(usize, i64)>> {
        let found = history.after(name, &next)?;
        let place = |kept: &&Arc<Kept>| (kept.place.partition, kept.place.offset);
        Some(found.iter().map(place).collect())
    }

    #[test]
    fn all_that_followed_or_nothing() {
        let mut history = History::new(vec![10, 20], 3, 1000);
        for (name, partition, offset) in [("a", 0, 10), ("b", 1, 20), ("a", 0, 11), ("a", 1, 21)] {
            add(&mut history, name, partition, offset);
        }
        assert_eq!(
            after(&history, "a", [10, 20]),
            Some(vec![(0, 10), (0, 11), (1, 21)])
        );
        assert_eq!(after(&history, "a", [11, 21]), Some(vec![(0, 11), (1, 21)]));
        assert_eq!(after(&history, "a", [12, 22]), Some(vec![]));
        assert_eq!(after(&history, "c", [10, 20]), Some(vec![]));
        assert_eq!(
            after(&history, "a", [9, 20]),
            None,
            "from before reading began"
        );
        assert!(history.after("a", &[10]).is_none(), "fewer partitions");
        // The oldest of "all" went by their number, not those of "a".
        assert_eq!(after(&history, "all", [10, 20]), None);
        assert_eq!(after(&history, "all", [11, 20]).unwrap().len(), 3);
        assert_eq!(history.last("a").unwrap().place.offset, 21);
    }

    #[test]
    fn what_is_kept_is_bounded_in_bytes() {
        let mut history = History::new(vec![0, 0], 100, 60);
        for offset in 0..100 {
            add(&mut history, "a", 0, offset);
        }
        assert!(history.bytes <= 60);
        assert_eq!(after(&history, "a", [0, 0]), None);
        assert_eq!(after(&history, "a", [98, 0]), Some(vec![(0, 98), (0, 99)]));
        assert_eq!(history.lists.len(), 2);
        let mut none = History::new(vec![0, 0], 0, 60);
        add(&mut none, "a", 0, 0);
        assert_eq!(after(&none, "a", [0, 0]), None);
    }
}
