//! Waiting on a condition, and how many heavy tests run at a time.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep};

const TICK: Duration = Duration::from_millis(10);

/// Each of these holds a Kafka, a PostgreSQL and three nodes.
static HEAVY: Semaphore = Semaphore::const_new(2);

/// Waits for leave to start a whole system.
pub(crate) async fn heavy() -> SemaphorePermit<'static> {
    HEAVY.acquire().await.unwrap()
}

/// Asks until the answer is `Ok`; panics with the last `Err` when `deadline` passes.
pub(crate) async fn until<T>(
    what: &str,
    deadline: Duration,
    mut ask: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let start = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(still) if start.elapsed() > deadline => {
                panic!("not in {deadline:?}: {what}; still {still}")
            }
            Err(_) => sleep(TICK).await,
        }
    }
}
