//! Leader election: of several operators, the one that holds the Lease writes.
//!
//! Whoever holds it renews it; who sees it not renewed for its whole duration, by its own clock, takes it. A leader that
//! could not renew in time stops writing before anybody else may start: it trusts the Lease for less long than the
//! others do. Clocks of different machines are never compared.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use tokio::time::Instant;

use crate::nodes::NodeError;
use crate::reconcile::Error;
use crate::reconcile::read::call;

/// How long others leave a Lease alone that is not renewed.
const DURATION: Duration = Duration::from_secs(15);
/// How long its holder trusts it after renewing it.
const TRUST: Duration = Duration::from_secs(10);
/// How often it is renewed, or looked at.
const PERIOD: Duration = Duration::from_secs(3);

/// Whether this operator may write.
#[derive(Debug, Clone)]
pub struct Leadership(Arc<Mutex<Until>>);

#[derive(Debug, Clone, Copy)]
enum Until {
    Never,
    Always,
    At(Instant),
}

impl Leadership {
    /// Of an operator that is the only one.
    #[must_use]
    pub fn always() -> Self {
        Self(Arc::new(Mutex::new(Until::Always)))
    }

    /// Refuses a write of who does not lead.
    ///
    /// # Errors
    /// [`Error::NotLeader`].
    pub fn check(&self) -> Result<(), Error> {
        match self.until() {
            Until::Always => Ok(()),
            Until::At(end) if Instant::now() < end => Ok(()),
            Until::At(_) | Until::Never => Err(Error::NotLeader),
        }
    }

    /// Runs a write of the API server for as long as nobody else may lead, and as [`call`] does. Whether one that is cut
    /// off was done is not known.
    ///
    /// # Errors
    /// What [`call`] says, and [`Error::NotLeader`].
    pub async fn write<T>(
        &self,
        attempt: impl FnOnce() -> String,
        write: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Error> {
        self.within(call(attempt, write)).await?
    }

    /// Runs a write of nodes, alike.
    ///
    /// # Errors
    /// What the write says, and [`NodeError::Unavailable`] of who does not lead.
    pub async fn guard<T>(
        &self,
        write: impl Future<Output = Result<T, NodeError>>,
    ) -> Result<T, NodeError> {
        let done = self.within(write).await;
        done.unwrap_or_else(|lost| Err(NodeError::Unavailable(lost.to_string())))
    }

    async fn within<T>(&self, write: impl Future<Output = T>) -> Result<T, Error> {
        let mut write = std::pin::pin!(write);
        loop {
            let end = match self.until() {
                Until::Always => return Ok(write.await),
                Until::At(end) if Instant::now() < end => end,
                Until::At(_) | Until::Never => return Err(Error::NotLeader),
            };
            // By then the Lease may have been renewed.
            if let Ok(done) = tokio::time::timeout_at(end, &mut write).await {
                return Ok(done);
            }
        }
    }

    fn until(&self) -> Until {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, until: Until) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

/// One operator's part in the election.
pub struct Election {
    api: Api<Lease>,
    name: String,
    identity: String,
    leadership: Leadership,
    /// The Lease as it was seen last, and when that was first so.
    seen: Option<(Option<String>, Instant)>,
}

impl Election {
    /// A candidate for the Lease `name` in `namespace`. `identity` must be unique among candidates.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str, identity: String) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity,
            leadership: Leadership(Arc::new(Mutex::new(Until::Never))),
            seen: None,
        }
    }

