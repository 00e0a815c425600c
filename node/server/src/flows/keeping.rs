//! What edges have recorded, from Kafka to the database: each event is read by one of the nodes that share the database, and done
//! only once it is there.

use std::sync::Arc;
use std::time::Duration;

use meridian_flow::{Row, Sink, write_all};
use meridian_sync::kafka::group::work::Worker;
use metrics::{counter, describe_counter};
use tokio_util::sync::CancellationToken;

use super::events;

/// What goes to the database at once.
const BATCH: usize = 2000;
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How long a batch waits for more.
const LINGER: Duration = Duration::from_millis(20);

const SKIPPED: &str = "meridian_flow_events_skipped_total";

/// Writes what a topic brings to `sink`, until `stop`. What is written again after a crash is there already and stays.
pub async fn keep(mut worker: Worker, sink: Arc<dyn Sink>, stop: &CancellationToken) {
    describe_counter!(
        SKIPPED,
        "Events of edges' flow recorders that were skipped, by reason: unreadable, or of a kind that is unknown here"
    );
    let keeping = async {
        loop {
            let (mut rows, mut bytes) = (Vec::<Row>::new(), 0);
            let batch = worker.batch(LINGER, |message| {
                bytes += message.value.len();
                match events::read(message.value) {
                    Ok(row) => rows.push(row),
                    Err(error) => {
                        counter!(SKIPPED, "reason" => error.reason()).increment(1);
                        tracing::debug!(
                            partition = message.partition,
                            offset = message.offset,
                            error = &error as &dyn std::error::Error,
                            "skipped an event of a flow"
                        );
                    }
                }
                rows.len() < BATCH && bytes < BATCH_BYTES
            });
            batch.await;
            write_all(Arc::clone(&sink), rows).await;
            worker.done();
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = keeping => {}
    }
    worker.leave().await;
}
