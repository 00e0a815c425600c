//! The recorder itself: what waits, what does not, what is dropped, and the switches.

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use meridian_flow::ports::{FlowFilter, FlowRepository as _, FlowStepRepository as _};
use meridian_flow::recorder::Overrides;
use meridian_flow::tap::Tapped;
use meridian_flow::{
    FlowId, FlowKind, FlowRecorder, FlowStatus, NotStored, RecorderSettings, RepositoryError, Row,
    Session, Sink, StartFlow, StepStatus,
};
use meridian_model::Timestamp;
use metrics::set_default_local_recorder;

use crate::support::{Told, away, deadline, decision, store};
use crate::writer::{Counters, DROPPED, WRITTEN, counted};

const LONG: Duration = Duration::from_secs(30);

fn begin() -> StartFlow {
    StartFlow {
        client_id: Some("shop".to_owned()),
        grant_type: Some("oidc".to_owned()),
        ip: Some("192.0.2.7".parse().unwrap()),
        user_agent: Some(format!("agent\n{}", "x".repeat(600))),
    }
}

fn settings() -> RecorderSettings {
    RecorderSettings {
        flush_interval: Duration::from_millis(10),
        ..RecorderSettings::default()
    }
}

#[tokio::test]
async fn a_flow_is_stored_when_its_id_is_there_and_the_rest_follows_in_order() {
    let told = Told::new();
    let recorder = FlowRecorder::new(told.clone(), settings());
    let id = recorder.start_flow(store(1), begin()).await.unwrap();
    let flow = told.flows.get_flow_by_id(store(1), id, deadline()).await;
    let flow = flow.unwrap().unwrap();
    assert_eq!(flow.status, FlowStatus::Pending);
    let agent = flow.user_agent.unwrap();
    assert!(
        agent.starts_with("agent x") && agent.len() == 512,
        "{agent}"
    );

    for number in 0..100 {
        let name = format!("step {number}");
        recorder.record_step(
            id,
            &name,
            StepStatus::Success,
            Duration::from_micros(7),
            None,
        );
    }
    let error = Some(("expired", "the token has expired"));
    recorder.record_step(id, "verify", StepStatus::Failure, Duration::ZERO, error);
    recorder.complete_flow(
        id,
        FlowStatus::Failure,
        Duration::from_millis(3),
        Some("anne"),
    );
    recorder.shutdown(LONG).await;

    let steps = told.flows.get_steps_for_flow(id, deadline()).await.unwrap();
    let names: Vec<_> = steps.iter().map(|step| step.name.clone()).collect();
    let expected = (0..100).map(|number| format!("step {number}"));
    assert_eq!(
        names,
        expected.chain(["verify".to_owned()]).collect::<Vec<_>>()
    );
    assert_eq!(steps[100].error_code.as_deref(), Some("expired"));
    let flow = told.flows.get_flow_by_id(store(1), id, deadline()).await;
    let flow = flow.unwrap().unwrap();
    assert_eq!(flow.status, FlowStatus::Failure);
    assert_eq!(flow.duration_micros, Some(3_000));
    assert_eq!(flow.user_id.as_deref(), Some("anne"));
    // 101 steps did not take 101 writes.
    assert!(told.writes.lock().unwrap().len() < 20);
}

#[tokio::test(start_paused = true)]
async fn there_is_no_id_while_the_database_is_away() {
    let told = Told::new();
    told.fail(1_000, &away());
    let recorder = FlowRecorder::new(told.clone(), settings());
    let started = tokio::time::Instant::now();
    let late = recorder.start_flow(store(1), begin()).await;
    assert_eq!(late, Err(NotStored::Late));
    assert_eq!(started.elapsed(), settings().start_timeout);

    // It is back: what nobody waited for any more was not stored behind their back.
    told.next.lock().unwrap().clear();
    let id = recorder.start_flow(store(1), begin()).await.unwrap();
    let every = FlowFilter::default();
    let all = told.flows.get_flows(store(1), &every, None, 10, deadline());
    let all = all.await.unwrap().flows;
    let all: Vec<_> = all.iter().map(|flow| flow.id).collect();
    assert_eq!(all, [id]);
}

