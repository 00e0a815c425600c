//! What becomes of old flows: those that nobody ended expire, and those kept long enough go. Done by one node at a time,
//! a few flows with each statement, so that whoever writes never waits long for it.

use std::time::{Duration, Instant, SystemTime};

use meridian_model::Timestamp;

use crate::ports::{Repository, Result};
use crate::recorder::FlowRecorder;

/// How many flows go with one statement.
const BATCH: u32 = 500;
/// The pause after a batch that was full: others write meanwhile.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a flow may go on before it has expired.
pub const LONGEST_FLOW: Duration = Duration::from_secs(60 * 60);
const TIMEOUT: Duration = Duration::from_secs(30);

/// What one sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Flows that have expired.
    pub expired: u64,
    /// Flows that are gone.
    pub purged: u64,
    /// Connections of the live channel that are no longer told of.
    pub sessions: u64,
}

/// Goes over all stores once. Their times are those of `recorder`.
///
/// # Errors
/// [`crate::RepositoryError`]; what was done until then is done.
pub async fn sweep(repository: &dyn Repository, recorder: &FlowRecorder) -> Result<Swept> {
    let mut swept = Swept::default();
    let before = ago(LONGEST_FLOW);
    loop {
        let expired = repository.expire_flows(before, BATCH, deadline()).await?;
        swept.expired += expired;
        if expired < u64::from(BATCH) {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    let mut store = repository.next_store(None, deadline()).await?;
    while let Some(one) = store {
        let before = ago(recorder.settings_of(one).retention);
        loop {
            let purged = repository.purge_old_flows(one, before, BATCH, deadline());
            let purged = purged.await?;
            swept.purged += purged;
            if purged < u64::from(BATCH) {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        loop {
            let purged = repository.purge_old_sessions(one, before, BATCH, deadline());
            let purged = purged.await?;
            swept.sessions += purged;
            if purged < u64::from(BATCH) {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        store = repository.next_store(store, deadline()).await?;
    }
    Ok(swept)
}

fn ago(time: Duration) -> Timestamp {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let then = now.saturating_sub(time).as_micros();
    Timestamp(i64::try_from(then).unwrap_or(i64::MAX))
}

fn deadline() -> Instant {
    Instant::now() + TIMEOUT
}
