//! Sending to a topic: in order within a partition, acknowledged by every replica, whatever the size.
//!
//! A change set that is larger than the topic takes is announced in its place, and whoever reads that asks upstream for
//! it. So it holds up no other store, and no heartbeat sent after it vouches for something that nobody heard of.

use std::time::{Duration, SystemTime};

use meridian_model::change::ChangeSet;
use meridian_model::ids::{Position, StoreId, Timestamp};
use metrics::{Histogram, describe_histogram, histogram};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer};

use super::relay::Trouble;
use super::{Error, MAX_RECORD, Quiet, Settings, topics};
use crate::envelope::{Heartbeat, Record};

/// How many bytes of records may be on their way at a time. Far below librdkafka's queue, far above a broker's pace.
const ON_THE_WAY: usize = 32 * 1024 * 1024;

const DELAY: &str = "meridian_relay_delay_seconds";

/// A topic to write to.
pub(super) struct Outlet {
    producer: FutureProducer<Quiet>,
    topic: String,
    partitions: usize,
    delay: Histogram,
}

/// A change set on its way.
struct Sent {
    store: StoreId,
    position: Position,
    committed_at: Timestamp,
    bytes: usize,
    delivery: Result<DeliveryFuture, Trouble>,
}

impl Outlet {
    /// Makes the topic unless it is there. A record that is not acknowledged in `timeout` is given up.
    pub(super) async fn open(
        settings: &Settings,
        topic: &str,
        timeout: Duration,
    ) -> super::Result<Self> {
        let partitions = topics::ensure(settings, topic).await?;
        let (timeout, largest) = (timeout.as_millis().to_string(), MAX_RECORD.to_string());
        let own = [
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("compression.type", "zstd"),
            ("linger.ms", "1"),
            ("message.timeout.ms", timeout.as_str()),
            ("message.max.bytes", largest.as_str()),
        ];
        let producer = settings
            .client(&own)
            .create_with_context(Quiet)
            .map_err(Error::options)?;
        describe_histogram!(
            DELAY,
            metrics::Unit::Seconds,
            "Time from a revision's commit at central to the brokers' acknowledgement, by their clocks"
        );
        Ok(Self {
            producer,
            topic: topic.to_owned(),
            partitions,
            delay: histogram!(DELAY),
        })
    }

    /// Whether it must be opened anew before it takes anything.
    pub(super) fn is_broken(&self) -> bool {
        self.producer.client().fatal_error().is_some()
    }

    /// Sends change sets in order, and waits until every one, or its announcement, is acknowledged.
    pub(super) async fn publish(
        &self,
        sets: impl Iterator<Item = ChangeSet>,
    ) -> Result<(), Trouble> {
        let (mut sent, mut on_the_way) = (Vec::new(), 0);
        for set in sets {
            let (store, position, committed_at) = (set.store, set.position(), set.committed_at);
            let payload = Record::ChangeSet(set).encode();
            let bytes = payload.len();
            if on_the_way + bytes > ON_THE_WAY {
                self.acknowledged(std::mem::take(&mut sent)).await?;
                on_the_way = 0;
            }
            on_the_way += bytes;
            // Queued at once, so that records of one partition stay in order.
            let delivery = self.keyed(store, &payload);
            sent.push(Sent {
                store,
                position,
                committed_at,
                bytes,
                delivery,
            });
        }
        self.acknowledged(sent).await
    }

    /// Sends a heartbeat to every partition.
    pub(super) async fn beat(&self, beat: Heartbeat) -> Result<(), Trouble> {
        let payload = Record::Heartbeat(beat).encode();
        let mut sent = Vec::with_capacity(self.partitions);
        for partition in (0_i32..).take(self.partitions) {
            let record = FutureRecord::<str, _>::to(&self.topic).partition(partition);
            sent.push(self.send(record.payload(&payload))?);
        }
        for delivery in sent {
            self.delivered(delivery).await?;
        }
        Ok(())
    }

    async fn acknowledged(&self, sent: Vec<Sent>) -> Result<(), Trouble> {
        let mut announced = Vec::new();
        for Sent {
            store,
            position,
            committed_at,
            bytes,
            delivery,
        } in sent
        {
            let outcome = match delivery {
                Ok(delivery) => self.delivered(delivery).await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(()) => self.delay.record(age(committed_at)),
                Err(error) if is_too_large(&error) => {
                    tracing::error!(topic = %self.topic, %store, %position, bytes, "a change set is larger than the topic takes; announced, and nodes below ask for it over gRPC. Set the topic's max.message.bytes to {MAX_RECORD}");
                    let payload = Record::Announced { store, position }.encode();
                    announced.push(self.keyed(store, &payload)?);
                }
                Err(error) => return Err(error),
            }
        }
        for delivery in announced {
            self.delivered(delivery).await?;
        }
        Ok(())
    }

    fn keyed(&self, store: StoreId, payload: &Vec<u8>) -> Result<DeliveryFuture, Trouble> {
        self.send(
            FutureRecord::to(&self.topic)
                .key(store.as_str())
                .payload(payload),
        )
    }

    fn send(&self, record: FutureRecord<'_, str, Vec<u8>>) -> Result<DeliveryFuture, Trouble> {
        self.producer
            .send_result(record)
            .map_err(|(error, _)| self.refused(error))
    }

    /// librdkafka's own message timeout ends this wait.
    async fn delivered(&self, delivery: DeliveryFuture) -> Result<(), Trouble> {
        match delivery.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err((error, _))) => Err(self.refused(error)),
            Err(_) => Err(Trouble::Kafka(Error::GivenUp)),
        }
    }

    fn refused(&self, source: KafkaError) -> Trouble {
        Trouble::Produce {
            topic: self.topic.clone(),
            source: Box::new(source),
        }
    }
}

fn age(committed_at: Timestamp) -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let committed = u64::try_from(committed_at.0).unwrap_or_default();
    now.unwrap_or_default()
        .saturating_sub(Duration::from_micros(committed))
}

fn is_too_large(trouble: &Trouble) -> bool {
    let Trouble::Produce { source, .. } = trouble else {
        return false;
    };
    source.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge)
}
