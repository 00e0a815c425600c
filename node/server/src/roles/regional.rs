//! A regional node: a full copy in its own datastore, for its region and for the edges below.

use std::sync::Arc;
use std::time::Instant;

use meridian_sync::freshness::Freshness;
use meridian_sync::kafka::group::GroupConsumer;
use meridian_sync::kafka::probe::Probe;
use meridian_sync::kafka::relay::{Relay, RelaySettings, Role};
use meridian_sync::regional::{Applier, Regional as Replication, RegionalSettings};
use tokio::sync::{Notify, watch};

use super::recorder::Recorder;
use super::{Behaviour, Below, Building, Holding, Node, Source, open_datastore, own};
use crate::admin::Tiering;
use crate::commands::Local;
use crate::config::Config;
use crate::config::live::Scope;
use crate::node_service::{Clock, Nodes};
use crate::peer::Peers;
use crate::peer::trust::Trust;
use crate::retention;
use crate::routing::regional::Regional;
use crate::routing::{Upwards, wall_clock};
use crate::schema::{self, Schema};
use crate::status::{self, Holds};

/// Starts a regional node.
///
/// # Errors
/// When an address cannot be listened on, or a setting cannot be used.
pub async fn start(config: &Config) -> anyhow::Result<Node> {
    config.check_has_upstream()?;
    let mut building = Building::new("regional", config, true).await?;
    let datastore = open_datastore(config)?;
    let trust = Trust::read(&config.nodes)?;
    let peers = || Peers::trusting(&config.upstream, &trust);
    let (applied, beginning) = (Arc::new(Notify::new()), Instant::now());
    let (heartbeat, freshness) = (
        watch::Sender::new(None),
        watch::Sender::new(Freshness::default()),
    );
    let (kafka, stop) = (building.kafka()?, building.stop.clone());

    let consumer = GroupConsumer::new(&kafka, &config.region)?;
    let trouble = watch::Sender::default();
    let own_kafka = status::Kafka {
        address: kafka.bootstrap_servers.clone(),
        probe: Probe::new(kafka.clone(), kafka.changes_topic()),
        relay: Some(trouble.subscribe()),
    };
    building.watch_brokers(&kafka, kafka.changes_topic());
    let relay = Relay {
        datastore: Arc::clone(&datastore),
        topic: kafka.edge_topic(&config.region),
        kafka,
        role: Role::Region(heartbeat.subscribe()),
        holder: building.holder(),
        wake: Arc::clone(&applied),
        trouble,
        settings: RelaySettings::default(),
    };
    let applier = Applier::new(
        Arc::clone(&datastore),
        Arc::new(peers()?),
        RegionalSettings::default(),
    );
    let replication = Replication {
        applier,
        applied: Arc::clone(&applied),
        heartbeat,
        freshness: freshness.clone(),
        start: beginning,
    };
    let retention = config.datastore.changelog_retention;
    let recorder = Recorder::open(config)?;
    let recording = building.recording(&recorder, &datastore);
    let flows = building.keep_flows(&recorder, vec![config.region.clone()])?;
    let (store, schema) = (
        Arc::clone(&datastore),
        watch::Sender::new(Schema::default()),
    );
    let holds = Holds::Database {
        datastore: Arc::clone(&datastore),
        address: schema::address(&config.datastore.url),
        schema: schema.subscribe(),
    };
    let address = schema::address(&config.datastore.url);
    building.keep_records(Scope::Region, Arc::clone(&datastore), schema.subscribe())?;
    building.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => return,
            () = schema::bring_up(&*store, ("datastore.url", &address), &schema) => {}
        }
        tokio::join!(
            replication.run(consumer, stop.clone()),
            relay.run(stop.clone()),
            retention::run(store, retention, stop),
            recording
        );
    });

    let local = Local::new(
        Arc::clone(&datastore),
        building.name.clone(),
        config.limits,
        applied,
    );
    let local = Arc::new(local.keeping(config.decision_settings()));
    let own = own(config, &local)?;
    let flow_service = recorder.service(Arc::clone(&local));
    let regional = Arc::new(Regional::new(local, own, Upwards::new(peers()?)));
    let known = freshness.subscribe();
    let tiering = Tiering::Below(peers()?);
    let aging = freshness.subscribe();
    let below = Below {
        age: Box::new(move || aging.borrow().age(wall_clock(), beginning.elapsed())),
        start: beginning,
        upstream: peers()?,
    };
    building.measure(Holding::Database(Arc::clone(&datastore)), Some(below));
    let admin = building.admin(tiering, own_kafka, Some(peers()?), holds);
    let hub = building.hub();
    let guard = building.guard(&recorder.recorder, Arc::clone(&regional) as _);
    let following = building.following(&datastore, hub.as_ref());
    building.live(
        hub,
        (Arc::clone(&regional) as _, Arc::clone(&regional) as _),
        Source::Database(Arc::clone(&following)),
        &guard,
    )?;
    building.watch(following, recorder.recorder.clone());
    let behaviour = Behaviour {
        flows: flow_service,
        guard,
        calls: Arc::clone(&regional) as _,
        admin: Arc::clone(&admin),
        nodes: Some(Nodes {
            decide: Arc::clone(&regional) as _,
            calls: regional,
            datastore,
            clock: Clock::Replica(Arc::new(move || {
                let (beat, received) = known.borrow().heartbeat()?;
                Some((beat, beginning.elapsed().saturating_sub(received)))
            })),
            name: building.name.clone(),
            admin,
            flows,
        }),
    };
    // Everything up to some heartbeat of the writer is here.
    let mut fresh = freshness.subscribe();
    let ready = async move {
        if fresh
            .wait_for(|freshness| freshness.heartbeat().is_some())
            .await
            .is_err()
        {
            std::future::pending().await
        }
    };
    building.serve(behaviour, ready).await
}
