//! The largest records there can be, and a topic that does not take them.

use std::sync::Arc;

use meridian_model::authorization_model::{
    AuthorizationModel, ObjectRelation, TupleToUserset, TypeDefinition, Userset, Usersets,
};
use meridian_model::change::StoredModel;
use meridian_model::ports::Datastore;
use meridian_model::tuple::{Tuple, TupleCondition};
use meridian_sync::envelope::Record;
use meridian_sync::kafka::broadcast::{self, Event};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use tokio_util::sync::CancellationToken;

use super::nodes::{
    Above, central, converged, edge, eventually, region, soon, store_id, tuple, within,
};
use super::real;

/// As much as `node/server` takes of one model, in bytes of protobuf.
const MODEL_BYTES: usize = 262_144;
/// Bytes of protobuf of one `a from b`, of which JSON makes the most.
const CHILD_BYTES: usize = 14;
/// As much as `node/server` takes of one tuple's condition context, in bytes of JSON.
const CONTEXT_BYTES: usize = 32 * 1024;

fn largest_model() -> StoredModel {
    let relation = |name: &str| ObjectRelation {
        relation: name.into(),
        ..ObjectRelation::default()
    };
    let child = Userset::TupleToUserset(TupleToUserset {
        tupleset: relation("b"),
        computed_userset: relation("a"),
    });
    let child = vec![child; MODEL_BYTES / CHILD_BYTES];
    let doc = TypeDefinition {
        name: "doc".into(),
        relations: [("a".to_owned(), Userset::Union(Usersets { child }))].into(),
        metadata: None,
    };
    let model = AuthorizationModel {
        schema_version: "1.1".into(),
        type_definitions: vec![doc],
        ..AuthorizationModel::default()
    };
    StoredModel {
        id: store_id(99).as_str().parse().unwrap(),
        model: Arc::new(model),
    }
}

/// A hundred tuples whose contexts do not compress well.
fn largest_write(object_type: &str) -> Vec<Tuple> {
    let mut state = 1_u64;
    let mut letter = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + (state >> 58) as u8)
    };
    let mut context = || {
        let text: String = (0..CONTEXT_BYTES - 16).map(|_| letter()).collect();
        serde_json::json!({ "x": text.replace(['\\', '"'], "_") }).to_string()
    };
    (0..100)
        .map(|n| Tuple {
            condition: Some(TupleCondition {
                name: "c".into(),
                context: context().into(),
            }),
            ..tuple(&format!("{object_type}:{n}"), "user:anne")
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_model_and_write_travel_over_kafka() {
    let kafka = real("large");
    let central = central(&kafka);
    let store = central.create(1).await;
    let region = region(&kafka, &Above::central(&central.is.datastore));
    let edge = edge(&kafka, &region.is.above);
    converged(&central.is.datastore, &region.is.datastore).await;
    let stop = CancellationToken::new();
    let _guard = stop.clone().drop_guard();
    let mut topic = broadcast::read(&kafka, &kafka.changes_topic(), "test", stop).unwrap();
    let first = within("reading begins", topic.recv()).await;
    assert!(matches!(first, Some(Event::Reset { .. })));

    let (datastore, model) = (&central.is.datastore, largest_model());
    let first = datastore.write_model(store, model.id, &model.model, soon());
    let first = first.await.unwrap().position;
    let last = central.write(store, &largest_write("doc")).await;
    for position in [first, last] {
        eventually("the topic brings the change set itself", async || {
            let arrived = tokio::time::timeout_at(soon().into(), topic.recv()).await;
            let Ok(Some(Event::Record { record, .. })) = arrived else {
                return None;
            };
            matches!(*record, Record::ChangeSet(set) if set.position() == position).then_some(())
        })
        .await;
    }
    converged(&central.is.datastore, &region.is.datastore).await;
    eventually("the edge has both", async || {
        let shown = edge.is.get(store)?;
        let whole = shown.view.position() == last && shown.view.models().count() == 1;
        whole.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_topic_does_not_take_is_announced_and_holds_up_nothing() {
    let kafka = real("small");
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &kafka.bootstrap_servers)
        .create()
        .unwrap();
    // One partition, so that other stores are behind the large record.
    for topic in [kafka.changes_topic(), kafka.edge_topic("eu")] {
        let small =
            NewTopic::new(&topic, 1, TopicReplication::Fixed(1)).set("max.message.bytes", "100000");
        admin
            .create_topics([&small], &AdminOptions::new())
            .await
            .unwrap();
    }
    let central = central(&kafka);
    let (store, other) = (central.create(1).await, central.create(2).await);
    let region = region(&kafka, &Above::central(&central.is.datastore));
    let edge = edge(&kafka, &region.is.above);
    converged(&central.is.datastore, &region.is.datastore).await;

    let large = central.write(store, &largest_write("doc")).await;
    let small = central.write(other, &[tuple("doc:1", "user:anne")]).await;
    converged(&central.is.datastore, &region.is.datastore).await;
    for (store, position) in [(store, large), (other, small)] {
        eventually("the edge has come so far", async || {
            let shown = edge.is.get(store)?;
            (shown.view.position() == position).then_some(())
        })
        .await;
    }
    eventually("nothing waits to be published", async || {
        let left = central.is.datastore.outbox(10, soon()).await.unwrap();
        left.is_empty().then_some(())
    })
    .await;
}
