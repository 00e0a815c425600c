//! The latest changes of the stores that somebody watches: kept once, however many do, and bounded. So those who watch have no
//! queue of their own; who is further behind than this reaches reads the change log.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use meridian_model::change::ChangeSet;
use meridian_model::{Position, Revision, StoreId};
use tokio::sync::watch;

/// Changes that are given out at once.
const PAGE: usize = 64;

/// The feeds of a node.
pub struct Feeds {
    of: DashMap<StoreId, Watched>,
    changes: usize,
    bytes: usize,
}

struct Watched {
    feed: Arc<Feed>,
    by: usize,
}

/// One store's latest changes.
pub(super) struct Feed {
    kept: Mutex<Kept>,
    head: watch::Sender<Position>,
}

#[derive(Default)]
struct Kept {
    /// In order, without gaps.
    sets: VecDeque<Arc<ChangeSet>>,
    bytes: usize,
    /// The last one that had to make room.
    evicted: Revision,
}

/// A place at a store's feed. The feed goes with the last one.
pub(crate) struct Seat {
    feeds: Arc<Feeds>,
    store: StoreId,
    feed: Arc<Feed>,
    head: watch::Receiver<Position>,
}

/// What there is behind a position.
#[derive(Debug)]
pub(crate) enum Behind {
    /// These change sets, and maybe more.
    Sets(Vec<Arc<ChangeSet>>),
    /// Nothing. So it is, too, where the store is of an earlier epoch, which will end: its revisions are not those of the position.
    Nothing,
    /// More than is kept. Some of it was, until it had to make room, where `made_room`.
    More { made_room: bool },
    /// The store is of another epoch.
    NewEpoch,
}

impl Feeds {
    /// Feeds that keep so many change sets of a store, and so many bytes of them.
    #[must_use]
    pub fn new(changes: usize, bytes: usize) -> Self {
        Self {
            of: DashMap::new(),
            changes,
            bytes,
        }
    }

    /// Change sets kept of a store at most.
    pub(crate) fn changes(&self) -> usize {
        self.changes
    }

    /// The stores that somebody watches.
    pub(crate) fn stores(&self) -> Vec<StoreId> {
        self.of.iter().map(|watched| *watched.key()).collect()
    }

    /// Whether somebody watches a store.
    pub(crate) fn has(&self, store: StoreId) -> bool {
        self.of.contains_key(&store)
    }

    /// Adds what comes next in a store.
    pub(crate) fn push(&self, store: StoreId, sets: Vec<ChangeSet>) {
        let Some(feed) = self.feed(store) else { return };
        let Some(last) = sets.last().map(ChangeSet::position) else {
            return;
        };
        let mut kept = feed.kept();
        for set in sets {
            kept.push(Arc::new(set), self.changes, self.bytes);
        }
        drop(kept);
        feed.head.send_modify(|head| *head = last.max(*head));
    }

    /// Notes that a store has come to `head` by changes that were not read: whoever wants them reads them.
    pub(crate) fn jump(&self, store: StoreId, head: Position) {
        let Some(feed) = self.feed(store) else { return };
        *feed.kept() = Kept::default();
        feed.head.send_replace(head);
    }

    /// Takes a place at the feed of a store that stands at `head`.
    pub(crate) fn join(self: &Arc<Self>, store: StoreId, head: Position) -> Seat {
        let mut watched = self.of.entry(store).or_insert_with(|| Watched {
            feed: Arc::new(Feed {
                kept: Mutex::default(),
                head: watch::Sender::new(head),
            }),
            by: 0,
        });
        watched.by += 1;
        let feed = Arc::clone(&watched.feed);
        drop(watched);
        Seat {
            feeds: Arc::clone(self),
            store,
            head: feed.head.subscribe(),
            feed,
        }
    }

    fn feed(&self, store: StoreId) -> Option<Arc<Feed>> {
        self.of.get(&store).map(|watched| Arc::clone(&watched.feed))
    }
}

impl Feed {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn push(&mut self, set: Arc<ChangeSet>, changes: usize, bytes: usize) {
        let goes_on = self
            .sets
            .back()
            .is_none_or(|last| last.revision.next() == set.revision && last.epoch == set.epoch);
        if !goes_on {
            *self = Self::default();
        }
        self.bytes += set.weight();
        self.sets.push_back(set);
        while self.sets.len() > changes || (self.bytes > bytes && self.sets.len() > 1) {
            let Some(oldest) = self.sets.pop_front() else {
                return;
            };
            self.bytes = self.bytes.saturating_sub(oldest.weight());
            self.evicted = oldest.revision;
        }
    }
}

impl Seat {
    /// What there is behind `after`.
    pub(crate) fn behind(&self, after: Position) -> Behind {
        let head = *self.feed.head.borrow();
        match head.epoch.cmp(&after.epoch) {
            Ordering::Greater => return Behind::NewEpoch,
            Ordering::Less => return Behind::Nothing,
            Ordering::Equal => {}
        }
        let kept = self.feed.kept();
        let next = after.revision.next();
        let first = kept.sets.front().map(|first| first.revision);
        let last = kept.sets.back().map(|last| last.revision);
        if head <= after && last.is_none_or(|last| last < next) {
            return Behind::Nothing;
        }
        match first {
            Some(first) if first <= next && last.is_some_and(|last| next <= last) => {
                let skipped = usize::try_from(next.0 - first.0).unwrap_or(usize::MAX);
                let sets = kept.sets.iter().skip(skipped).take(PAGE);
                Behind::Sets(sets.cloned().collect())
            }
            _ => Behind::More {
                made_room: kept.evicted >= next,
            },
        }
    }

