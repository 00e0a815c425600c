//! Parts that are unreachable at start and later, and garbage in the topics: said clearly, and outlived.

use std::time::Duration;

use meridian_model::Code;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::client::{Client, Failure};
use crate::stores::Store;
use crate::system::{Node, RegionalStore, Role, System};
use crate::until::{heavy, until};
use crate::world;

const SOON: Duration = Duration::from_secs(30);
/// Less than any reader's or writer's own patience.
const VERY_SOON: Duration = Duration::from_secs(5);

const NO_DATABASE: &str = "the database (datastore.url) cannot be brought to this version's schema";
const NO_KAFKA: &str = "Kafka (kafka.bootstrap) does not answer";
const NOT_PUBLISHED: &str = "relay cannot publish";
const NOT_READ: &str = "cannot read the topic yet";
const UNREADABLE: &str = "skipped an unreadable record";

#[tokio::test]
async fn what_is_away_is_named_and_found_again_and_garbage_is_skipped() {
    let _leave = heavy().await;
    let mut system = System::describe(RegionalStore::Postgres).await;
    system.kafka.stop().await.unwrap();
    system.postgres.stop().await.unwrap();
    for role in Role::ALL {
        system.node_mut(role).process.start().unwrap();
        system.node_mut(role).listening().await;
    }
    let started = ids(&system);
    for role in Role::ALL {
        said_soon(system.node(role), NO_KAFKA, &system.kafka.bootstrap()).await;
    }
    let database = system.postgres.url();
    let database = database.trim_start_matches("postgres://postgres@");
    let database = database.trim_end_matches("/postgres");
    for role in [Role::Central, Role::Regional] {
        said_soon(system.node(role), NO_DATABASE, database).await;
    }

    logged(&system.central, NO_DATABASE).await;
    logged(&system.regional, NO_DATABASE).await;
    logged(&system.edge, NOT_READ).await;
    for role in Role::ALL {
        let refused = system.client(role).create_store("e2e").await;
        is_unavailable(refused);
    }

    system.postgres.start_again().await.unwrap();
    system.central.ready().await;
    let mut random = world::random();
    let tuples = world::tuples(4_000, &mut random);
    let store = Store::load(&mut system.client(Role::Central), &tuples).await;
    logged(&system.central, NOT_PUBLISHED).await;

    system.kafka.start_again().await.unwrap();
    for role in Role::ALL {
        system.node_mut(role).ready().await;
    }
    all_is_well(&system, &store).await;

    garbage(&system, "meridian.default.changes").await;
    garbage(&system, "meridian.default.here.edge").await;
    logged(&system.regional, UNREADABLE).await;
    logged(&system.edge, UNREADABLE).await;
    let store = Store::load(&mut system.client(Role::Edge), &tuples).await;
    all_is_well(&system, &store).await;

    system.kafka.stop().await.unwrap();
    system.postgres.stop().await.unwrap();
    let key = world::tuple("document:late", "viewer", "user:late");
    for role in Role::ALL {
        let refused = system
            .client(role)
            .write(&store.id, std::slice::from_ref(&key), &[])
            .await;
        is_unavailable(refused);
    }
    system.postgres.start_again().await.unwrap();
    system.kafka.start_again().await.unwrap();
    let store = written_once_mended(&system, &tuples).await;
    all_is_well(&system, &store).await;
    assert_eq!(ids(&system), started, "no node was started again");
}

/// What the nodes' processes are.
fn ids(system: &System) -> [Option<u32>; 3] {
    Role::ALL.map(|role| system.node(role).process.id())
}

/// That the log tells what is away, where and why, before anything has waited for it in vain.
async fn said_soon(node: &Node, what: &str, address: &str) {
    until(&format!("'{what}' in the log"), VERY_SOON, async || {
        let log = node.log();
        let tells = |line: &str| {
            [what, address, "refused"]
                .iter()
                .all(|part| line.contains(part))
        };
        if log.lines().any(tells) {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
}

async fn logged(node: &Node, what: &str) {
    until(&format!("'{what}' in the log"), SOON, async || {
        let log = node.log();
        if log.contains(what) { Ok(()) } else { Err(log) }
    })
    .await;
}

fn is_unavailable<T: std::fmt::Debug>(outcome: Result<T, Failure>) {
    assert!(
        matches!(outcome, Err(Failure::Coded(Code::Unavailable, _))),
        "{outcome:?}"
    );
}

/// Connections come back one by one; then everything can be written again.
async fn written_once_mended(system: &System, tuples: &[meridian_model::TupleKey]) -> Store {
    let mut edge: Client = system.client(Role::Edge);
    until("a store can be made", SOON, async || {
        edge.create_store("e2e")
            .await
            .map(drop)
            .map_err(|why| format!("{why:?}"))
    })
    .await;
    Store::load(&mut edge, tuples).await
}

async fn all_is_well(system: &System, store: &Store) {
    store.arrives(system).await;
    store.is_whole(system).await;
    let questions = store.questions(200, &mut world::random());
    for role in Role::ALL {
        store.agrees(&system.client(role), &questions).await;
    }
}

/// Puts what is no record into every partition: random bytes, nothing, and a record's beginning.
async fn garbage(system: &System, topic: &str) {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", system.kafka.bootstrap())
        .create()
        .unwrap();
    for partition in 0..4 {
        for bytes in [&[0xFF, 0x00, 0x13, 0x37][..], &[], &[0x0A, 0x7F, 0x0A]] {
            let record = FutureRecord::<str, [u8]>::to(topic)
                .partition(partition)
                .payload(bytes);
            producer.send(record, SOON).await.unwrap();
        }
    }
}
