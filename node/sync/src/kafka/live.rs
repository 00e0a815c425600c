//! The live channel's topic: reading it as every instance does, and writing to it.
//!
//! As the change topic is read by an edge ([`super::broadcast`]): all partitions, nothing committed, nothing left behind. But
//! here nobody above can be asked for what was missed. So the reader goes on from where it was whenever it has to begin anew, and
//! says from where it reads: whoever follows sees a gap. Who keeps the records reads them with others ([`super::group::work`]).

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::FutureRecord;
use rdkafka::topic_partition_list::Offset;
use tokio_util::sync::CancellationToken;

use super::broadcast::{consumer, ends_assignment};
use super::writing::Writer;
use super::{Error, Quiet, REQUEST, Result, Settings, blocking, topics};
use crate::retry::{Patience, Said};

/// The header that names a record's store.
pub const STORE: &str = "meridian-store";
/// The header that names further objects of a record, comma-separated.
pub const OBJECTS: &str = "meridian-objects";
/// How often the topic's partitions are counted again.
const RECOUNT: Duration = Duration::from_secs(60);

/// A record of the topic, as it came.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Its partition.
    pub partition: usize,
    /// Its offset.
    pub offset: i64,
    /// When it was written, in milliseconds since 1970.
    pub at: i64,
    /// Its key.
    pub key: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
    /// Its header [`STORE`].
    pub store: Option<&'a [u8]>,
    /// Its header [`OBJECTS`].
    pub objects: Option<&'a [u8]>,
}

/// Takes in what a topic brings. It must not wait: nobody else gets anything meanwhile.
pub trait Follower: Send + Sync + 'static {
    /// Reading begins (again) at these offsets, by partition, of a topic of the cluster of that name.
    fn reading(&self, cluster: &str, next: &[i64]);

    /// A record.
    fn record(&self, message: Message<'_>);
}

/// Reads a topic from its end, until `stop`. Kafka being away, now or later, is logged and waited out.
///
/// # Errors
/// [`Error::Options`] when the options make no client.
pub fn read(
    settings: &Settings,
    topic: &str,
    instance: &str,
    follower: Arc<dyn Follower>,
    stop: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + use<>> {
    let reader = Reader {
        consumer: Arc::new(consumer(settings, instance)?),
        settings: settings.clone(),
        topic: topic.to_owned(),
        follower,
    };
    Ok(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = reader.run() => {}
        }
    })
}

struct Reader {
    settings: Settings,
    topic: String,
    consumer: Arc<StreamConsumer<Quiet>>,
    follower: Arc<dyn Follower>,
}

