//! Reading a topic as every edge does: all partitions, from now on, nothing committed and nothing left behind.
//!
//! What came before "now" is not read: after each [`Event::Reset`] the reader asks upstream, and since it subscribed
//! first, nothing falls between the two.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::Offset;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Error, MAX_RECORD, Quiet, REQUEST, Result, Settings, blocking, topics};
use crate::envelope::{DecodeError, Record};
use crate::retry::{Patience, Said};

/// How many events wait at most for whoever reads them, each with a record of [`MAX_RECORD`] at most; then Kafka waits.
const QUEUE: usize = 16;
/// How often the topic's partitions are counted again.
const RECOUNT: Duration = Duration::from_secs(60);

/// What a topic brings.
#[derive(Debug)]
pub enum Event {
    /// Reading begins (again), at the end of so many partitions: whatever came before must be asked for.
    Reset {
        /// The topic's partitions.
        partitions: usize,
    },
    /// A record.
    Record {
        /// Its partition.
        partition: usize,
        /// What it says.
        record: Box<Record>,
    },
    /// A record that cannot be read. It was logged and is skipped.
    Garbage,
}

/// Reads a topic in the background until `stop`. Kafka being away, now or later, is logged and waited out.
///
/// # Errors
/// [`Error::Options`] when the options make no client.
pub fn read(
    settings: &Settings,
    topic: &str,
    instance: &str,
    stop: CancellationToken,
) -> Result<mpsc::Receiver<Event>> {
    let consumer = consumer(settings, instance)?;
    let (events, receiver) = mpsc::channel(QUEUE);
    let reader = Reader {
        settings: settings.clone(),
        topic: topic.to_owned(),
        consumer: Arc::new(consumer),
        events,
    };
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = reader.run() => {}
        }
    });
    Ok(receiver)
}

/// A client that reads by itself: nothing is ever committed, so the group leaves no trace; librdkafka only wants a name.
pub(super) fn consumer(settings: &Settings, instance: &str) -> Result<StreamConsumer<Quiet>> {
    let group = format!(
        "{}.{}.live-broadcast-{instance}",
        settings.topic_prefix, settings.product
    );
    let largest = MAX_RECORD.to_string();
    let own = [
        ("group.id", group.as_str()),
        ("fetch.message.max.bytes", largest.as_str()),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("auto.offset.reset", "error"),
    ];
    settings
        .consumer(&own)
        .create_with_context(Quiet)
        .map_err(Error::options)
}

struct Reader {
    settings: Settings,
    topic: String,
    consumer: Arc<StreamConsumer<Quiet>>,
    events: mpsc::Sender<Event>,
}

/// Nobody reads the events any longer.
struct Unread;

impl Reader {
    async fn run(self) {
        let (mut failures, mut said) = (0_u32, Said::default());
        loop {
            match self.assign().await {
                Ok(partitions) => {
                    tracing::info!(topic = %self.topic, partitions, "reading from the end of the topic");
                    (failures, said) = (0, Said::default());
                    if self.events.send(Event::Reset { partitions }).await.is_err()
                        || self.receive(partitions).await.is_err()
                    {
                        return;
                    }
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    let pause = Patience::default().pause(failures, u64::from(failures) * 389);
                    if said.is_news(&error) {
                        tracing::warn!(topic = %self.topic, error = &error as &dyn std::error::Error, "cannot read the topic yet; trying again");
                    }
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Assigns every partition at its end.
    async fn assign(&self) -> Result<usize> {
        let count = topics::partitions(&self.settings, &self.consumer, &self.topic)
            .await?
            .ok_or_else(|| Error::NoTopic(self.topic.clone()))?;
        let (consumer, topic) = (Arc::clone(&self.consumer), self.topic.clone());
        let assigned = blocking(move || {
            let mut assignment = TopicPartitionList::with_capacity(count);
            for partition in (0_i32..).take(count) {
                let (_, end) = consumer.fetch_watermarks(&topic, partition, REQUEST)?;
                assignment.add_partition_offset(&topic, partition, Offset::Offset(end))?;
            }
            consumer.assign(&assignment)
        });
        assigned.await?.map_err(Error::unavailable(
            &self.settings,
            format!("read topic '{}'", self.topic),
        ))?;
        Ok(count)
    }

    /// Passes records on until the assignment must be made anew.
    async fn receive(&self, partitions: usize) -> std::result::Result<(), Unread> {
        let mut recount = tokio::time::interval(RECOUNT);
        recount.reset();
        let mut troubled = false;
        loop {
            let message = tokio::select! {
                message = self.consumer.recv() => message,
                _ = recount.tick() => {
                    match topics::partitions(&self.settings, &self.consumer, &self.topic).await {
                        Ok(Some(count)) if count != partitions => return Ok(()),
                        _ => continue,
                    }
                }
            };
            match message {
                Ok(message) => {
                    troubled = false;
                    self.events
                        .send(event(&self.topic, &message))
                        .await
                        .map_err(|_| Unread)?;
                }
                Err(error) if ends_assignment(&error) => {
                    tracing::warn!(topic = %self.topic, error = &error as &dyn std::error::Error, "lost the place in the topic; reading anew from its end");
                    return Ok(());
                }
                Err(error) => {
                    // librdkafka reconnects by itself; told once, not with every try.
                    if !troubled {
                        tracing::warn!(topic = %self.topic, error = &error as &dyn std::error::Error, "reading is interrupted");
                    }
                    troubled = true;
                }
            }
        }
    }
}

/// Whether reading cannot go on from where it is.
pub(super) fn ends_assignment(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{
        AutoOffsetReset, OffsetOutOfRange, UnknownPartition, UnknownTopic, UnknownTopicOrPartition,
    };
    matches!(
        error.rdkafka_error_code(),
        Some(
            AutoOffsetReset
                | OffsetOutOfRange
                | UnknownPartition
                | UnknownTopic
                | UnknownTopicOrPartition
        )
    )
}

/// What a message says.
pub(super) fn event(topic: &str, message: &impl Message) -> Event {
    let partition = usize::try_from(message.partition()).unwrap_or(0);
    let decoded: std::result::Result<Record, DecodeError> =
        Record::decode(message.payload().unwrap_or_default());
    match decoded {
        Ok(record) => Event::Record {
            partition,
            record: Box::new(record),
        },
        Err(error) => {
            tracing::error!(
                topic,
                partition,
                offset = message.offset(),
                error = &error as &dyn std::error::Error,
                "skipped an unreadable record"
            );
            Event::Garbage
        }
    }
}
