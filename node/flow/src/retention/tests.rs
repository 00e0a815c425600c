use super::*;
use crate::flow::{Flow, FlowKind};
use crate::memory::MemoryFlows;
use crate::ports::{RepositoryError, Row, Sink as _};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn store() -> StoreId {
    "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap()
}

/// A store with so many flows, all of which are to go.
async fn old(flows: i64) -> (MemoryFlows, Work) {
    let old = (0..flows).map(|at| Flow::begun(store(), FlowKind::Decision, Timestamp(at)));
    let rows: Vec<_> = old.map(|flow| Row::Start(Box::new(flow))).collect();
    let memory = MemoryFlows::new();
    memory.write(&rows, Instant::now() + DAY).await.unwrap();
    (memory, Work::Flows(store(), Timestamp(flows)))
}

fn time(left: Duration, timeout: Duration) -> Time {
    Time {
        until: Instant::now() + left,
        timeout,
    }
}

#[tokio::test(start_paused = true)]
async fn more_goes_at_once_while_it_is_quick_and_less_when_it_is_slow() {
    let mut pace = Pace::default();
    assert_eq!(pace.limit, 500);
    for (took, limit, pause) in [
        (0, 1_000, 20),
        (49, 2_000, 49),
        (50, 2_000, 50),
        (100, 2_000, 100),
        (19, 4_000, 20),
        (21, 8_000, 21),
        (1, 8_000, 20),
        (101, 4_000, 101),
        (5_000, 2_000, 5_000),
        (101, 1_000, 101),
        (101, 500, 101),
        (30_000, 500, 30_000),
        (75, 500, 75),
    ] {
        let before = tokio::time::Instant::now();
        pace.rest(millis(took)).await;
        assert_eq!(pace.limit, limit, "after {took} ms");
        assert_eq!(before.elapsed(), millis(pause), "after {took} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn all_goes_some_at_a_time() {
    // The clock stands still while a statement runs: what goes by are the pauses between them.
    for (flows, statements) in [
        (0, 1),
        (500, 1),
        (501, 2),
        (1_500, 2),
        (23_500, 6),
        (23_501, 7),
    ] {
        let (memory, work) = old(flows).await;
        let before = tokio::time::Instant::now();
        let mut pace = Pace::default();
        let done = pace.go(&memory, work, time(DAY, DAY)).await.unwrap();
        assert_eq!((done.rows, done.more), (flows.unsigned_abs(), false));
        assert_eq!(before.elapsed(), (statements - 1) * PAUSE, "{flows}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_its_time_is_up_and_tells_that_there_is_more() {
    let (memory, work) = old(1_000).await;
    let (mut pace, up) = (Pace::default(), time(Duration::ZERO, DAY));
    let done = pace.go(&memory, work, up).await.unwrap();
    assert_eq!((done.rows, done.more), (500, true));
}

#[tokio::test(start_paused = true)]
async fn little_goes_at_once_after_a_failure() {
    let (memory, work) = old(1).await;
    let mut pace = Pace { limit: MOST };
    let late = pace.go(&memory, work, time(DAY, Duration::ZERO)).await;
    assert!(
        matches!(late, Err(RepositoryError::DeadlineExceeded)),
        "{late:?}"
    );
    assert_eq!(pace.limit, 500);
}