impl Reader {
    async fn run(self) {
        let (mut failures, mut said) = (0_u32, Said::default());
        let mut next = Vec::new();
        loop {
            match self.assign(&next).await {
                Ok((cluster, from)) => {
                    tracing::info!(topic = %self.topic, partitions = from.len(), "reading the live channel's topic");
                    (failures, said) = (0, Said::default());
                    self.follower.reading(&cluster, &from);
                    next = from;
                    self.receive(&mut next).await;
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    let pause = Patience::default().pause(failures, u64::from(failures) * 389);
                    if said.is_news(&error) {
                        tracing::warn!(topic = %self.topic, error = &error as &dyn std::error::Error, "cannot read the live channel's topic yet; trying again");
                    }
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Assigns every partition where it was left, or at its end where that is not there any longer. Returns the cluster's name
    /// and the offsets.
    async fn assign(&self, left: &[i64]) -> Result<(String, Vec<i64>)> {
        let count = topics::partitions(&self.settings, &self.consumer, &self.topic)
            .await?
            .ok_or_else(|| Error::NoTopic(self.topic.clone()))?;
        let (consumer, topic) = (Arc::clone(&self.consumer), self.topic.clone());
        let left = if left.len() == count {
            left.to_vec()
        } else {
            Vec::new()
        };
        let assigned = blocking(move || {
            let mut assignment = TopicPartitionList::with_capacity(count);
            let mut next = Vec::with_capacity(count);
            for (at, partition) in (0_i32..).take(count).enumerate() {
                let (low, end) = consumer.fetch_watermarks(&topic, partition, REQUEST)?;
                let left = left.get(at).filter(|left| (low..=end).contains(left));
                let from = left.copied().unwrap_or(end);
                assignment.add_partition_offset(&topic, partition, Offset::Offset(from))?;
                next.push(from);
            }
            consumer.assign(&assignment)?;
            // librdkafka learned it with the partitions, so there is no wait; brokers that name no cluster name it to no node.
            let cluster = consumer.client().fetch_cluster_id(Duration::ZERO);
            Ok((cluster.unwrap_or_default(), next))
        });
        assigned.await?.map_err(Error::unavailable(
            &self.settings,
            format!("read topic '{}'", self.topic),
        ))
    }

    /// Waits until the topic has another number of partitions. Records go on meanwhile.
    async fn recounted(&self, count: usize) {
        let mut recount = tokio::time::interval(RECOUNT);
        recount.reset();
        loop {
            recount.tick().await;
            let counted = topics::partitions(&self.settings, &self.consumer, &self.topic);
            if matches!(counted.await, Ok(Some(now)) if now != count) {
                return;
            }
        }
    }

    /// Passes records on until the assignment must be made anew; notes in `next` how far.
    async fn receive(&self, next: &mut [i64]) {
        let mut recounted = pin!(self.recounted(next.len()));
        let mut troubled = false;
        loop {
            let message = tokio::select! {
                message = self.consumer.recv() => message,
                () = &mut recounted => return,
            };
            match message {
                Ok(message) => {
                    troubled = false;
                    let message = read_message(&message);
                    if let Some(next) = next.get_mut(message.partition) {
                        *next = message.offset + 1;
                    }
                    self.follower.record(message);
                }
                Err(error) if ends_assignment(&error) => {
                    tracing::warn!(topic = %self.topic, error = &error as &dyn std::error::Error, "lost the place in the live channel's topic; reading anew");
                    return;
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

/// A record as it came.
pub(super) fn read_message<'a>(message: &'a BorrowedMessage<'_>) -> Message<'a> {
    let header = |name: &str| {
        let mut headers = message
            .headers()
            .into_iter()
            .flat_map(|headers| headers.iter());
        headers.find(|header| header.key == name)?.value
    };
    Message {
        partition: usize::try_from(message.partition()).unwrap_or_default(),
        offset: message.offset(),
        at: message.timestamp().to_millis().unwrap_or_default(),
        key: message.key().unwrap_or_default(),
        value: message.payload().unwrap_or_default(),
        store: header(STORE),
        objects: header(OBJECTS),
    }
}

/// Makes the live channel's topic unless it is there, as soon as Kafka answers.
pub async fn make_topic(settings: &Settings, topic: &str) {
    topics::make(settings, topic, None).await;
}

/// Writes to the topic, which it makes unless it is there.
pub struct Publisher {
    settings: Settings,
    topic: String,
    timeout: Duration,
    /// Replaced when it is broken.
    writer: Mutex<Arc<Writer>>,
}

/// A record to be written.
#[derive(Debug, Clone)]
pub struct Publication {
    /// Its key: the object.
    pub key: String,
    /// Its value: JSON.
    pub value: String,
    /// Its header [`STORE`].
    pub store: String,
    /// Its header [`OBJECTS`]; none where it is empty.
    pub objects: String,
}

impl Publisher {
    /// A record that is not acknowledged in `timeout` is given up. Connects to nothing yet.
    ///
    /// # Errors
    /// [`Error::Options`] when the options make no client.
    pub fn new(settings: &Settings, topic: &str, timeout: Duration) -> Result<Self> {
        Ok(Self {
            settings: settings.clone(),
            topic: topic.to_owned(),
            timeout,
            writer: Mutex::new(Arc::new(Writer::new(settings, topic, timeout)?)),
        })
    }

    /// Makes the topic, as soon as Kafka answers.
    pub async fn make_topic(&self) {
        make_topic(&self.settings, &self.topic).await;
    }

    /// Writes records, in order for each key, and waits until all are acknowledged.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; some may have been written.
    pub async fn publish(&self, records: &[Publication]) -> Result<()> {
        let publish = records.iter().map(|record| {
            let header = |key, value| Header {
                key,
                value: Some(value),
            };
            let mut headers = OwnedHeaders::new().insert(header(STORE, &record.store));
            if !record.objects.is_empty() {
                headers = headers.insert(header(OBJECTS, &record.objects));
            }
            FutureRecord::to(&self.topic)
                .key(record.key.as_str())
                .payload(record.value.as_bytes())
                .headers(headers)
        });
        self.writer()?.write_all(publish).await
    }

    fn writer(&self) -> Result<Arc<Writer>> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.is_broken() {
            let another = Writer::new(&self.settings, &self.topic, self.timeout)?;
            let broken = std::mem::replace(&mut *writer, Arc::new(another));
            // Which waits for librdkafka's threads.
            std::thread::spawn(move || drop(broken));
        }
        Ok(Arc::clone(&writer))
    }
}
