//! From the outbox to a topic, in order, at least once.
//!
//! One relay per datastore is active: the holder of a lease. When two overlap for a moment, records repeat, which
//! consumers skip. A heartbeat's clock is read before the outbox scan whose rows it follows, so it vouches for every
//! revision acknowledged before that time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_model::ports::{Datastore, DatastoreError, OUTBOX_BYTES, OutboxRow};
use rdkafka::error::KafkaError;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::outlet::Outlet;
use super::{Error, Settings};
use crate::envelope::Heartbeat;
use crate::retry::{Patience, Said};
use crate::tier;

/// How long giving the lease up may hold up the end.
const RELEASE: Duration = Duration::from_millis(500);

/// What a relay works with.
#[derive(Debug, Clone)]
pub struct RelaySettings {
    /// How often the outbox is looked at when nobody wakes the relay.
    pub poll: Duration,
    /// How often heartbeats are sent.
    pub heartbeat: Duration,
    /// How long the lease lasts unless extended.
    pub lease: Duration,
    /// How long one call to the datastore, or one batch to Kafka, may take.
    pub deadline: Duration,
    /// How many rows are published at a time, at most.
    pub batch: u32,
    /// Pauses after failures.
    pub patience: Patience,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self {
            poll: Duration::from_millis(250),
            heartbeat: Duration::from_secs(1),
            lease: Duration::from_secs(15),
            deadline: Duration::from_secs(10),
            batch: 500,
            patience: Patience::default(),
        }
    }
}

/// What is sent, and on whose word heartbeats are.
#[derive(Debug, Clone)]
pub enum Role {
    /// Central: every revision whole; heartbeats are its database's time.
    Writer,
    /// A region, for its edges: revisions thinned out by tier; heartbeats are the last from upstream that this region has
    /// applied everything before.
    Region(watch::Receiver<Option<Heartbeat>>),
}

/// Publishes a datastore's outbox.
pub struct Relay {
    /// Whose outbox.
    pub datastore: Arc<dyn Datastore>,
    /// Kafka.
    pub kafka: Settings,
    /// Where to.
    pub topic: String,
    /// What.
    pub role: Role,
    /// A name that no other process has, by which this one holds the lease.
    pub holder: String,
    /// Wakes the relay when something was committed.
    pub wake: Arc<Notify>,
    /// Told why nothing can be published, while that is Kafka's fault.
    pub trouble: watch::Sender<Option<Arc<Trouble>>>,
    /// Times and sizes.
    pub settings: RelaySettings,
}

