//! Waiting on a condition.

use std::time::Duration;

use tokio::time::{Instant, sleep};

const TICK: Duration = Duration::from_millis(250);
/// What a cluster may take for anything, on a small machine that does other things too.
const DEADLINE: Duration = Duration::from_secs(180);

/// Asks until the answer is `Ok`; otherwise the last `Err`, once three minutes have passed.
pub(crate) async fn until<T>(mut ask: impl AsyncFnMut() -> Result<T, String>) -> Result<T, String> {
    let start = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(still) if start.elapsed() > DEADLINE => return Err(still),
            Err(_) => sleep(TICK).await,
        }
    }
}