#[tokio::test]
async fn there_is_no_id_of_a_flow_that_is_refused() {
    let told = Told::new();
    let why = RepositoryError::Rejected(Arc::new(io::Error::other("no")));
    told.fail(1, &why);
    let recorder = FlowRecorder::new(told, settings());
    let refused = recorder.start_flow(store(1), begin()).await;
    assert_eq!(refused, Err(NotStored::Refused));
}

/// What is logged, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn what_finds_the_channel_full_is_dropped_and_told_once_in_a_while() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let told = Told::shut();
    let small = RecorderSettings {
        capacity: 4,
        ..settings()
    };
    let recorder = FlowRecorder::new(told.clone(), small);
    let started = Instant::now();
    for number in 0..50 {
        recorder.record_flow(decision(store(1), number, 2));
    }
    assert!(started.elapsed() < Duration::from_secs(5));
    let said = || {
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        log.matches("channel full, dropping event").count()
    };
    assert_eq!(said(), 1);
    tokio::time::advance(Duration::from_secs(11)).await;
    // The writer took what there was in the meantime, and waits with it at the gate.
    for number in 0..50 {
        recorder.record_flow(decision(store(1), number, 2));
    }
    assert_eq!(said(), 2);

    told.gate.add_permits(1 << 20);
    recorder.shutdown(LONG).await;
    let every = FlowFilter::default();
    let count = told.flows.count_flows(store(1), &every, deadline());
    assert_eq!(count.await.unwrap().flows, 8);
    // After the end there is nobody to take anything.
    recorder.record_flow(decision(store(1), 99, 2));
    let refused = recorder.start_flow(store(1), begin()).await;
    assert_eq!(refused, Err(NotStored::Full));
}

#[tokio::test]
async fn the_buffer_is_bounded_by_bytes_too() {
    let told = Told::shut();
    let small = RecorderSettings {
        max_bytes: 10_000,
        ..settings()
    };
    let recorder = FlowRecorder::new(told.clone(), small);
    for number in 0..1_000 {
        recorder.record_flow(decision(store(1), number, 4));
    }
    told.gate.add_permits(1 << 20);
    recorder.shutdown(LONG).await;
    let every = FlowFilter::default();
    let count = told.flows.count_flows(store(1), &every, deadline());
    let count = count.await.unwrap().flows;
    assert!((1..20).contains(&count), "{count}");
}

/// A sink that looks at how much room the rows hold: the largest text's capacity, and that of all texts.
#[derive(Default)]
struct Weighing {
    largest: AtomicUsize,
    all: AtomicUsize,
}

#[async_trait]
impl Sink for Weighing {
    async fn write(&self, rows: &[Row], _: Instant) -> Result<Vec<FlowId>, RepositoryError> {
        for text in rows.iter().flat_map(texts) {
            self.largest.fetch_max(text.capacity(), Ordering::SeqCst);
            self.all.fetch_add(text.capacity(), Ordering::SeqCst);
        }
        Ok(Vec::new())
    }
}

/// The texts of a row that a client can make long.
fn texts(row: &Row) -> Vec<&String> {
    match row {
        Row::Start(flow) => flow.user_agent.iter().chain(&flow.client_id).collect(),
        Row::Step(step) => step.error_message.iter().chain([&step.name]).collect(),
        Row::Complete(end) => end.user_id.iter().collect(),
        Row::Whole(whole) => {
            let asked = whole.flow.asked.as_deref().unwrap();
            let steps = whole.steps.iter();
            steps
                .flat_map(|step| [&step.name].into_iter().chain(&step.error_message))
                .chain([&asked.object, &asked.subject, &asked.relation])
                .chain(&asked.explanation)
                .chain(&whole.flow.user_agent)
                .collect()
        }
        Row::Session(session) => vec![&session.id, &session.node, &session.user],
    }
}

