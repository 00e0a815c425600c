//! What every repository does alike.

use std::sync::Arc;

use meridian_flow::ports::FlowFilter;
use meridian_flow::{Flow, FlowId, FlowKind, FlowStatus, Repository, Row};
use meridian_model::Timestamp;

use crate::support::{
    NOW, deadline, decision, end, everywhere, failed, flow, in_memory, in_mysql, in_postgres,
    in_sqlite, step, store,
};

everywhere! {
    a_flow_is_kept_with_its_steps_and_its_end
    a_decision_is_kept_whole
    the_same_written_again_changes_nothing
    what_is_of_no_flow_is_passed_over
    flows_are_found_by_what_they_are
    pages_go_from_the_latest_to_the_first
    figures_are_of_the_time_asked_for
    no_duration_is_too_long_for_figures
}

async fn a_flow_is_kept_with_its_steps_and_its_end(flows: Arc<dyn Repository>) {
    let begun = flow(store(1), 0);
    let id = begun.id;
    flows.create_flow(begun.clone(), deadline()).await.unwrap();
    let found = flows
        .get_flow_by_id(store(1), id, deadline())
        .await
        .unwrap();
    assert_eq!(found, Some(begun.clone()));
    // Another store's flows are none of this one's.
    let other = flows
        .get_flow_by_id(store(2), id, deadline())
        .await
        .unwrap();
    assert_eq!(other, None);

    let steps = [
        step(id, 1, "connect"),
        failed(step(id, 2, "verify_token"), "expired"),
    ];
    for step in steps.iter().rev() {
        flows.create_step(step.clone(), deadline()).await.unwrap();
    }
    assert_eq!(
        flows.get_steps_for_flow(id, deadline()).await.unwrap(),
        steps
    );

    let end = end(id, FlowStatus::Failure);
    flows
        .update_flow_status(end.clone(), deadline())
        .await
        .unwrap();
    let ended = Flow {
        status: FlowStatus::Failure,
        completed_at: Some(end.at),
        duration_micros: Some(5_000),
        user_id: Some("anne".to_owned()),
        ..begun
    };
    let found = flows
        .get_flow_by_id(store(1), id, deadline())
        .await
        .unwrap();
    assert_eq!(found, Some(ended));
}

async fn a_decision_is_kept_whole(flows: Arc<dyn Repository>) {
    let whole = decision(store(1), 0, 4);
    let row = Row::Whole(Box::new(whole.clone()));
    flows.write(&[row], deadline()).await.unwrap();
    let id = whole.flow.id;
    let found = flows
        .get_flow_by_id(store(1), id, deadline())
        .await
        .unwrap();
    assert_eq!(found, Some(whole.flow));
    let steps = flows.get_steps_for_flow(id, deadline()).await.unwrap();
    assert_eq!(steps, whole.steps);
}

async fn the_same_written_again_changes_nothing(flows: Arc<dyn Repository>) {
    let begun = flow(store(1), 0);
    let id = begun.id;
    let late = end(id, FlowStatus::Failure);
    let rows = [
        Row::Start(Box::new(begun)),
        Row::Step(Box::new(step(id, 1, "connect"))),
        Row::Complete(Box::new(end(id, FlowStatus::Success))),
        Row::Whole(Box::new(decision(store(1), 1, 2))),
    ];
    for _ in 0..2 {
        flows.write(&rows, deadline()).await.unwrap();
    }
    // The first end counts.
    flows.update_flow_status(late, deadline()).await.unwrap();
    let filter = FlowFilter::default();
    let all = flows.get_flows(store(1), &filter, None, 10, deadline());
    let all = all.await.unwrap().flows;
    assert_eq!(all.len(), 2);
    assert_eq!(all[1].status, FlowStatus::Success);
    let steps = flows.get_steps_for_flow(id, deadline()).await.unwrap();
    assert_eq!(steps.len(), 1);
}

