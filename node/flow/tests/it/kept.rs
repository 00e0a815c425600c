//! What others have recorded: written whatever it takes, and nobody blocked by a row that cannot be.

use meridian_flow::ports::{FlowFilter, FlowRepository as _, FlowStepRepository as _};
use meridian_flow::{Keeper, LONGEST_PAUSE, Row};
use metrics::set_default_local_recorder;

use crate::support::{Told, away, deadline, decision, flow, step, store};
use crate::writer::{Counters, DROPPED, counted};

fn whole(seconds: i64) -> Row {
    Row::Whole(Box::new(decision(store(1), seconds, 2)))
}

async fn kept(told: &Told) -> u64 {
    let every = FlowFilter::default();
    let count = told.flows.count_flows(store(1), &every, deadline());
    count.await.unwrap().flows
}

#[tokio::test(start_paused = true)]
async fn it_is_written_whatever_it_takes_but_for_what_is_refused() {
    let told = Told::new();
    told.fail(3, &away());
    let rows: Vec<_> = (0..10).map(whole).collect();
    *told.refused.lock().unwrap() = rows[4].flow();
    assert!(Keeper::new(told.clone()).write(rows).await);
    assert_eq!(kept(&told).await, 9);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_never_gets_an_answer_blocks_none_behind_it() {
    let counters = Counters::default();
    let _guard = set_default_local_recorder(&counters);
    let told = Told::new();
    let mut keeper = Keeper::new(told.clone());
    let rows: Vec<_> = (0..10).map(whole).collect();
    // The last of its batch: nobody is behind it who could show that it is to blame.
    let stuck = rows.last().and_then(Row::flow).unwrap();
    told.stuck.lock().unwrap().push(stuck);
    assert!(!keeper.write(rows).await);
    assert_eq!(kept(&told).await, 9);
    // Nor does anybody come, as often as it is tried.
    for _ in 0..10 {
        tokio::time::sleep(LONGEST_PAUSE).await;
        assert!(!keeper.write(Vec::new()).await);
    }
    assert_eq!(counters.of(DROPPED), []);
    assert!(keeper.write(vec![whole(10)]).await);
    assert_eq!(kept(&told).await, 10);
    assert_eq!(counters.of(DROPPED), counted(&[("flow failed", 1)]));
}

#[tokio::test(start_paused = true)]
async fn rows_that_fail_while_the_database_is_away_are_kept_when_it_is_back() {
    let counters = Counters::default();
    let _guard = set_default_local_recorder(&counters);
    let told = Told::new();
    let mut keeper = Keeper::new(told.clone());
    let begun = flow(store(1), 0);
    let id = begun.id;
    told.fail(100, &away());
    let mut is_all_kept = keeper.write(vec![Row::Start(Box::new(begun))]).await;
    // More of the same flow can show nothing.
    for offset in 1..10 {
        let step = Row::Step(Box::new(step(id, offset, "connect")));
        is_all_kept = keeper.write(vec![step]).await;
    }
    assert!(!is_all_kept);
    assert_eq!(kept(&told).await, 0);
    while !is_all_kept {
        is_all_kept = keeper.write(Vec::new()).await;
    }
    assert_eq!(kept(&told).await, 1);
    let steps = told.flows.get_steps_for_flow(id, deadline()).await.unwrap();
    assert_eq!(steps.len(), 9);
    assert_eq!(counters.of(DROPPED), []);
}
