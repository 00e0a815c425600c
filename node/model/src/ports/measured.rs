//! What a datastore tells about itself, for metrics.

use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::Result;

/// How a datastore's connections stand. Counts since the start of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Connections {
    /// Connections at most.
    pub max: u32,
    /// Connections there are.
    pub open: u32,
    /// Connections that somebody has.
    pub in_use: u32,
    /// How often somebody had to wait for one.
    pub waits: u64,
    /// How long that was in all.
    pub waited: Duration,
}

/// How much a datastore holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes {
    /// Tuples of all stores; an estimate where counting would read them all.
    pub tuples: u64,
    /// Revisions that are committed and not yet published.
    pub outbox: u64,
}

/// A datastore that tells about itself.
#[async_trait]
pub trait Measured {
    /// How its connections stand; `None` where there are none.
    fn connections(&self) -> Option<Connections>;

    /// How much it holds.
    async fn sizes(&self, deadline: Instant) -> Result<Sizes>;
}
