//! Connections of the live channel, in every repository.

use std::sync::Arc;
use std::time::Duration;

use meridian_flow::recorder::{Change, Overrides, OverridesChange};
use meridian_flow::retention::Sweeper;
use meridian_flow::{
    Flow, FlowId, FlowRecorder, RecorderSettings, Repository, Row, Session, StartFlow,
};
use meridian_model::Timestamp;

use crate::support::{
    Deleted, NOW, Told, deadline, decision, everywhere, flow, in_memory, in_mysql, in_postgres,
    in_sqlite, store,
};

everywhere! {
    a_session_begins_and_ends
    an_end_is_kept_whatever_comes_when
    a_flow_that_is_not_there_costs_the_reference_alone
    a_session_outlives_its_flow
    old_sessions_go_in_batches
}

const LONG: Duration = Duration::from_secs(30);

fn at(seconds: i64) -> Timestamp {
    Timestamp(NOW + seconds * 1_000_000)
}

/// A session of the first store that began so many seconds after [`NOW`].
fn begun(id: &str, flow: Option<FlowId>, seconds: i64) -> Session {
    Session {
        id: id.to_owned(),
        store: store(1),
        flow,
        node: "edge/one".to_owned(),
        user: "user:ü".to_owned(),
        connected_at: at(seconds),
        ended_at: None,
        close_code: None,
    }
}

fn ended(session: &Session, seconds: i64) -> Session {
    Session {
        ended_at: Some(at(seconds)),
        close_code: Some(4001),
        ..session.clone()
    }
}

fn row(session: &Session) -> Row {
    Row::Session(Box::new(session.clone()))
}

async fn of_flow(flows: &Arc<dyn Repository>, flow: &Flow) -> Option<Session> {
    let session = flows.get_session_of_flow(store(1), flow.id, deadline());
    session.await.unwrap()
}

async fn a_session_begins_and_ends(flows: Arc<dyn Repository>) {
    let login = flow(store(1), 0);
    let session = begun("one", Some(login.id), 1);
    let other = begun("two", None, 2);
    // All of it in one batch: a session comes after every flow.
    let rows = [
        row(&session),
        row(&other),
        Row::Start(Box::new(login.clone())),
    ];
    flows.write(&rows, deadline()).await.unwrap();
    assert!(of_flow(&flows, &login).await.is_some());
    // Another store's sessions are none of this one's.
    let none = flows.get_session_of_flow(store(2), login.id, deadline());
    assert_eq!(none.await.unwrap(), None);

    let end = ended(&session, 9);
    flows.write(&[row(&end)], deadline()).await.unwrap();
    assert_eq!(of_flow(&flows, &login).await, Some(end));
}

async fn an_end_is_kept_whatever_comes_when(flows: Arc<dyn Repository>) {
    let login = flow(store(1), 0);
    let session = begun("one", Some(login.id), 1);
    let end = ended(&session, 9);
    // The beginning was dropped: the end is the whole row.
    let rows = [Row::Start(Box::new(login.clone())), row(&end)];
    flows.write(&rows, deadline()).await.unwrap();
    assert_eq!(of_flow(&flows, &login).await, Some(end.clone()));
    // It came late, or again, or both at once; the first end counts.
    let again = ended(&session, 20);
    for rows in [
        vec![row(&session)],
        vec![row(&end)],
        vec![row(&again), row(&session)],
    ] {
        flows.write(&rows, deadline()).await.unwrap();
        assert_eq!(of_flow(&flows, &login).await, Some(end.clone()));
    }
    let quick = flow(store(1), 30);
    let session = begun("two", Some(quick.id), 31);
    let end = ended(&session, 32);
    let rows = [
        Row::Start(Box::new(quick.clone())),
        row(&session),
        row(&end),
        row(&session),
    ];
    flows.write(&rows, deadline()).await.unwrap();
    assert_eq!(of_flow(&flows, &quick).await, Some(end));
}

async fn a_flow_that_is_not_there_costs_the_reference_alone(flows: Arc<dyn Repository>) {
    let (late, there) = (flow(store(1), 0), flow(store(1), 1));
    let session = begun("one", Some(late.id), 2);
    let rows = [
        row(&session),
        row(&begun("two", Some(there.id), 2)),
        Row::Start(Box::new(there.clone())),
    ];
    flows.write(&rows, deadline()).await.unwrap();
    assert_eq!(of_flow(&flows, &late).await, None);
    assert!(of_flow(&flows, &there).await.is_some());
    // Once its flow is there, the end finds it.
    let end = ended(&session, 9);
    let rows = [Row::Start(Box::new(late.clone())), row(&end)];
    flows.write(&rows, deadline()).await.unwrap();
    assert_eq!(of_flow(&flows, &late).await, Some(end));
}

