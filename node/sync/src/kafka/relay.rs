//! From the outbox to a topic, in order, at least once.
//!
//! One relay per datastore is active: the holder of a lease. When two overlap for a moment, records repeat, which
//! consumers skip. A heartbeat's clock is read before the outbox scan whose rows it follows, so it vouches for every
//! revision acknowledged before that time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use meridian_model::ports::{Datastore, DatastoreError, OutboxRow};
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{Error, Quiet, Settings, topics};
use crate::envelope::{Heartbeat, Record};
use crate::retry::Patience;
use crate::tier;

/// What a relay works with.
#[derive(Debug, Clone)]
pub struct RelaySettings {
    /// How often the outbox is looked at when nobody wakes the relay.
    pub poll: Duration,
    /// How often heartbeats are sent.
    pub heartbeat: Duration,
    /// How long the lease lasts unless extended.
    pub lease: Duration,
    /// How long one call to the datastore, or one batch to Kafka, may take.
    pub deadline: Duration,
    /// How many rows are published at a time.
    pub batch: u32,
    /// Pauses after failures.
    pub patience: Patience,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self {
            poll: Duration::from_millis(250),
            heartbeat: Duration::from_secs(1),
            lease: Duration::from_secs(15),
            deadline: Duration::from_secs(10),
            batch: 500,
            patience: Patience::default(),
        }
    }
}

/// What is sent, and on whose word heartbeats are.
#[derive(Debug, Clone)]
pub enum Role {
    /// Central: every revision whole; heartbeats are its database's time.
    Writer,
    /// A region, for its edges: revisions thinned out by tier; heartbeats are the last from upstream that this region has
    /// applied everything before.
    Region(watch::Receiver<Option<Heartbeat>>),
}

