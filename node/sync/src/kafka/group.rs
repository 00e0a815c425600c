//! Reading the full topic as the nodes of a region do: one group, each partition read by one of them.
//!
//! A message's offset is stored only when its reader says [`GroupConsumer::done`], and only stored offsets are committed;
//! so a crash repeats messages and loses none.

pub mod work;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::broadcast::{Event, event};
use super::{Error, MAX_RECORD, Quiet, Result, Settings, topics};
use crate::retry::Patience;

/// How long the node waits for the broker to take note that it leaves its group.
const LEAVE: Duration = Duration::from_secs(3);

/// A member of a region's group. Leaves it when dropped, without waiting for that.
pub struct GroupConsumer {
    settings: Settings,
    topic: String,
    consumer: Member,
    /// Told when the group has been left.
    left: oneshot::Receiver<()>,
    /// Where the last messages handed out stand, by partition.
    last: BTreeMap<i32, i64>,
    /// A message received but not handed out yet, and where it stands.
    held: Option<(i32, i64, Event)>,
    troubled: bool,
    /// The topic's partitions being counted after a rebalance; a task, so that a cancelled [`Self::next`] finds it again.
    count: Option<JoinHandle<Result<Option<usize>>>>,
}

/// A client that leaves its group, on a thread of its own, once nobody holds it any longer. Leaving is blocking, and
/// without end when a commit was on its way to a broker that is gone: nobody else may be held up by that.
#[derive(Clone)]
struct Member {
    consumer: Arc<StreamConsumer<Watch>>,
    /// Last, so that the thread's is the only client left when the last of these goes.
    _held: mpsc::Sender<Infallible>,
}

impl Member {
    /// Also returns what is told when the group has been left.
    fn new(consumer: StreamConsumer<Watch>) -> (Self, oneshot::Receiver<()>) {
        let ((held, unheld), (leaving, left)) = (mpsc::channel(), oneshot::channel());
        let consumer = Arc::new(consumer);
        let last = Arc::clone(&consumer);
        std::thread::spawn(move || {
            // Nothing is ever sent: this ends when every sender is gone.
            let _ = unheld.recv();
            drop(last);
            // Whether anybody waits for it does not matter.
            let _ = leaving.send(());
        });
        let member = Self {
            consumer,
            _held: held,
        };
        (member, left)
    }

    /// Has offsets committed, by partition.
    fn done(&self, topic: &str, last: &mut BTreeMap<i32, i64>) {
        while let Some((partition, offset)) = last.pop_first() {
            if let Err(error) = self.store_offset(topic, partition, offset) {
                // The partition has gone to another member, which reads the message again and skips it.
                tracing::debug!(
                    partition,
                    offset,
                    error = &error as &dyn std::error::Error,
                    "offset not stored"
                );
            }
        }
    }
}

impl Deref for Member {
    type Target = StreamConsumer<Watch>;

    fn deref(&self) -> &Self::Target {
        &self.consumer
    }
}

/// Notes that partitions came or went.
struct Watch {
    rebalanced: AtomicBool,
}

impl ClientContext for Watch {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Quiet.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Quiet.error(error, reason);
    }
}

impl ConsumerContext for Watch {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, _: &Rebalance<'_>) {
        self.rebalanced.store(true, Ordering::Release);
    }
}

/// A member of a group that reads a topic. What it has done is committed, and nothing else.
fn join(settings: &Settings, group: &str, topic: &str) -> Result<(Member, oneshot::Receiver<()>)> {
    let largest = MAX_RECORD.to_string();
    let own = [
        ("group.id", group),
        ("fetch.message.max.bytes", largest.as_str()),
        // How long the partitions of a member that crashed stay unread; librdkafka's default is 45 s.
        ("session.timeout.ms", "10000"),
        ("enable.auto.commit", "true"),
        ("auto.commit.interval.ms", "1000"),
        ("enable.auto.offset.store", "false"),
        ("auto.offset.reset", "earliest"),
    ];
    let context = Watch {
        rebalanced: AtomicBool::new(false),
    };
    let consumer: StreamConsumer<Watch> = settings
        .consumer(&own)
        .create_with_context(context)
        .map_err(Error::options)?;
    consumer.subscribe(&[topic]).map_err(Error::options)?;
    Ok(Member::new(consumer))
}

