//! Questions that find little among much: they look at a bounded part, and say so.

use std::time::Duration;

use meridian_flow::memory::MemoryFlows;
use meridian_flow::ports::{
    FlowFilter, FlowRepository as _, FlowStepRepository as _, MOST_COUNTED, SessionRepository as _,
    Sink as _,
};
use meridian_flow::sql::{Scanning, SqlFlows};
use meridian_flow::{FlowId, FlowStatus, Recorded, Row, Session};
use meridian_model::Timestamp;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::support::{
    NOW, deadline, decision, failed, migrated_sqlite, store, with_mysql, with_postgres,
};

/// Windows of three flows, and time for one of them.
const ONE: Scanning = Scanning {
    window: 3,
    longest: Duration::ZERO,
};
/// Windows of three flows, and time for all.
const ALL: Scanning = Scanning {
    window: 3,
    longest: Duration::from_secs(60),
};

/// Ten decisions of a store, of which the earliest failed, among those of another store.
async fn fill(flows: &SqlFlows) -> Vec<FlowId> {
    let mut rows = Vec::new();
    for number in 0..10 {
        let mut whole = decision(store(1), number, 1);
        if number == 0 {
            whole.flow.status = FlowStatus::Failure;
            whole.flow.user_id = Some("rare".to_owned());
            whole.steps = vec![failed(whole.steps[0].clone(), "odd")];
        }
        rows.push(Row::Whole(Box::new(whole)));
        rows.push(Row::Whole(Box::new(decision(store(2), number, 1))));
    }
    flows.write(&rows, deadline()).await.unwrap();
    rows.iter().step_by(2).filter_map(Row::flow).collect()
}

fn rare() -> [FlowFilter; 3] {
    let any = FlowFilter::default();
    [
        FlowFilter {
            user: Some("rare".to_owned()),
            ..any.clone()
        },
        FlowFilter {
            error_code: Some("odd".to_owned()),
            ..any.clone()
        },
        FlowFilter {
            status: Some(FlowStatus::Failure),
            ..any
        },
    ]
}

async fn check(flows: SqlFlows) {
    let ids = fill(&flows).await;
    let (one, all) = (flows.clone().scanning(ONE), flows.scanning(ALL));
    for filter in rare() {
        // Pages without any flow lead to the one that has it.
        let (mut before, mut pages, mut found) = (None, 0, Vec::new());
        loop {
            let page = one.get_flows(store(1), &filter, before, 2, deadline());
            let page = page.await.unwrap();
            found.extend(page.flows.iter().map(|flow| flow.id));
            pages += 1;
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!((found, pages), (vec![ids[0]], 4), "{filter:?}");
        let count = one
            .count_flows(store(1), &filter, deadline())
            .await
            .unwrap();
        assert_eq!((count.flows, count.more), (0, true));
        // Where there is time, one call finds it.
        let page = all.get_flows(store(1), &filter, None, 2, deadline());
        let page = page.await.unwrap();
        assert_eq!((page.flows[0].id, page.next), (ids[0], None));
        let count = all
            .count_flows(store(1), &filter, deadline())
            .await
            .unwrap();
        assert_eq!((count.flows, count.more), (1, false));
    }
    let (from, to) = (Timestamp(0), Timestamp(NOW + 100_000_000));
    let part = one.get_stats(store(1), from, to, deadline()).await.unwrap();
    let since = Some(Timestamp(NOW + 7_000_000));
    assert_eq!((part.since, part.counts[0].flows), (since, 3));
    assert_eq!(part.errors, []);
    let whole = all.get_stats(store(1), from, to, deadline()).await.unwrap();
    let counts: Vec<_> = whole
        .counts
        .iter()
        .map(|count| (count.status, count.flows))
        .collect();
    assert_eq!(
        (whole.since, counts),
        (
            None,
            vec![(FlowStatus::Success, 9), (FlowStatus::Failure, 1)]
        )
    );
    assert_eq!(whole.errors, [("odd".to_owned(), 1)]);
    let part = one.get_daily_activity(store(1), from, to, deadline());
    let part = part.await.unwrap();
    assert_eq!((part.since, part.days[0].flows), (since, 3));
    let whole = all.get_daily_activity(store(1), from, to, deadline());
    let whole = whole.await.unwrap();
    let flows: u64 = whole.days.iter().map(|day| day.flows).sum();
    assert_eq!((whole.since, flows), (None, 10));
}

#[tokio::test]
async fn what_is_rare_is_looked_for_in_parts_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    check(migrated_sqlite(folder.path()).await).await;
}

#[tokio::test]
async fn what_is_rare_is_looked_for_in_parts_in_postgres() {
    with_postgres(|_, url| async move { check(SqlFlows::connect_lazy(&url).unwrap()).await }).await;
}

#[tokio::test]
async fn what_is_rare_is_looked_for_in_parts_in_mysql() {
    with_mysql(|_, url| async move { check(SqlFlows::connect_lazy(&url).unwrap()).await }).await;
}

/// Steps that PostgreSQL has read, by which way so ever.
const STEPS_READ: &str = "SELECT CAST(seq_tup_read + idx_tup_fetch + (SELECT SUM(idx_tup_read) FROM pg_stat_user_indexes \
                          WHERE relname = 'flow_steps') AS BIGINT), seq_scan + idx_scan FROM pg_stat_user_tables \
                          WHERE relname = 'flow_steps'";

