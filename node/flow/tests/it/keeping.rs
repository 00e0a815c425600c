//! How long flows are kept and what is set of stores, on every kind of database.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use meridian_flow::ports::{FlowFilter, Stores};
use meridian_flow::recorder::{Change, Overrides, OverridesChange};
use meridian_flow::retention::Sweeper;
use meridian_flow::{FlowRecorder, FlowStatus, RecorderSettings, Repository, Row, StoreSettings};
use meridian_model::{StoreId, Timestamp};

use crate::support::{
    Deleted, NOW, Told, deadline, decision, end, everywhere, flow, in_memory, in_mysql,
    in_postgres, in_sqlite, step, store,
};

everywhere! {
    old_flows_go_in_batches_with_their_steps
    flows_that_nobody_ended_expire
    settings_of_stores_are_kept
    two_who_change_different_settings_have_both_their_way
    a_sweep_goes_on_where_its_time_was_up
    with_a_store_goes_what_was_recorded_of_it_and_set
    many_settings_of_stores_keep_no_flow_from_going
}

async fn old_flows_go_in_batches_with_their_steps(flows: Arc<dyn Repository>) {
    let mut rows: Vec<_> = (0..5)
        .map(|seconds| Row::Start(Box::new(flow(store(1), seconds))))
        .chain([Row::Start(Box::new(flow(store(2), 0)))])
        .collect();
    let ids: Vec<_> = rows.iter().take(5).filter_map(Row::flow).collect();
    rows.extend(ids.into_iter().flat_map(|id| {
        [
            Row::Step(Box::new(step(id, 1, "connect"))),
            Row::Complete(Box::new(end(id, FlowStatus::Success))),
        ]
    }));
    flows.write(&rows, deadline()).await.unwrap();
    let cutoff = Timestamp(NOW + 3_000_000);
    let purge = async || {
        let purged = flows.purge_old_flows(store(1), cutoff, 2, deadline());
        purged.await.unwrap()
    };
    let older = async || flows.has_older(store(1), cutoff, deadline()).await.unwrap();
    assert_eq!((purge().await, older().await), (2, true));
    assert_eq!((purge().await, older().await), (1, false));
    assert_eq!((purge().await, older().await), (0, false));
    let first = rows[0].flow().unwrap();
    assert_eq!(
        flows.get_steps_for_flow(first, deadline()).await.unwrap(),
        []
    );
    let left = async |number| {
        let filter = FlowFilter::default();
        let count = flows.count_flows(store(number), &filter, deadline());
        count.await.unwrap().flows
    };
    assert_eq!([left(1).await, left(2).await], [2, 1]);

    // A sweep goes over all stores by their own times.
    assert_eq!(
        flows.next_store(None, deadline()).await.unwrap(),
        Some(store(1))
    );
    let next = flows.next_store(Some(store(1)), deadline()).await.unwrap();
    assert_eq!(next, Some(store(2)));
    let stores = StoreSettings {
        retention: Duration::from_secs(1),
        ..StoreSettings::default()
    };
    let settings = RecorderSettings {
        stores,
        ..RecorderSettings::default()
    };
    let recorder = FlowRecorder::new(Told::new(), settings);
    // What is set of a store is read by the sweep itself: nobody has told the recorder.
    let forever = OverridesChange {
        retention: Change::Set(Duration::from_secs(100 * 365 * 86_400)),
        ..OverridesChange::default()
    };
    let set = flows.change_overrides(store(2), &forever, deadline());
    set.await.unwrap();
    let mut sweeper = Sweeper::default();
    let none = Deleted::none();
    let swept = sweeper.sweep(&*flows, &none, &recorder, deadline());
    let swept = swept.await.unwrap();
    assert_eq!((swept.purged, swept.expired, swept.is_cut), (2, 1, false));
    assert_eq!([left(1).await, left(2).await], [0, 1]);
}

