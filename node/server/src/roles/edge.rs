//! An edge: the needed part in memory and on disk, no database. And the live channel by itself, which is an edge that serves
//! nothing else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_sync::edge_driver::{DriverSettings, EdgeDriver};
use meridian_sync::kafka::broadcast::{self, Event};
use meridian_sync::kafka::probe::Probe;
use meridian_sync::views::{Observer, Views};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Behaviour, Below, Building, Holding, Node, Source};
use crate::admin::Tiering;
use crate::answers::Answers;
use crate::config::Config;
use crate::flows::{Flows, Kept};
use crate::live::views::Watching;
use crate::peer::Peers;
use crate::peer::trust::Trust;
use crate::routing::edge::{Edge, Parts};
use crate::routing::{Upwards, wall_clock};
use crate::snapshots::Snapshots;
use crate::status::{self, Holds};

/// Starts an edge.
///
/// # Errors
/// When an address cannot be listened on, or a setting cannot be used.
pub async fn start(config: &Config) -> anyhow::Result<Node> {
    start_as(Serves::Everything, config).await
}

/// Starts a process that serves the live channel alone, knowing what an edge knows.
///
/// # Errors
/// When an address cannot be listened on, or a setting cannot be used.
pub async fn start_live(config: &Config) -> anyhow::Result<Node> {
    config.check_has_live()?;
    start_as(Serves::Live, config).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Serves {
    Everything,
    Live,
}

async fn start_as(serves: Serves, config: &Config) -> anyhow::Result<Node> {
    config.check_has_upstream()?;
    let role = match serves {
        Serves::Everything => "edge",
        Serves::Live => "live",
    };
    let mut building = Building::new(role, config, false).await?;
    let trust = Trust::read(&config.nodes)?;
    let peers = || Peers::trusting(&config.upstream, &trust).map(Peers::for_edge);
    let beginning = Instant::now();
    let answers = Arc::new(Answers::new(
        config.edge.max_answers,
        config.edge.answer_max_age,
    ));
    let hub = building.hub();
    let answering = Arc::clone(&answers) as Arc<dyn Observer>;
    let watching = hub.as_ref().map(|hub| {
        let next = Arc::clone(&answering);
        Arc::new(Watching::new(next, Arc::clone(hub)))
    });
    let observer = watching.clone().map_or(answering, |watching| watching as _);
    let views = Arc::new(Views::new(beginning, Some(observer)));
    let folder = config.edge.directory.as_deref();
    let snapshots = folder.map(Snapshots::open).transpose()?;
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
        kept: Vec::new(),
        settings: DriverSettings::default(),
        start: beginning,
    };
    let interval = config.edge.snapshot_interval;
    building.spawn(run(driver, events, snapshots, interval, stop));

    let edge = Edge::new(Parts {
        views: Arc::clone(&views),
        answers: Arc::clone(&answers),
        upwards: Upwards::new(peers()?),
        name: building.name.clone(),
        limits: config.limits,
        max_staleness: config.edge.max_staleness,
        revision_wait: config.edge.revision_wait,
    });
    let own_kafka = status::Kafka {
        address: kafka.bootstrap_servers.clone(),
        probe: Probe::new(kafka.clone(), kafka.edge_topic(&config.region)),
        relay: None,
    };
    let aging = Arc::clone(&views);
    let below = Below {
        age: Box::new(move || aging.freshness().age(wall_clock(), beginning.elapsed())),
        start: beginning,
        upstream: peers()?,
    };
    let holding = Holding::Memory(Arc::clone(&views), Arc::clone(&answers));
    building.measure(holding, Some(below));
    let admin = building.admin(
        Tiering::Below(peers()?),
        own_kafka,
        Some(peers()?),
        Holds::Memory(Arc::clone(&views)),
    );
    let edge = Arc::new(edge);
    let (recorder, above) = building.recorder_above(peers()?)?;
    let guard = building.guard(&recorder, Arc::clone(&edge) as _);
    if let Some((hub, watching)) = hub.zip(watching) {
        let source = Source::Views(Arc::clone(&views), watching);
        let node = (Arc::clone(&edge) as _, Arc::clone(&edge) as _);
        building.live(Some(hub), node, source, &guard)?;
    }
    let fresh = async move { views.fresh().await };
    if serves == Serves::Live {
        return building.serve_live(fresh).await;
    }
    building.watch_elsewhere();
    let behaviour = Behaviour {
        calls: edge,
        admin,
        nodes: None,
        flows: Arc::new(Flows {
            kept: Kept::Above { above, recorder },
        }),
        guard,
    };
    building.serve(behaviour, fresh).await
}

/// Replicates, from what the snapshot files hold. Reading them may take long; meanwhile the node lives and is not ready.
async fn run(
    driver: EdgeDriver,
    events: mpsc::Receiver<Event>,
    snapshots: Option<Snapshots>,
    interval: Duration,
    stop: CancellationToken,
) {
    let Some(snapshots) = snapshots else {
        return driver.run(events, stop).await;
    };
    let loaded = tokio::select! {
        () = stop.cancelled() => return,
        loaded = tokio::task::spawn_blocking(|| snapshots.load()) => loaded,
    };
    // An error means that the runtime ends.
    let Ok((snapshots, kept)) = loaded else {
        return;
    };
    for view in &kept {
        let store = view.info().map(|info| info.id.to_string());
        tracing::info!(store, position = %view.position(), "starting from the snapshot file");
    }
    let views = Arc::clone(&driver.views);
    let driver = EdgeDriver { kept, ..driver };
    tokio::join!(
        driver.run(events, stop.clone()),
        snapshots.keep(views, interval, stop)
    );
}
