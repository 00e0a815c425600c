//! What edges have recorded, from Kafka to the database: each event is read by one of the nodes that share the database, and done
//! only once it is there.

use std::sync::Arc;
use std::time::Duration;

use meridian_flow::{FlowRecorder, Keeper, LONGEST_PAUSE, Row, Sink};
use meridian_sync::kafka::group::work::Worker;
use metrics::{counter, describe_counter};
use tokio_util::sync::CancellationToken;

use super::events;

/// What goes to the database at once.
const BATCH: usize = 2000;
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How long a batch waits for more.
const LINGER: Duration = Duration::from_millis(20);

/// How often it is looked whether the settings of stores are known.
const PAUSE: Duration = Duration::from_millis(50);

const SKIPPED: &str = "meridian_flow_events_skipped_total";

/// Writes what a topic brings to `sink`, until `stop`. What is written again after a crash is there already and stays. An edge may
/// not know yet that nothing of a store is recorded; `recorder` does, before the first event is read.
pub async fn keep(
    mut worker: Worker,
    sink: Arc<dyn Sink>,
    recorder: &FlowRecorder,
    stop: &CancellationToken,
) {
    describe_counter!(
        SKIPPED,
        "Events of edges' flow recorders that were skipped, by reason: unreadable, of a kind that is unknown here, or of a store that is off"
    );
    let (mut keeper, mut is_all_kept) = (Keeper::new(sink), true);
    let keeping = async {
        while recorder.overrides().is_none() {
            tokio::time::sleep(PAUSE).await;
        }
        loop {
            let (mut rows, mut bytes) = (Vec::<Row>::new(), 0);
            let batch = worker.batch(LINGER, |message| {
                bytes += message.value.len();
                match events::read(message.value) {
                    Ok(row) if is_off(recorder, &row) => {
                        counter!(SKIPPED, "reason" => "off").increment(1);
                    }
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
            if is_all_kept {
                batch.await;
            } else {
                // What is left is tried again, whether others come or not; what was handed out until then is in `rows`.
                let _ = tokio::time::timeout(LONGEST_PAUSE, batch).await;
            }
            is_all_kept = keeper.write(rows).await;
            if is_all_kept {
                worker.done();
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = keeping => {}
    }
    worker.leave().await;
}

/// Whether nothing of its store is recorded. Steps and ends of flows name no store: without their flow they come to nothing.
fn is_off(recorder: &FlowRecorder, row: &Row) -> bool {
    let store = match row {
        Row::Start(flow) => flow.store,
        Row::Whole(whole) => whole.flow.store,
        Row::Session(session) if session.ended_at.is_none() => session.store,
        // The end of what may have begun while it was on.
        Row::Session(_) | Row::Step(_) | Row::Complete(_) => return false,
    };
    !recorder.settings_of(store).enabled
}

#[cfg(test)]
mod tests {
    use meridian_flow::memory::MemoryFlows;
    use meridian_flow::recorder::Overrides;
    use meridian_flow::{Flow, FlowKind, Recorded, RecorderSettings};
    use meridian_model::{StoreId, Timestamp};

    use super::*;

    #[tokio::test]
    async fn what_an_edge_records_of_a_store_that_is_off_is_not_kept() {
        let sink = Arc::new(MemoryFlows::new());
        let recorder = FlowRecorder::new(sink, RecorderSettings::default());
        let [off, on]: [StoreId; 2] = ["01ARZ3NDEKTSV4RRFFQ69G5FAV", "01BX5ZZKBKACTAV9WEVGEMMVRZ"]
            .map(|id| id.parse().unwrap());
        let set = Overrides {
            enabled: Some(false),
            ..Overrides::default()
        };
        recorder.set_overrides(&[(off, set)]);
        for (store, expected) in [(off, true), (on, false)] {
            let flow = Flow::begun(store, FlowKind::Decision, Timestamp(17));
            let whole = Recorded {
                flow: flow.clone(),
                steps: Vec::new(),
            };
            for row in [Row::Start(Box::new(flow)), Row::Whole(Box::new(whole))] {
                assert_eq!(is_off(&recorder, &row), expected);
            }
        }
    }
}
