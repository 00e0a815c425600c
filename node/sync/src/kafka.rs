//! Kafka: the topics' names and creation, the relay that fills them, and the two ways of reading them.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::FutureProducer;
use rdkafka::{ClientConfig, ClientContext};
use tokio::sync::oneshot;

pub mod broadcast;
pub mod group;
pub mod live;
mod outlet;
pub mod probe;
pub mod relay;
pub mod topics;
pub mod writing;

/// How long a single request to a broker may take.
const REQUEST: Duration = Duration::from_secs(10);
/// Largest record in bytes, for producer, topic and consumers alike. Above the largest legal change set: a Write of 100
/// conditioned tuples, or a model, both as JSON.
const MAX_RECORD: usize = 4 * 1024 * 1024;
/// How much librdkafka fetches ahead of whoever reads, in KiB and in bytes. Its own defaults are some 100 MiB together.
const FETCHED_AHEAD: [(&str, &str); 2] = [
    ("queued.max.messages.kbytes", "16384"),
    ("fetch.max.bytes", "16777216"),
];

/// Where Kafka is, and what belongs to this product on it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `host:port`, more of them separated by commas.
    pub bootstrap_servers: String,
    /// Further librdkafka options, passed on as they are: `security.protocol`, `sasl.*`, `ssl.*`. What this program relies
    /// on (acknowledgements, idempotence, commits) cannot be overridden.
    pub options: BTreeMap<String, String>,
    /// First part of every topic's name.
    pub topic_prefix: String,
    /// Second part: the product.
    pub product: String,
    /// Partitions of a topic that this program makes. Never changed afterwards: a store would move between partitions.
    pub partitions: u16,
    /// Replicas of a topic that this program makes.
    pub replication: u16,
}

impl Settings {
    /// The topic that carries every revision whole.
    pub fn changes_topic(&self) -> String {
        format!("{}.{}.changes", self.topic_prefix, self.product)
    }

    /// The topic that a region thins out for its edges.
    pub fn edge_topic(&self, region: &str) -> String {
        format!("{}.{}.{region}.edge", self.topic_prefix, self.product)
    }

    /// The topic of the live channel: of the product, or of one of its regions.
    pub fn live_topic(&self, region: Option<&str>) -> String {
        let Self {
            topic_prefix,
            product,
            ..
        } = self;
        match region {
            None => format!("{topic_prefix}.{product}.live"),
            Some(region) => format!("{topic_prefix}.{product}.{region}.live"),
        }
    }

    /// The topic by which the flows of a region's edges come to the nodes above.
    pub fn flows_topic(&self, region: &str) -> String {
        format!("{}.{}.{region}.flows", self.topic_prefix, self.product)
    }

    /// The consumer group of a region's nodes.
    pub fn group(&self, region: &str) -> String {
        format!("{}.{}.{region}", self.topic_prefix, self.product)
    }

    /// Checks that librdkafka takes the options, for reading and for writing. Connects to nothing.
    ///
    /// # Errors
    /// [`Error::Options`] naming the one that it refuses.
    pub fn check(&self) -> Result<()> {
        let reading = self.client(&[]).create_with_context(Quiet);
        let _: BaseConsumer<Quiet> = reading.map_err(Error::options)?;
        let writing = self
            .client(&[("enable.idempotence", "true"), ("acks", "all")])
            .create_with_context(Quiet);
        let _: FutureProducer<Quiet> = writing.map_err(Error::options)?;
        Ok(())
    }

    fn consumer(&self, own: &[(&str, &str)]) -> ClientConfig {
        let mut config = self.client(own);
        for (name, value) in FETCHED_AHEAD {
            config.set(name, value);
        }
        config
    }

    fn client(&self, own: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("client.id", "meridian")
            .set("reconnect.backoff.max.ms", "2000")
            .set("log_level", "4");
        for (name, value) in &self.options {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.bootstrap_servers);
        for (name, value) in own {
            config.set(*name, *value);
        }
        config
    }
}

/// Makes a call that blocks, in a thread of its own. A runtime that ends waits for its own blocking threads, and librdkafka goes
/// on waiting for a broker that is away until the call's time is up.
///
/// # Errors
/// [`Error::GivenUp`] when there is no thread to be had, or the call panicked.
async fn blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (done, result) = oneshot::channel();
    let call = move || {
        // Nobody may be waiting any longer.
        let _ = done.send(call());
    };
    let thread = std::thread::Builder::new().name("kafka-call".to_owned());
    thread.spawn(call).map_err(|_| Error::GivenUp)?;
    result.await.map_err(|_| Error::GivenUp)
}

/// Keeps librdkafka's own messages at debug: it repeats the same one many times a second while a broker is away, which
/// whoever calls logs once, with what it means.
pub(crate) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            reason,
            "librdkafka"
        );
    }
}

impl ConsumerContext for Quiet {}

/// What did not work with Kafka.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The options make no client: a fault of the configuration, which only the operator can mend.
    #[error("kafka.properties: {0}")]
    Options(String),
    /// The brokers cannot be reached, or refuse.
    #[error("Kafka at '{servers}' cannot {what}")]
    Unavailable {
        /// The configured servers.
        servers: String,
        /// What was attempted.
        what: String,
        /// Why not.
        #[source]
        source: Box<KafkaError>,
    },
    /// A topic is not there (yet).
    #[error(
        "the Kafka topic '{0}' does not exist; the node that writes it makes it when it starts"
    )]
    NoTopic(String),
    /// A blocking call did not come back.
    #[error("a call to Kafka was given up")]
    GivenUp,
}

impl Error {
    /// Names the option and not its value, which may be a password.
    fn options(source: KafkaError) -> Self {
        Self::Options(match source {
            KafkaError::ClientConfig(_, what, key, value) => {
                let hidden = if value.is_empty() {
                    what
                } else {
                    what.replace(&value, "...")
                };
                format!("'{key}' is refused: {hidden}")
            }
            KafkaError::ClientCreation(what) => what,
            other => other.to_string(),
        })
    }

    /// Whether the brokers take no record of such a size.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        let Self::Unavailable { source, .. } = self else {
            return false;
        };
        source.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge)
    }

    fn unavailable(
        settings: &Settings,
        what: impl Into<String>,
    ) -> impl FnOnce(KafkaError) -> Self {
        let (servers, what) = (settings.bootstrap_servers.clone(), what.into());
        move |source| Self::Unavailable {
            servers,
            what,
            source: Box::new(source),
        }
    }
}

/// A result of Kafka.
pub type Result<T> = std::result::Result<T, Error>;
