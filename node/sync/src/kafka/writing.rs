//! Writing records to a topic: in order for each key, acknowledged by every replica.

use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer as _};

use super::{Error, Quiet, Result, Settings};

/// A topic to write to, which is there or is made by somebody else.
pub struct Writer {
    settings: Settings,
    topic: String,
    producer: FutureProducer<Quiet>,
}

/// A record to be written.
#[derive(Debug, Clone)]
pub struct Keyed {
    /// Its key: records of one key stay in order.
    pub key: String,
    /// Its value.
    pub value: Vec<u8>,
}

impl Writer {
    /// A record that is not acknowledged in `timeout` is given up. Connects to nothing yet.
    ///
    /// # Errors
    /// [`Error::Options`] when the options make no client.
    pub fn new(settings: &Settings, topic: &str, timeout: Duration) -> Result<Self> {
        let timeout = timeout.as_millis().to_string();
        let own = [
            // One made by the brokers would have their partitions, and their retention.
            ("allow.auto.create.topics", "false"),
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("compression.type", "zstd"),
            ("linger.ms", "1"),
            ("message.timeout.ms", timeout.as_str()),
        ];
        let producer = settings
            .client(&own)
            .create_with_context(Quiet)
            .map_err(Error::options)?;
        Ok(Self {
            settings: settings.clone(),
            topic: topic.to_owned(),
            producer,
        })
    }

    /// Whether it will never write again: another has to be made.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.producer.client().fatal_error().is_some()
    }

    /// Writes records, and waits until all are acknowledged or given up.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; some may have been written.
    pub async fn write(&self, records: &[Keyed]) -> Result<()> {
        let records = records.iter().map(|Keyed { key, value }| {
            let record = FutureRecord::to(&self.topic);
            record.key(key.as_str()).payload(value.as_slice())
        });
        self.write_all(records).await
    }

    pub(super) async fn write_all<'a>(
        &self,
        records: impl Iterator<Item = FutureRecord<'a, str, [u8]>>,
    ) -> Result<()> {
        let mut outcome = Ok(());
        let mut sent: Vec<DeliveryFuture> = Vec::new();
        for record in records {
            match self.producer.send_result(record) {
                Ok(delivery) => sent.push(delivery),
                Err((error, _)) => {
                    outcome = Err(self.refused(error));
                    break;
                }
            }
        }
        // None is left on its way behind whoever tries again.
        for delivery in sent {
            match delivery.await {
                Ok(Ok(_)) => {}
                Ok(Err((error, _))) => outcome = outcome.and(Err(self.refused(error))),
                Err(_) => outcome = outcome.and(Err(Error::GivenUp)),
            }
        }
        outcome
    }

    fn refused(&self, error: KafkaError) -> Error {
        let what = format!("write to topic '{}'", self.topic);
        Error::unavailable(&self.settings, what)(error)
    }
}
