//! What is done to one store: the next change set applied, or all that is missing brought in from upstream.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use meridian_model::change::{ChangeSet, Tiers};
use meridian_model::ids::{Position, StoreId};
use meridian_model::ports::{Applied, Datastore, DatastoreError, StoreHead, StoreRecord};

use super::{AT_ONCE, RegionalSettings};
use crate::envelope::Heartbeat;
use crate::upstream::{Incoming, Upstream, UpstreamError};

/// Why something was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The own datastore failed.
    #[error("the datastore failed")]
    Datastore(#[from] DatastoreError),
    /// The node above does not give what is missing.
    #[error("upstream does not give what is missing")]
    Upstream(#[from] UpstreamError),
}

impl ApplyError {
    /// Whether `other` says the same but for its details.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        use std::mem::discriminant;
        match (self, other) {
            (Self::Datastore(one), Self::Datastore(other)) => {
                discriminant(one) == discriminant(other)
            }
            (Self::Upstream(one), Self::Upstream(other)) => {
                discriminant(one) == discriminant(other)
            }
            _ => false,
        }
    }
}

/// Which stores are behind upstream, and how fresh a copy is that has come as far.
pub(super) struct Comparison {
    /// Each store that is behind, and where it must come to: where upstream has it, or, of a store that upstream's reign
    /// does not have, into that reign.
    pub(super) behind: Vec<(StoreId, Position)>,
    pub(super) heartbeat: Option<(Heartbeat, Duration)>,
}

/// Applies change sets to a datastore, bringing in from upstream what is missing.
#[derive(Clone)]
pub struct Applier {
    datastore: Arc<dyn Datastore>,
    upstream: Arc<dyn Upstream>,
    pub(super) settings: RegionalSettings,
}

impl Applier {
    /// Applies to the node's own `datastore`, asking `upstream` for what is missing.
    pub fn new(
        datastore: Arc<dyn Datastore>,
        upstream: Arc<dyn Upstream>,
        settings: RegionalSettings,
    ) -> Self {
        Self {
            datastore,
            upstream,
            settings,
        }
    }

    pub(super) async fn apply(&self, sets: &[ChangeSet]) -> Result<Applied, DatastoreError> {
        self.datastore.apply(sets, self.deadline()).await
    }

    pub(super) async fn compare(&self) -> Result<Comparison, ApplyError> {
        let standing = self.upstream.positions(self.deadline()).await?;
        let ours: BTreeMap<_, _> = self
            .datastore
            .positions(self.deadline())
            .await?
            .into_iter()
            .collect();
        let reign = standing.heartbeat.map(|(beat, _)| beat.epoch);
        let listed: BTreeSet<_> = standing.stores.iter().map(|(store, _)| *store).collect();
        let given_up = ours.iter().filter_map(|(store, have)| {
            let newer = reign.filter(|reign| *reign > have.epoch && !listed.contains(store));
            newer.map(|epoch| (*store, Position { epoch, ..*have }))
        });
        let behind = standing
            .stores
            .into_iter()
            .filter(|(store, there)| ours.get(store).is_none_or(|have| have < there))
            .chain(given_up)
            .collect();
        Ok(Comparison {
            behind,
            heartbeat: standing.heartbeat,
        })
    }

    /// Brings a store to `target` or later and returns where it is: by upstream's change sets, or by a snapshot when
    /// upstream no longer keeps them or a newer reign began. A store that upstream's reign does not have is deleted here,
    /// and one of which upstream has less than `target` is brought as far as that; both are then before `target`, for good.
    /// Each call and each chunk has the deadline; the whole has none.
    ///
    /// # Errors
    /// [`ApplyError`]; what was applied until then stays.
    pub async fn mend(&self, store: StoreId, target: Position) -> Result<Position, ApplyError> {
        let mended = self.bring(store, target).await;
        let Err(ApplyError::Upstream(UpstreamError::Behind)) = mended else {
            return mended;
        };
        // A record alone proves nothing: it may have been written by anyone. Upstream, asked behind it, knows.
        let standing = self.upstream.positions(self.deadline()).await?;
        let mut stores = standing.stores.into_iter();
        let there = stores.find_map(|(id, there)| (id == store).then_some(there));
        let Some(there) = there.filter(|there| *there < target) else {
            return mended;
        };
        tracing::warn!(%store, %target, %there, "a record spoke of a revision that upstream does not have; going by upstream");
        self.bring(store, there).await
    }

