//! Reading a topic of records with others: each is taken by one of a group, in batches, and again by another where one of them
//! dies before it was done.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::Message as _;
use rdkafka::error::KafkaError;
use tokio::sync::oneshot;

use super::{Member, join, leave};
use crate::kafka::live::{Message, read_message};
use crate::kafka::{Result, Settings};
use crate::retry::Patience;

/// A member of a group that shares a topic's records. Leaves it when dropped, without waiting for that.
pub struct Worker {
    topic: String,
    consumer: Member,
    /// Told when the group has been left.
    left: oneshot::Receiver<()>,
    /// Where the last records handed out stand, by partition.
    last: BTreeMap<i32, i64>,
    troubled: bool,
}

impl Worker {
    /// Joins a group when first read from. A group that has read nothing yet begins with the oldest record there is.
    ///
    /// # Errors
    /// [`crate::kafka::Error::Options`] when the options make no client.
    pub fn new(settings: &Settings, group: &str, topic: &str) -> Result<Self> {
        let (consumer, left) = join(settings, group, topic)?;
        Ok(Self {
            topic: topic.to_owned(),
            consumer,
            left,
            last: BTreeMap::new(),
            troubled: false,
        })
    }

    /// Hands records to `take` until it says that it has enough, or no other came for `linger`; waits for the first. Kafka
    /// being away is logged and waited out. May be cancelled: what was handed out is not handed out again.
    pub async fn batch(&mut self, linger: Duration, mut take: impl FnMut(Message<'_>) -> bool) {
        let mut is_first = true;
        loop {
            let next = if is_first {
                self.consumer.recv().await
            } else {
                match tokio::time::timeout(linger, self.consumer.recv()).await {
                    Ok(next) => next,
                    Err(_) => return,
                }
            };
            match next {
                Ok(message) => {
                    self.troubled = false;
                    is_first = false;
                    self.last.insert(message.partition(), message.offset());
                    if !take(read_message(&message)) {
                        return;
                    }
                }
                Err(error) => {
                    // librdkafka reconnects by itself; told once, not with every try.
                    if !std::mem::replace(&mut self.troubled, true) {
                        tracing::warn!(topic = %self.topic, error = &error as &dyn std::error::Error, "reading is interrupted");
                    }
                    if !matches!(error, KafkaError::MessageConsumption(_)) {
                        tokio::time::sleep(Patience::default().first_pause).await;
                    }
                }
            }
        }
    }

    /// What was handed out is done: it need not be read again after a crash.
    pub fn done(&mut self) {
        self.consumer.done(&self.topic, &mut self.last);
    }

    /// Leaves the group, with what is done committed, so that others take its partitions over at once.
    pub async fn leave(self) {
        leave(&self.topic, self.consumer, self.left).await;
    }
}
