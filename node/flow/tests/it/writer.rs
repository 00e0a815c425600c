//! What the writer does about batches that cannot be written, and what is counted of what it could not keep.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use meridian_flow::FlowId;
use meridian_flow::ports::{FlowFilter, FlowRepository as _, FlowStepRepository as _};
use meridian_flow::{
    FlowRecorder, FlowStatus, NotStored, Recorded, RecorderSettings, StartFlow, StepStatus,
};
use meridian_model::{StoreId, Timestamp};
use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    set_default_local_recorder,
};

use tokio::task::JoinHandle;

use crate::support::{NOW, Told, away, deadline, decision, store};

const LONG: Duration = Duration::from_secs(30);
pub(crate) const DROPPED: &str = "meridian_flow_events_dropped_total";
pub(crate) const WRITTEN: &str = "meridian_flow_events_written_total";

/// The counters of this thread, by name and labels, and its gauges.
#[derive(Default)]
pub(crate) struct Counters(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Counters {
    /// Those of a name, as `kind reason` and how many; none that is zero.
    pub(crate) fn of(&self, name: &str) -> Vec<(String, u64)> {
        let counters = self.0.lock().unwrap();
        let of = counters.iter().filter_map(|(key, count)| {
            let labels = key.strip_prefix(name)?.trim_start();
            Some((labels.to_owned(), count.load(Ordering::SeqCst)))
        });
        of.filter(|(_, count)| *count > 0).collect()
    }

    /// What a gauge without labels shows.
    fn gauge(&self, name: &str) -> f64 {
        let counters = self.0.lock().unwrap();
        let gauge = counters.get(name).unwrap();
        f64::from_bits(gauge.load(Ordering::SeqCst))
    }
}

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels: Vec<_> = key.labels().map(|label| label.value()).collect();
        let name = format!("{} {}", key.name(), labels.join(" "));
        let mut counters = self.0.lock().unwrap();
        Counter::from_arc(Arc::clone(counters.entry(name).or_default()))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let mut counters = self.0.lock().unwrap();
        let gauge = counters.entry(key.name().to_owned()).or_default();
        Gauge::from_arc(Arc::clone(gauge))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

pub(crate) fn counted(of: &[(&str, u64)]) -> Vec<(String, u64)> {
    of.iter()
        .map(|(key, count)| ((*key).to_owned(), *count))
        .collect()
}

fn settings() -> RecorderSettings {
    RecorderSettings {
        flush_interval: Duration::from_millis(10),
        ..RecorderSettings::default()
    }
}

async fn kept(told: &Told) -> u64 {
    kept_of(told, store(1)).await
}

async fn kept_of(told: &Told, store: StoreId) -> u64 {
    let every = FlowFilter::default();
    let kept = told.flows.count_flows(store, &every, deadline());
    kept.await.unwrap().flows
}

/// A decision of 16 kB.
fn large(seconds: i64) -> Recorded {
    let mut whole = decision(store(1), seconds, 1);
    if let Some(asked) = &mut whole.flow.asked {
        asked.explanation = Some(format!("\"{}\"", "x".repeat(16_000)));
    }
    whole
}

/// Somebody who waits for the beginning of a flow.
fn starting(recorder: &FlowRecorder) -> JoinHandle<Result<FlowId, NotStored>> {
    let recorder = recorder.clone();
    tokio::spawn(async move { recorder.start_flow(store(2), StartFlow::default()).await })
}

#[tokio::test]
async fn a_batch_is_bounded_by_bytes_too() {
    let told = Told::new();
    let recorder = FlowRecorder::new(told.clone(), settings());
    for number in 0..1_000 {
        assert!(recorder.record_flow(large(number)));
    }
    recorder.shutdown(LONG).await;
    assert_eq!(kept(&told).await, 1_000);
    // 4 MiB of 16 kB each.
    let largest = told.writes.lock().unwrap().iter().copied().max();
    assert!(
        largest.is_some_and(|rows| (100..=270).contains(&rows)),
        "{largest:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_gets_no_answer_is_halved_until_it_does() {
    let told = Told::new();
    told.most.store(10, Ordering::SeqCst);
    let recorder = FlowRecorder::new(told.clone(), settings());
    for number in 0..100 {
        recorder.record_flow(decision(store(1), number, 1));
    }
    recorder.shutdown(Duration::from_secs(300)).await;
    assert_eq!(kept(&told).await, 100);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_never_gets_an_answer_is_dropped_where_others_do() {
    let counters = Counters::default();
    let _guard = set_default_local_recorder(&counters);
    let told = Told::new();
    let recorder = FlowRecorder::new(told.clone(), settings());
    let bad = decision(store(1), 50, 1);
    told.stuck.lock().unwrap().push(bad.flow.id);
    for number in 0..100 {
        recorder.record_flow(decision(store(1), number, 1));
        if number == 50 {
            recorder.record_flow(bad.clone());
        }
    }
    recorder.shutdown(Duration::from_secs(300)).await;
    assert_eq!(kept(&told).await, 100);
    assert_eq!(counters.of(DROPPED), counted(&[("flow failed", 1)]));
    assert_eq!(counters.of(WRITTEN), counted(&[("flow", 100)]));
}

#[tokio::test(start_paused = true)]
async fn a_lone_row_that_never_gets_an_answer_waits_for_others_to_tell() {
    let counters = Counters::default();
    let _guard = set_default_local_recorder(&counters);
    let told = Told::new();
    let recorder = FlowRecorder::new(told.clone(), settings());
    let bad = decision(store(1), 0, 1);
    told.stuck.lock().unwrap().push(bad.flow.id);
    recorder.record_flow(bad);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(counters.of(DROPPED), []);
    recorder.record_flow(decision(store(1), 1, 1));
    recorder.shutdown(LONG).await;
    assert_eq!(kept(&told).await, 1);
    assert_eq!(counters.of(DROPPED), counted(&[("flow failed", 1)]));
}

#[tokio::test(start_paused = true)]
async fn several_rows_that_never_get_an_answer_block_no_others() {
    let counters = Counters::default();
    let _guard = set_default_local_recorder(&counters);
    let told = Told::new();
    let recorder = FlowRecorder::new(told.clone(), settings());
    for number in 0..100 {
        let whole = decision(store(1), number, 1);
        if [0, 1, 2, 97, 98, 99].contains(&number) {
            told.stuck.lock().unwrap().push(whole.flow.id);
        }
        recorder.record_flow(whole);
    }
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    // Nobody has come behind the last ones who could show that they are to blame, and nobody is kept from coming.
    assert_eq!(kept(&told).await, 94);
    for number in 0..10 {
        recorder.record_flow(decision(store(1), 100 + number, 1));
    }
    recorder.shutdown(Duration::from_secs(300)).await;
    assert_eq!(kept(&told).await, 104);
    assert_eq!(counters.of(DROPPED), counted(&[("flow failed", 6)]));
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_comes_back_costs_no_more_than_one_row() {
    let counters = Counters::default();
    let _guard = set_default_local_recorder(&counters);
    let told = Told::new();
    let recorder = FlowRecorder::new(told.clone(), settings());
    told.fail(200, &away());
    for number in 0..64 {
        recorder.record_flow(decision(store(1), number, 1));
    }
    let written = async |writes: usize| {
        while told.writes.lock().unwrap().len() < writes {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    // Rows that failed alone are in front: it is back for one of them.
    written(1).await;
    told.fail(200, &away());
    recorder.shutdown(Duration::from_secs(3_600)).await;
    let dropped: u64 = counters.of(DROPPED).iter().map(|(_, rows)| rows).sum();
    assert!(dropped <= 1, "{dropped}");
    assert_eq!(kept(&told).await, 64 - dropped);
}

#[tokio::test(start_paused = true)]
async fn a_long_outage_loses_nothing_and_keeps_the_order() {
    let counters = Counters::default();
    let _guard = set_default_local_recorder(&counters);
    let told = Told::new();
    let recorder = FlowRecorder::new(told.clone(), settings());
    let id = recorder.start_flow(store(1), StartFlow::default()).await;
    let id = id.unwrap();
    told.fail(500, &away());
    for number in 0..50 {
        recorder.record_flow(decision(store(1), number, 1));
        recorder.record_step(id, "one", StepStatus::Success, Duration::ZERO, None);
    }
    recorder.complete_flow(id, FlowStatus::Success, Duration::ZERO, None);
    recorder.shutdown(Duration::from_secs(3_600)).await;
    assert_eq!(kept(&told).await, 51);
    let steps = told.flows.get_steps_for_flow(id, deadline()).await.unwrap();
    assert_eq!(steps.len(), 50);
    assert_eq!(counters.of(DROPPED), []);
    assert_eq!(
        counters.of(WRITTEN),
        counted(&[("complete", 1), ("flow", 50), ("start", 1), ("step", 50)])
    );
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_told_also_while_the_database_is_away() {
    let counters = Counters::default();
    let _guard = set_default_local_recorder(&counters);
    let told = Told::new();
    let recorder = FlowRecorder::new(told.clone(), settings());
    told.fail(100_000, &away());
    let mut before = 0.0;
    for number in 0..5 {
        recorder.record_flow(decision(store(1), number, 1));
        tokio::time::sleep(Duration::from_secs(2)).await;
        let queued = counters.gauge("meridian_flow_queue_bytes");
        assert!(queued > before, "{queued} is no more than {before}");
        before = queued;
    }
    // Nothing gets an answer: it is told all the same.
    told.next.lock().unwrap().clear();
    told.gate.forget_permits(1 << 20);
    recorder.record_flow(decision(store(1), 5, 1));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(counters.gauge("meridian_flow_queue_bytes") > before);
    told.gate.add_permits(1 << 20);
    recorder.shutdown(LONG).await;
    assert_eq!(counters.gauge("meridian_flow_queue_bytes"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_beginning_waits_for_no_backlog() {
    let told = Told::shut();
    let small = RecorderSettings {
        capacity: 20_000,
        ..settings()
    };
    let recorder = FlowRecorder::new(told.clone(), small);
    for number in 0..10_000 {
        assert!(recorder.record_flow(decision(store(1), number, 1)));
    }
    let started = starting(&recorder);
    // The first batch of the others is being written; the beginning is next.
    tokio::time::sleep(Duration::from_secs(1)).await;
    told.gate.add_permits(2);
    let id = started.await.unwrap().unwrap();
    assert_eq!(*told.writes.lock().unwrap(), [2_000, 1]);
    recorder.record_step(id, "one", StepStatus::Success, Duration::ZERO, None);
    told.gate.add_permits(1 << 20);
    recorder.shutdown(LONG).await;
    assert_eq!(kept(&told).await, 10_000);
    let steps = told.flows.get_steps_for_flow(id, deadline()).await.unwrap();
    assert_eq!(steps.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_beginning_waits_for_one_part_of_a_large_batch() {
    let told = Told::shut();
    let recorder = FlowRecorder::new(told.clone(), settings());
    for number in 0..2_000 {
        assert!(recorder.record_flow(large(number)));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let started = starting(&recorder);
    tokio::time::sleep(Duration::from_secs(1)).await;
    told.gate.add_permits(2);
    started.await.unwrap().unwrap();
    let writes = told.writes.lock().unwrap().clone();
    assert!(matches!(*writes, [100..=270, 1]), "{writes:?}");
    // Nobody waits any more when the next write is over.
    let late = starting(&recorder).await.unwrap();
    assert_eq!(late, Err(NotStored::Late));
    told.gate.add_permits(1 << 20);
    recorder.shutdown(LONG).await;
    assert_eq!(kept(&told).await, 2_000);
    assert_eq!(kept_of(&told, store(2)).await, 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_beginning_waits_for_no_row_to_be_found_that_is_refused() {
    let told = Told::shut();
    let recorder = FlowRecorder::new(told.clone(), settings());
    for number in 0..2_000 {
        let whole = decision(store(1), number, 1);
        if number == 1_500 {
            *told.refused.lock().unwrap() = Some(whole.flow.id);
        }
        assert!(recorder.record_flow(whole));
    }
    // As often as somebody comes while it is looked for.
    for tries in 1..=10 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let started = starting(&recorder);
        tokio::time::sleep(Duration::from_millis(500)).await;
        told.gate.add_permits(2);
        started.await.unwrap().unwrap();
        assert_eq!(told.tried.load(Ordering::SeqCst), 2 * tries);
    }
    told.gate.add_permits(1 << 20);
    recorder.shutdown(LONG).await;
    assert_eq!(kept(&told).await, 1_999);
}

#[tokio::test(start_paused = true)]
async fn however_many_begin_the_others_have_every_second_write() {
    let told = Told::shut();
    let small = RecorderSettings {
        batch: 10,
        ..settings()
    };
    let recorder = FlowRecorder::new(told.clone(), small);
    for number in 0..50 {
        assert!(recorder.record_flow(decision(store(1), number, 1)));
    }
    for _ in 0..11 {
        // More than one write takes: there are some whenever one is over.
        (0..12).for_each(|_| drop(starting(&recorder)));
        tokio::time::sleep(Duration::from_millis(10)).await;
        told.gate.add_permits(1);
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(told.writes.lock().unwrap().len(), 11);
    assert_eq!(kept(&told).await, 50);
    told.gate.add_permits(1 << 20);
    recorder.shutdown(LONG).await;
}

#[tokio::test(start_paused = true)]
async fn a_buffer_that_is_full_has_room_for_beginnings_and_not_for_any_number() {
    let told = Told::shut();
    let small = RecorderSettings {
        capacity: 4,
        max_bytes: 1,
        ..settings()
    };
    let recorder = FlowRecorder::new(told.clone(), small);
    assert!(!recorder.record_flow(decision(store(1), 0, 1)));
    let mut started = tokio::task::JoinSet::new();
    for _ in 0..2_000 {
        let starting = recorder.clone();
        started.spawn(async move {
            let none = StartFlow::default();
            starting.start_flow(store(1), none).await
        });
    }
    let ends = started.join_all().await;
    let of = |end| ends.iter().filter(|one| **one == Err(end)).count();
    assert_eq!((of(NotStored::Late), of(NotStored::Full)), (1_024, 976));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_kept_is_counted_by_kind_and_reason() {
    let counters = Counters::default();
    let _guard = set_default_local_recorder(&counters);
    let told = Told::new();
    let small = RecorderSettings {
        capacity: 4,
        ..settings()
    };
    let recorder = FlowRecorder::new(told.clone(), small);
    // Steps and an end of a flow that is not there.
    let nobody = FlowId::new(Timestamp(NOW));
    recorder.record_step(nobody, "one", StepStatus::Success, Duration::ZERO, None);
    recorder.complete_flow(nobody, FlowStatus::Success, Duration::ZERO, None);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let orphans = [("complete no_flow", 1), ("step no_flow", 1)];
    assert_eq!(counters.of(DROPPED), counted(&orphans));
    assert_eq!(counters.of(WRITTEN), []);

    // Somebody waits for a flow in vain.
    told.fail(1_000, &away());
    let late = recorder.start_flow(store(1), StartFlow::default()).await;
    assert_eq!(late, Err(NotStored::Late));
    told.next.lock().unwrap().clear();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let mut expected = vec![
        ("complete no_flow", 1),
        ("start late", 1),
        ("step no_flow", 1),
    ];
    assert_eq!(counters.of(DROPPED), counted(&expected));

    // What finds no room is not taken.
    told.gate.forget_permits(1 << 20);
    let taken = (0..10).filter(|number| recorder.record_flow(decision(store(1), *number, 1)));
    assert_eq!(taken.count(), 4);
    expected.insert(1, ("flow full", 6));
    assert_eq!(counters.of(DROPPED), counted(&expected));

    // Nobody opens the gate: the writer holds some, the channel the others.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let taken = (0..3).filter(|number| recorder.record_flow(decision(store(1), *number, 1)));
    assert_eq!(taken.count(), 3);
    recorder.shutdown(Duration::from_secs(3)).await;
    expected.insert(2, ("flow stopped", 7));
    assert_eq!(counters.of(DROPPED), counted(&expected));
    assert!(!recorder.record_flow(decision(store(1), 0, 1)));
}

#[tokio::test(start_paused = true)]
async fn a_recorder_that_is_gone_ends_its_writer_soon() {
    let told = Told::new();
    let recorder = FlowRecorder::new(told.clone(), settings());
    told.fail(1_000_000, &away());
    recorder.record_flow(decision(store(1), 0, 1));
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(recorder);
    let gone = async {
        while Arc::strong_count(&told) > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, gone).await.unwrap();
    let tried = told.tried.load(Ordering::SeqCst);
    assert!(tried < 50, "{tried}");
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_nobody_needs_waits() {
    let told = Told::new();
    let recorder = FlowRecorder::new(told.clone(), settings());
    recorder.record_flow(decision(store(1), 0, 1));
    // The clock goes on only while nobody is at work.
    tokio::time::sleep(Duration::from_secs(3 * 60 * 60)).await;
    recorder.record_flow(decision(store(1), 1, 1));
    recorder.shutdown(LONG).await;
    assert_eq!(kept(&told).await, 2);
}