async fn what_is_of_no_flow_is_passed_over(flows: Arc<dyn Repository>) {
    let (gone, there) = (FlowId::new(Timestamp(NOW)), flow(store(1), 0));
    let rows = [
        Row::Step(Box::new(step(gone, 1, "connect"))),
        Row::Complete(Box::new(end(gone, FlowStatus::Success))),
        Row::Start(Box::new(there.clone())),
        Row::Step(Box::new(step(there.id, 1, "connect"))),
    ];
    flows.write(&rows, deadline()).await.unwrap();
    assert_eq!(
        flows.get_steps_for_flow(gone, deadline()).await.unwrap(),
        []
    );
    let kept = flows
        .get_steps_for_flow(there.id, deadline())
        .await
        .unwrap();
    assert_eq!(kept.len(), 1);
}

async fn flows_are_found_by_what_they_are(flows: Arc<dyn Repository>) {
    let (login, mut check) = (flow(store(1), 0), decision(store(1), 10, 4));
    check.steps[3] = failed(check.steps[3].clone(), "cut \"off\"");
    let (login_id, check_id) = (login.id, check.flow.id);
    let rows = [
        Row::Start(Box::new(login)),
        Row::Step(Box::new(failed(
            step(login_id, 1, "verify_token"),
            "expired",
        ))),
        Row::Step(Box::new(step(login_id, 2, "connect"))),
        Row::Complete(Box::new(end(login_id, FlowStatus::Failure))),
        Row::Whole(Box::new(check)),
        Row::Start(Box::new(flow(store(2), 20))),
    ];
    flows.write(&rows, deadline()).await.unwrap();
    let some = |text: &str| Some(text.to_owned());
    let any = FlowFilter::default();
    let at = |seconds: i64| Some(Timestamp(NOW + seconds * 1_000_000));
    for (filter, expected) in [
        (any.clone(), vec![check_id, login_id]),
        (
            FlowFilter {
                from: at(10),
                ..any.clone()
            },
            vec![check_id],
        ),
        (
            FlowFilter {
                to: at(10),
                ..any.clone()
            },
            vec![login_id],
        ),
        (
            FlowFilter {
                client_id: some("shop"),
                ..any.clone()
            },
            vec![check_id, login_id],
        ),
        (
            FlowFilter {
                client_id: some("' OR 1=1 --"),
                ..any.clone()
            },
            vec![],
        ),
        (
            FlowFilter {
                user: some("anne"),
                ..any.clone()
            },
            vec![login_id],
        ),
        (
            FlowFilter {
                user: some("user:anne"),
                ..any.clone()
            },
            vec![check_id],
        ),
        (
            FlowFilter {
                status: Some(FlowStatus::Failure),
                ..any.clone()
            },
            vec![login_id],
        ),
        (
            FlowFilter {
                kind: Some(FlowKind::Decision),
                ..any.clone()
            },
            vec![check_id],
        ),
        (
            FlowFilter {
                step: some("evaluate"),
                ..any.clone()
            },
            vec![check_id],
        ),
        (
            FlowFilter {
                step: some("Evaluate"),
                ..any.clone()
            },
            vec![],
        ),
        (
            FlowFilter {
                step: some("read"),
                error_code: some("cut \"off\""),
                ..any.clone()
            },
            vec![check_id],
        ),
        (
            FlowFilter {
                step: some("cache"),
                error_code: some("cut \"off\""),
                ..any.clone()
            },
            vec![],
        ),
        (
            FlowFilter {
                error_code: some("expired"),
                ..any.clone()
            },
            vec![login_id],
        ),
        (
            FlowFilter {
                step: some("verify_token"),
                error_code: some("expired"),
                ..any.clone()
            },
            vec![login_id],
        ),
        (
            FlowFilter {
                step: some("connect"),
                error_code: some("expired"),
                ..any.clone()
            },
            vec![],
        ),
    ] {
        let found = flows.get_flows(store(1), &filter, None, 10, deadline());
        let found = found.await.unwrap();
        assert_eq!(found.next, None, "{filter:?}");
        let found: Vec<_> = found.flows.iter().map(|flow| flow.id).collect();
        assert_eq!(found, expected, "{filter:?}");
        let count = flows
            .count_flows(store(1), &filter, deadline())
            .await
            .unwrap();
        assert_eq!(count.flows, expected.len() as u64, "{filter:?}");
        assert!(!count.more, "{filter:?}");
    }
}