    /// Whether it has been won; changes with time.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Waits until it is won. `heard` is called after each answer of the API server.
    pub async fn win(&mut self, heard: impl Fn()) {
        loop {
            match self.attempt().await {
                Ok(won) => {
                    heard();
                    if won {
                        tracing::info!(lease = self.name, identity = self.identity, "leading");
                        return;
                    }
                }
                Err(error) => tracing::warn!(%error, "cannot take part in the election; trying on"),
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Renews what was won; returns when it is lost.
    pub async fn keep(&mut self) {
        loop {
            tokio::time::sleep(PERIOD).await;
            match self.attempt().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => tracing::warn!(%error, "cannot renew the lease; trying on"),
            }
            if self.leadership.check().is_err() {
                return;
            }
        }
    }

    /// Gives it up, so that another may lead at once.
    pub async fn release(&mut self) {
        self.leadership.set(Until::Never);
        let read = call(|| "read the lease".to_owned(), self.api.get(&self.name)).await;
        let Ok(mut lease) = read else { return };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return;
        }
        spec.holder_identity = None;
        let params = PostParams::default();
        let replace = self.api.replace(&self.name, &params, &lease);
        if let Err(error) = call(|| "release the lease".to_owned(), replace).await {
            tracing::warn!(%error, "the lease runs out by itself");
        }
    }

    /// Takes or renews it if that may be done. Only one of several who try at once succeeds: the API server compares
    /// the version.
    async fn attempt(&mut self) -> Result<bool, Error> {
        let (start, params) = (Instant::now(), PostParams::default());
        let read = call(|| "read the lease".to_owned(), self.api.get_opt(&self.name)).await?;
        let taken = match read {
            None => {
                let lease = Lease {
                    metadata: ObjectMeta {
                        name: Some(self.name.clone()),
                        ..Default::default()
                    },
                    spec: Some(self.spec(None)),
                };
                let attempt = || "create the lease".to_owned();
                call(attempt, self.api.create(&params, &lease)).await
            }
            Some(mut lease) => {
                if !self.may_take(&lease, start) {
                    self.leadership.set(Until::Never);
                    return Ok(false);
                }
                lease.spec = Some(self.spec(lease.spec.as_ref()));
                let attempt = || "renew the lease".to_owned();
                call(attempt, self.api.replace(&self.name, &params, &lease)).await
            }
        };
        match taken {
            Ok(_) => {
                self.leadership.set(Until::At(start + TRUST));
                Ok(true)
            }
            // Another was quicker.
            Err(Error::Api { source, .. }) if matches!(&*source, kube::Error::Api(of) if of.code == 409) => {
                Ok(self.leadership.check().is_ok())
            }
            Err(error) => Err(error),
        }
    }

    fn may_take(&mut self, lease: &Lease, now: Instant) -> bool {
        let spec = lease.spec.as_ref();
        let holder = spec.and_then(|spec| spec.holder_identity.as_deref());
        if holder.is_none_or(|holder| holder.is_empty() || holder == self.identity) {
            return true;
        }
        let version = lease.resource_version();
        let since = match &self.seen {
            Some((seen, since)) if *seen == version => *since,
            _ => now,
        };
        self.seen = Some((version, since));
        let duration = spec
            .and_then(|spec| u64::try_from(spec.lease_duration_seconds?).ok())
            .map_or(DURATION, Duration::from_secs);
        now.duration_since(since) > duration
    }

    fn spec(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let was_ours = before.is_some_and(|of| of.holder_identity.as_ref() == Some(&self.identity));
        let kept = before.filter(|_| was_ours);
        let changes = before.and_then(|of| of.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: kept
                .and_then(|of| of.acquire_time.clone())
                .or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(if was_ours || before.is_none() {
                changes
            } else {
                changes.saturating_add(1)
            }),
            ..Default::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_of_nodes_ends_with_the_leadership() {
        let leadership = Leadership(Arc::new(Mutex::new(Until::Never)));
        let start = Instant::now();
        leadership.set(Until::At(start + TRUST));
        assert_eq!(leadership.guard(async { Ok(1) }).await, Ok(1));
        let never = std::future::pending::<Result<(), NodeError>>();
        let lost = leadership.guard(never).await;
        assert!(matches!(lost, Err(NodeError::Unavailable(_))), "{lost:?}");
        assert_eq!(start.elapsed().as_secs(), TRUST.as_secs());
        let begun = leadership.guard(async { Ok(1) }).await;
        assert!(begun.is_err(), "{begun:?}");
        // Renewed meanwhile.
        let renewed = Instant::now() + TRUST;
        leadership.set(Until::At(renewed));
        let slow = async {
            tokio::time::sleep(TRUST / 2).await;
            leadership.set(Until::At(renewed + TRUST));
            tokio::time::sleep(TRUST).await;
            Ok(1)
        };
        assert_eq!(leadership.guard(slow).await, Ok(1));
        leadership.set(Until::Always);
        assert_eq!(leadership.guard(async { Ok(1) }).await, Ok(1));
    }
}