#[tokio::test]
async fn what_waits_holds_no_more_than_what_is_kept_of_it() {
    let weighing = Arc::new(Weighing::default());
    let recorder = FlowRecorder::new(weighing.clone(), settings());
    let long = "x".repeat(600_000);
    let begun = StartFlow {
        user_agent: Some(long.clone()),
        ..begin()
    };
    let id = recorder.start_flow(store(1), begun).await.unwrap();
    let error = Some((long.as_str(), long.as_str()));
    recorder.record_step(id, &long, StepStatus::Failure, Duration::ZERO, error);
    recorder.complete_flow(id, FlowStatus::Failure, Duration::ZERO, Some(&long));
    let mut whole = decision(store(1), 0, 2);
    whole.flow.user_agent = Some(long.clone());
    whole.steps[0].error_message = Some(long.clone());
    let asked = whole.flow.asked.as_mut().unwrap();
    (asked.object, asked.subject) = (long.clone(), format!("\n{long}"));
    // Short, in a buffer that was made for more.
    let mut explanation = String::with_capacity(600_000);
    explanation.push_str("{}");
    asked.explanation = Some(explanation);
    recorder.record_flow(whole);
    recorder.record_session(Session {
        id: long.clone(),
        store: store(1),
        flow: None,
        node: long.clone(),
        user: long,
        connected_at: Timestamp(0),
        ended_at: None,
        close_code: None,
    });
    recorder.shutdown(LONG).await;
    let largest = weighing.largest.load(Ordering::SeqCst);
    assert!((512..=1_024).contains(&largest), "{largest}");
    let all = weighing.all.load(Ordering::SeqCst);
    assert!((4_000..20_000).contains(&all), "{all}");
}

#[tokio::test]
async fn disabled_it_allocates_nothing_for_ever() {
    let recorder = FlowRecorder::disabled();
    assert!(!recorder.is_on());
    for on in [false, true] {
        recorder.switch().store(on, Ordering::Relaxed);
        let none = recorder.start_flow(store(1), begin()).await;
        assert_eq!(none, Err(NotStored::Disabled));
        recorder.record_flow(decision(store(1), 0, 2));
        assert!(!recorder.records(store(1)) && !recorder.samples(store(1)));
        assert!(!recorder.has_channel());
    }
}

#[tokio::test]
async fn the_switch_works_both_ways_also_when_off_at_first() {
    let told = Told::new();
    let off = RecorderSettings {
        enabled: false,
        ..settings()
    };
    let recorder = FlowRecorder::new(told.clone(), off);
    let none = recorder.start_flow(store(1), begin()).await;
    assert_eq!(none, Err(NotStored::Disabled));
    recorder.record_flow(decision(store(1), 0, 2));
    assert!(!recorder.has_channel());

    recorder.switch().store(true, Ordering::Relaxed);
    let id = recorder.start_flow(store(1), begin()).await.unwrap();
    assert!(recorder.has_channel());

    recorder.switch().store(false, Ordering::Relaxed);
    let none = recorder.start_flow(store(1), begin()).await;
    assert_eq!(none, Err(NotStored::Disabled));
    recorder.record_step(id, "late", StepStatus::Success, Duration::ZERO, None);
    recorder.complete_flow(id, FlowStatus::Success, Duration::ZERO, None);
    recorder.shutdown(LONG).await;
    assert_eq!(
        told.flows.get_steps_for_flow(id, deadline()).await.unwrap(),
        []
    );
}

#[tokio::test]
async fn a_store_has_a_switch_and_a_share_of_its_own() {
    let told = Told::new();
    let recorder = FlowRecorder::new(told.clone(), settings());
    let off = Overrides {
        enabled: Some(false),
        ..Overrides::default()
    };
    let none = Overrides {
        sampling: Some(0.0),
        ..Overrides::default()
    };
    recorder.set_overrides(&[(store(1), off), (store(2), none)]);
    assert_eq!(
        recorder.start_flow(store(1), begin()).await,
        Err(NotStored::Disabled)
    );
    assert!(!recorder.samples(store(1)));
    assert!(recorder.start_flow(store(2), begin()).await.is_ok());
    assert!(!recorder.samples(store(2)));
    assert!(recorder.samples(store(3)));
    recorder.set_overrides(&[]);
    assert!(recorder.start_flow(store(1), begin()).await.is_ok());
    assert!(recorder.samples(store(2)));
    let half = Overrides {
        sampling: Some(0.5),
        ..Overrides::default()
    };
    recorder.set_overrides(&[(store(1), half)]);
    let sampled = (0..10_000).filter(|_| recorder.samples(store(1))).count();
    assert!((4_000..6_000).contains(&sampled), "{sampled}");
}

