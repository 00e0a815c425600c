//! What becomes of old flows and sessions: flows that nobody ended expire, and what was kept long enough goes. Done by one node
//! at a time, some rows with each statement, so that whoever writes never waits long for it.

use std::time::{Duration, Instant, SystemTime};

use meridian_model::{StoreId, Timestamp};

use crate::ports::{Repository, Result, Stores};
use crate::recorder::FlowRecorder;

/// How many rows go with one statement: more while statements are quick.
const FEWEST: u32 = 500;
const MOST: u32 = 8_000;
/// What a statement should take.
const QUICK: Duration = Duration::from_millis(100);
/// The least pause after a statement: others write meanwhile.
const PAUSE: Duration = Duration::from_millis(20);
/// How long one store is gone through before it is the next one's turn.
const TURN: Duration = Duration::from_secs(15);
/// How long each sweep looks for deleted stores of which something is set: there is no hurry about these.
const CLEARING: Duration = Duration::from_secs(5);
/// How long a flow may go on before it has expired.
pub const LONGEST_FLOW: Duration = Duration::from_secs(60 * 60);
/// How long one statement may take, and one that somebody waits for.
const TIMEOUT: Duration = Duration::from_secs(30);
const ASKED_TIMEOUT: Duration = Duration::from_secs(5);

/// What one sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Flows that are expired now.
    pub expired: u64,
    /// Flows that are gone.
    pub purged: u64,
    /// Connections of the live channel that are no longer told of.
    pub sessions: u64,
    /// Whether the time was not enough, so that there is more to do.
    pub is_cut: bool,
}

/// What became of a store's old flows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Purged {
    /// How many are gone.
    pub flows: u64,
    /// Whether there are more.
    pub more: bool,
}

/// Goes over all stores, as far as its time reaches, and goes on from there the next time.
#[derive(Debug, Default)]
pub struct Sweeper {
    pace: Pace,
    /// The last store that was gone through; `None` at the beginning.
    after: Option<StoreId>,
    /// The last store of which something is set that was looked at; `None` at the beginning.
    cleared: Option<StoreId>,
}

impl Sweeper {
    /// Sweeps until all is done or `until` has come; it returns 30 seconds after that at the latest. What is set of stores is
    /// read first and taken over by `recorder`, by whose times flows go: none goes before it is known how long it is to be
    /// kept. Of a store that was deleted all goes, and what was set of it, though not with the first sweep where very much is
    /// set.
    ///
    /// # Errors
    /// [`crate::RepositoryError`]; what was done until then is done.
    pub async fn sweep(
        &mut self,
        repository: &dyn Repository,
        stores: &dyn Stores,
        recorder: &FlowRecorder,
        until: Instant,
    ) -> Result<Swept> {
        let time = Time {
            until,
            timeout: TIMEOUT,
        };
        let overrides = repository.get_overrides(time.deadline()).await?;
        recorder.set_overrides(&overrides);
        // Whatever becomes of it, flows go.
        let set = overrides.into_iter().map(|(store, _)| store).collect();
        let cleared = self.clear(repository, stores, set, time).await;
        let swept = self.sweep_flows(repository, stores, recorder, time).await?;
        cleared.map(|()| swept)
    }

    /// Has nothing set of stores that were deleted, of those of which something is `set`: as many as there is time for, and
    /// the others the next time.
    async fn clear(
        &mut self,
        repository: &dyn Repository,
        stores: &dyn Stores,
        mut set: Vec<StoreId>,
        time: Time,
    ) -> Result<()> {
        let until = time.until.min(Instant::now() + CLEARING);
        set.sort_unstable();
        let after = set.partition_point(|store| Some(*store) <= self.cleared);
        for store in set.split_off(after) {
            if Instant::now() >= until {
                return Ok(());
            }
            self.cleared = Some(store);
            if stores.is_deleted(store, until).await {
                repository.delete_overrides(store, time.deadline()).await?;
            }
        }
        self.cleared = None;
        Ok(())
    }