async fn a_session_outlives_its_flow(flows: Arc<dyn Repository>) {
    let login = flow(store(1), 0);
    let session = begun("one", Some(login.id), 1);
    let rows = [Row::Start(Box::new(login.clone())), row(&session)];
    flows.write(&rows, deadline()).await.unwrap();
    let purged = flows.purge_old_flows(store(1), at(5), 10, deadline());
    assert_eq!(purged.await.unwrap(), 1);
    assert_eq!(of_flow(&flows, &login).await, None);
    // The end of a session whose flow has gone.
    let end = ended(&session, 9);
    flows.write(&[row(&end)], deadline()).await.unwrap();
    let purge = async |before| {
        let purged = flows.purge_old_sessions(store(1), before, 10, deadline());
        purged.await.unwrap()
    };
    assert_eq!([purge(at(9)).await, purge(at(10)).await], [0, 1]);
}

async fn old_sessions_go_in_batches(flows: Arc<dyn Repository>) {
    let open = |number: i64| begun(&format!("open-{number}"), None, number);
    let closed = |number: i64| {
        let session = begun(&format!("closed-{number}"), None, number);
        row(&ended(&session, number + 100))
    };
    let other = Session {
        store: store(2),
        ..open(10)
    };
    let rows: Vec<_> = (0..5)
        .map(|number| row(&open(number)))
        .chain((0..5).map(closed))
        .chain([row(&other), Row::Whole(Box::new(decision(store(3), 0, 1)))])
        .collect();
    flows.write(&rows, deadline()).await.unwrap();
    let purge = async |seconds| {
        let purged = flows.purge_old_sessions(store(1), at(seconds), 2, deadline());
        purged.await.unwrap()
    };
    // Four of those without an end began earlier; of the others none has ended.
    assert_eq!([purge(4).await, purge(4).await, purge(4).await], [2, 2, 0]);
    assert_eq!([purge(102).await, purge(102).await], [2, 1]);

    // A sweep finds stores that have nothing but sessions.
    let mut stores = Vec::new();
    let mut next = flows.next_store(None, deadline()).await.unwrap();
    while let Some(one) = next {
        stores.push(one);
        next = flows.next_store(next, deadline()).await.unwrap();
    }
    assert_eq!(stores, [store(1), store(2), store(3)]);
    let recorder = FlowRecorder::new(Told::new(), RecorderSettings::default());
    let forever = OverridesChange {
        retention: Change::Set(Duration::from_secs(100 * 365 * 86_400)),
        ..OverridesChange::default()
    };
    for number in [2, 3] {
        let set = flows.change_overrides(store(number), &forever, deadline());
        set.await.unwrap();
    }
    let mut sweeper = Sweeper::default();
    let mut sweep = async |deleted| {
        let deleted = Deleted(deleted);
        let swept = sweeper.sweep(&*flows, &deleted, &recorder, deadline());
        let swept = swept.await.unwrap();
        (swept.sessions, swept.purged)
    };
    assert_eq!(sweep(Vec::new()).await, (3, 0));
    // With a store go its sessions, whenever they began.
    assert_eq!(sweep(vec![store(2)]).await, (1, 0));
    let left = flows.next_store(None, deadline()).await.unwrap();
    assert_eq!(left, Some(store(3)));
}

#[tokio::test]
async fn a_session_is_recorded_and_is_not_where_nothing_is() {
    let told = Told::new();
    let recorder = FlowRecorder::new(told.clone(), RecorderSettings::default());
    let off = Overrides {
        enabled: Some(false),
        ..Overrides::default()
    };
    recorder.set_overrides(&[(store(2), off)]);
    let begin = recorder.start_flow(store(1), StartFlow::default());
    let id = begin.await.unwrap();
    let session = Session {
        user: format!("user:\n{}", "x".repeat(600)),
        ..begun("one", Some(id), 0)
    };
    recorder.record_session(session.clone());
    recorder.record_session(ended(&session, 5));
    recorder.record_session(Session {
        store: store(2),
        ..begun("two", None, 0)
    });
    recorder.shutdown(LONG).await;
    let flows: &dyn Repository = &told.flows;
    let kept = flows.get_session_of_flow(store(1), id, deadline());
    let kept = kept.await.unwrap().unwrap();
    assert_eq!((kept.ended_at, kept.close_code), (Some(at(5)), Some(4001)));
    assert!(kept.user.starts_with("user: x") && kept.user.len() == 512);
    for (number, left) in [(1, 1), (2, 0)] {
        let purged = flows.purge_old_sessions(store(number), at(10_000), 9, deadline());
        assert_eq!(purged.await.unwrap(), left);
    }
    let nobody = FlowRecorder::disabled();
    nobody.record_session(session);
    assert!(!nobody.has_channel());
}