#[tokio::test]
async fn a_bad_row_loses_only_itself() {
    let counters = Counters::default();
    let _guard = set_default_local_recorder(&counters);
    let told = Told::new();
    let recorder = FlowRecorder::new(told.clone(), settings());
    let bad = decision(store(1), 50, 1);
    *told.refused.lock().unwrap() = Some(bad.flow.id);
    for number in 0..100 {
        recorder.record_flow(decision(store(1), number, 1));
        if number == 50 {
            recorder.record_flow(bad.clone());
        }
    }
    recorder.shutdown(LONG).await;
    let every = FlowFilter::default();
    let count = told.flows.count_flows(store(1), &every, deadline());
    assert_eq!(count.await.unwrap().flows, 100);
    assert_eq!(counters.of(DROPPED), counted(&[("flow rejected", 1)]));
    assert_eq!(counters.of(WRITTEN), counted(&[("flow", 100)]));
}

#[tokio::test]
async fn nodes_of_long_names_are_told_apart() {
    let told = Told::new();
    let recorder = FlowRecorder::new(told.clone(), settings());
    // The longest that a node may have, behind its role.
    let name = format!("regional/{}", "n".repeat(128));
    let mut whole = decision(store(1), 0, 1);
    whole.flow.asked.as_mut().unwrap().served_by = name.clone();
    let id = whole.flow.id;
    recorder.record_flow(whole);
    recorder.shutdown(LONG).await;
    let flow = told.flows.get_flow_by_id(store(1), id, deadline()).await;
    assert_eq!(flow.unwrap().unwrap().asked.unwrap().served_by, name);
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_no_longer_than_it_is_told_to() {
    let told = Told::new();
    told.fail(1_000_000, &away());
    let recorder = FlowRecorder::new(told.clone(), settings());
    recorder.record_flow(decision(store(1), 0, 1));
    let started = tokio::time::Instant::now();
    recorder.shutdown(Duration::from_secs(3)).await;
    assert!(started.elapsed() <= Duration::from_secs(3));
}

#[tokio::test]
async fn who_taps_a_store_has_its_decisions_as_they_are_recorded_or_how_many_were_lost() {
    let told = Told::new();
    told.fail(1_000, &away());
    let recorder = FlowRecorder::new(told, settings());
    let mut tap = recorder.tap(store(1), 4);
    recorder.record_flow(decision(store(2), 0, 2));
    for number in 0..3 {
        recorder.record_flow(decision(store(1), number, 2));
    }
    let mut login = decision(store(1), 9, 2);
    login.flow.kind = FlowKind::Authentication;
    recorder.record_flow(login);
    // They are told though they cannot be stored.
    for number in 0..3 {
        match tap.next().await {
            Tapped::Decision(recorded) => {
                let expected = decision(store(1), number, 2);
                assert_eq!(recorded.flow.store, store(1));
                assert_eq!(recorded.flow.started_at, expected.flow.started_at);
                assert_eq!(recorded.steps.len(), expected.steps.len());
            }
            lost => panic!("{lost:?}"),
        }
    }
    for number in 0..10 {
        recorder.record_flow(decision(store(1), number, 2));
    }
    assert!(matches!(tap.next().await, Tapped::Lost(6)));
    assert!(matches!(tap.next().await, Tapped::Decision(_)));
    // The next one begins anew.
    drop(tap);
    let mut next = recorder.tap(store(1), 4);
    recorder.switch().store(false, Ordering::Relaxed);
    recorder.record_flow(decision(store(1), 1, 2));
    recorder.switch().store(true, Ordering::Relaxed);
    recorder.record_flow(decision(store(1), 2, 2));
    let Tapped::Decision(recorded) = next.next().await else {
        panic!("nothing was lost");
    };
    assert_eq!(
        recorded.flow.started_at,
        decision(store(1), 2, 2).flow.started_at,
        "what is not recorded is not told"
    );
}