async fn flows_that_nobody_ended_expire(flows: Arc<dyn Repository>) {
    let (forgotten, ended) = (flow(store(1), 0), flow(store(1), 1));
    let rows = [
        Row::Start(Box::new(forgotten.clone())),
        Row::Start(Box::new(ended.clone())),
        Row::Complete(Box::new(end(ended.id, FlowStatus::Success))),
        Row::Start(Box::new(flow(store(1), 100))),
    ];
    flows.write(&rows, deadline()).await.unwrap();
    let cutoff = Timestamp(NOW + 50_000_000);
    assert_eq!(flows.expire_flows(cutoff, 10, deadline()).await.unwrap(), 1);
    assert_eq!(flows.expire_flows(cutoff, 10, deadline()).await.unwrap(), 0);
    let status = async |id| {
        let found = flows.get_flow_by_id(store(1), id, deadline());
        found.await.unwrap().unwrap().status
    };
    assert_eq!(status(forgotten.id).await, FlowStatus::Expired);
    assert_eq!(status(ended.id).await, FlowStatus::Success);
    // Somebody who was only late is believed.
    let late = end(forgotten.id, FlowStatus::Success);
    flows.update_flow_status(late, deadline()).await.unwrap();
    assert_eq!(status(forgotten.id).await, FlowStatus::Success);
}

async fn settings_of_stores_are_kept(flows: Arc<dyn Repository>) {
    assert_eq!(flows.get_overrides(deadline()).await.unwrap(), []);
    let set = async |number, change: OverridesChange| {
        let set = flows.change_overrides(store(number), &change, deadline());
        set.await.unwrap();
        let mut kept = flows.get_overrides(deadline()).await.unwrap();
        kept.sort_by_key(|(store, _)| *store);
        for of in [1, 2].map(store) {
            let expected = kept.iter().find(|(store, _)| *store == of);
            let expected = expected.map(|(_, set)| *set).unwrap_or_default();
            let set = flows.get_overrides_of(of, deadline()).await.unwrap();
            assert_eq!(set, expected);
        }
        kept
    };
    let all = OverridesChange {
        enabled: Change::Set(false),
        sampling: Change::Set(0.25),
        retention: Change::Set(Duration::from_secs(86_400)),
    };
    let some = Overrides {
        enabled: Some(false),
        sampling: Some(0.25),
        retention: Some(Duration::from_secs(86_400)),
    };
    assert_eq!(set(1, all).await, [(store(1), some)]);
    // What is not named stays, and what is unset is as for all again.
    let change = OverridesChange {
        enabled: Change::Unset,
        sampling: Change::Set(0.5),
        retention: Change::Keep,
    };
    let changed = Overrides {
        enabled: None,
        sampling: Some(0.5),
        ..some
    };
    assert_eq!(set(1, change).await, [(store(1), changed)]);
    let nothing = OverridesChange::default();
    assert_eq!(set(1, nothing).await, [(store(1), changed)]);
    let kept = set(2, all).await;
    assert_eq!(kept, [(store(1), changed), (store(2), some)]);
    flows.delete_overrides(store(1), deadline()).await.unwrap();
    assert_eq!(set(2, nothing).await, [(store(2), some)]);
}

async fn two_who_change_different_settings_have_both_their_way(flows: Arc<dyn Repository>) {
    for round in 0..20 {
        let (flows, other) = (flows.clone(), flows.clone());
        let of = store(round);
        let first = OverridesChange {
            enabled: Change::Set(false),
            ..OverridesChange::default()
        };
        let second = OverridesChange {
            sampling: Change::Set(0.5),
            ..OverridesChange::default()
        };
        let (one, two) = tokio::join!(
            tokio::spawn(async move { flows.change_overrides(of, &first, deadline()).await }),
            tokio::spawn(async move { other.change_overrides(of, &second, deadline()).await }),
        );
        one.unwrap().unwrap();
        two.unwrap().unwrap();
    }
    let kept = flows.get_overrides(deadline()).await.unwrap();
    assert_eq!(kept.len(), 20);
    for (_, set) in kept {
        assert_eq!((set.enabled, set.sampling), (Some(false), Some(0.5)));
    }
}

