//! Central: the truth, and the only writer.

use std::sync::Arc;

use meridian_sync::kafka::relay::{Relay, RelaySettings, Role};
use tokio::sync::Notify;

use super::{Behaviour, Building, Node, migrated, open_datastore};
use crate::admin::Admin;
use crate::commands::Local;
use crate::config::Config;
use crate::node_service::{Clock, Nodes};
use crate::retention;

/// Starts a central node.
///
/// # Errors
/// When an address cannot be listened on, or a setting cannot be used.
pub async fn start(config: &Config) -> anyhow::Result<Node> {
    let mut building = Building::new("central", config, true).await?;
    let datastore = open_datastore(config)?;
    let committed = Arc::new(Notify::new());
    let local = Arc::new(Local::new(
        Arc::clone(&datastore),
        building.name.clone(),
        config.limits,
        Arc::clone(&committed),
    ));
    let (kafka, stop, schema) = (
        building.kafka()?,
        building.stop.clone(),
        tokio::sync::watch::Sender::new(false),
    );
    let relay = Relay {
        datastore: Arc::clone(&datastore),
        topic: kafka.changes_topic(),
        kafka,
        role: Role::Writer,
        holder: building.name.as_str().to_owned(),
        wake: Arc::clone(&committed),
        settings: RelaySettings::default(),
    };
    let retention = config.datastore.changelog_retention;
    let (store, migrated_sender) = (Arc::clone(&datastore), schema.clone());
    building.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => return,
            () = migrated(Arc::clone(&store)) => {}
        }
        migrated_sender.send_replace(true);
        tokio::join!(
            relay.run(stop.clone()),
            retention::run(store, retention, stop)
        );
    });
    let mut ready = schema.subscribe();
    let behaviour = Behaviour {
        calls: Arc::clone(&local) as _,
        admin: Admin::Central {
            datastore: Arc::clone(&datastore),
            committed: Arc::clone(&committed),
        },
        nodes: Some(Nodes {
            decide: Arc::clone(&local) as _,
            calls: local,
            datastore: Arc::clone(&datastore),
            clock: Clock::Writer,
            name: building.name.clone(),
            admin: Arc::new(Admin::Central {
                datastore,
                committed,
            }),
        }),
    };
    building
        .serve(behaviour, async move {
            ready
                .wait_for(|ready| *ready)
                .await
                .map_or_else(|_| (), |_| ())
        })
        .await
}
