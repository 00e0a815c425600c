//! Whole types and whole stores, streamed.
//!
//! A task of its own reads ahead by one chunk. Nothing bounds the whole, which may be of any size: each read has a
//! deadline, and so has the reader below over each chunk, so that none holds a connection to the database for ever.

use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::BoxStream;
use meridian_model::TupleKey;
use meridian_model::ports::Snapshot;
use meridian_proto::meridian::v1 as wire;
use meridian_sync::envelope::{head_to_wire, model_to_wire, position_to_wire, tuple_to_wire};
use prost::Message;
use tokio::sync::mpsc;
use tonic::Status;

use super::status;

/// How long one read may take.
pub(super) const STEP: Duration = Duration::from_secs(30);
/// How long the node below may take over one chunk.
const STALL: Duration = Duration::from_secs(300);
/// Tuples read at a time: each may have 32 KiB of a condition's context.
const TUPLES_PER_READ: u32 = 1_000;
/// Bytes of one chunk at most, unless one item alone is larger.
const CHUNK_BYTES: usize = 1024 * 1024;

/// A stream of messages, which ends with its first error.
pub(super) type Chunks<T> = BoxStream<'static, Result<T, Status>>;

/// All tuples of a type; at least one chunk, so that the position is always told.
pub(super) fn fill(snapshot: Box<dyn Snapshot>, object_type: String) -> Chunks<wire::FillChunk> {
    let position = Some(position_to_wire(snapshot.position()));
    let chunk = move |tuples| wire::FillChunk { position, tuples };
    stream(move |outlet| async move {
        outlet.send(chunk(Vec::new())).await?;
        tuples(snapshot, Some(&object_type), &outlet, chunk).await
    })
}

/// A store's head, its models and, unless `head_only`, its tuples.
pub(super) fn snapshot(
    mut snapshot: Box<dyn Snapshot>,
    head_only: bool,
) -> Chunks<wire::SnapshotChunk> {
    stream(move |outlet| async move {
        snapshot.extend(Instant::now() + STEP);
        let head = snapshot.head().await.map_err(status)?;
        let first = wire::SnapshotChunk {
            head: Some(head_to_wire(&head)),
            ..wire::SnapshotChunk::default()
        };
        outlet.send(first).await?;
        for models in split(head.models.iter().map(model_to_wire)) {
            let chunk = wire::SnapshotChunk {
                models,
                ..wire::SnapshotChunk::default()
            };
            outlet.send(chunk).await?;
        }
        if head_only {
            return Ok(());
        }
        let chunk = |tuples| wire::SnapshotChunk {
            tuples,
            ..wire::SnapshotChunk::default()
        };
        tuples(snapshot, None, &outlet, chunk).await
    })
}

/// Sends the tuples of a type or all, in key order.
async fn tuples<T>(
    mut snapshot: Box<dyn Snapshot>,
    object_type: Option<&str>,
    outlet: &Outlet<T>,
    chunk: impl Fn(Vec<wire::Tuple>) -> T,
) -> Result<(), Status> {
    let mut after: Option<TupleKey> = None;
    loop {
        snapshot.extend(Instant::now() + STEP);
        let read = match object_type {
            Some(object_type) => {
                snapshot
                    .tuples_of_type(object_type, after.as_ref(), TUPLES_PER_READ)
                    .await
            }
            None => snapshot.tuples(after.as_ref(), TUPLES_PER_READ).await,
        };
        let read = read.map_err(status)?;
        for tuples in split(read.iter().map(tuple_to_wire)) {
            outlet.send(chunk(tuples)).await?;
        }
        if read.len() < TUPLES_PER_READ as usize {
            return Ok(());
        }
        after = read.last().map(|last| last.key.clone());
    }
}

/// Messages in chunks of limited size, in order.
fn split<M: Message>(messages: impl IntoIterator<Item = M>) -> Vec<Vec<M>> {
    let (mut chunks, mut chunk, mut bytes) = (Vec::new(), Vec::new(), 0);
    for message in messages {
        let size = message.encoded_len();
        if bytes + size > CHUNK_BYTES && !chunk.is_empty() {
            chunks.push(std::mem::take(&mut chunk));
            bytes = 0;
        }
        bytes += size;
        chunk.push(message);
    }
    if !chunk.is_empty() {
        chunks.push(chunk);
    }
    chunks
}

/// Where a task puts its chunks.
struct Outlet<T>(mpsc::Sender<Result<T, Status>>);

impl<T> Outlet<T> {
    async fn send(&self, chunk: T) -> Result<(), Status> {
        let sent = self.0.send_timeout(Ok(chunk), STALL).await;
        sent.map_err(|_| Status::cancelled("the node below has gone, or takes nothing"))
    }
}

fn stream<T, F>(produce: impl FnOnce(Outlet<T>) -> F) -> Chunks<T>
where
    T: Send + 'static,
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(1);
    let produced = produce(Outlet(sender.clone()));
    tokio::spawn(async move {
        if let Err(error) = produced.await {
            // Nobody may be there to be told.
            drop(sender.send_timeout(Err(error), STALL).await);
        }
    });
    let next = |mut receiver: mpsc::Receiver<_>| async move {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    };
    futures::stream::unfold(receiver, next).boxed()
}