/// Why a relay could not publish.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The outbox or the lease cannot be had.
    #[error("the datastore failed")]
    Datastore(#[from] DatastoreError),
    /// The topic cannot be described or made.
    #[error("Kafka failed")]
    Kafka(#[from] Error),
    /// A record was not acknowledged.
    #[error("Kafka did not take a record of topic '{topic}'")]
    Produce {
        /// The topic.
        topic: String,
        /// Why not.
        #[source]
        source: Box<KafkaError>,
    },
}

impl Relay {
    /// Publishes until `stop`. Kafka or the datastore being away is logged and waited out; the outbox keeps everything.
    pub async fn run(self, stop: CancellationToken) {
        let mut open = None;
        let mut beaten: Option<Instant> = None;
        let (mut failures, mut said) = (0_u32, Said::default());
        loop {
            // Ended in the middle, a round only repeats what it sent.
            let round = tokio::select! {
                () = stop.cancelled() => return self.release().await,
                round = self.round(&mut open, &mut beaten) => round,
            };
            let pause = match round {
                Ok(()) => {
                    if failures > 0 {
                        tracing::info!(topic = %self.topic, failures, "relay works again");
                    }
                    (failures, said) = (0, Said::default());
                    self.trouble.send_replace(None);
                    self.settings.poll
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    let pause = self
                        .settings
                        .patience
                        .pause(failures, u64::from(failures) * 389);
                    if said.is_news(&error) {
                        tracing::warn!(topic = %self.topic, error = &error as &dyn std::error::Error, "relay cannot publish; the outbox keeps the changes");
                    }
                    open.take_if(|outlet: &mut Outlet| outlet.is_broken());
                    let kafkas = !matches!(error, Trouble::Datastore(_));
                    self.trouble.send_replace(kafkas.then(|| Arc::new(error)));
                    pause
                }
            };
            tokio::select! {
                () = stop.cancelled() => return self.release().await,
                () = tokio::time::sleep(pause) => {}
                // While Kafka fails, wake-ups must not shorten the pause.
                () = self.wake.notified(), if failures == 0 => {}
            }
        }
    }

    async fn round(
        &self,
        open: &mut Option<Outlet>,
        beaten: &mut Option<Instant>,
    ) -> Result<(), Trouble> {
        if !self.has_lease().await? {
            return Ok(());
        }
        let outlet = match open {
            Some(outlet) => outlet,
            None => {
                open.insert(Outlet::open(&self.kafka, &self.topic, self.settings.deadline).await?)
            }
        };
        let beat = if beaten.is_none_or(|at| at.elapsed() >= self.settings.heartbeat) {
            self.clock().await?
        } else {
            None
        };
        loop {
            let rows = self
                .datastore
                .outbox(self.settings.batch, self.deadline())
                .await?;
            let may_be_more = self.may_be_more(&rows);
            if !rows.is_empty() {
                self.publish(outlet, rows).await?;
            }
            if !may_be_more {
                break;
            }
            if !self.has_lease().await? {
                return Ok(());
            }
        }
        if let Some(beat) = beat {
            outlet.beat(beat).await?;
            *beaten = Some(Instant::now());
        }
        Ok(())
    }

    /// Whether a scan of the outbox ended for another reason than that there was no more. What it left lying no heartbeat
    /// may vouch for.
    fn may_be_more(&self, rows: &[OutboxRow]) -> bool {
        let bytes: usize = rows.iter().map(|row| row.change_set.weight()).sum();
        rows.len() >= self.settings.batch as usize || bytes >= OUTBOX_BYTES
    }

    /// Takes or extends the lease of the topic's one relay.
    async fn has_lease(&self) -> Result<bool, Trouble> {
        let lease = format!("relay:{}", self.topic);
        let (holder, length) = (&self.holder, self.settings.lease);
        let has = self
            .datastore
            .acquire_lease(&lease, holder, length, self.deadline());
        Ok(has.await?)
    }

    /// Gives the lease up for the next; where that fails, it ends by itself. Who never had it ends nobody's.
    async fn release(&self) {
        let lease = format!("relay:{}", self.topic);
        let deadline = Instant::now() + RELEASE;
        let released = self
            .datastore
            .acquire_lease(&lease, &self.holder, Duration::ZERO, deadline);
        if let Err(error) = released.await {
            tracing::debug!(topic = %self.topic, error = &error as &dyn std::error::Error, "the relay's lease was not given up");
        }
    }

    async fn clock(&self) -> Result<Option<Heartbeat>, Trouble> {
        match &self.role {
            Role::Writer => {
                let epoch = self.datastore.epoch(self.deadline()).await?;
                Ok(Some(Heartbeat {
                    epoch,
                    clock: self.datastore.now(self.deadline()).await?,
                    generation: 0,
                }))
            }
            Role::Region(applied) => {
                // In this order: whatever the heartbeat vouches for, the generation knows of.
                let Some(beat) = *applied.borrow() else {
                    return Ok(None);
                };
                let generation = self.datastore.generation(self.deadline()).await?;
                Ok(Some(Heartbeat { generation, ..beat }))
            }
        }
    }

    /// Sends rows in order; forgets them once every one is acknowledged.
    async fn publish(&self, outlet: &Outlet, rows: Vec<OutboxRow>) -> Result<(), Trouble> {
        let sequences: Vec<_> = rows.iter().map(|row| row.sequence).collect();
        let sets = rows.into_iter().map(|row| match self.role {
            Role::Writer => row.change_set,
            Role::Region(_) => tier::for_edge(&row.change_set, &row.tiers),
        });
        outlet.publish(sets).await?;
        Ok(self
            .datastore
            .outbox_delete(&sequences, self.deadline())
            .await?)
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.settings.deadline
    }
}
