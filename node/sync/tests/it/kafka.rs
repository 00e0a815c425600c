//! Replication over a broker: Apache Kafka, and librdkafka's in-process mock cluster that `meridian dev` runs on.

mod large;
mod live;
mod nodes;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use meridian_model::ids::Timestamp;
use meridian_model::ports::{Datastore, WriteOptions};
use meridian_sync::envelope::Record;
use meridian_sync::kafka::broadcast::{self, Event};
use meridian_sync::kafka::group::GroupConsumer;
use meridian_sync::kafka::{Settings, topics};
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio_util::sync::CancellationToken;

use nodes::{
    Above, central, content, converged, edge, eventually, region, soon, store_id, tuple, within,
};

fn settings(bootstrap_servers: &str, test: &str) -> Settings {
    let run = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_micros();
    Settings {
        bootstrap_servers: bootstrap_servers.into(),
        options: BTreeMap::new(),
        topic_prefix: format!("test-{run}"),
        product: test.into(),
        partitions: 3,
        replication: 1,
    }
}

fn real(test: &str) -> Settings {
    let servers = std::env::var("MERIDIAN_TEST_KAFKA")
        .expect("set MERIDIAN_TEST_KAFKA or run `cargo xtask test`");
    settings(&servers, test)
}

/// A cluster in this process with the product's topics, which it cannot make by request.
fn mock(
    test: &str,
) -> (
    MockCluster<'static, rdkafka::producer::DefaultProducerContext>,
    Settings,
) {
    let cluster = MockCluster::new(1).unwrap();
    let settings = settings(&cluster.bootstrap_servers(), test);
    for topic in [settings.changes_topic(), settings.edge_topic("eu")] {
        cluster.create_topic(&topic, 3, 1).unwrap();
    }
    (cluster, settings)
}

fn wall() -> Timestamp {
    Timestamp(
        i64::try_from(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap()
                .as_micros(),
        )
        .unwrap(),
    )
}