/// Waits, though not long, until a member has left its group.
async fn leave(topic: &str, consumer: Member, left: oneshot::Receiver<()>) {
    drop(consumer);
    if tokio::time::timeout(LEAVE, left).await.is_err() {
        tracing::warn!(%topic, "Kafka did not answer in time that this node leaves its group; other nodes may take up its partitions some seconds later");
    }
}

impl GroupConsumer {
    /// Joins the region's group when first read from.
    ///
    /// # Errors
    /// [`Error::Options`] when the options make no client.
    pub fn new(settings: &Settings, region: &str) -> Result<Self> {
        let topic = settings.changes_topic();
        let (consumer, left) = join(settings, &settings.group(region), &topic)?;
        Ok(Self {
            settings: settings.clone(),
            topic,
            consumer,
            left,
            last: BTreeMap::new(),
            held: None,
            troubled: false,
            count: None,
        })
    }

    /// The next event. [`Event::Reset`] when partitions came or went. Kafka being away is logged and waited out. May be
    /// cancelled without losing anything.
    pub async fn next(&mut self) -> Event {
        loop {
            // Looked at between receiving a message and handing it out: a rebalance happens while the first message after
            // it is awaited, and its Reset comes first.
            if self
                .consumer
                .context()
                .rebalanced
                .swap(false, Ordering::AcqRel)
            {
                let (settings, consumer, topic) = (
                    self.settings.clone(),
                    self.consumer.clone(),
                    self.topic.clone(),
                );
                self.count = Some(tokio::spawn(async move {
                    topics::partitions(&settings, &consumer, &topic).await
                }));
            }
            if let Some(count) = &mut self.count {
                let counted = count.await.map_err(|_| Error::GivenUp).flatten();
                self.count = None;
                match counted {
                    Ok(count) => {
                        return Event::Reset {
                            partitions: count.unwrap_or_default(),
                        };
                    }
                    Err(error) => {
                        self.consumer
                            .context()
                            .rebalanced
                            .store(true, Ordering::Release);
                        self.interrupted(&error);
                        tokio::time::sleep(Patience::default().first_pause).await;
                        continue;
                    }
                }
            }
            if let Some((partition, offset, event)) = self.held.take() {
                self.last.insert(partition, offset);
                return event;
            }
            match self.consumer.recv().await {
                Ok(message) => {
                    let event = event(&self.topic, &message);
                    self.held = Some((message.partition(), message.offset(), event));
                    drop(message);
                    self.troubled = false;
                }
                Err(error) => {
                    self.interrupted(&error);
                    if !matches!(error, KafkaError::MessageConsumption(_)) {
                        tokio::time::sleep(Patience::default().first_pause).await;
                    }
                }
            }
        }
    }

    /// What the messages handed out asked for is done: they need not be read again after a crash.
    pub fn done(&mut self) {
        self.consumer.done(&self.topic, &mut self.last);
    }

    /// Leaves the group, with what is done committed, so that others take its partitions over at once. A broker that is
    /// away is not waited for long: the others then learn of it when the session times out.
    pub async fn leave(self) {
        let Self {
            topic,
            consumer,
            left,
            ..
        } = self;
        leave(&topic, consumer, left).await;
    }

    /// Told once, not with every try.
    fn interrupted(&mut self, error: &(dyn std::error::Error + 'static)) {
        if !self.troubled {
            tracing::warn!(topic = %self.topic, error, "reading is interrupted");
        }
        self.troubled = true;
    }
}
