//! Central: the truth, and the only writer.

use std::sync::Arc;

use meridian_sync::kafka::probe::Probe;
use meridian_sync::kafka::relay::{Relay, RelaySettings, Role};
use tokio::sync::{Notify, watch};

use super::recorder::Recorder;
use super::{Behaviour, Building, Holding, Node, Source, open_datastore, own};
use crate::admin::Tiering;
use crate::commands::Local;
use crate::config::Config;
use crate::config::live::Scope;
use crate::node_service::{Clock, Nodes};
use crate::retention;
use crate::schema::{self, Schema};
use crate::status::{self, Holds};

/// Starts a central node.
///
/// # Errors
/// When an address cannot be listened on, or a setting cannot be used.
pub async fn start(config: &Config) -> anyhow::Result<Node> {
    let mut building = Building::new("central", config, true).await?;
    let datastore = open_datastore(config)?;
    let committed = Arc::new(Notify::new());
    let local = Local::new(
        Arc::clone(&datastore),
        building.name.clone(),
        config.limits,
        Arc::clone(&committed),
    );
    let hub = building.hub();
    let local = local.keeping(config.decision_settings());
    let local = Arc::new(local.telling(hub.clone()));
    let (kafka, stop, schema) = (
        building.kafka()?,
        building.stop.clone(),
        watch::Sender::new(Schema::default()),
    );
    let trouble = watch::Sender::default();
    let own_kafka = status::Kafka {
        address: kafka.bootstrap_servers.clone(),
        probe: Probe::new(kafka.clone(), kafka.changes_topic()),
        relay: Some(trouble.subscribe()),
    };
    building.watch_brokers(&kafka, kafka.changes_topic());
    let relay = Relay {
        datastore: Arc::clone(&datastore),
        topic: kafka.changes_topic(),
        kafka,
        role: Role::Writer,
        holder: building.holder(),
        wake: Arc::clone(&committed),
        trouble,
        settings: RelaySettings::default(),
    };
    let retention = config.datastore.changelog_retention;
    let recorder = Recorder::open(config)?;
    let recording = building.recording(&recorder, &datastore);
    let flows = building.keep_flows(&recorder, config.recorder.regions.clone())?;
    let (store, schema_sender) = (Arc::clone(&datastore), schema.clone());
    let address = schema::address(&config.datastore.url);
    building.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => return,
            () = schema::bring_up(&*store, ("datastore.url", &address), &schema_sender) => {}
        }
        tokio::join!(
            relay.run(stop.clone()),
            retention::run(store, retention, stop),
            recording
        );
    });
    let tiering = Tiering::Central {
        datastore: Arc::clone(&datastore),
        committed,
    };
    let holds = Holds::Database {
        datastore: Arc::clone(&datastore),
        address: schema::address(&config.datastore.url),
        schema: schema.subscribe(),
    };
    building.measure(Holding::Database(Arc::clone(&datastore)), None);
    let admin = building.admin(tiering, own_kafka, None, holds);
    let own = own(config, &local)?;
    let guard = building.guard(&recorder.recorder, Arc::clone(&own) as _);
    let following = building.following(&datastore, hub.as_ref());
    building.live(
        hub,
        (Arc::clone(&own) as _, Arc::clone(&own) as _),
        Source::Database(Arc::clone(&following)),
        &guard,
    )?;
    building.watch(following, recorder.recorder.clone());
    building.keep_records(Scope::Product, Arc::clone(&datastore), schema.subscribe())?;
    let behaviour = Behaviour {
        flows: recorder.service(Arc::clone(&local)),
        guard,
        calls: Arc::clone(&own) as _,
        admin: Arc::clone(&admin),
        nodes: Some(Nodes {
            decide: Arc::clone(&own) as _,
            calls: own,
            datastore,
            clock: Clock::Writer,
            name: building.name.clone(),
            admin,
            flows,
        }),
    };
    let mut schema = schema.subscribe();
    let ready = async move {
        let current = |schema: &Schema| matches!(schema, Schema::Current);
        if schema.wait_for(current).await.is_err() {
            std::future::pending().await
        }
    };
    building.serve(behaviour, ready).await
}