/// Publishes a datastore's outbox.
pub struct Relay {
    /// Whose outbox.
    pub datastore: Arc<dyn Datastore>,
    /// Kafka.
    pub kafka: Settings,
    /// Where to.
    pub topic: String,
    /// What.
    pub role: Role,
    /// Name of this process, by which it holds the lease.
    pub holder: String,
    /// Wakes the relay when something was committed.
    pub wake: Arc<Notify>,
    /// Times and sizes.
    pub settings: RelaySettings,
}

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the datastore failed")]
    Datastore(#[from] DatastoreError),
    #[error("Kafka failed")]
    Kafka(#[from] Error),
    #[error("Kafka did not take a record of topic '{topic}'")]
    Produce {
        topic: String,
        #[source]
        source: Box<KafkaError>,
    },
}

/// A producer, and the number of partitions of the topic it writes.
struct Open {
    producer: FutureProducer<Quiet>,
    partitions: usize,
}

impl Relay {
    /// Publishes until `stop`. Kafka or the datastore being away is logged and waited out; the outbox keeps everything.
    pub async fn run(self, stop: CancellationToken) {
        let mut open = None;
        let mut beaten: Option<Instant> = None;
        let mut failures = 0_u32;
        loop {
            // Ended in the middle, a round only repeats what it sent.
            let round = tokio::select! {
                () = stop.cancelled() => return,
                round = self.round(&mut open, &mut beaten) => round,
            };
            let pause = match round {
                Ok(()) => {
                    if failures > 0 {
                        tracing::info!(topic = %self.topic, failures, "relay works again");
                    }
                    failures = 0;
                    self.settings.poll
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    let pause = self
                        .settings
                        .patience
                        .pause(failures, u64::from(failures) * 389);
                    tracing::warn!(topic = %self.topic, error = &error as &dyn std::error::Error, failures, ?pause, "relay cannot publish; the outbox keeps the changes");
                    if open
                        .as_ref()
                        .is_some_and(|open: &Open| open.producer.client().fatal_error().is_some())
                    {
                        open = None;
                    }
                    pause
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                // While Kafka fails, wake-ups must not shorten the pause.
                () = self.wake.notified(), if failures == 0 => {}
            }
        }
    }

    async fn round(
        &self,
        open: &mut Option<Open>,
        beaten: &mut Option<Instant>,
    ) -> Result<(), Trouble> {
        let lease = format!("relay:{}", self.topic);
        if !self
            .datastore
            .acquire_lease(&lease, &self.holder, self.settings.lease, self.deadline())
            .await?
        {
            return Ok(());
        }
        let open = match open {
            Some(open) => open,
            None => open.insert(self.open().await?),
        };
        let beat = if beaten.is_none_or(|at| at.elapsed() >= self.settings.heartbeat) {
            self.clock().await?
        } else {
            None
        };
        loop {
            let rows = self
                .datastore
                .outbox(self.settings.batch, self.deadline())
                .await?;
            let scanned = rows.len();
            if scanned > 0 {
                self.publish(open, rows).await?;
            }
            if u32::try_from(scanned).unwrap_or(u32::MAX) < self.settings.batch {
                break;
            }
            self.datastore
                .acquire_lease(&lease, &self.holder, self.settings.lease, self.deadline())
                .await?;
        }
        if let Some(beat) = beat {
            self.beat(open, beat).await?;
            *beaten = Some(Instant::now());
        }
        Ok(())
    }

    async fn open(&self) -> Result<Open, Trouble> {
        let partitions = topics::ensure(&self.kafka, &self.topic).await?;
        let timeout = self.settings.deadline.as_millis().to_string();
        let own = [
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("compression.type", "zstd"),
            ("linger.ms", "1"),
            ("message.timeout.ms", timeout.as_str()),
        ];
        let producer = self
            .kafka
            .client(&own)
            .create_with_context(Quiet)
            .map_err(Error::options)?;
        Ok(Open {
            producer,
            partitions,
        })
    }

    async fn clock(&self) -> Result<Option<Heartbeat>, Trouble> {
        match &self.role {
            Role::Writer => {
                let epoch = self.datastore.epoch(self.deadline()).await?;
                Ok(Some(Heartbeat {
                    epoch,
                    clock: self.datastore.now(self.deadline()).await?,
                    generation: 0,
                }))
            }
            Role::Region(applied) => Ok(*applied.borrow()),
        }
    }

    /// Sends rows in order; forgets them once every one is acknowledged.
    async fn publish(&self, open: &Open, rows: Vec<OutboxRow>) -> Result<(), Trouble> {
        let mut sent = Vec::with_capacity(rows.len());
        let sequences: Vec<_> = rows.iter().map(|row| row.sequence).collect();
        for OutboxRow {
            change_set, tiers, ..
        } in rows
        {
            let key = change_set.store;
            let change_set = match self.role {
                Role::Writer => change_set,
                Role::Region(_) => tier::for_edge(&change_set, &tiers),
            };
            let payload = Record::ChangeSet(change_set).encode();
            sent.push(
                self.send(
                    open,
                    FutureRecord::to(&self.topic)
                        .key(key.as_str())
                        .payload(&payload),
                )?,
            );
        }
        try_join_all(sent.into_iter().map(|delivery| self.delivered(delivery))).await?;
        Ok(self
            .datastore
            .outbox_delete(&sequences, self.deadline())
            .await?)
    }

    async fn beat(&self, open: &Open, beat: Heartbeat) -> Result<(), Trouble> {
        let payload = Record::Heartbeat(beat).encode();
        let mut sent = Vec::with_capacity(open.partitions);
        for partition in (0_i32..).take(open.partitions) {
            sent.push(
                self.send(
                    open,
                    FutureRecord::<str, _>::to(&self.topic)
                        .partition(partition)
                        .payload(&payload),
                )?,
            );
        }
        try_join_all(sent.into_iter().map(|delivery| self.delivered(delivery)))
            .await
            .map(drop)
    }

    /// Queues a record at once, so that those of one partition stay in order.
    fn send(
        &self,
        open: &Open,
        record: FutureRecord<'_, str, Vec<u8>>,
    ) -> Result<rdkafka::producer::DeliveryFuture, Trouble> {
        open.producer
            .send_result(record)
            .map_err(|(source, _)| Trouble::Produce {
                topic: self.topic.clone(),
                source: Box::new(source),
            })
    }

    async fn delivered(&self, delivery: rdkafka::producer::DeliveryFuture) -> Result<(), Trouble> {
        // librdkafka's own message timeout ends this wait.
        match delivery.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err((source, _))) => Err(Trouble::Produce {
                topic: self.topic.clone(),
                source: Box::new(source),
            }),
            Err(_) => Err(Trouble::Kafka(Error::GivenUp)),
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.settings.deadline
    }
}