    async fn sweep_flows(
        &mut self,
        repository: &dyn Repository,
        stores: &dyn Stores,
        recorder: &FlowRecorder,
        time: Time,
    ) -> Result<Swept> {
        let expire = Work::Expire(ago(LONGEST_FLOW));
        let expired = self.pace.go(repository, expire, time.turn()).await?;
        let mut swept = Swept {
            expired: expired.rows,
            is_cut: expired.more,
            ..Swept::default()
        };
        while let Some(store) = repository.next_store(self.after, time.deadline()).await? {
            if time.is_up() {
                swept.is_cut = true;
                return Ok(swept);
            }
            // Before anything can fail: the others do not wait for a store with which nothing works.
            self.after = Some(store);
            let before = if stores.is_deleted(store, time.deadline()).await {
                Timestamp(i64::MAX)
            } else {
                ago(recorder.settings_of(store).retention)
            };
            let turn = time.turn();
            let flows = Work::Flows(store, before);
            let flows = self.pace.go(repository, flows, turn).await?;
            let sessions = Work::Sessions(store, before);
            let sessions = self.pace.go(repository, sessions, turn).await?;
            swept.purged += flows.rows;
            swept.sessions += sessions.rows;
            swept.is_cut |= flows.more || sessions.more;
        }
        self.after = None;
        Ok(swept)
    }
}

/// Deletes the flows of a store that began before a time, until all are gone or `until` has come; it returns 5 seconds after
/// that at the latest.
///
/// # Errors
/// [`crate::RepositoryError`]; what was done until then is done.
pub async fn purge(
    repository: &dyn Repository,
    store: StoreId,
    before: Timestamp,
    until: Instant,
) -> Result<Purged> {
    let time = Time {
        until,
        timeout: ASKED_TIMEOUT,
    };
    let flows = Work::Flows(store, before);
    let done = Pace::default().go(repository, flows, time).await?;
    Ok(Purged {
        flows: done.rows,
        more: done.more,
    })
}

/// How long there is.
#[derive(Debug, Clone, Copy)]
struct Time {
    until: Instant,
    /// Of one statement.
    timeout: Duration,
}

impl Time {
    fn is_up(self) -> bool {
        Instant::now() >= self.until
    }

    /// Of a statement that begins now: also one that begins late ends soon after the time is up.
    fn deadline(self) -> Instant {
        Instant::now().min(self.until) + self.timeout
    }

    /// What one store has of it.
    fn turn(self) -> Self {
        Self {
            until: self.until.min(Instant::now() + TURN),
            ..self
        }
    }
}

/// What is done some rows at a time. The times are those before which rows are old.
#[derive(Debug, Clone, Copy)]
enum Work {
    Expire(Timestamp),
    Flows(StoreId, Timestamp),
    Sessions(StoreId, Timestamp),
}

#[derive(Debug, Clone, Copy, Default)]
struct Done {
    rows: u64,
    more: bool,
}

impl Work {
    async fn once(self, repository: &dyn Repository, limit: u32, time: Time) -> Result<Done> {
        let deadline = time.deadline();
        let rows = match self {
            Self::Expire(before) => repository.expire_flows(before, limit, deadline).await?,
            Self::Flows(store, before) => {
                let purge = repository.purge_old_flows(store, before, limit, deadline);
                let rows = purge.await?;
                // Fewer than asked for may be all that nobody else is about to delete.
                let older = repository.has_older(store, before, time.deadline());
                let more = older.await?;
                return Ok(Done { rows, more });
            }
            Self::Sessions(store, before) => {
                let purge = repository.purge_old_sessions(store, before, limit, deadline);
                purge.await?
            }
        };
        Ok(Done {
            rows,
            more: rows >= u64::from(limit),
        })
    }
}

/// How much is done at once, and how long the pause after it is.
#[derive(Debug)]
struct Pace {
    limit: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { limit: FEWEST }
    }
}

impl Pace {
    async fn go(&mut self, repository: &dyn Repository, work: Work, time: Time) -> Result<Done> {
        let mut done = Done::default();
        loop {
            let (started, limit) = (tokio::time::Instant::now(), self.limit);
            // Where this fails the next one asks for less.
            self.limit = FEWEST;
            let once = work.once(repository, limit, time).await?;
            self.limit = limit;
            done.rows += once.rows;
            done.more = once.more;
            if !done.more || time.is_up() {
                return Ok(done);
            }
            self.rest(started.elapsed()).await;
        }
    }

    /// Pauses for as long as the work took, so that others have half of the time, and does more at once where it was quick.
    async fn rest(&mut self, took: Duration) {
        self.limit = if took > QUICK {
            (self.limit / 2).max(FEWEST)
        } else if took < QUICK / 2 {
            (self.limit * 2).min(MOST)
        } else {
            self.limit
        };
        tokio::time::sleep(took.max(PAUSE)).await;
    }
}

fn ago(time: Duration) -> Timestamp {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let then = now.saturating_sub(time).as_micros();
    Timestamp(i64::try_from(then).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
