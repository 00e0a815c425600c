//! What replication asks of the nodes above.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::stream::{Peekable, Stream, StreamExt, try_unfold};
use meridian_model::ports::StoreHead;
use meridian_model::{Position, StoreId, Timestamp, Tuple};
use meridian_proto::meridian::v1 as wire;
use meridian_sync::envelope::{
    Heartbeat, change_set_from_wire, head_from_wire, model_from_wire, position_from_wire,
    position_to_wire, tuple_from_wire,
};
use meridian_sync::upstream::{Changes, Incoming, Standing, Upstream, UpstreamError};
use tonic::{Status, Streaming};

use super::line::Repeat;
use super::{Client, Peers};

fn unavailable(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> UpstreamError {
    UpstreamError::Unavailable(why.into())
}

fn upstream_error(status: Status) -> UpstreamError {
    match status.code() {
        tonic::Code::FailedPrecondition => UpstreamError::Behind,
        tonic::Code::NotFound => UpstreamError::UnknownStore,
        _ => unavailable(status),
    }
}

#[async_trait]
impl Upstream for Peers {
    async fn positions(&self, deadline: Instant) -> Result<Standing, UpstreamError> {
        let call = |client: Client| async move {
            client.nodes().positions(wire::PositionsRequest {}).await
        };
        let response = self
            .line
            .call(deadline, Repeat::Safe, call)
            .await
            .map_err(upstream_error)?;
        let mut stores = Vec::with_capacity(response.stores.len());
        for store in response.stores {
            let id: StoreId = store.store_id.parse().map_err(unavailable)?;
            stores.push((
                id,
                store.position.map(position_from_wire).unwrap_or_default(),
            ));
        }
        let heartbeat = response.heartbeat.map(|heartbeat| {
            let beat = Heartbeat {
                epoch: meridian_model::Epoch(heartbeat.epoch),
                clock: Timestamp(heartbeat.clock_micros),
                generation: heartbeat.generation,
            };
            (beat, Duration::from_micros(response.heartbeat_age_micros))
        });
        Ok(Standing { stores, heartbeat })
    }

    async fn changes(
        &self,
        store: StoreId,
        after: Position,
        limit: u32,
        deadline: Instant,
    ) -> Result<Changes, UpstreamError> {
        let request = wire::ChangesRequest {
            store_id: store.to_string(),
            after: Some(position_to_wire(after)),
            limit,
            for_edge: self.for_edge,
        };
        let call = |client: Client| {
            let request = request.clone();
            async move { client.nodes().changes(request).await }
        };
        let response = self
            .line
            .call(deadline, Repeat::Safe, call)
            .await
            .map_err(upstream_error)?;
        if response.trimmed {
            return Err(UpstreamError::Trimmed);
        }
        let change_sets = response
            .change_sets
            .into_iter()
            .map(change_set_from_wire)
            .collect::<Result<_, _>>()
            .map_err(unavailable)?;
        Ok(Changes {
            change_sets,
            position: response
                .position
                .map(position_from_wire)
                .unwrap_or_default(),
        })
    }

    async fn head(
        &self,
        store: StoreId,
        min: Position,
        deadline: Instant,
    ) -> Result<StoreHead, UpstreamError> {
        let chunks = self.whole(store, min, true, deadline).await?;
        let left = deadline.saturating_duration_since(Instant::now());
        Ok(incoming(chunks, left).await?.head)
    }

    async fn fill(
        &self,
        store: StoreId,
        object_type: &str,
        min: Position,
        step: Duration,
    ) -> Result<(Position, Vec<Tuple>), UpstreamError> {
        let request = wire::FillRequest {
            store_id: store.to_string(),
            object_type: object_type.to_owned(),
            min_position: Some(position_to_wire(min)),
        };
        let call = |client: Client| {
            let request = request.clone();
            async move { client.nodes().fill(request).await }
        };
        let mut chunks = self
            .line
            .call(Instant::now() + step, Repeat::Safe, call)
            .await
            .map_err(upstream_error)?;
        let (mut position, mut tuples) = (None, Vec::new());
        while let Some(chunk) = by(Instant::now() + step, chunks.message()).await? {
            let at = chunk.position.map(position_from_wire).unwrap_or_default();
            if *position.get_or_insert(at) != at {
                return Err(unavailable("a fill of two positions"));
            }
            for tuple in chunk.tuples {
                tuples.push(tuple_from_wire(tuple).map_err(unavailable)?);
            }
        }
        position
            .map(|position| (position, tuples))
            .ok_or_else(|| unavailable("an empty fill"))
    }

    async fn snapshot(
        &self,
        store: StoreId,
        min: Position,
        step: Duration,
    ) -> Result<Incoming, UpstreamError> {
        let chunks = self.whole(store, min, false, Instant::now() + step);
        incoming(chunks.await?, step).await
    }
}

impl Peers {
    async fn whole(
        &self,
        store: StoreId,
        min: Position,
        head_only: bool,
        deadline: Instant,
    ) -> Result<Streaming<wire::SnapshotChunk>, UpstreamError> {
        let request = wire::SnapshotRequest {
            store_id: store.to_string(),
            min_position: Some(position_to_wire(min)),
            head_only,
        };
        let call = |client: Client| {
            let request = request.clone();
            async move { client.nodes().snapshot(request).await }
        };
        self.line
            .call(deadline, Repeat::Safe, call)
            .await
            .map_err(upstream_error)
    }
}

/// What is sent of a store: its head with all models, before the first tuples have been waited for. `step` bounds the wait
/// for each chunk.
pub(crate) async fn incoming(
    chunks: impl Stream<Item = Result<wire::SnapshotChunk, Status>> + Send + Unpin + 'static,
    step: Duration,
) -> Result<Incoming, UpstreamError> {
    let mut chunks = chunks.peekable();
    let (mut head, mut models) = (None, Vec::new());
    while let Some(chunk) = next(&mut chunks, step, |chunk| chunk.tuples.is_empty()).await? {
        for model in &chunk.models {
            models.push(model_from_wire(model).map_err(unavailable)?);
        }
        head = chunk.head.or(head);
    }
    let head = head.ok_or_else(|| unavailable("a snapshot without a head"))?;
    let tuples = try_unfold(chunks, move |mut chunks| async move {
        let Some(chunk) = next(&mut chunks, step, |_| true).await? else {
            return Ok(None);
        };
        let tuples = chunk.tuples.into_iter().map(tuple_from_wire);
        let tuples = tuples.collect::<Result<_, _>>().map_err(unavailable)?;
        Ok(Some((tuples, chunks)))
    });
    Ok(Incoming {
        head: head_from_wire(head, models).map_err(unavailable)?,
        tuples: tuples.boxed(),
    })
}

/// The next chunk, if it is `wanted`; an error always is.
async fn next<S>(
    chunks: &mut Peekable<S>,
    step: Duration,
    wanted: impl Fn(&wire::SnapshotChunk) -> bool,
) -> Result<Option<wire::SnapshotChunk>, UpstreamError>
where
    S: Stream<Item = Result<wire::SnapshotChunk, Status>> + Unpin,
{
    let is_wanted = |chunk: &Result<wire::SnapshotChunk, Status>| {
        chunk.as_ref().is_err() || chunk.as_ref().is_ok_and(&wanted)
    };
    let mut chunks = std::pin::Pin::new(chunks);
    let chunk = async { chunks.as_mut().next_if(is_wanted).await.transpose() };
    by(Instant::now() + step, chunk).await
}

async fn by<T>(
    deadline: Instant,
    next: impl Future<Output = Result<T, Status>>,
) -> Result<T, UpstreamError> {
    let next = tokio::time::timeout_at(deadline.into(), next).await;
    next.map_err(unavailable)?.map_err(upstream_error)
}