    async fn bring(&self, store: StoreId, target: Position) -> Result<Position, ApplyError> {
        let record = self.datastore.store(store, self.deadline()).await?;
        let have = record.as_ref().map(|record| record.position);
        let have = have.unwrap_or_default();
        if have >= target {
            return Ok(have);
        }
        let mended = if have != Position::default() && have.epoch != target.epoch {
            self.replace(store, target).await
        } else {
            self.catch_up(store, have, target).await
        };
        match mended {
            Err(ApplyError::Upstream(UpstreamError::UnknownStore)) => {
                self.give_up(store, record, target).await
            }
            mended => mended,
        }
    }

    /// Upstream said that it does not know the store. It may know it by now; otherwise the store never was or is of a
    /// history that was given up, and a copy from there is deleted.
    async fn give_up(
        &self,
        store: StoreId,
        record: Option<StoreRecord>,
        target: Position,
    ) -> Result<Position, ApplyError> {
        let standing = self.upstream.positions(self.deadline()).await?;
        let listed = standing.stores.iter().any(|(id, _)| *id == store);
        let Some((beat, _)) = standing.heartbeat else {
            return Err(UpstreamError::UnknownStore.into());
        };
        if listed {
            return Err(UpstreamError::UnknownStore.into());
        }
        tracing::warn!(%store, %target, epoch = %beat.epoch, "upstream does not have the store; it never was or is of a history that was given up");
        let Some(StoreRecord { info, position, .. }) = record else {
            return Ok(Position::default());
        };
        if position.epoch >= beat.epoch {
            return Ok(position);
        }
        let head = StoreHead {
            info,
            position: Position {
                epoch: beat.epoch,
                ..position
            },
            models: Vec::new(),
            tiers: Tiers::default(),
            deleted_at: Some(beat.clock),
        };
        let step = self.settings.deadline;
        if let Some(deletion) = self.datastore.replace(&head, step).await? {
            deletion.finish().await?;
        }
        Ok(head.position)
    }

    async fn catch_up(
        &self,
        store: StoreId,
        mut have: Position,
        target: Position,
    ) -> Result<Position, ApplyError> {
        while have < target {
            let changes = match self
                .upstream
                .changes(store, have, self.settings.page, self.deadline())
                .await
            {
                Err(UpstreamError::Trimmed) => return self.replace(store, target).await,
                changes => changes?,
            };
            let before = have;
            for sets in changes.change_sets.chunks(AT_ONCE) {
                let reached = sets.last().map_or(have, ChangeSet::position);
                match self.apply(sets).await? {
                    Applied::Applied | Applied::Skipped => have = have.max(reached),
                    Applied::Fenced { .. } | Applied::Gap { .. } | Applied::NewEpoch { .. } => {
                        return self.replace(store, target).await;
                    }
                }
            }
            if have == before {
                // It answered, but not with what follows: of another epoch, or not that far itself.
                return self.replace(store, target).await;
            }
        }
        Ok(have)
    }

    /// Takes the store over chunk by chunk, so that it may be of any size.
    async fn replace(&self, store: StoreId, min: Position) -> Result<Position, ApplyError> {
        let step = self.settings.deadline;
        let Incoming { head, mut tuples } = self.upstream.snapshot(store, min, step).await?;
        let Some(mut replacement) = self.datastore.replace(&head, step).await? else {
            // Another replica was quicker.
            return Ok(head.position);
        };
        let mut taken = 0_usize;
        while let Some(chunk) = tuples.next().await {
            let chunk = chunk?;
            taken += chunk.len();
            replacement.add(chunk).await?;
        }
        replacement.finish().await?;
        tracing::info!(%store, position = %head.position, tuples = taken, "took the store over from a snapshot");
        Ok(head.position)
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.settings.deadline
    }
}
