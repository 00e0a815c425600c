//! Records that outlast the node: each is written once, whoever reads it from the topic and however often.
//!
//! Apart from the fan-out: nobody who gets records waits for this, and this waits for nobody but the database.

mod sql;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

use crate::record::Record;
pub use sql::{InvalidUrl, SqlRecords};

const STORED: &str = "meridian_live_stored_records_total";
const FAILURES: &str = "meridian_live_store_failures_total";
const DURATION: &str = "meridian_live_store_seconds";
const LAG: &str = "meridian_live_store_lag_seconds";
const PURGED: &str = "meridian_live_purged_records_total";

/// How long one statement may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The pause after a failure, doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Records that go with one statement.
const PURGE: u32 = 500;
/// The pause after such a statement: others write meanwhile.
const PURGE_PAUSE: Duration = Duration::from_millis(20);

/// Why records are not in the database.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotStored {
    /// It refuses what one of them says, and will again.
    #[error("the database refuses a record")]
    Rejected(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// It cannot be reached, or is not able now.
    #[error("the database cannot be reached, or is not able now")]
    Unavailable(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// It took too long.
    #[error("the database took too long")]
    DeadlineExceeded,
}

/// Where records are kept.
#[async_trait]
pub trait RecordRepository: Send + Sync + 'static {
    /// Has all these records of a topic, or none. One that it has already stays as it is.
    ///
    /// # Errors
    /// [`NotStored`].
    async fn insert(
        &self,
        topic: &str,
        records: &[Record],
        deadline: Instant,
    ) -> Result<(), NotStored>;

    /// Forgets at most `limit` records, the oldest of those stored before `before`; returns how many.
    ///
    /// # Errors
    /// [`NotStored`].
    async fn purge(
        &self,
        before: SystemTime,
        limit: u32,
        deadline: Instant,
    ) -> Result<u64, NotStored>;
}

/// What became of old records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Purged {
    /// How many are gone.
    pub records: u64,
    /// Whether the time was not enough, so that there may be more.
    pub more: bool,
}

/// Writes what a topic brings.
pub struct Keeper {
    repository: Arc<dyn RecordRepository>,
    topic: String,
    meters: Meters,
}

struct Meters {
    stored: Counter,
    refused: Counter,
    failures: Counter,
    purged: Counter,
    duration: Histogram,
    lag: Gauge,
}

impl Keeper {
    /// Writes records of `topic`.
    pub fn new(repository: Arc<dyn RecordRepository>, topic: String) -> Self {
        describe_counter!(
            STORED,
            "Records of the live channel handed to the database, by whether it took them"
        );
        describe_counter!(
            FAILURES,
            "Attempts to write records to the database that failed and were made again"
        );
        describe_histogram!(DURATION, Unit::Seconds, "Time to write a batch of records");
        describe_gauge!(
            LAG,
            Unit::Seconds,
            "Age of the newest record of the batch last written to the database"
        );
        describe_counter!(PURGED, "Records deleted from the database for their age");
        let outcome = |outcome: &'static str| counter!(STORED, "outcome" => outcome);
        Self {
            repository,
            topic,
            meters: Meters {
                stored: outcome("stored"),
                refused: outcome("refused"),
                failures: counter!(FAILURES),
                purged: counter!(PURGED),
                duration: histogram!(DURATION),
                lag: gauge!(LAG),
            },
        }
    }

    /// Writes a batch, however long the database is away. Only a record that the database will never take is left out,
    /// counted and logged. May be cancelled: then some are written.
    pub async fn keep(&self, mut records: Vec<Record>) {
        // Two that write the same records do it in the same order, and so never wait for each other.
        records.sort_unstable_by_key(|record| (record.place.partition, record.place.offset));
        let mut parts = vec![records.as_slice()];
        while let Some(part) = parts.pop() {
            let (Some(first), Some(newest)) = (part.first(), part.iter().map(|one| one.at).max())
            else {
                continue;
            };
            match self.write(part).await {
                Ok(()) => {
                    self.meters
                        .stored
                        .increment(u64::try_from(part.len()).unwrap_or(u64::MAX));
                    let written = SystemTime::UNIX_EPOCH
                        .checked_add(Duration::from_millis(newest.try_into().unwrap_or_default()));
                    let age = written.and_then(|at| at.elapsed().ok()).unwrap_or_default();
                    self.meters.lag.set(age.as_secs_f64());
                }
                Err(refusal) if part.len() == 1 => {
                    self.meters.refused.increment(1);
                    tracing::error!(
                        topic = %self.topic,
                        partition = first.place.partition,
                        offset = first.place.offset,
                        error = &refusal as &dyn std::error::Error,
                        "a record of the live channel is not kept: the database refuses it"
                    );
                }
                Err(_) => {
                    let (before, after) = part.split_at(part.len() / 2);
                    parts.extend([after, before]);
                }
            }
        }
    }

    /// Writes until it is written or refused.
    async fn write(&self, records: &[Record]) -> Result<(), NotStored> {
        let mut pause = FIRST_PAUSE;
        let mut away: Option<Instant> = None;
        loop {
            let start = Instant::now();
            let error = match self
                .repository
                .insert(&self.topic, records, start + TIMEOUT)
                .await
            {
                Ok(()) => {
                    self.meters.duration.record(start.elapsed().as_secs_f64());
                    if let Some(since) = away {
                        let away = since.elapsed();
                        tracing::info!(?away, "records of the live channel are kept again");
                    }
                    return Ok(());
                }
                Err(error @ NotStored::Rejected(_)) => return Err(error),
                Err(error) => error,
            };
            self.meters.failures.increment(1);
            if away.is_none() {
                away = Some(start);
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "records of the live channel cannot be kept now; they stay in Kafka until they can"
                );
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Forgets records stored longer ago than `retention`, a few with each statement, until all are gone or `until` has come; it
    /// returns 30 seconds after that at the latest. May be cancelled.
    ///
    /// # Errors
    /// [`NotStored`]; what is gone until then is gone.
    pub async fn purge(
        &self,
        retention: Duration,
        until: tokio::time::Instant,
    ) -> Result<Purged, NotStored> {
        let mut purged = Purged::default();
        let Some(before) = SystemTime::now().checked_sub(retention) else {
            return Ok(purged);
        };
        loop {
            let deadline = Instant::now() + TIMEOUT;
            let gone = self.repository.purge(before, PURGE, deadline).await?;
            self.meters.purged.increment(gone);
            purged.records += gone;
            purged.more = gone >= u64::from(PURGE);
            if !purged.more || tokio::time::Instant::now() >= until {
                return Ok(purged);
            }
            tokio::time::sleep(PURGE_PAUSE).await;
        }
    }
}
