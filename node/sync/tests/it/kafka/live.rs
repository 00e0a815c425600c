//! The live channel's topic: written, followed by every node, and shared by those that keep it.

use std::sync::Arc;
use std::time::Duration;

use meridian_sync::kafka::group::work::Worker;
use meridian_sync::kafka::live::{self, Follower, Message, OBJECTS, Publication, Publisher, STORE};
use meridian_sync::kafka::{self, Settings};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers as _, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::nodes::{store_id, within};
use super::{mock, real};

const TIMEOUT: Duration = Duration::from_secs(10);
const LINGER: Duration = Duration::from_millis(20);

#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Reading { cluster: String, next: Vec<i64> },
    Record(Record),
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    key: Vec<u8>,
    value: Vec<u8>,
    store: Option<Vec<u8>>,
    objects: Option<Vec<u8>>,
}

impl Record {
    fn of(message: &Message<'_>) -> Self {
        Self {
            key: message.key.to_vec(),
            value: message.value.to_vec(),
            store: message.store.map(<[u8]>::to_vec),
            objects: message.objects.map(<[u8]>::to_vec),
        }
    }

    fn published(publication: &Publication) -> Self {
        let Publication {
            key,
            value,
            store,
            objects,
        } = publication.clone();
        Self {
            key: key.into_bytes(),
            value: value.into_bytes(),
            store: Some(store.into_bytes()),
            objects: (!objects.is_empty()).then(|| objects.into_bytes()),
        }
    }
}

struct Ear(UnboundedSender<Heard>);

impl Follower for Ear {
    fn reading(&self, cluster: &str, next: &[i64]) {
        let (cluster, next) = (cluster.to_owned(), next.to_vec());
        self.0.send(Heard::Reading { cluster, next }).unwrap();
    }

    fn record(&self, message: Message<'_>) {
        self.0.send(Heard::Record(Record::of(&message))).unwrap();
    }
}

/// Follows the topic, and returns the cluster's name with which that begins. Reading ends with the guard.
async fn follow(kafka: &Settings, topic: &str) -> (String, UnboundedReceiver<Heard>, DropGuard) {
    let (sender, mut heard) = unbounded_channel();
    let stop = CancellationToken::new();
    let reading = live::read(kafka, topic, "edge-1", Arc::new(Ear(sender)), stop.clone());
    tokio::spawn(reading.unwrap());
    match within("reading begins", heard.recv()).await {
        Some(Heard::Reading { cluster, .. }) => (cluster, heard, stop.drop_guard()),
        other => panic!("{other:?} before reading began"),
    }
}

async fn next(heard: &mut UnboundedReceiver<Heard>) -> Record {
    match within("a record arrives", heard.recv()).await {
        Some(Heard::Record(record)) => record,
        other => panic!("{other:?} instead of a record"),
    }
}

fn publication(object: &str, objects: &str) -> Publication {
    Publication {
        key: object.into(),
        value: r#"{"speed":7}"#.into(),
        store: store_id(1).to_string(),
        objects: objects.into(),
    }
}