    /// Waits until the store has come further.
    pub(super) async fn moved(&mut self) {
        if self.head.changed().await.is_err() {
            // The sender is here, in `feed`.
            std::future::pending().await
        }
    }

    /// By how many revisions the store is further.
    pub(super) fn distance(&self, from: Position) -> u64 {
        let head = self.feed.head.borrow().revision.0;
        head.saturating_sub(from.revision.0)
    }

    /// Whether what is next behind `after` had to make room.
    pub(super) fn is_left_behind(&self, after: Position) -> bool {
        matches!(self.behind(after), Behind::More { made_room: true })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.feeds.of.remove_if_mut(&self.store, |_, watched| {
            watched.by = watched.by.saturating_sub(1);
            watched.by == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use meridian_model::{Epoch, Timestamp};

    use super::*;

    fn set(store: StoreId, revision: u64) -> ChangeSet {
        ChangeSet {
            store,
            epoch: Epoch(1),
            revision: Revision(revision),
            committed_at: Timestamp(0),
            changes: Vec::new(),
            touched: Vec::new(),
        }
    }

    /// The revisions that there are behind one; why there are none otherwise.
    fn behind(seat: &Seat, revision: u64) -> Result<Vec<u64>, String> {
        match seat.behind(Position::new(1, revision)) {
            Behind::Sets(sets) => Ok(sets.iter().map(|set| set.revision.0).collect()),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn the_latest_changes_are_there_for_all_and_who_is_further_behind_is_told() {
        let store: StoreId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        let feeds = Arc::new(Feeds::new(3, 1024 * 1024));
        feeds.push(store, vec![set(store, 9)]);
        let seat = feeds.join(store, Position::new(1, 9));
        assert_eq!(behind(&seat, 9).unwrap_err(), "Nothing");
        // What the reader comes to later than who joined does not count twice.
        feeds.push(store, vec![set(store, 9), set(store, 10)]);
        assert_eq!(behind(&seat, 9), Ok(vec![10]));
        assert_eq!(behind(&seat, 10).unwrap_err(), "Nothing");
        assert_eq!(
            behind(&seat, 5).unwrap_err(),
            "More { made_room: false }",
            "that was before anybody watched"
        );
        feeds.push(store, (11..=13).map(|at| set(store, at)).collect());
        assert_eq!(behind(&seat, 10), Ok(vec![11, 12, 13]));
        assert!(seat.is_left_behind(Position::new(1, 9)));
        // Unread changes are nobody's fault.
        feeds.jump(store, Position::new(1, 50));
        assert!(!seat.is_left_behind(Position::new(1, 13)));
        assert_eq!(behind(&seat, 13).unwrap_err(), "More { made_room: false }");
        feeds.push(store, vec![set(store, 51)]);
        assert_eq!(behind(&seat, 50), Ok(vec![51]));
        feeds.jump(store, Position::new(2, 20));
        assert_eq!(behind(&seat, 51).unwrap_err(), "NewEpoch");
        let other = feeds.join(store, Position::new(2, 20));
        drop(seat);
        assert!(feeds.has(store));
        drop(other);
        assert!(!feeds.has(store), "nothing is kept for nobody");
    }

    #[test]
    fn a_store_of_an_earlier_epoch_tells_nothing_of_a_later_one() {
        let store: StoreId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        let feeds = Arc::new(Feeds::new(1000, 1024 * 1024));
        let seat = feeds.join(store, Position::new(1, 100));
        let behind = |revision| format!("{:?}", seat.behind(Position::new(2, revision)));
        assert_eq!(behind(40), "Nothing");
        feeds.push(store, vec![set(store, 101)]);
        assert_eq!(behind(40), "Nothing", "what is not kept is not read");
        assert_eq!(behind(100), "Nothing");
        feeds.jump(store, Position::new(2, 60));
        assert_eq!(behind(40), "More { made_room: false }");
        assert_eq!(behind(60), "Nothing");
    }

    #[test]
    fn what_the_feed_has_not_been_given_yet_is_more_and_not_an_empty_page() {
        let store: StoreId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        let feeds = Arc::new(Feeds::new(1000, 1024 * 1024));
        let seat = feeds.join(store, Position::new(1, 0));
        feeds.jump(store, Position::new(1, 10));
        feeds.push(store, (1..=5).map(|at| set(store, at)).collect());
        assert_eq!(behind(&seat, 3), Ok(vec![4, 5]));
        assert_eq!(behind(&seat, 5).unwrap_err(), "More { made_room: false }");
    }

    #[test]
    fn what_is_kept_is_bounded_in_bytes_too() {
        let store: StoreId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        let feeds = Arc::new(Feeds::new(1000, 3 * set(store, 1).weight()));
        let seat = feeds.join(store, Position::new(1, 0));
        feeds.push(store, (1..=10).map(|at| set(store, at)).collect());
        assert_eq!(behind(&seat, 7), Ok(vec![8, 9, 10]));
        assert!(seat.is_left_behind(Position::new(1, 6)));
    }
}