#[tokio::test]
async fn a_question_reads_no_steps_but_those_of_its_window() {
    with_postgres(|flows, url| async move {
        let rows: Vec<_> = (0..5_000)
            .flat_map(|number| {
                let Recorded { flow, mut steps } = decision(store(1), number, 4);
                if number % 10 == 0 {
                    steps[3] = failed(steps[3].clone(), "late");
                }
                let steps = steps.into_iter().map(|step| Row::Step(Box::new(step)));
                [Row::Start(Box::new(flow))].into_iter().chain(steps)
            })
            .collect();
        flows.write(&rows, deadline()).await.unwrap();
        let mut admin = PgConnection::connect(&url).await.unwrap();
        admin.execute("ANALYZE").await.unwrap();
        let mut read = async || {
            let read: (i64, i64) = sqlx::query_as(STEPS_READ)
                .fetch_one(&mut admin)
                .await
                .unwrap();
            read
        };
        let any = FlowFilter::default();
        let filters = [
            FlowFilter {
                step: Some("none".to_owned()),
                ..any.clone()
            },
            FlowFilter {
                error_code: Some("none".to_owned()),
                ..any.clone()
            },
        ];
        // What is read is told when a connection ends.
        for filter in filters.iter().map(Some).chain([None]) {
            let (before, scans) = read().await;
            let asking = SqlFlows::connect_lazy(&url).unwrap().scanning(ONE);
            match filter {
                Some(filter) => {
                    let page = asking.get_flows(store(1), filter, None, 2, deadline());
                    assert!(page.await.unwrap().next.is_some());
                }
                None => {
                    let (from, to) = (Timestamp(0), Timestamp(i64::MAX));
                    let stats = asking.get_stats(store(1), from, to, deadline());
                    assert!(stats.await.unwrap().since.is_some());
                }
            }
            drop(asking);
            let told = async {
                loop {
                    let (after, now) = read().await;
                    if now > scans {
                        return after - before;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let told = tokio::time::timeout(Duration::from_secs(30), told).await;
            let told = told.unwrap();
            assert!((0..100).contains(&told), "{filter:?}: {told}");
        }
    })
    .await;
}

#[tokio::test]
async fn nobody_counts_beyond_a_bound() {
    let folder = tempfile::tempdir().unwrap();
    let flows = migrated_sqlite(folder.path()).await;
    let count = i64::try_from(MOST_COUNTED).unwrap() + 1;
    let rows: Vec<_> = (0..count)
        .map(|number| Row::Whole(Box::new(decision(store(1), number, 0))))
        .collect();
    let every = FlowFilter::default();
    for (part, more) in [(&rows[1..], false), (&rows[..1], true)] {
        for rows in part.chunks(2_000) {
            flows.write(rows, deadline()).await.unwrap();
        }
        let counted = flows.count_flows(store(1), &every, deadline());
        let counted = counted.await.unwrap();
        assert_eq!((counted.flows, counted.more), (MOST_COUNTED, more));
    }
}

#[tokio::test]
async fn memory_keeps_the_latest_that_it_has_room_for() {
    let flows = MemoryFlows::with_room(20_000);
    let mut ids = Vec::new();
    for number in 0..1_000 {
        let whole = decision(store(1), number, 2);
        ids.push(whole.flow.id);
        let row = Row::Whole(Box::new(whole));
        flows.write(&[row], deadline()).await.unwrap();
    }
    let every = FlowFilter::default();
    let page = flows.get_flows(store(1), &every, None, 1_000, deadline());
    let kept: Vec<_> = page
        .await
        .unwrap()
        .flows
        .iter()
        .map(|flow| flow.id)
        .collect();
    assert!((5..100).contains(&kept.len()), "{}", kept.len());
    let latest: Vec<_> = ids.iter().rev().take(kept.len()).copied().collect();
    assert_eq!(kept, latest);
    let gone = flows.get_steps_for_flow(ids[0], deadline()).await.unwrap();
    assert_eq!(gone, []);
    // What goes in another way leaves its room to others.
    let later = Timestamp(i64::MAX);
    let purged = flows.purge_old_flows(store(1), later, 1_000, deadline());
    assert_eq!(purged.await.unwrap(), kept.len() as u64);
    for number in 0..kept.len() {
        let row = Row::Whole(Box::new(decision(store(1), number as i64, 2)));
        flows.write(&[row], deadline()).await.unwrap();
    }
    let count = flows.count_flows(store(1), &every, deadline());
    assert_eq!(count.await.unwrap().flows, kept.len() as u64);

    // Sessions have the same room, and their age counts as that of flows does.
    for number in 0..1_000 {
        let session = Session {
            id: format!("session-{number}"),
            store: store(2),
            flow: None,
            node: "central".to_owned(),
            user: "user:anne".to_owned(),
            connected_at: Timestamp(NOW + (500 + number) * 1_000_000),
            ended_at: None,
            close_code: None,
        };
        let row = Row::Session(Box::new(session));
        flows.write(&[row], deadline()).await.unwrap();
    }
    let count = flows.count_flows(store(1), &every, deadline());
    assert_eq!(count.await.unwrap().flows, 0);
    let first = async || flows.next_store(None, deadline()).await.unwrap();
    assert_eq!(first().await, Some(store(2)));
    let (early, late) = (Timestamp(NOW + 1_400_000_000), Timestamp(i64::MAX));
    let purge = async |before| {
        let purged = flows.purge_old_sessions(store(2), before, 1_000, deadline());
        purged.await.unwrap()
    };
    assert_eq!(purge(early).await, 0);
    let sessions = purge(late).await;
    assert!((5..100).contains(&sessions), "{sessions}");
    assert_eq!(first().await, None);
}
