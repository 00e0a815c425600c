//! What replication asks of the node above, as a trait, so that no transport is named here.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::stream::BoxStream;
use meridian_model::change::ChangeSet;
use meridian_model::ids::{Position, StoreId};
use meridian_model::ports::StoreHead;
use meridian_model::tuple::Tuple;

use crate::envelope::Heartbeat;

/// Why upstream did not answer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The changes asked for are no longer kept: start over from a snapshot.
    #[error("upstream no longer keeps the changes asked for")]
    Trimmed,
    /// Upstream is behind the position asked for.
    #[error("upstream has not reached the position asked for")]
    Behind,
    /// Upstream does not know the store.
    #[error("upstream does not know the store")]
    UnknownStore,
    /// Upstream cannot be reached, was too slow, or its answer could not be read.
    #[error("upstream is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A result of upstream.
pub type Result<T> = std::result::Result<T, UpstreamError>;

/// Where all stores stand upstream.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Each store's position, deleted ones included.
    pub stores: Vec<(StoreId, Position)>,
    /// The last heartbeat that upstream has applied everything before, and how long ago it received it; `None` while it has
    /// none.
    pub heartbeat: Option<(Heartbeat, Duration)>,
}

/// Change sets from behind a position.
#[derive(Debug, Clone, PartialEq)]
pub struct Changes {
    /// In order; there may be more.
    pub change_sets: Vec<ChangeSet>,
    /// Upstream's own position of the store when it read them.
    pub position: Position,
}

/// The node above. Whether change sets are whole or thinned out for an edge is a property of the implementation.
#[async_trait]
pub trait Upstream: Send + Sync + 'static {
    /// Where every store stands.
    async fn positions(&self, deadline: Instant) -> Result<Standing>;

    /// At most `limit` change sets from behind `after`.
    async fn changes(
        &self,
        store: StoreId,
        after: Position,
        limit: u32,
        deadline: Instant,
    ) -> Result<Changes>;

    /// A store without its tuples, at `min` or later.
    async fn head(&self, store: StoreId, min: Position, deadline: Instant) -> Result<StoreHead>;

    /// All tuples of one object type, and the one position, `min` or later, that they were read at. `step` bounds the wait
    /// for each part of them, not the whole.
    async fn fill(
        &self,
        store: StoreId,
        object_type: &str,
        min: Position,
        step: Duration,
    ) -> Result<(Position, Vec<Tuple>)>;

    /// A whole store, at `min` or later. `step` bounds the wait for each part of it, not the whole.
    async fn snapshot(&self, store: StoreId, min: Position, step: Duration) -> Result<Incoming>;
}

/// A whole store on its way.
pub struct Incoming {
    /// All but its tuples.
    pub head: StoreHead,
    /// Its tuples in chunks, all of the head's position. An error ends it.
    pub tuples: BoxStream<'static, Result<Vec<Tuple>>>,
}
