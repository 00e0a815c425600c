//! Records of the live channel in a node's database.

use std::sync::Arc;

use anyhow::Context as _;
use meridian_live_channel::durable::{Keeper, SqlRecords};
use meridian_model::ports::Datastore;
use meridian_sync::kafka::group::work::Worker;
use meridian_sync::kafka::live::make_topic;
use tokio::sync::watch;

use super::Building;
use crate::config::live::Scope;
use crate::live::keeping;
use crate::schema::Schema;

impl Building {
    /// Has the node keep the records of the live channel, where it has the channel and they are of `scope`: so each record
    /// is kept in one database. Nodes that share a database share the work.
    ///
    /// # Errors
    /// When a setting cannot be used.
    pub(super) fn keep_records(
        &mut self,
        scope: Scope,
        datastore: Arc<dyn Datastore>,
        mut schema: watch::Receiver<Schema>,
    ) -> anyhow::Result<()> {
        let (live, url) = (&self.config.live, &self.config.datastore.url);
        let outlasts = !url.starts_with("memory:");
        if !(live.enabled && live.durable && live.scope == scope && outlasts) {
            return Ok(());
        }
        let kafka = self.kafka()?;
        let region = Some(self.config.region.as_str());
        let topic = kafka.live_topic(region.filter(|_| scope == Scope::Region));
        let repository = SqlRecords::connect_lazy(url).context("datastore.url")?;
        let keeper = Keeper::new(Arc::new(repository), topic.clone());
        let (store, retention) = (live.default_store(), live.retention);
        let (holder, stop) = (self.holder(), self.stop.clone());
        self.spawn(async move {
            let beginning = async {
                make_topic(&kafka, &topic).await;
                let current = |schema: &Schema| matches!(schema, Schema::Current);
                schema.wait_for(current).await.map(drop)
            };
            let begun = tokio::select! {
                () = stop.cancelled() => return,
                begun = beginning => begun,
            };
            // The group is named as the topic: it is the one that reads all of it.
            let worker = Worker::new(&kafka, &topic, &topic);
            let (Ok(()), Ok(worker)) = (begun, worker) else {
                return;
            };
            tokio::join!(
                keeping::write(worker, &keeper, store, &stop),
                keeping::purge(datastore, &keeper, &holder, retention, &stop)
            );
        });
        Ok(())
    }
}
