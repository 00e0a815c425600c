//! Asking Kafka whether it answers, for whoever wants to know how a node stands.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::{Error, Quiet, Result, Settings, topics};

/// What librdkafka said since the last question, at most.
const EVENTS: usize = 64;
/// Reasons kept while no broker answers.
const REASONS: usize = 4;

/// Asks for one topic. Its client, and with it a connection, comes about with the first question.
pub struct Probe {
    settings: Settings,
    topic: String,
    client: Mutex<Option<Arc<BaseConsumer<Listening>>>>,
}

/// Why Kafka does not answer: what was attempted, and what librdkafka has said about it since it last did, with each broker's
/// address. The same words from question to question, as long as nothing new goes wrong.
#[derive(Debug, thiserror::Error)]
pub enum Silent {
    /// Only this much is known.
    #[error(transparent)]
    Failed(#[from] Error),
    /// The brokers' connections are the reason.
    #[error("{what}: {reasons}")]
    Told {
        /// What was attempted.
        what: Error,
        /// librdkafka's words.
        reasons: String,
    },
}

/// Keeps what librdkafka says of brokers: it does so once, and is vague while that lasts.
#[derive(Default)]
struct Listening(Mutex<BTreeSet<String>>);

impl Listening {
    fn reasons(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Listening {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Quiet.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // Said after each broker was named with its own reason, which tells more.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            // What follows is how long a try took, and how often it has said so.
            let reason = reason.split(" (after ").next().unwrap_or_default();
            let mut reasons = self.reasons();
            if reasons.len() < REASONS {
                reasons.insert(reason.to_owned());
            }
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
        let mut reasons = client.context().reasons();
        if found.is_ok() {
            reasons.clear();
        }
        match found {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(Error::NoTopic(self.topic.clone()).into()),
            Err(what) if reasons.is_empty() => Err(what.into()),
            Err(what) => {
                let reasons: Vec<_> = reasons.iter().map(String::as_str).collect();
                let reasons = reasons.join("; ");
                Err(Silent::Told { what, reasons })
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// librdkafka says why once and then only that it is so. Whoever shows it would else show another text each time.
    #[tokio::test]
    async fn brokers_that_stay_silent_stay_so_for_the_same_reason() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let settings = Settings {
            bootstrap_servers: closed.to_string(),
            options: Default::default(),
            topic_prefix: "meridian".to_owned(),
            product: "shop".to_owned(),
            partitions: 1,
            replication: 1,
        };
        let probe = Probe::new(settings, "changes".to_owned());
        let ask = async || {
            probe
                .ask(Duration::from_secs(2))
                .await
                .unwrap_err()
                .to_string()
        };
        let told = loop {
            let told = ask().await;
            if told.contains("refused") {
                break told;
            }
        };
        assert!(!told.contains("(after"), "{told}");
        for _ in 0..6 {
            assert_eq!(ask().await, told);
        }
    }
}
