//! Centrals as the tests need them.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::stream;
use meridian_model::change::{StoreInfo, Tiers};

use super::*;

/// Keeps no changes, and gives a store's tuples one by one, each after a pause; those of store 1 never.
pub(super) struct Slow {
    pub(super) position: Position,
    pub(super) tuples: usize,
    pub(super) pause: Duration,
    pub(super) asked: AtomicUsize,
}

impl Slow {
    pub(super) fn at(position: Position) -> Self {
        Self {
            position,
            tuples: 0,
            pause: Duration::ZERO,
            asked: AtomicUsize::new(0),
        }
    }
}

#[async_trait]
impl Upstream for Slow {
    async fn positions(&self, _: Instant) -> Result<Standing, UpstreamError> {
        let heartbeat = Heartbeat {
            epoch: Epoch(1),
            clock: Timestamp(1),
            generation: 0,
        };
        Ok(Standing {
            stores: vec![(store(1), self.position), (store(2), self.position)],
            heartbeat: Some((heartbeat, Duration::ZERO)),
        })
    }

    async fn changes(
        &self,
        _: StoreId,
        _: Position,
        _: u32,
        _: Instant,
    ) -> Result<Changes, UpstreamError> {
        Err(UpstreamError::Trimmed)
    }

    async fn head(&self, _: StoreId, _: Position, _: Instant) -> Result<StoreHead, UpstreamError> {
        unreachable!("a region takes whole stores")
    }

    async fn fill(
        &self,
        _: StoreId,
        _: &str,
        _: Position,
        _: Duration,
    ) -> Result<(Position, Vec<Tuple>), UpstreamError> {
        unreachable!("a region takes whole stores")
    }

    async fn snapshot(
        &self,
        id: StoreId,
        _: Position,
        _: Duration,
    ) -> Result<Incoming, UpstreamError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if id == store(1) {
            std::future::pending::<()>().await;
        }
        let pause = self.pause;
        let tuples = stream::iter(0..self.tuples).then(move |number| async move {
            tokio::time::sleep(pause).await;
            Ok(vec![tuple(number)])
        });
        Ok(Incoming {
            head: StoreHead {
                info: StoreInfo {
                    id,
                    name: "shop".into(),
                    created_at: Timestamp(0),
                },
                position: self.position,
                models: Vec::new(),
                tiers: Tiers::default(),
                deleted_at: None,
            },
            tuples: tuples.boxed(),
        })
    }
}

/// A central of epoch 2 that has no store: restored from before they were created.
pub(super) struct Restored;

#[async_trait]
impl Upstream for Restored {
    async fn positions(&self, _: Instant) -> Result<Standing, UpstreamError> {
        let heartbeat = Heartbeat {
            epoch: Epoch(2),
            clock: Timestamp(9),
            generation: 0,
        };
        Ok(Standing {
            stores: Vec::new(),
            heartbeat: Some((heartbeat, Duration::ZERO)),
        })
    }

    async fn changes(
        &self,
        _: StoreId,
        _: Position,
        _: u32,
        _: Instant,
    ) -> Result<Changes, UpstreamError> {
        Err(UpstreamError::UnknownStore)
    }

    async fn head(&self, _: StoreId, _: Position, _: Instant) -> Result<StoreHead, UpstreamError> {
        unreachable!("a region takes whole stores")
    }

    async fn fill(
        &self,
        _: StoreId,
        _: &str,
        _: Position,
        _: Duration,
    ) -> Result<(Position, Vec<Tuple>), UpstreamError> {
        unreachable!("a region takes whole stores")
    }

    async fn snapshot(
        &self,
        _: StoreId,
        _: Position,
        _: Duration,
    ) -> Result<Incoming, UpstreamError> {
        Err(UpstreamError::UnknownStore)
    }
}

/// A central of epoch 1 that has store 1 at that position and keeps no changes.
pub(super) struct Whole(pub(super) Position);

#[async_trait]
impl Upstream for Whole {
    async fn positions(&self, _: Instant) -> Result<Standing, UpstreamError> {
        let heartbeat = Heartbeat {
            epoch: self.0.epoch,
            clock: Timestamp(1),
            generation: 0,
        };
        Ok(Standing {
            stores: vec![(store(1), self.0)],
            heartbeat: Some((heartbeat, Duration::ZERO)),
        })
    }

    async fn changes(
        &self,
        id: StoreId,
        after: Position,
        _: u32,
        _: Instant,
    ) -> Result<Changes, UpstreamError> {
        if id != store(1) {
            return Err(UpstreamError::UnknownStore);
        }
        if after < self.0 {
            return Err(UpstreamError::Trimmed);
        }
        Ok(Changes {
            change_sets: Vec::new(),
            position: self.0,
        })
    }

    async fn head(&self, _: StoreId, _: Position, _: Instant) -> Result<StoreHead, UpstreamError> {
        unreachable!("a region takes whole stores")
    }

    async fn fill(
        &self,
        _: StoreId,
        _: &str,
        _: Position,
        _: Duration,
    ) -> Result<(Position, Vec<Tuple>), UpstreamError> {
        unreachable!("a region takes whole stores")
    }

    async fn snapshot(
        &self,
        id: StoreId,
        min: Position,
        step: Duration,
    ) -> Result<Incoming, UpstreamError> {
        if id != store(1) {
            return Err(UpstreamError::UnknownStore);
        }
        if self.0 < min {
            return Err(UpstreamError::Behind);
        }
        let other = Slow::at(self.0).snapshot(store(2), min, step).await?;
        let mut head = other.head;
        head.info.id = id;
        Ok(Incoming { head, ..other })
    }
}
