//! `/watch` of a node, and what reads its database's changes for it and the live channel.

use std::sync::Arc;

use axum::Router;
use meridian_flow::FlowRecorder;
use meridian_live_channel::Hub;
use meridian_model::ports::Datastore;

use super::Building;
use crate::following::Following;
use crate::watch::feed::Feeds;
use crate::watch::{self, Settings, Watch};

/// What a node has at `/watch`.
#[derive(Default)]
pub(super) struct Watching {
    pub(super) server: Option<Arc<Watch>>,
    pub(super) router: Router,
}

impl Building {
    /// What reads the changes of a node's database, where anything wants them.
    pub(super) fn following(
        &mut self,
        datastore: &Arc<dyn Datastore>,
        hub: Option<&Arc<Hub>>,
    ) -> Arc<Following> {
        let (live, watch) = (&self.config.live, &self.config.watch);
        // What somebody else decides does not rest on this store.
        let hub = hub.filter(|_| live.authority_url.is_none());
        let is_wanted = hub.is_some() || watch.enabled;
        let feeds = Arc::new(Feeds::new(watch.queue_changes, watch.queue_bytes));
        let lags = !self.config.upstream.is_empty();
        let following = Following::new(Arc::clone(datastore), hub.cloned(), feeds, lags);
        let following = Arc::new(following);
        if is_wanted {
            self.spawn(Arc::clone(&following).run(self.stop.clone()));
        }
        following
    }

    /// Has the node serve `/watch`, if it is to.
    pub(super) fn watch(&mut self, following: Arc<Following>, recorder: FlowRecorder) {
        let watch = &self.config.watch;
        if !watch.enabled {
            return;
        }
        let settings = Settings {
            node: self.name.as_str().to_owned(),
            origins: self.config.http.cors_allowed_origins.clone(),
            proxies: self.config.http.proxies(),
            connections: watch.connections,
            decisions: watch.queue_decisions,
            hello_timeout: watch.hello_timeout,
            ping_interval: watch.ping_interval,
            idle_timeout: watch.idle_timeout,
        };
        let (authenticator, drain) = (Arc::clone(&self.authenticator), self.drain.clone());
        let server = Watch::new(following, recorder, authenticator, settings, drain);
        let server = Arc::new(server);
        self.watching = Watching {
            router: Arc::clone(&server).router(),
            server: Some(server),
        };
    }

    /// Has a node without a change log say where there is one.
    pub(super) fn watch_elsewhere(&mut self) {
        self.watching.router = watch::elsewhere(&self.config.product, &self.config.region);
    }
}