async fn publish(publisher: &Publisher, record: &Publication) -> kafka::Result<()> {
    publisher.publish(std::slice::from_ref(record)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_published_again_after_librdkafka_gave_a_producer_up() {
    let (cluster, kafka) = mock("broken");
    let topic = kafka.live_topic(None);
    cluster.create_topic(&topic, 1, 1).unwrap();
    let (_, mut heard, _reading) = follow(&kafka, &topic).await;
    let publisher = Publisher::new(&kafka, &topic, TIMEOUT).unwrap();
    let [before, lost, after] = ["event:1", "event:2", "event:3"].map(|key| publication(key, ""));

    publish(&publisher, &before).await.unwrap();
    // As from a broker that lost what it knew of the producer.
    let fatal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    cluster.request_errors(RDKafkaApiKey::Produce, &[fatal]);
    publish(&publisher, &lost).await.unwrap_err();
    publish(&publisher, &after).await.unwrap();

    for record in [before, after] {
        assert_eq!(next(&mut heard).await, Record::published(&record));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_begins_with_the_clusters_name() {
    let kafka = real("named");
    let topic = kafka.live_topic(None);
    live::make_topic(&kafka, &topic).await;
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &kafka.bootstrap_servers)
        .create()
        .unwrap();
    let name = client.client().fetch_cluster_id(TIMEOUT).unwrap();
    let (cluster, ..) = follow(&kafka, &topic).await;
    assert_eq!(cluster, name);
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_name_no_cluster_are_read_all_the_same() {
    let (cluster, kafka) = mock("nameless");
    let topic = kafka.live_topic(None);
    cluster.create_topic(&topic, 1, 1).unwrap();
    // The name came with the next version.
    let metadata = RDKafkaApiKey::Metadata;
    cluster.apiversion(metadata, Some(0), Some(1)).unwrap();
    let (name, mut heard, _reading) = follow(&kafka, &topic).await;
    assert_eq!(name, "");
    let record = publication("event:1", "organization:1,stage:2");
    let publisher = Publisher::new(&kafka, &topic, TIMEOUT).unwrap();
    publish(&publisher, &record).await.unwrap();
    assert_eq!(next(&mut heard).await, Record::published(&record));
}

/// What anything may write to the topic, and nobody can read.
async fn write_unreadable(kafka: &Settings, topic: &str) -> Vec<Record> {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", &kafka.bootstrap_servers)
        .create()
        .unwrap();
    let store = store_id(1).to_string();
    let header = |key, value| Header { key, value };
    let headers = |objects| {
        OwnedHeaders::new()
            .insert(header(STORE, Some(store.as_bytes())))
            .insert(header(OBJECTS, objects))
    };
    let to = || FutureRecord::<[u8], [u8]>::to(topic);
    let records = [
        to(),
        to().key(b"event:1").headers(headers(None)),
        to().payload(b"{}").headers(headers(Some(&b"stage:1"[..]))),
        to().key(b"\xFF\xFE").payload(b"\xFF{\0"),
        to().key(b"no object").payload(b"{}"),
    ];
    let mut written = Vec::new();
    for record in records {
        let said = |name: &str| {
            let headers = record.headers.as_ref()?;
            let header = headers.iter().find(|header| header.key == name)?;
            header.value.map(<[u8]>::to_vec)
        };
        written.push(Record {
            key: record.key.unwrap_or_default().to_vec(),
            value: record.payload.unwrap_or_default().to_vec(),
            store: said(STORE),
            objects: said(OBJECTS),
        });
        producer.send(record, TIMEOUT).await.unwrap();
    }
    written
}

/// Hands out until `last`, and leaves the group with all of it done.
async fn work(kafka: &Settings, topic: &str, last: &Record) -> Vec<Record> {
    let mut worker = Worker::new(kafka, topic, topic).unwrap();
    let mut taken = Vec::new();
    while taken.last() != Some(last) {
        let batch = worker.batch(LINGER, |message| {
            taken.push(Record::of(&message));
            taken.last() != Some(last)
        });
        within("a batch", batch).await;
        worker.done();
    }
    worker.leave().await;
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_holds_up_neither_followers_nor_the_group() {
    let kafka = Settings {
        partitions: 1,
        ..real("unreadable")
    };
    let topic = kafka.live_topic(None);
    live::make_topic(&kafka, &topic).await;
    let (_, mut heard, _reading) = follow(&kafka, &topic).await;
    let publisher = Publisher::new(&kafka, &topic, TIMEOUT).unwrap();
    let [good, later] = ["event:1", "event:2"].map(|key| publication(key, "organization:1"));

    let mut all = write_unreadable(&kafka, &topic).await;
    publish(&publisher, &good).await.unwrap();
    all.push(Record::published(&good));
    for record in &all {
        assert_eq!(next(&mut heard).await, *record);
    }
    assert_eq!(work(&kafka, &topic, &Record::published(&good)).await, all);

    let mut all = write_unreadable(&kafka, &topic).await;
    publish(&publisher, &later).await.unwrap();
    all.push(Record::published(&later));
    let next = work(&kafka, &topic, &Record::published(&later)).await;
    assert_eq!(next, all, "the group has gone past all that came before");
}