/// Writes at central come to the region whole and into the edge's view as far as it is covered; both know how fresh they
/// are; a deletion arrives.
async fn a_change_travels_to_the_edge(kafka: &Settings) {
    let central = central(kafka);
    let mut stores = Vec::new();
    for n in 0..5 {
        let store = central.create(n).await;
        central
            .write(
                store,
                &[tuple("doc:1", "user:anne"), tuple("log:1", "user:anne")],
            )
            .await;
        stores.push(store);
    }
    let region = region(kafka, &Above::central(&central.is.datastore));
    let edge = edge(kafka, &region.is.above);
    let mut last = Vec::new();
    for store in &stores {
        for n in 2..20 {
            central
                .write(
                    *store,
                    &[
                        tuple(&format!("doc:{n}"), "user:bob"),
                        tuple(&format!("log:{n}"), "user:bob"),
                    ],
                )
                .await;
        }
        last.push((
            *store,
            central.delete(*store, &[tuple("doc:1", "user:anne")]).await,
        ));
    }
    converged(&central.is.datastore, &region.is.datastore).await;
    let truth = content(&central.is.datastore).await;
    for (store, position) in last {
        eventually("the edge covers the store's documents", async || {
            let shown = edge.is.get(store)?;
            (shown.view.position() == position && shown.view.is_covered("doc")).then_some(())
        })
        .await;
        assert!(edge.is.reached(store, position, soon()).await);
        let shown = edge.is.get(store).unwrap();
        let held: BTreeMap<_, _> = shown.view.tuples_of_type("doc").into_iter().collect();
        let docs = truth[&store]
            .1
            .iter()
            .filter(|tuple| tuple.key.object.object_type() == "doc");
        let docs = docs.map(|tuple| (tuple.key.clone(), tuple.condition.clone()));
        assert_eq!(held, docs.collect());
        assert!(!shown.view.is_covered("log") && shown.view.tuples_of_type("log").is_empty());
    }
    let fresh = Some(Duration::from_secs(5));
    eventually("the region is fresh by its topic", async || {
        let age = region
            .is
            .freshness
            .borrow()
            .age(wall(), region.is.start.elapsed());
        (age.is_some() && age < fresh).then_some(())
    })
    .await;
    eventually("the edge is fresh by its topic", async || {
        let topic_speaks = edge.is.freshness().heartbeat().is_some();
        let age = edge.is.age(&*edge.is.get(stores[0])?, wall());
        (topic_speaks && age.is_some() && age < fresh).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_travels_over_kafka() {
    a_change_travels_to_the_edge(&real("travel")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_travels_over_the_mock_cluster() {
    let (_cluster, kafka) = mock("travel");
    a_change_travels_to_the_edge(&kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_skipped_and_what_it_replaced_is_repaired() {
    let kafka = real("garbage");
    let central = central(&kafka);
    let store = central.create(1).await;
    let above = Above::central(&central.is.datastore);
    let region = region(&kafka, &above);
    converged(&central.is.datastore, &region.is.datastore).await;
    let asked = above.asked.load(Ordering::Relaxed);

    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", &kafka.bootstrap_servers)
        .create()
        .unwrap();
    let topic = kafka.changes_topic();
    for payload in [&b"\xFF\xFF not a record"[..], b""] {
        let record = FutureRecord::to(&topic)
            .key(store.as_str())
            .payload(payload);
        producer
            .send(record, Duration::from_secs(10))
            .await
            .unwrap();
    }
    central.write(store, &[tuple("doc:1", "user:anne")]).await;
    converged(&central.is.datastore, &region.is.datastore).await;

    // A revision that never was on the topic, and one after it.
    let datastore = central.stop().await;
    let (ahead, far) = central_two_ahead(&datastore, store).await;
    let record = Record::ChangeSet(far).encode();
    producer
        .send(
            FutureRecord::to(&topic)
                .key(store.as_str())
                .payload(&record),
            Duration::from_secs(10),
        )
        .await
        .unwrap();
    converged(&datastore, &region.is.datastore).await;
    assert!(
        above.asked.load(Ordering::Relaxed) > asked,
        "revision {ahead} came from upstream"
    );
}

/// Commits two revisions; returns the first's number and the second's change set.
async fn central_two_ahead(
    datastore: &meridian_store::memory::MemoryDatastore,
    store: meridian_model::ids::StoreId,
) -> (u64, meridian_model::change::ChangeSet) {
    let first = datastore
        .write_tuples(
            store,
            &[],
            &[tuple("doc:2", "user:anne")],
            WriteOptions::default(),
            soon(),
        )
        .await
        .unwrap()
        .unwrap()
        .position;
    let second = datastore
        .write_tuples(
            store,
            &[],
            &[tuple("doc:3", "user:anne")],
            WriteOptions::default(),
            soon(),
        )
        .await
        .unwrap()
        .unwrap()
        .position;
    let mut sets = datastore
        .change_sets(store, first.revision, 1, soon())
        .await
        .unwrap();
    let set = sets.pop().unwrap();
    assert_eq!(set.position(), second);
    (first.revision.0, set)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_brings_all_that_is_produced_after_its_reset() {
    let kafka = real("broadcast");
    let topic = kafka.edge_topic("eu");
    assert_eq!(topics::ensure(&kafka, &topic).await.unwrap(), 3);
    assert_eq!(
        topics::ensure(&kafka, &topic).await.unwrap(),
        3,
        "a topic that is there is left as it is"
    );
    let stop = CancellationToken::new();
    let _guard = stop.clone().drop_guard();
    let mut events = broadcast::read(&kafka, &topic, "edge-1", stop).unwrap();
    let first = within("reading begins", events.recv()).await;
    assert!(matches!(first, Some(Event::Reset { partitions: 3 })));

    let central = central(&Settings {
        product: "broadcast-source".into(),
        ..kafka.clone()
    });
    let store = central.create(7).await;
    let sets = central
        .is
        .datastore
        .change_sets(store, meridian_model::ids::Revision::ZERO, 10, soon())
        .await
        .unwrap();
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", &kafka.bootstrap_servers)
        .create()
        .unwrap();
    for set in &sets {
        let payload = Record::ChangeSet(set.clone()).encode();
        producer
            .send(
                FutureRecord::to(&topic)
                    .key(store.as_str())
                    .payload(&payload),
                Duration::from_secs(10),
            )
            .await
            .unwrap();
    }
    for set in sets {
        match within("the topic brings the change set", events.recv()).await {
            Some(Event::Record { record, .. }) => assert_eq!(*record, Record::ChangeSet(set)),
            other => panic!("{other:?} instead of {set:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_member_is_reset_before_its_first_record() {
    let kafka = real("group");
    let central = central(&kafka);
    let store = central.create(1).await;
    eventually("the topic has the store's records", async || {
        let left = central.is.datastore.outbox(10, soon()).await.unwrap();
        left.is_empty().then_some(())
    })
    .await;
    let mut consumer = GroupConsumer::new(&kafka, "eu").unwrap();
    let mut events = Vec::new();
    while !events.iter().any(|event| is_of(event, store)) {
        let event = tokio::time::timeout_at(soon().into(), consumer.next());
        events.push(event.await.expect("the records arrive"));
        consumer.done();
    }
    assert!(
        matches!(events[0], Event::Reset { partitions: 3 }),
        "{events:?}"
    );
}

fn is_of(event: &Event, store: meridian_model::ids::StoreId) -> bool {
    let Event::Record { record, .. } = event else {
        return false;
    };
    matches!(&**record, Record::ChangeSet(set) if set.store == store)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_broker_is_waited_out_and_upstream_asked_meanwhile() {
    let (cluster, kafka) = mock("away");
    cluster.broker_down(-1).unwrap();
    let central = central(&kafka);
    let store = central.create(1).await;
    let region = region(&kafka, &Above::central(&central.is.datastore));
    let edge = edge(&kafka, &region.is.above);
    let position = central.write(store, &[tuple("doc:1", "user:anne")]).await;
    converged(&central.is.datastore, &region.is.datastore).await;
    eventually("the edge has it without the broker", async || {
        (edge.is.get(store)?.view.position() == position).then_some(())
    })
    .await;
    assert!(
        !central
            .is
            .datastore
            .outbox(10, soon())
            .await
            .unwrap()
            .is_empty(),
        "the outbox keeps what Kafka did not take"
    );

    cluster.broker_up(-1).unwrap();
    eventually("the outbox is published", async || {
        central
            .is
            .datastore
            .outbox(10, soon())
            .await
            .unwrap()
            .is_empty()
            .then_some(())
    })
    .await;
    let other = central.create(2).await;
    assert_eq!(other, store_id(2));
    eventually("the topic carries changes again", async || {
        edge.is
            .freshness()
            .heartbeat()
            .and(edge.is.get(other))
            .map(drop)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_stops_though_its_broker_is_gone() {
    let (cluster, kafka) = mock("gone");
    let central = central(&kafka);
    let region = region(&kafka, &Above::central(&central.is.datastore));
    eventually("the topic brings the region heartbeats", async || {
        let age = region.is.start.elapsed();
        region.is.freshness.borrow().silence(age)
    })
    .await;
    // Some heartbeat is always done and not committed yet.
    cluster.broker_down(-1).unwrap();
    let stopped = tokio::time::timeout(Duration::from_secs(8), region.stop()).await;
    stopped
        .expect("it does not wait until the broker is back")
        .unwrap();
}
