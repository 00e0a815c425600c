//! Asking Kafka whether it answers, for whoever wants to know how a node stands.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::{Error, Quiet, Result, Settings, topics};

/// What librdkafka said since the last question, at most.
const EVENTS: usize = 64;

/// Asks for one topic. Its client, and with it a connection, comes about with the first question.
pub struct Probe {
    settings: Settings,
    topic: String,
    client: Mutex<Option<Arc<BaseConsumer<Listening>>>>,
}

/// Why Kafka does not answer: what was attempted, and what librdkafka last said about it, with the broker's address.
#[derive(Debug, thiserror::Error)]
pub enum Silent {
    /// Only this much is known.
    #[error(transparent)]
    Failed(#[from] Error),
    /// A broker's connection is the reason.
    #[error("{what}: {reason}")]
    Told {
        /// What was attempted.
        what: Error,
        /// librdkafka's word.
        reason: String,
    },
}

/// Keeps the last thing that librdkafka said of a broker.
#[derive(Default)]
struct Listening(Mutex<Option<String>>);

impl ClientContext for Listening {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Quiet.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // Said after each broker was named with its own reason, which tells more.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        }
        Quiet.error(error, reason);
    }
}

impl ConsumerContext for Listening {}

impl Probe {
    /// Will ask for `topic`.
    pub fn new(settings: Settings, topic: String) -> Self {
        Self {
            settings,
            topic,
            client: Mutex::default(),
        }
    }

    /// Asks the brokers for the topic.
    ///
    /// # Errors
    /// [`Silent`] when they do not answer within `limit`, refuse, or do not have it.
    pub async fn ask(&self, limit: Duration) -> std::result::Result<(), Silent> {
        let client = self.client()?;
        let found = topics::partitions_within(&self.settings, &client, &self.topic, limit).await;
        for _ in 0..EVENTS {
            // `None` is also what a line of librdkafka's log comes to, with the reason behind it.
            let _ = client.poll(Duration::ZERO);
        }
        let heard = client.context().0.lock();
        let heard = heard.unwrap_or_else(PoisonError::into_inner).take();
        match (found, heard) {
            (Ok(Some(_)), _) => Ok(()),
            (Ok(None), _) => Err(Error::NoTopic(self.topic.clone()).into()),
            (Err(what), Some(reason)) => Err(Silent::Told { what, reason }),
            (Err(what), None) => Err(what.into()),
        }
    }

    fn client(&self) -> Result<Arc<BaseConsumer<Listening>>> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*client {
            return Ok(Arc::clone(client));
        }
        let own = [
            ("allow.auto.create.topics", "false"),
            // So that a broker that is back is found by the next question.
            ("reconnect.backoff.max.ms", "500"),
        ];
        let made = self
            .settings
            .client(&own)
            .create_with_context(Listening::default())
            .map_err(Error::options)?;
        Ok(Arc::clone(client.insert(Arc::new(made))))
    }
}
