//! The live channel of a node: its parts, put together.

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use meridian_live_channel::ports::Authority;
use meridian_live_channel::review::Review;
use meridian_live_channel::{Hub, Server, Settings};
use meridian_sync::kafka::live::{Publisher, read};
use meridian_sync::views::Views;

use super::Building;
use crate::api::cors;
use crate::api::serve::Drain;
use crate::authn::Web;
use crate::calls::Calls;
use crate::config::Live as Config;
use crate::config::live::Scope;
use crate::following::Following;
use crate::live::authority::{Changes, Checks, Elsewhere};
use crate::live::observing::Observing;
use crate::live::publishing::{self, Publishing};
use crate::live::records::Records;
use crate::live::stores::Stores;
use crate::live::tokens::Verifier;
use crate::live::views::Watching;
use crate::recording::Guard;
use crate::routing::batch::DecideAll;

/// The live channel of a node, ready to be served.
pub(super) struct Live {
    pub(super) server: Arc<Server>,
    /// What callers of the API may do.
    pub(super) publishing: Router,
}

/// Waits, once the node is `drained`, until the last socket `of` it is `closed`, though not for ever.
pub(super) async fn closed(
    of: &'static str,
    closed: impl Future<Output = ()>,
    drained: impl Future<Output = ()>,
    patience: Drain,
) {
    drained.await;
    if tokio::time::timeout(patience.0, closed).await.is_err() {
        tracing::warn!(of, "sockets were still open after the drain time");
    }
}

/// Where a node's changes are.
pub(super) enum Source {
    Views(Arc<Views>, Arc<Watching>),
    Database(Arc<Following>),
}

impl Building {
    /// All subscriptions of the node, if it has the live channel.
    pub(super) fn hub(&self) -> Option<Arc<Hub>> {
        let live = &self.config.live;
        live.enabled.then(|| Arc::new(Hub::new(live.limits())))
    }

    /// Has the node serve the live channel, if it has one.
    ///
    /// # Errors
    /// When a setting cannot be used.
    pub(super) fn live(
        &mut self,
        hub: Option<Arc<Hub>>,
        (decider, calls): (Arc<dyn DecideAll>, Arc<dyn Calls>),
        source: Source,
        guard: &Arc<Guard>,
    ) -> anyhow::Result<()> {
        let Some(hub) = hub else { return Ok(()) };
        let live = self.config.live.clone();
        let (kafka, stop) = (self.kafka()?, self.stop.clone());
        let region = Some(self.config.region.as_str());
        let topic = kafka.live_topic(region.filter(|_| live.scope == Scope::Region));
        let publisher = Arc::new(Publisher::new(&kafka, &topic, publishing::TIMEOUT)?);
        let records = Records::new(Arc::clone(&hub), topic.clone(), live.default_store());
        let reading = read(
            &kafka,
            &topic,
            self.name.as_str(),
            Arc::new(records),
            stop.clone(),
        )?;
        // An edge may not be allowed to make topics; the nodes above do.
        let makes = matches!(source, Source::Database(_)).then(|| Arc::clone(&publisher));
        let stopped = stop.clone();
        self.spawn(async move {
            if let Some(publisher) = makes {
                tokio::select! {
                    () = stopped.cancelled() => return,
                    () = publisher.make_topic() => {}
                }
            }
            reading.await;
        });

        let node = self.authenticator.oidc().cloned();
        let tokens = Verifier::new(&live, self.config.authn.method, node).context("live.oidc")?;
        let tokens = Arc::new(tokens);
        let (keys, stopped) = (Arc::clone(&tokens), stop.clone());
        if !live.oidc.issuer.is_empty() {
            self.spawn(async move {
                tokio::select! {
                    () = stopped.cancelled() => {}
                    () = keys.keep_keys() => {}
                }
            });
        }
        let stores = Arc::new(Stores::new(calls));
        let authority = self.authority(&live, decider, source, &stores)?;
        let review = Review {
            hub: Arc::clone(&hub),
            authority: Arc::clone(&authority),
            times: live.times(),
        };
        self.spawn(review.run(stop));
        let settings = self.live_settings(&live);
        let observing = Observing::new(Arc::clone(guard), tokens.grant(), self.name.as_str());
        let server = Server::new(hub, tokens, authority, settings, self.drain.clone())
            .observed(Arc::new(observing));
        let publishing = Publishing {
            publisher,
            stores: live.authority_url.is_none().then_some(stores),
            limits: self.config.limits,
        };
        self.live = Some(Live {
            server: Arc::new(server),
            publishing: publishing.router(),
        });
        Ok(())
    }

    fn authority(
        &self,
        live: &Config,
        decider: Arc<dyn DecideAll>,
        source: Source,
        stores: &Arc<Stores>,
    ) -> anyhow::Result<Arc<dyn Authority>> {
        if let Some(url) = &live.authority_url {
            let web = Web::new(live.oidc.ca.as_deref()).context("live.authorityUrl")?;
            let limit = live.times().question();
            return Ok(Arc::new(Elsewhere::new(web, url.clone(), limit)));
        }
        let changes = match source {
            Source::Views(views, watching) => Changes::Views(views, watching),
            Source::Database(following) => Changes::Database(following),
        };
        Ok(Arc::new(Checks {
            decider,
            changes,
            stores: Arc::clone(stores),
            timeout: self
                .config
                .limits
                .request_timeout
                .min(live.times().question()),
        }))
    }

    fn live_settings(&self, live: &Config) -> Settings {
        let (allowed, proxies) = (live.allowed_origins.clone(), self.config.http.proxies());
        Settings {
            node: self.name.as_str().to_owned(),
            store: live.default_store(),
            rules: live.rules(),
            origins: Arc::new(move |origin| cors::is_among(&allowed, origin)),
            addresses: Arc::new(move |peer, headers| proxies.client(peer, headers)),
            shows_token: live.authority_url.is_some(),
            limits: live.limits(),
            times: live.times(),
        }
    }
}
