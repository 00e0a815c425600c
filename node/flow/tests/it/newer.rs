//! What a newer version wrote and this one does not know: the rest is told without it.

use meridian_flow::ports::FlowFilter;
use meridian_flow::{FlowKind, FlowStatus, Repository, Row};
use meridian_model::Timestamp;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _};

use crate::support::{
    NOW, deadline, decision, flow, migrated_sqlite, step, store, with_mysql, with_postgres,
};

async fn assert_the_rest_is_told(flows: &dyn Repository, url: &str) {
    let begun = flow(store(1), 5);
    let steps = [step(begun.id, 1, "connect"), step(begun.id, 2, "verify")];
    let mut rows = vec![Row::Start(Box::new(begun.clone()))];
    rows.extend(steps.iter().cloned().map(Box::new).map(Row::Step));
    let decisions: Vec<_> = (0..5).map(|at| decision(store(1), at, 4)).collect();
    let whole = decisions.iter().cloned().map(Box::new).map(Row::Whole);
    rows.extend(whole);
    flows.write(&rows, deadline()).await.unwrap();
    let at = |number: usize| decisions[number].flow.started_at.0;
    let mut admin = AnyConnection::connect(url).await.unwrap();
    for newer in [
        format!("UPDATE flows SET kind = 9 WHERE started_at = {}", at(3)),
        format!("UPDATE flows SET status = 9 WHERE started_at = {}", at(2)),
        "UPDATE flow_steps SET status = 9 WHERE name = 'verify'".to_owned(),
        format!(
            "UPDATE flows SET steps = REPLACE(steps, '\"cache\",\"status\":\"success\"', \
             '\"cache\",\"status\":\"new\"') WHERE started_at = {}",
            at(1)
        ),
    ] {
        admin.execute(AssertSqlSafe(newer)).await.unwrap();
    }

    // No page ends what is behind one that has less.
    let known = [
        begun.id,
        decisions[4].flow.id,
        decisions[1].flow.id,
        decisions[0].flow.id,
    ];
    let of_client = FlowFilter {
        client_id: Some("shop".to_owned()),
        ..FlowFilter::default()
    };
    for filter in [FlowFilter::default(), of_client] {
        let (mut found, mut before) = (Vec::new(), None);
        loop {
            let page = flows.get_flows(store(1), &filter, before, 2, deadline());
            let page = page.await.unwrap();
            found.extend(page.flows.into_iter().map(|flow| flow.id));
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(found, known);
    }
    for number in [2, 3] {
        let id = decisions[number].flow.id;
        let none = flows.get_flow_by_id(store(1), id, deadline());
        assert_eq!(none.await.unwrap(), None);
    }
    let left = flows.get_steps_for_flow(begun.id, deadline()).await;
    assert_eq!(left.unwrap(), steps[..1]);
    let id = decisions[1].flow.id;
    let left = flows.get_steps_for_flow(id, deadline()).await.unwrap();
    let left: Vec<_> = left.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(left, ["validate", "evaluate", "read"]);

    let (from, to) = (Timestamp(0), Timestamp(NOW + 10_000_000));
    let stats = flows.get_stats(store(1), from, to, deadline());
    let counts = stats.await.unwrap().counts;
    let counts = counts.iter();
    let counts: Vec<_> = counts
        .map(|count| (count.kind, count.status, count.flows))
        .collect();
    assert_eq!(
        counts,
        [
            (FlowKind::Authentication, FlowStatus::Pending, 1),
            (FlowKind::Decision, FlowStatus::Success, 3),
        ]
    );
    let days = flows.get_daily_activity(store(1), from, to, deadline());
    let days = days.await.unwrap().days;
    let days: Vec<_> = days.iter().map(|day| (day.status, day.flows)).collect();
    // The kind does not matter to a day.
    assert_eq!(days, [(FlowStatus::Pending, 1), (FlowStatus::Success, 4)]);
}

#[tokio::test]
async fn in_sqlite_the_rest_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let flows = migrated_sqlite(folder.path()).await;
    let url = format!("sqlite://{}", folder.path().join("test.db").display());
    assert_the_rest_is_told(&flows, &url).await;
}

#[tokio::test]
async fn in_postgres_the_rest_is_told() {
    with_postgres(|flows, url| async move { assert_the_rest_is_told(&*flows, &url).await }).await;
}

#[tokio::test]
async fn in_mysql_the_rest_is_told() {
    with_mysql(|flows, url| async move { assert_the_rest_is_told(&*flows, &url).await }).await;
}
