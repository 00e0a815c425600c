//! How long a node keeps its changelog.
//!
//! ReadChanges and the repair of nodes below read it. What is trimmed is gone for both: a node below that was away for
//! longer starts over from a snapshot. Revisions that are not published yet are kept whatever their age.

use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_model::ports::{Datastore, DatastoreError};
use meridian_model::{Revision, StoreId, Timestamp};
use tokio_util::sync::CancellationToken;

/// How often it is looked at: the share of what is kept, within these bounds.
const SHARE: u32 = 10;
const MIN_PAUSE: Duration = Duration::from_secs(60);
const MAX_PAUSE: Duration = Duration::from_secs(3600);
/// Change sets looked at with one call.
const PAGE: u32 = 500;
const TIMEOUT: Duration = Duration::from_secs(30);

/// Trims what is older than `keep` until `stop`; nothing where nothing is set.
pub(crate) async fn run(
    datastore: Arc<dyn Datastore>,
    keep: Option<Duration>,
    stop: CancellationToken,
) {
    let Some(keep) = keep else { return };
    let pause = (keep / SHARE).clamp(MIN_PAUSE, MAX_PAUSE);
    loop {
        if let Err(error) = trim(&*datastore, keep).await {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(
                error,
                "the changelog could not be trimmed; trying again later"
            );
        }
        if tokio::time::timeout(pause, stop.cancelled()).await.is_ok() {
            return;
        }
    }
}

async fn trim(datastore: &dyn Datastore, keep: Duration) -> Result<(), DatastoreError> {
    let micros = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
    let now = datastore.now(deadline()).await?;
    let cutoff = Timestamp(now.0.saturating_sub(micros));
    for (store, _) in datastore.positions(deadline()).await? {
        trim_store(datastore, store, cutoff).await?;
    }
    Ok(())
}

/// Trims what was committed before `cutoff`, page by page from the oldest.
async fn trim_store(
    datastore: &dyn Datastore,
    store: StoreId,
    cutoff: Timestamp,
) -> Result<(), DatastoreError> {
    let mut after = Revision::ZERO;
    loop {
        let page = match datastore.change_sets(store, after, PAGE, deadline()).await {
            Err(DatastoreError::Trimmed { oldest }) if oldest > after.next() => {
                after = Revision(oldest.0.saturating_sub(1));
                continue;
            }
            page => page?,
        };
        let old = page.iter().take_while(|set| set.committed_at < cutoff);
        let Some(last) = old.last() else {
            return Ok(());
        };
        datastore
            .trim_changes(store, last.revision, deadline())
            .await?;
        after = last.revision;
    }
}

fn deadline() -> Instant {
    Instant::now() + TIMEOUT
}

#[cfg(test)]
mod tests {
    use super::*;
    use meridian_model::Tiers;
    use meridian_store::memory::MemoryDatastore;

    #[tokio::test]
    async fn what_is_old_goes_and_what_is_not_stays() {
        let datastore = MemoryDatastore::new();
        let store: StoreId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        datastore
            .create_store(store, "shop", deadline())
            .await
            .unwrap();
        for _ in 0..3 {
            datastore
                .assign_tiers(store, &Tiers::default(), deadline())
                .await
                .unwrap();
        }
        let published: Vec<_> = datastore
            .outbox(10, deadline())
            .await
            .unwrap()
            .iter()
            .map(|row| row.sequence)
            .collect();
        let oldest = async || {
            datastore
                .change_sets(store, Revision::ZERO, 10, deadline())
                .await
        };

        trim(&datastore, Duration::from_secs(3600)).await.unwrap();
        assert_eq!(oldest().await.unwrap().len(), 4);

        // Nothing is published yet, so nothing may go.
        trim_store(&datastore, store, Timestamp(i64::MAX))
            .await
            .unwrap_or_default();
        assert_eq!(oldest().await.unwrap().len(), 4);

        datastore
            .outbox_delete(&published, deadline())
            .await
            .unwrap();
        trim_store(&datastore, store, Timestamp(i64::MAX))
            .await
            .unwrap();
        assert!(matches!(
            oldest().await,
            Err(DatastoreError::Trimmed {
                oldest: Revision(5)
            })
        ));
        trim(&datastore, Duration::ZERO).await.unwrap();
    }
}
