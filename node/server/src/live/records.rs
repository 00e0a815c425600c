//! Records, from Kafka to the hub.

use std::sync::Arc;

use meridian_live_channel::Hub;
use meridian_live_channel::record::{Place, RawRecord};
use meridian_model::StoreId;
use meridian_sync::kafka::live::{Follower, Message};
use metrics::{counter, describe_counter};

const UNREADABLE: &str = "meridian_live_unreadable_records_total";

/// Gives the hub what the topic brings.
pub struct Records {
    hub: Arc<Hub>,
    topic: String,
    /// The store of records that name none.
    store: Option<StoreId>,
}

impl Records {
    /// Of `topic`.
    pub fn new(hub: Arc<Hub>, topic: String, store: Option<StoreId>) -> Self {
        describe_counter!(
            UNREADABLE,
            "Records of the live channel that were skipped because they cannot be read"
        );
        Self { hub, topic, store }
    }
}

/// What a message of the topic is.
pub(super) fn raw<'a>(message: &Message<'a>) -> (RawRecord<'a>, Place) {
    let raw = RawRecord {
        key: message.key,
        value: message.value,
        store: message.store,
        objects: message.objects,
    };
    let place = Place {
        partition: message.partition,
        offset: message.offset,
    };
    (raw, place)
}

impl Follower for Records {
    fn reading(&self, cluster: &str, next: &[i64]) {
        self.hub.reading(cluster, &self.topic, next);
    }

    fn record(&self, message: Message<'_>) {
        let (raw, place) = raw(&message);
        match raw.read(self.store, message.at, place) {
            Ok(record) => self.hub.publish(record),
            Err(error) => {
                counter!(UNREADABLE).increment(1);
                tracing::debug!(
                    topic = %self.topic,
                    partition = place.partition,
                    offset = place.offset,
                    error = &error as &dyn std::error::Error,
                    "skipped a record that cannot be read"
                );
                self.hub.skip(place);
            }
        }
    }
}
