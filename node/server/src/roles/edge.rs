//! An edge: the needed part in memory and on disk, no database.

use std::sync::Arc;
use std::time::Instant;

use meridian_sync::edge_driver::{DriverSettings, EdgeDriver};
use meridian_sync::kafka::broadcast;
use meridian_sync::kafka::probe::Probe;
use meridian_sync::views::Views;

use super::{Behaviour, Building, Node};
use crate::admin::Tiering;
use crate::config::Config;
use crate::peer::Peers;
use crate::routing::Upwards;
use crate::routing::answers::Answers;
use crate::routing::edge::{Edge, Parts};
use crate::snapshots::Snapshots;
use crate::status::{self, Holds};

/// Starts an edge.
///
/// # Errors
/// When an address cannot be listened on, or a setting cannot be used.
pub async fn start(config: &Config) -> anyhow::Result<Node> {
    config.check_has_upstream()?;
    let mut building = Building::new("edge", config, false).await?;
    let peers = || Peers::new(&config.upstream).map(Peers::for_edge);
    let beginning = Instant::now();
    let answers = Arc::new(Answers::new(
        config.edge.max_answers,
        config.edge.answer_max_age,
    ));
    let views = Arc::new(Views::new(beginning, Some(Arc::clone(&answers) as _)));
    let mut snapshots = config
        .edge
        .directory
        .as_deref()
        .map(Snapshots::open)
        .transpose()?;
    let kept = snapshots.as_mut().map(Snapshots::load).unwrap_or_default();

    let (kafka, stop) = (building.kafka()?, building.stop.clone());
    building.watch_brokers(&kafka, kafka.edge_topic(&config.region));
    let events = broadcast::read(
        &kafka,
        &kafka.edge_topic(&config.region),
        building.name.as_str(),
        stop.clone(),
    )?;
    let driver = EdgeDriver {
        upstream: Arc::new(peers()?),
        views: Arc::clone(&views),
        kept,
        settings: DriverSettings::default(),
        start: beginning,
    };
    building.spawn(driver.run(events, stop.clone()));
    if let Some(snapshots) = snapshots {
        building.spawn(snapshots.keep(Arc::clone(&views), config.edge.snapshot_interval, stop));
    }

    let edge = Edge::new(Parts {
        views: Arc::clone(&views),
        answers,
        upwards: Upwards::new(peers()?),
        name: building.name.clone(),
        limits: config.limits,
        max_staleness: config.edge.max_staleness,
        revision_wait: config.edge.revision_wait,
    });
    let own_kafka = status::Kafka {
        probe: Probe::new(kafka.clone(), kafka.edge_topic(&config.region)),
        relay: None,
    };
    let admin = building.admin(
        Tiering::Below(peers()?),
        own_kafka,
        Some(peers()?),
        Holds::Memory(Arc::clone(&views)),
    );
    let behaviour = Behaviour {
        calls: Arc::new(edge),
        admin,
        nodes: None,
    };
    building
        .serve(behaviour, async move { views.fresh().await })
        .await
}