async fn a_sweep_goes_on_where_its_time_was_up(flows: Arc<dyn Repository>) {
    let rows: Vec<_> = (1..=3)
        .map(|number| Row::Whole(Box::new(decision(store(number), 0, 1))))
        .collect();
    flows.write(&rows, deadline()).await.unwrap();
    let stores = StoreSettings {
        retention: Duration::from_secs(1),
        ..StoreSettings::default()
    };
    let settings = RecorderSettings {
        stores,
        ..RecorderSettings::default()
    };
    let recorder = FlowRecorder::new(Told::new(), settings);
    let mut sweeper = Sweeper::default();
    let (none, mut purged) = (Deleted::none(), 0);
    let swept = sweeper.sweep(&*flows, &none, &recorder, Instant::now());
    let swept = swept.await.unwrap();
    assert_eq!((swept.purged, swept.is_cut), (0, true));
    // One of no time at all gets somewhere all the same once it is let.
    while purged < 3 {
        let until = Instant::now() + Duration::from_millis(500);
        purged += sweeper
            .sweep(&*flows, &none, &recorder, until)
            .await
            .unwrap()
            .purged;
    }
    assert_eq!(flows.next_store(None, deadline()).await.unwrap(), None);
}

async fn with_a_store_goes_what_was_recorded_of_it_and_set(flows: Arc<dyn Repository>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seconds = now.as_secs() as i64 - NOW / 1_000_000;
    let rows: Vec<_> = (1..=2)
        .map(|number| Row::Whole(Box::new(decision(store(number), seconds, 1))))
        .collect();
    flows.write(&rows, deadline()).await.unwrap();
    let off = OverridesChange {
        enabled: Change::Set(false),
        ..OverridesChange::default()
    };
    for number in [1, 2, 3] {
        let set = flows.change_overrides(store(number), &off, deadline());
        set.await.unwrap();
    }
    let recorder = FlowRecorder::new(Told::new(), RecorderSettings::default());
    let deleted = Deleted(vec![store(1), store(3)]);
    let mut sweeper = Sweeper::default();
    let swept = sweeper.sweep(&*flows, &deleted, &recorder, deadline());
    assert_eq!(swept.await.unwrap().purged, 1);
    let next = flows.next_store(None, deadline()).await.unwrap();
    assert_eq!(next, Some(store(2)));
    let kept = flows.get_overrides(deadline()).await.unwrap();
    let kept: Vec<_> = kept.iter().map(|(store, _)| *store).collect();
    assert_eq!(kept, [store(2)]);
}

/// What was deleted, as a datastore tells that is slow.
struct Slow(Deleted);

#[async_trait]
impl Stores for Slow {
    async fn is_deleted(&self, store: StoreId, deadline: Instant) -> bool {
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.0.is_deleted(store, deadline).await
    }
}

async fn many_settings_of_stores_keep_no_flow_from_going(flows: Arc<dyn Repository>) {
    let off = OverridesChange {
        enabled: Change::Set(false),
        ..OverridesChange::default()
    };
    for number in 0..40 {
        let set = flows.change_overrides(store(number), &off, deadline());
        set.await.unwrap();
    }
    let old = Row::Start(Box::new(flow(store(99), 0)));
    flows.write(&[old], deadline()).await.unwrap();
    let slow = Slow(Deleted(vec![store(1), store(38)]));
    let recorder = FlowRecorder::new(Told::new(), RecorderSettings::default());
    let mut sweeper = Sweeper::default();
    // Less time than it takes to look at all that is set.
    let mut expired = 0;
    let mut sweeps = 0;
    while flows.get_overrides(deadline()).await.unwrap().len() > 38 {
        let until = Instant::now() + Duration::from_millis(500);
        let swept = sweeper.sweep(&*flows, &slow, &recorder, until).await;
        expired += swept.unwrap().expired;
        sweeps += 1;
        assert_eq!(expired, 1, "after {sweeps} sweeps");
        assert!(sweeps < 40);
    }
    assert!(sweeps > 1);
}