async fn pages_go_from_the_latest_to_the_first(flows: Arc<dyn Repository>) {
    let rows: Vec<_> = (0..5)
        .map(|seconds| Row::Start(Box::new(flow(store(1), seconds))))
        .collect();
    flows.write(&rows, deadline()).await.unwrap();
    let (mut before, mut found) = (None, Vec::new());
    loop {
        let filter = FlowFilter::default();
        let page = flows.get_flows(store(1), &filter, before, 2, deadline());
        let page = page.await.unwrap();
        found.extend(page.flows.iter().map(|flow| flow.id));
        assert!(page.flows.len() == 2 || page.next.is_none());
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    let expected: Vec<_> = rows.iter().rev().filter_map(Row::flow).collect();
    assert_eq!(found, expected);
}

async fn figures_are_of_the_time_asked_for(flows: Arc<dyn Repository>) {
    let (day, login) = (86_400, flow(store(1), 0));
    let id = login.id;
    let mut cut_off = decision(store(1), day, 4);
    cut_off.steps[3] = failed(cut_off.steps[3].clone(), "expired");
    let rows = [
        Row::Start(Box::new(login)),
        Row::Step(Box::new(failed(step(id, 1, "verify_token"), "expired"))),
        Row::Step(Box::new(failed(step(id, 2, "retry"), "cut off"))),
        Row::Complete(Box::new(end(id, FlowStatus::Failure))),
        Row::Whole(Box::new(decision(store(1), 1, 4))),
        Row::Whole(Box::new(cut_off)),
        Row::Start(Box::new(flow(store(2), 0))),
    ];
    flows.write(&rows, deadline()).await.unwrap();
    let (from, to) = (Timestamp(0), Timestamp(NOW + 2 * day * 1_000_000));
    let stats = flows
        .get_stats(store(1), from, to, deadline())
        .await
        .unwrap();
    let figures: Vec<_> = stats
        .counts
        .iter()
        .map(|count| {
            (
                count.kind,
                count.status,
                count.flows,
                count.average_micros,
                count.longest_micros,
            )
        })
        .collect();
    assert_eq!(
        figures,
        [
            (
                FlowKind::Authentication,
                FlowStatus::Failure,
                1,
                5_000.0,
                5_000
            ),
            (FlowKind::Decision, FlowStatus::Success, 2, 40.0, 40),
        ]
    );
    let errors = [("expired".to_owned(), 2), ("cut off".to_owned(), 1)];
    assert_eq!(stats.errors, errors);
    let none = flows.get_stats(store(1), to, to, deadline()).await.unwrap();
    assert_eq!(none.counts, []);

    let days = flows.get_daily_activity(store(1), from, to, deadline());
    let activity = days.await.unwrap();
    assert_eq!((stats.since, activity.since), (None, None));
    let days: Vec<_> = activity
        .days
        .iter()
        .map(|of| (of.day, of.status, of.flows))
        .collect();
    let today = NOW / 86_400_000_000;
    assert_eq!(
        days,
        [
            (today, FlowStatus::Success, 1),
            (today, FlowStatus::Failure, 1),
            (today + 1, FlowStatus::Success, 1)
        ]
    );
}

async fn no_duration_is_too_long_for_figures(flows: Arc<dyn Repository>) {
    let longest = i64::MAX as u64;
    let rows: Vec<_> = (0..3)
        .map(|number| {
            let mut whole = decision(store(1), number, 1);
            whole.flow.duration_micros = Some(longest);
            Row::Whole(Box::new(whole))
        })
        .collect();
    flows.write(&rows, deadline()).await.unwrap();
    let (from, to) = (Timestamp(0), Timestamp(NOW + 10_000_000));
    let stats = flows.get_stats(store(1), from, to, deadline());
    let counts = stats.await.unwrap().counts;
    assert_eq!((counts[0].flows, counts[0].longest_micros), (3, longest));
    let average = counts[0].average_micros / longest as f64;
    assert!((0.999..1.001).contains(&average), "{average}");
}
